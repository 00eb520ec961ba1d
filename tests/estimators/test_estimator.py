"""The estimator: its log ratios, its identity, and the file it is saved in."""

import copy
import io
import json
import os
import pickle
import re
import zipfile

import cloudpickle
import numpy as np
import pymc as pm
import pytest
import torch
import xarray as xr
from torch import nn
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre import EstimatorFileError, RatioEstimator
from pymc_nre.networks import MLP, ResidualMLP, build
from pymc_nre.runtime import archive
from pymc_nre.runtime.devices import resolve_device


class Custom(nn.Module):
    """A user's network; module level, so that pickle finds it."""

    def __init__(self, theta_size, event_shape, width=6, activation=torch.tanh):
        super().__init__()
        self.inner = nn.Linear(theta_size + int(np.prod(event_shape)), width)
        self.outer = nn.Linear(width, 1)
        self.activation = activation

    def forward(self, theta, x):
        inputs = torch.cat([theta, x.reshape(len(x), -1)], -1)
        return self.outer(self.activation(self.inner(inputs)))


KINDS = {
    "MLP": lambda **k: make_estimator(event_shape=(3,), **k),
    "ResidualMLP": lambda **k: make_estimator(network=ResidualMLP(6, 2), **k),
    "custom": lambda **k: make_estimator(event_shape=(3,), network=Custom, **k),
}


@pytest.fixture(params=KINDS)
def any_estimator(request):
    return KINDS[request.param]()


def observations(ratio, n=11):
    rng = np.random.default_rng(5)
    theta = rng.normal(size=(n, ratio.layout.size))
    return rng.normal(size=(n, *ratio.event_shape)), ratio.layout.unpack(theta)


def load_again(ratio, path, **options):
    ratio.save(path)
    if ratio.specification is None:
        options = {"network": Custom} | options
    return nre.load(path, **options)


# --- log ratios ------------------------------------------------------------------------------


def test_log_ratio_is_the_networks_logit(any_estimator):
    x, parameters = observations(any_estimator)
    theta = any_estimator.layout.pack(parameters)
    with torch.no_grad():
        expected = any_estimator.network(torch.tensor(theta), torch.tensor(x)).numpy()
    got = any_estimator.log_ratio(x, **parameters)
    assert got.shape == (11,)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "mu", "beta", "batch"),
    [
        ((), (), (), ()),
        ((5,), (), (), (5,)),
        ((0,), (), (), (0,)),
        ((), (5,), (), (5,)),
        ((), (), (5,), (5,)),
        ((5,), (5,), (5,), (5,)),
        ((4, 1), (5,), (), (4, 5)),
        ((5,), (4, 1), (2, 1, 1), (2, 4, 5)),
        ((1,), (1,), (1, 1), (1, 1)),
    ],
)
def test_batches_broadcast(estimator, x, mu, beta, batch):
    rng = np.random.default_rng(6)
    x, mu, beta = rng.normal(size=(*x, 3)), rng.normal(size=mu), rng.normal(size=(*beta, 2))
    got = estimator.log_ratio(x, mu=mu, beta=beta)
    assert got.shape == batch
    every_x = np.broadcast_to(x, (*batch, 3))
    every_mu, every_beta = np.broadcast_to(mu, batch), np.broadcast_to(beta, (*batch, 2))
    for i in np.ndindex(batch):
        slow = estimator.log_ratio(every_x[i], mu=every_mu[i], beta=every_beta[i])
        np.testing.assert_allclose(got[i], slow, rtol=1e-12, atol=1e-12)


def test_keywords_may_come_in_any_order(estimator):
    x, parameters = observations(estimator)
    swapped = dict(reversed(parameters.items()))
    np.testing.assert_array_equal(
        estimator.log_ratio(x, **swapped), estimator.log_ratio(x, **parameters)
    )


def test_integers_and_lists(estimator):
    got = estimator.log_ratio([1, 2, 3], mu=1, beta=[0, 1])
    assert got == estimator.log_ratio(np.array([1.0, 2, 3]), mu=1.0, beta=np.array([0.0, 1.0]))


def test_names_are_checked(estimator):
    message = r"^log_ratio: expected the parameters mu, beta, got unknown nu; missing beta\. Name"
    with pytest.raises(TypeError, match=message):
        estimator.log_ratio(np.zeros(3), mu=0.0, nu=1.0)


