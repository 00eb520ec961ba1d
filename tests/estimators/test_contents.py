"""Files with a valid checksum that describe what no estimator is: each is refused before use."""

import io
import json

import numpy as np
import pytest
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre import EstimatorFileError
from pymc_nre.networks import MLP, Dense
from pymc_nre.runtime import archive

X_OF_TWO = np.zeros((4, 2))


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Two parameters, one of them a vector, and an observation of three numbers."""
    path = tmp_path_factory.mktemp("content") / "a.nre"
    ratio = make_estimator(
        event_shape=(3,), network=MLP((6, 4), norm="batch", embedding=Dense((5,)))
    )
    ratio.save(path)
    return path.read_bytes()


def changed(content, change):
    """With other metadata or arrays, and a checksum that fits."""
    with np.load(io.BytesIO(content)) as found:
        arrays = {name: found[name] for name in found.files}
    metadata = json.loads(arrays.pop("metadata").tobytes())
    del metadata["sha256"]
    change(metadata, arrays)
    metadata["sha256"] = archive.checksum(metadata, arrays)
    buffer = io.BytesIO()
    np.savez(buffer, metadata=np.frombuffer(json.dumps(metadata).encode(), np.uint8), **arrays)
    return buffer.getvalue()


def put(*path):
    """A change that puts the last of these at the place that the others name."""

    def change(metadata, arrays):
        *where, key, value = path
        for step in where:
            metadata = metadata[step]
        metadata[key] = value

    return change


def array(name, make):
    def change(metadata, arrays):
        arrays[name] = make(arrays[name])

    return change


def short_domain(metadata, arrays):
    """What NumPy broadcasts: compiled code read beyond its end."""
    for name in ("knots", "widths", "steps"):
        arrays[f"domain/{name}"] = arrays[f"domain/{name}"][:, :1]
    arrays["domain/lower"] = arrays["domain/lower"][:1]
    arrays["domain/whiten"] = arrays["domain/whiten"][:1, :1]


def other_parameters(metadata, arrays):
    metadata["parameters"] = {"mu": [], "beta": [2], "more": [10**12]}


def no_domain(metadata, arrays):
    for name in [name for name in arrays if name.startswith("domain/")]:
        arrays[name] = np.atleast_1d(arrays[name])[:0]


BUDGET = {
    "parameters": ["mu", "beta[0]", "beta[1]"],
    "simulations": 100,
    "share": 0.1,
    **{
        name: [0.1] * 3
        for name in (
            *("bias_squared", "bias_squared_error", "bias_squared_limit", "width", "width_error"),
        )
    },
    **{name: [[0.1, 0.2]] * 3 for name in ("positions", "curves", "curve_errors")},
}

DENSITY = {"kind": "posterior", "prior": [["NormalRV", 3]]}
BAD = {
    "no density": (put("density", {"kind": "posterior"}), "density must be a kind, and the parts"),
    "an odd density": (put("density", DENSITY | {"kind": "joint"}), "density must be a kind"),
    "odd parts": (put("density", DENSITY | {"prior": [["NormalRV", 0]]}), "density must be a kind"),
    "a density of a network": (put("density", DENSITY), "a density is by a module of your own"),
    "an unknown family": (
        put("density", DENSITY | {"prior": [["FlatRV", 3]]}),
        "there are no densities of 'FlatRV'",
    ),
    "a density of others": (
        put("density", DENSITY | {"prior": [["NormalRV", 10**9]]}),
        "the density of the prior is one of other parameters",
    ),
    "a likelihood of a ratio": (
        put("density", DENSITY | {"kind": "likelihood"}),
        "a density 'likelihood' does not fit the reference 'evidence'",
    ),
    "kept weights that are no names": (put("kept", ["a"]), "kept must be a list of names for"),
    "kept weights of others": (
        put("kept", [["a"], []]),
        "kept must name weights of 1 members, names those of 2",
    ),
    "a reference that is no numbers": (put("theta_ref", [float("nan")]), "theta_ref must be a"),
    "a reference of others": (put("theta_ref", [0.0] * 9), "theta_ref must have 3 numbers, has 9"),
    "a fixed reference of none": (
        put("theta_ref", [0.0] * 3),
        "theta_ref does not fit the reference 'evidence'",
    ),
    "a ratio to nothing": (
        put("reference", "nothing"),
        "a density None does not fit the reference",
    ),
    "domain too short": (short_domain, r"domain/lower must be float64 \(3,\), is float64 \(1,\)"),
    "domain without rows": (no_domain, "domain/lower must be"),
    "domain of another type": (
        array("domain/knots", lambda a: a.astype(np.float32)),
        r"domain/knots must be float64 \(3, 32\), is float32 \(3, 32\)",
    ),
    "domain that is not finite": (array("domain/whiten", lambda a: a * np.nan), "not finite"),
    "domain that ends early": (array("domain/upper", lambda a: a - 1e6), "ends before it begins"),
    "domain with steps back": (array("domain/widths", lambda a: -a), "ends before it begins"),
    "more parameters": (other_parameters, r"domain/lower must be float64 \(1000000000003,\)"),
    "parameters without names": (put("parameters", {}), "parameters must be names with shapes"),
    "a name that is none": (put("parameters", {"a b": []}), "parameters must be names"),
    "a shape that is none": (put("parameters", "beta", [-2]), "parameters must be names"),
    "an empty parameter": (put("parameters", "beta", [0]), "parameters must be names"),
    "a hundred axes": (put("event_shape", [1] * 100), "event_shape must be a shape"),
    "a shape of text": (put("event_shape", "3"), "event_shape must be a shape, is '3'"),
    "other observations": (put("event_shape", [4]), r"probe/x must be float64 \(16, 4\)"),
    "an integer that is no parameter": (put("integer", ["nu"]), "names 'nu'"),
    "no libraries": (put("libraries", []), r"libraries must be versions by name, is \[\]"),
    "an unknown field": (put("later", 1), "fields that this version does not know: 'later'"),
    "no reference": (
        put("reference", ["fixed"]),
        "reference must be evidence, fixed, pair or nothing",
    ),
    "normalized by a number": (put("normalized", 1), "normalized must be true or false"),
    "a network that is none": (put("network", "type", "CNN"), "no network or embedding 'CNN'"),
    "an embedding as a network": (put("network", {"type": "Dense"}), "is an embedding"),
    "a network as an embedding": (
        put("network", "embedding", {"type": "MLP"}),
        "network: MLP is a network",
    ),
    "a network of other fields": (put("network", "depth", 3), "no such MLP"),
    "a width of text": (put("network", "hidden", ["6", 4]), "expected a whole number, got '6'"),
    "another width": (put("network", "hidden", [6, 5]), r"weights/body.5.weight must be .*\(1, 5"),
    "a width beyond memory": (put("network", "hidden", [6, 2**62]), "network: |weights/"),
    "a million layers": (put("network", "hidden", [1] * 10**6), "layers do not fit [0-9]+ arrays"),
    "a billion members": (
        lambda metadata, arrays: metadata.update(members=10**9, mean_of="ratios"),
        "fewer members than 1000000000",
    ),
    "members of another count": (put("members", 2), "mean_of must say"),
    "a tilt that is not there": (put("tilted", True), r"weights/center is missing"),
    "a calibration that is not there": (
        put("calibrated", [8, 33]),
        r"weights/centers is missing",
    ),
    "data that are not there": (put("observed", 4), r"observed is missing"),
    "data of no number": (put("observed", 0), "observed must be a count, is 0"),
    "data of another shape": (
        lambda metadata, arrays: (metadata.update(observed=4), arrays.update(observed=X_OF_TWO)),
        r"observed must be float64 \(4, 3\), is float64 \(4, 2\)",
    ),
    "a calibration of one number": (put("calibrated", [8]), "calibrated must be regions and"),
    "a calibration beyond memory": (
        put("calibrated", [2**40, 2**40]),
        "calibrated must be regions and pieces, 10,000 at most",
    ),
    "weights of another type": (
        array("weights/x_in.bias", lambda a: a.astype(np.int64)),
        r"weights/'?x_in.bias must be float64 \(6,\), is int64 \(6,\)",
    ),
    "weights that are not known": (
        lambda metadata, arrays: arrays.update({"weights/more": np.ones(2)}),
        "weights/'more' is not known",
    ),
    "an array that is not known": (
        lambda metadata, arrays: arrays.update({"more": np.ones(2)}),
        "'more' is not known",
    ),
    "a history of two lengths": (
        array("history/train_loss", lambda a: a[:1]),
        "history must have arrays",
    ),
    "a history of text": (put("history", "stopped", 3), "history: it must tell stopped"),
    "a history of lists in lists": (put("history", "best_loss", [[1.0]]), "'best_loss'"),
    "no points": (array("probe/x", lambda a: a[:0]), "probe/x must be"),
    "a budget of nothing": (put("budget", {}), "budget: expected the fields"),
    "a budget of other parameters": (
        put("budget", BUDGET | {"parameters": ["mu", "a", "b"]}),
        "budget is one of other parameters",
    ),
    "a budget of fewer": (put("budget", BUDGET | {"width": [0.1]}), "width must be of 3 param"),
    "a budget of nothing allowed": (put("budget", BUDGET | {"share": 0}), "share must be positive"),
    "a ragged budget": (put("budget", BUDGET | {"curves": [[1], [1, 2]]}), "curves must be num"),
}


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_and_named(name, content, tmp_path):
    change, message = BAD[name]
    (tmp_path / "a.nre").write_bytes(changed(content, change))
    with pytest.raises(EstimatorFileError, match=message):
        nre.load(tmp_path / "a.nre")


def test_what_these_are_made_of_is_good(content, tmp_path):
    """The twin."""
    change = put("budget", BUDGET)
    (tmp_path / "a.nre").write_bytes(changed(content, change))
    assert nre.load(tmp_path / "a.nre").budget.trials == 0
    (tmp_path / "b.nre").write_bytes(changed(content, lambda metadata, arrays: None))
    assert nre.load(tmp_path / "b.nre") == nre.load(tmp_path / "a.nre")


def test_all_problems_are_in_one_error(content, tmp_path):
    def change(metadata, arrays):
        metadata.update(loss=3, event_shape=None)
        del metadata["reference"]

    (tmp_path / "a.nre").write_bytes(changed(content, change))
    message = r"reference is missing; event_shape must be .*; loss must be a text, is 3\. It was"
    with pytest.raises(EstimatorFileError, match=message):
        nre.load(tmp_path / "a.nre")


def test_what_loading_would_refuse_is_not_saved(tmp_path):
    ratio = make_estimator({"a b": ()})
    with pytest.raises(ValueError, match=r"not written, .*: parameters must be names"):
        ratio.save(tmp_path / "a.nre")
    assert not (tmp_path / "a.nre").exists()


def test_loading_draws_no_random_numbers(content, tmp_path):
    import torch

    (tmp_path / "a.nre").write_bytes(content)
    before = torch.get_rng_state()
    nre.load(tmp_path / "a.nre")
    assert torch.equal(torch.get_rng_state(), before)