def test_own_shapes_are_checked(estimator):
    message = r"^log_ratio: parameter 'beta' has own shape \(2,\), .* got \(3,\)\. Put the param"
    with pytest.raises(ValueError, match=message):
        estimator.log_ratio(np.zeros(3), mu=0.0, beta=np.zeros(3))


@pytest.mark.parametrize(("x", "got"), [(1.0, r"\(\)"), (np.zeros((3, 4)), r"\(3, 4\)")])
def test_event_shapes_are_checked(estimator, x, got):
    message = (
        r"^log_ratio: x: the ratio was trained on observations of shape \(3,\), so observed data "
        rf"must have shape \(\*batch, 3\), got {got}\. Reshape the data, the axes of one"
    )
    with pytest.raises(ValueError, match=message):
        estimator.log_ratio(x, mu=0.0, beta=np.zeros(2))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": np.ma.array([1.0, 2.0, -999.0], mask=[0, 0, 1])}, "x: 1 of 3 values are masked"),
        ({"mu": np.ma.array(-999.0, mask=True)}, "mu: 1 of 1 values are masked"),
        ({"x": np.ones(3) + 1j}, "x: expected real numbers, got complex"),
        ({"x": None}, "x: expected real numbers, got None"),
        ({"beta": None}, "beta: expected real numbers, got None"),
        ({"x": ["1", "2", "3"]}, "x: expected numbers"),
        ({"x": [[1.0, 2.0, 3.0], [1.0]]}, "x: .*same shape"),
    ],
)
def test_what_holds_no_numbers_is_refused(estimator, given, said):
    given = {"x": np.zeros(3), "mu": 0.0, "beta": np.zeros(2)} | given
    with pytest.raises((TypeError, ValueError), match=f"^log_ratio: {said}"):
        estimator.log_ratio(given.pop("x"), **given)


def test_named_dimensions_are_not_paired_against_their_names(estimator):
    rng = np.random.default_rng(1)
    x = xr.DataArray(rng.normal(size=(4, 4, 3)), dims=("subject", "trial", "event"))
    mu = xr.DataArray(rng.normal(size=(4, 4)), dims=("trial", "subject"))
    with pytest.raises(ValueError, match=r"^log_ratio: .* mu has .* 'subject' where x has 'trial'"):
        estimator.log_ratio(x, mu=mu, beta=np.zeros(2))
    np.testing.assert_array_equal(
        estimator.log_ratio(x, mu=mu.T, beta=np.zeros(2)),
        estimator.log_ratio(x.to_numpy(), mu=mu.to_numpy().T, beta=np.zeros(2)),
    )


def test_batches_that_do_not_broadcast(estimator):
    message = r"^log_ratio: the batches of x, mu, beta must .* got x \(4,\), mu, beta \(5,\)"
    with pytest.raises(ValueError, match=message):
        estimator.log_ratio(np.zeros((4, 3)), mu=np.zeros(5), beta=np.zeros(2))


# --- the network is its own -------------------------------------------------------------------


def test_the_network_is_a_frozen_copy_in_float64():
    torch.manual_seed(1)
    net = build(MLP((4,)), 1, ())
    domain = nre.estimators.domain.Domain.from_draws(np.random.default_rng(1).normal(size=(50, 1)))
    ratio = RatioEstimator(net, {"mu": ()}, domain=domain, probe_x=np.zeros(5))
    assert ratio.network is not net
    assert {v.dtype for v in ratio.network.state_dict().values()} == {torch.float64}
    assert not any(weight.requires_grad for weight in ratio.network.parameters())
    assert not any(module.training for module in ratio.network.modules())
    assert net.training
    assert all(w.requires_grad and w.dtype == torch.float32 for w in net.parameters())
    before = ratio.log_ratio(1.0, mu=0.5)
    with torch.no_grad():
        net.theta_in.weight.add_(1.0)
    assert ratio.log_ratio(1.0, mu=0.5) == before


def test_parameters_are_told_and_kept(estimator):
    told = estimator.parameters
    assert told == {"mu": (), "beta": (2,)}
    told["mu"] = (7,)
    assert estimator.parameters == {"mu": (), "beta": (2,)}


# --- identity --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_equal_functions_are_equal(kind):
    one, other = KINDS[kind](), KINDS[kind]()
    assert one is not other
    assert one == other
    assert hash(one) == hash(other)
    assert one.digest == other.digest
    assert len({one, other}) == 1


def weight_changed(ratio):
    with torch.no_grad():
        next(ratio.network.parameters()).view(-1)[0] += 1e-12
    return ratio


DIFFERENT = {
    "retrained": lambda: make_estimator(event_shape=(3,), seed=1),
    "the last bits of one weight": lambda: weight_changed(make_estimator(event_shape=(3,))),
    "other names": lambda: make_estimator({"nu": (), "beta": (2,)}, (3,)),
    "other order": lambda: make_estimator({"beta": (2,), "mu": ()}, (3,)),
    "other activation": lambda: make_estimator(event_shape=(3,), network=MLP((8, 4), "silu")),
    "other domain": lambda: make_estimator(
        event_shape=(3,),
        domain=nre.estimators.domain.Domain.from_draws(
            np.random.default_rng(9).normal(size=(500, 3))
        ),
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_functions_differ(estimator, name):
    other = DIFFERENT[name]()
    assert other != estimator
    assert other.digest != estimator.digest


def test_custom_networks_of_other_code_differ():
    def softer(theta_size, event_shape):
        return Custom(theta_size, event_shape, activation=torch.sigmoid)

    assert KINDS["custom"]() != make_estimator(event_shape=(3,), network=softer)


def test_an_estimator_is_not_something_else(estimator):
    assert estimator != estimator.digest
    assert (estimator == 1) is False


def test_history_and_simulator_are_no_part_of_the_function(estimator):
    other = make_estimator(event_shape=(3,), history=False, simulator=lambda rng, mu, beta: mu)
    assert other == estimator
    assert estimator.for_evaluation() == estimator
    assert not estimator.for_evaluation().history
    assert other.for_evaluation().simulator is None
    assert other.simulator is not None


@pytest.mark.parametrize("module", [pickle, cloudpickle])
def test_pickled_estimators_are_the_same(any_estimator, module):
    x, parameters = observations(any_estimator)
    expected = any_estimator.log_ratio(x, **parameters)  # fills the evaluator's memory
    again = pickle.loads(module.dumps(any_estimator))
    assert again == any_estimator
    np.testing.assert_array_equal(again.log_ratio(x, **parameters), expected)
    assert repr(again) == repr(any_estimator)


def test_trained_estimators(tmp_path):
    simulations = nre.tasks.GaussianMean().simulate(1_000, random_seed=1)
    train = {"epochs": 5, "progressbar": False}
    one, same, other = (nre.train(simulations, random_seed=s, **train) for s in (1, 1, 2))
    assert one == same
    assert one != other
    again = load_again(one, tmp_path / "a.nre")
    assert again == one
    xr.testing.assert_identical(again.history, one.history)
    assert "900 simulations, 5 epochs (all epochs run)" in repr(again)
    assert again.simulator is None
    assert one.simulator is simulations.simulator


# --- repr ------------------------------------------------------------------------------------


def test_repr(estimator):
    text = repr(estimator)
    assert text.splitlines()[0] == "RatioEstimator: log p(x | mu, beta) / p(x)"
    for line in (
        r"parameters +mu \(scalar\), beta \(shape \(2,\)\)",
        r"observation +shape \(3,\)",
        r"network +MLP\(hidden=\(8, 4\), activation='tanh'\), 97 weights, float64 on cpu",
        r"loss +NREC\(candidates=5, gamma=1\.0\); normalized",
        r"training +450 simulations, 2 epochs \(all epochs run\), validation loss 1\.1500 \(chanc",
        r"domain +mu in \[-[\d.]+, [\d.]+\], beta\[0\] in .*, beta\[1\] in ",
        r"simulator +not attached: no predictive sampling",
    ):
        assert re.search(rf"^  {line}", text, re.MULTILINE), line


def test_repr_of_the_other_kinds():
    ratio = make_estimator(
        {"mu": (8,)}, history=False, loss="", normalized=False, reference="fixed", network=Custom,
        simulator=lambda rng, mu: mu[0],
    )  # fmt: skip
    text = repr(ratio)
    assert text.splitlines()[0] == "RatioEstimator: log p(x | mu) / p(x | mu_ref)"
    assert "not normalized: no evidences" in text
    assert "Custom, " in text
    assert "  simulator   attached" in text
    assert "training" not in text
    assert "mu[5]" in text
    assert "mu[6]" not in text
    assert text.splitlines()[-2].endswith(", ...")


# --- devices ---------------------------------------------------------------------------------


def test_to_the_cpu(estimator):
    x, parameters = observations(estimator)
    expected = estimator.log_ratio(x, **parameters)
    moved = estimator.to("cpu")
    assert moved == estimator
    assert moved.network is not estimator.network
    assert moved.evaluator is not estimator.evaluator
    np.testing.assert_array_equal(moved.log_ratio(x, **parameters), expected)


def test_cuda_where_there_is_none(estimator, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    estimator.save(tmp_path / "a.nre")
    message = r"^device='cuda' was asked for, but torch .* sees no CUDA device here\. Use device='"
    with pytest.raises(RuntimeError, match=message):
        estimator.to("cuda")
    with pytest.raises(RuntimeError, match=message):
        nre.load(tmp_path / "a.nre", device="cuda")
    with pytest.raises(RuntimeError, match=r"^device='cuda:1' was asked for"):
        resolve_device("cuda:1")
    assert resolve_device("auto") == "cpu"
    assert nre.load(tmp_path / "a.nre", device="auto") == estimator
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"


def test_unknown_devices(estimator):
    with pytest.raises(ValueError, match=r"^device must be 'auto', 'cpu' or 'cuda', got 'gpu'\.$"):
        estimator.to("gpu")


# --- saving and loading are identities -------------------------------------------------------


def test_loading_gives_back_what_was_saved(any_estimator, tmp_path):
    x, parameters = observations(any_estimator)
    again = load_again(any_estimator, tmp_path / "a.nre")
    assert again == any_estimator
    assert hash(again) == hash(any_estimator)
    np.testing.assert_array_equal(
        again.log_ratio(x, **parameters), any_estimator.log_ratio(x, **parameters)
    )
    state = any_estimator.network.state_dict()
    assert again.network.state_dict().keys() == state.keys()
    for name, weight in again.network.state_dict().items():
        assert weight.dtype == state[name].dtype
        assert torch.equal(weight, state[name])
    stored = any_estimator.domain.to_arrays()
    for name, array in again.domain.to_arrays().items():
        np.testing.assert_array_equal(array, stored[name])
    xr.testing.assert_identical(again.history, any_estimator.history)
    assert list(again.parameters.items()) == list(any_estimator.parameters.items())
    for name in ("event_shape", "reference", "normalized", "loss", "specification"):
        assert getattr(again, name) == getattr(any_estimator, name)
    np.testing.assert_array_equal(again.probe_x, any_estimator.probe_x)
    assert repr(again) == repr(any_estimator)
    assert not any(module.training for module in again.network.modules())
    assert not any(weight.requires_grad for weight in again.network.parameters())


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_paths_may_be_strings(estimator, tmp_path, kind):
    path = kind(tmp_path / "no suffix")
    estimator.save(path)
    assert nre.load(path) == estimator
    assert os.listdir(tmp_path) == ["no suffix"]


def test_saving_again_gives_the_same_arrays(estimator, tmp_path):
    again = load_again(estimator, tmp_path / "a.nre")
    again.save(tmp_path / "b.nre")
    one, other = contents(tmp_path / "a.nre"), contents(tmp_path / "b.nre")
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_simulator_may_be_attached(estimator, tmp_path):
    def simulator(rng, mu, beta):
        return np.zeros(3)

    again = load_again(estimator, tmp_path / "a.nre", simulator=simulator)
    assert again.simulator == nre.Simulator(simulator)
    batched = nre.Simulator(simulator, batched=True)
    assert nre.load(tmp_path / "a.nre", simulator=batched).simulator is batched


@pytest.mark.parametrize("batched", [False, True])
def test_a_file_remembers_how_the_simulator_is_called(batched, tmp_path):
    def simulator(rng, mu, beta):
        return mu

    ratio = make_estimator(simulator=nre.Simulator(simulator, batched))
    again = load_again(ratio, tmp_path / "a.nre", simulator=simulator)
    assert again.simulator == nre.Simulator(simulator, batched)
    # Also where it was saved again without.
    nre.load(tmp_path / "a.nre").save(tmp_path / "b.nre")
    assert nre.load(tmp_path / "b.nre", simulator=simulator).simulator.batched is batched
    ratio.replace(simulator=None).save(tmp_path / "b.nre")
    assert nre.load(tmp_path / "b.nre", simulator=simulator).simulator.batched is batched
    other = nre.Simulator(simulator, not batched)
    assert nre.load(tmp_path / "b.nre", simulator=other).simulator is other


def test_a_variable_that_was_its_own_simulator_says_nothing_of_functions(tmp_path):
    with pm.Model() as model:
        pm.Normal("x", pm.Normal("mu", 0, 1), 1)
    simulations = nre.simulate(model, "x", 10, random_seed=1, progressbar=False)
    ratio = make_estimator({"mu": ()}, simulator=simulations.simulator)
    again = load_again(ratio, tmp_path / "a.nre", simulator=lambda rng, mu: mu)
    assert not again.simulator.batched


def test_there_is_no_pickle_in_the_file(any_estimator, tmp_path):
    any_estimator.save(tmp_path / "a.nre")
    with np.load(tmp_path / "a.nre", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    assert {array.dtype.kind for array in arrays.values()} <= set("fiub")
    metadata = json.loads(arrays["metadata"].tobytes())
    assert metadata["format"] == "pymc_nre.RatioEstimator"
    assert {"pymc_nre", "torch", "numpy"} == set(metadata["libraries"])


def test_an_interrupted_save_leaves_the_old_file(estimator, tmp_path, monkeypatch):
    path = tmp_path / "a.nre"
    estimator.save(path)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_estimator(event_shape=(3,), seed=1).save(path)
    assert nre.load(path) == estimator
    monkeypatch.undo()
    other = make_estimator(event_shape=(3,), seed=1)
    other.save(path)
    assert nre.load(path) == other
    assert os.listdir(tmp_path) == ["a.nre"]


# --- files that cannot be trusted ------------------------------------------------------------


def contents(path):
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def rewrite(path, change, checksum=True):
    """Change a file's metadata and arrays, with a checksum that fits or the old one."""
    arrays = contents(path)
    metadata = json.loads(arrays.pop("metadata").tobytes())
    old = metadata.pop("sha256")
    change(metadata, arrays)
    metadata["sha256"] = archive.checksum(metadata, arrays) if checksum else old
    text = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, metadata=text, **arrays)
    path.write_bytes(buffer.getvalue())


@pytest.fixture
def saved(estimator, tmp_path):
    estimator.save(tmp_path / "a.nre")
    return tmp_path / "a.nre"


def test_a_rewritten_file_is_as_good(saved, estimator):
    """The twin of the tests below: what they change is what is refused."""
    rewrite(saved, lambda metadata, arrays: None)
    assert nre.load(saved) == estimator


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.nre"):
        nre.load(tmp_path / "none.nre")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x80\x04N."])
def test_a_file_of_another_kind(tmp_path, content):
    (tmp_path / "a.nre").write_bytes(content)
    message = r"a\.nre is not a pymc_nre.RatioEstimator: expected a file written by pymc_nre\.$"
    with pytest.raises(EstimatorFileError, match=message):
        nre.load(tmp_path / "a.nre")


@pytest.mark.parametrize(
    "arrays",
    [
        {"weights": np.zeros(3)},
        {"metadata": np.frombuffer(b'{"format": "other", "version": 1}', np.uint8)},
        {"metadata": np.frombuffer(b"[1, 2]", np.uint8)},
        {"metadata": np.zeros(3)},
    ],
)
def test_another_archive(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    message = r"a\.npz is an archive, but not a pymc_nre.RatioEstimator: expected a file writ"
    with pytest.raises(EstimatorFileError, match=message):
        nre.load(tmp_path / "a.npz")


def test_pickled_objects_are_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it ran"),)

    np.savez(tmp_path / "a.npz", metadata=np.array([Bomb()], dtype=object))
    with pytest.raises(EstimatorFileError, match=r"a\.npz"):
        nre.load(tmp_path / "a.npz")
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.99, 0.9999])
def test_a_truncated_file(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: max(3, int(share * len(content)))])
    with pytest.raises(EstimatorFileError, match=r"a\.nre"):
        nre.load(saved)


def test_a_flipped_bit(saved):
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        info = archive.getinfo("weights/theta_in.weight.npy")
    content[info.header_offset + 200 + len(info.filename)] ^= 1
    saved.write_bytes(content)
    with pytest.raises(EstimatorFileError, match=r"a\.nre"):
        nre.load(saved)


def test_a_newer_format(saved):
    rewrite(saved, lambda metadata, arrays: metadata.update(version=99))
    message = (
        r"a\.nre has format version 99; this pymc_nre reads up to version 2\. Upgrade pymc_nre "
        rf"\(the file was written by {re.escape(nre.__version__)}\)\.$"
    )
    with pytest.raises(EstimatorFileError, match=message):
        nre.load(saved)


def nudge(name):
    def change(metadata, arrays):
        array = arrays[name].copy()
        array.flat[0] += 0.5
        arrays[name] = array

    return change


@pytest.mark.parametrize(
    "change",
    [
        nudge("weights/theta_in.weight"),
        nudge("domain/lower"),
        nudge("history/train_loss"),
        lambda metadata, arrays: metadata.update(loss="another"),
        lambda metadata, arrays: metadata.pop("libraries"),
        lambda metadata, arrays: arrays.update(
            {name: arrays[name][None] for name in ("history/train_loss", "history/validation_loss")}
        ),
    ],
    ids=["weight", "domain", "history", "metadata", "left out", "shape"],
)
def test_tampered_files(saved, change):
    rewrite(saved, change, checksum=False)
    message = r"a\.nre does not match its own checksum: it was changed .* Get the original again"
    with pytest.raises(EstimatorFileError, match=message):
        nre.load(saved)


def test_another_function_is_noticed_whatever_the_checksum(saved):
    rewrite(saved, nudge("weights/theta_in.weight"))
    message = r"a\.nre gives other log ratios than the one that was saved \(largest difference"
    with pytest.raises(EstimatorFileError, match=message):
        nre.load(saved)


# --- networks of the user's own --------------------------------------------------------------


@pytest.fixture
def saved_custom(tmp_path):
    KINDS["custom"]().save(tmp_path / "a.nre")
    return tmp_path / "a.nre"


def test_a_custom_network_needs_its_factory(saved_custom):
    message = r"^This estimator holds a network of your own, .* load\(path, network=function\)\.$"
    with pytest.raises(TypeError, match=message):
        nre.load(saved_custom)


def test_a_factory_of_another_architecture(saved_custom):
    message = r"^The network given to load does not fit the weights of .*a\.nre: .*size mismatch"
    with pytest.raises(EstimatorFileError, match=re.compile(message, re.DOTALL)):
        nre.load(saved_custom, network=lambda d, event: Custom(d, event, width=7))


def test_a_factory_of_other_code(saved_custom):
    message = (
        r"gives other log ratios than the one that was saved \(largest difference .*\)\. If the "
        r"network is your own, pass the factory that built it, unchanged\.$"
    )
    with pytest.raises(EstimatorFileError, match=message):
        nre.load(saved_custom, network=lambda d, event: Custom(d, event, activation=torch.sigmoid))


def test_an_estimator_is_a_value(estimator):
    simulator = nre.Simulator(print)
    other = estimator.replace(simulator=simulator, loss="mine")
    assert (other.simulator, other.loss) == (simulator, "mine")
    assert (estimator.simulator, estimator.loss) == (None, "NREC(candidates=5, gamma=1.0)")
    assert other == estimator  # the same function
    with pytest.raises(AttributeError, match=r"ratio = ratio\.replace\(simulator=\.\.\.\)"):
        estimator.simulator = print
    with pytest.raises(AttributeError, match="does not change: it keeps its loss"):
        del estimator.loss
    with pytest.raises(TypeError, match=r"expected network.*got domain, events"):
        estimator.replace(events=1, domain=2)


def test_another_network_makes_another_function(estimator):
    estimator.digest  # noqa: B018  # what is known of the old network must not stay
    values = estimator.log_ratio(np.zeros(3), mu=0.1, beta=np.ones(2))
    network = copy.deepcopy(estimator.network).float().requires_grad_(True)
    with torch.no_grad():
        network.body[-1].bias += 1.0
    other = estimator.replace(network=network)
    assert other != estimator
    np.testing.assert_allclose(other.log_ratio(np.zeros(3), mu=0.1, beta=np.ones(2)), values + 1)
    assert {p.dtype for p in other.network.parameters()} == {torch.float64}
    assert not any(p.requires_grad for p in other.network.parameters())
    assert all(p.requires_grad for p in network.parameters())  # what was given stays as it is


def test_what_it_is_made_of_is_read_only(estimator):
    history = estimator.history
    history["train_loss"][:] = 0.0
    history.attrs["stopped"] = "by me"
    assert (estimator.history["train_loss"] > 1).all()
    assert estimator.replace(loss="mine").history.attrs["stopped"] == "all epochs run"
    for array in (estimator.probe_x, *estimator.domain.to_arrays().values()):
        if array.ndim:
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0.0


def test_it_does_not_keep_the_simulations_in_memory():
    x = np.zeros((100_000, 3))
    ratio = make_estimator(event_shape=(3,), probe_x=x[:100])
    assert not np.shares_memory(ratio.probe_x, x)
    assert ratio.probe_x.base is None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"budget": 3}, TypeError, r"budget must be what nre\.trial_budget"),
        ({"history": [1.0]}, TypeError, r"history must be an xarray\.Dataset, got list"),
        ({"history": xr.Dataset(attrs={"note": "x"})}, ValueError, "it must tell stopped, best"),
        ({"history": xr.Dataset({"a": ("draw", [1.0])})}, ValueError, "it has dimensions"),
        ({"loss": None}, TypeError, "loss must be a str, got None"),
        ({"normalized": "yes"}, TypeError, "normalized: expected True or False, got"),
        ({"network": nn.Linear(3, 1)}, TypeError, "must be a RatioNetwork, .* got Linear"),
        ({"network": build(MLP((4,)), 2, (3,))}, ValueError, r"\(3,\) and 3 packed .* and 2\. "),
        ({"network": build(MLP((4,)), 3, (4,))}, ValueError, r"shape \(3,\) .* got \(4,\) and 3"),
        (
            {"network": build(lambda d, event: Custom(3, (3,)), 3, (3,)).module},
            TypeError,
            "got Custom",
        ),
    ],
)
def test_replacing_checks_as_making_does(estimator, changes, error, message):
    with pytest.raises(error, match=message):
        estimator.replace(**changes)


def test_nothing_may_replace_what_is_optional(estimator):
    other = estimator.replace(history=None, budget=None, simulator=None)
    assert not other.history
    assert "epochs" not in repr(other)


def test_a_network_that_is_not_as_specified_has_no_specification(estimator, tmp_path):
    same = estimator.replace(network=build(MLP((8, 4), "tanh"), 3, (3,)))
    assert same.specification == estimator.specification
    for specification in (MLP((8, 4), "relu"), MLP((8, 5), "tanh"), ResidualMLP(4)):
        other = estimator.replace(network=build(specification, 3, (3,)))
        assert other.specification is None
        assert other.architecture == "SplitNetwork"
        other.save(tmp_path / "a.nre")
        again = nre.load(tmp_path / "a.nre", network=specification)
        assert again == other
        assert again.specification == specification


def test_weights_that_are_not_numbers_are_not_saved(estimator, tmp_path):
    network = copy.deepcopy(estimator.network)
    with torch.no_grad():
        network.body[-1].bias.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"a\.nre is not written: the network gives NaN"):
        estimator.replace(network=network).save(tmp_path / "a.nre")
    assert os.listdir(tmp_path) == []


def test_a_described_network_needs_no_other(saved, estimator):
    assert nre.load(saved, network=estimator.specification) == estimator
    with pytest.raises(ValueError, match=r"describes its network, MLP\(.*given another, network="):
        nre.load(saved, network=MLP((3,)))
    with pytest.raises(ValueError, match="Leave it out"):
        nre.load(saved, network=Custom)
