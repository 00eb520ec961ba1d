"""Observations with heavy tails, from training to files, models and what people are told."""

import io
import json
import re

import numpy as np
import pymc as pm
import pytest
import torch
from bound import c_mode
from scipy import stats

import pymc_nre as nre
from pymc_nre.estimators.checks import told_of_decades
from pymc_nre.estimators.domain import Domain
from pymc_nre.estimators.estimator import RatioEstimator
from pymc_nre.networks import MLP, DeepSet, RatioNetwork
from pymc_nre.networks.specifications import curved
from pymc_nre.runtime import archive

RNG = np.random.default_rng(1)
THETA = RNG.uniform(-3, 15, (2_000, 1))
COUNTS = RNG.poisson(np.exp(THETA)).astype(float)  # (2000, 1)
BOTH = np.concatenate([RNG.normal(size=COUNTS.shape), COUNTS], 1)


PLAIN, SET = MLP((6, 5)), MLP((6,), embedding=DeepSet((4,)))


def estimator(x=BOTH, network=PLAIN, seed=0):
    """Random weights, and standardization that was fitted."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network.build(1, x.shape[1:])
    net.fit_standardization(torch.tensor(THETA), torch.tensor(x))
    return RatioEstimator(
        net,
        {"b": ()},
        domain=Domain.from_draws(THETA),
        probe_x=x,
        specification=network,
    )


def pair():
    """An ensemble of which one member alone saw the tails."""
    return nre.ensemble([estimator(), estimator(np.sign(BOTH), seed=1)])


RATIOS = {
    "plain": estimator,
    "set": lambda: estimator(BOTH, SET),
    "one of an ensemble": pair,
}


@pytest.mark.parametrize("name", RATIOS)
def test_files_keep_the_curves(name, tmp_path):
    ratio = RATIOS[name]()
    ratio.save(tmp_path / "a.nre")
    again = nre.load(tmp_path / "a.nre")
    assert again == ratio
    assert curved(again.network) == curved(ratio.network) != []
    assert again.specification == ratio.specification is not None
    assert repr(again) == repr(ratio)
    again.save(tmp_path / "b.nre")
    assert nre.load(tmp_path / "b.nre") == ratio


def described(path):
    with np.load(path) as found:
        return json.loads(found["metadata"].tobytes())


def test_older_versions_refuse_such_files_and_no_others(tmp_path, monkeypatch):
    estimator().save(tmp_path / "heavy.nre")
    estimator(np.sign(BOTH)).save(tmp_path / "plain.nre")
    assert described(tmp_path / "heavy.nre")["version"] == 2
    plain = described(tmp_path / "plain.nre")
    assert plain["version"] == 1
    assert "curved" not in plain
    monkeypatch.setattr(archive, "FORMAT_VERSION", 1)
    nre.load(tmp_path / "plain.nre")
    with pytest.raises(nre.EstimatorFileError, match=r"format version 2;.*Upgrade pymc_nre"):
        nre.load(tmp_path / "heavy.nre")


def dropped(metadata, arrays):
    del arrays["weights/standardize_x.unit"]


HOSTILE = {
    "of nothing": (lambda m, a: m.update(curved=["body"]), "no 'body' that standardizes"),
    "no list": (lambda m, a: m.update(curved="standardize_x"), "curved must be a list of names"),
    "not told": (lambda m, a: m.pop("curved"), "'standardize_x.center' is not known"),
    "no unit": (dropped, "weights/standardize_x.unit is missing"),
    "of parameters": (
        lambda m, a: m.update(curved=["standardize_theta"]),
        "weights/standardize_theta.center is missing",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_files_that_tell_of_other_curves(name, tmp_path):
    change, match = HOSTILE[name]
    estimator().save(tmp_path / "a.nre")
    with np.load(tmp_path / "a.nre") as found:
        arrays = dict(found)
    metadata = json.loads(arrays.pop("metadata").tobytes())
    del metadata["sha256"]
    change(metadata, arrays)
    metadata["sha256"] = archive.checksum(metadata, arrays)
    buffer = io.BytesIO()
    np.savez(buffer, metadata=np.frombuffer(json.dumps(metadata).encode(), np.uint8), **arrays)
    (tmp_path / "b.nre").write_bytes(buffer.getvalue())
    with pytest.raises(nre.EstimatorFileError, match=match):
        nre.load(tmp_path / "b.nre")


def test_an_estimator_says_what_it_does():
    assert re.search(r"heavy tails +x\[1\] as arcsinh\(x / \d+\)\n", repr(estimator()))
    assert re.search(r"heavy tails +x\[:, 0\] as arcsinh", repr(estimator(COUNTS[..., None], SET)))
    assert "x[0] as arcsinh(x / " in repr(estimator(COUNTS))
    assert " x as arcsinh(x / " in repr(estimator(COUNTS[:, 0]))
    assert "x[1] as arcsinh" in repr(pair())
    twice = nre.ensemble([estimator(), estimator(seed=1)])
    assert re.search(r"x\[1\] as arcsinh\(x / \d+\) \(of the first of 2 members\)\n", repr(twice))
    many = repr(estimator(np.tile(COUNTS, 5)))
    assert many.count("arcsinh") == 3
    assert "2 more" in many
    assert "heavy tails" not in repr(estimator(np.sign(BOTH)))


@pytest.mark.one_python
@pytest.mark.parametrize("name", RATIOS)
def test_engines_agree(name):
    ratio, values = RATIOS[name](), {}
    for engine in ("compiled", "torch"):
        with pm.Model() as model:
            data = pm.Data("data", BOTH[:30])
            nre.RatioLikelihood("x", ratio, b=pm.Normal("b", 3, 1), observed=data, engine=engine)
        functions = model.compile_logp(mode=c_mode()), model.compile_dlogp(mode=c_mode())
        point, found = {"b": np.array(2.5)}, []
        for x in (BOTH[:30], BOTH[30:50]):
            with model:
                pm.set_data({"data": x})
            found += [function(point) for function in functions]
        values[engine] = found
    for one, other in zip(values["compiled"], values["torch"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)
    direct = ratio.log_ratio(BOTH[:30], b=2.5).sum() + stats.norm.logpdf(2.5, 3, 1)
    np.testing.assert_allclose(values["compiled"][0], direct, rtol=1e-10)


def test_decades_are_told_of_only_where_they_are_lost():
    told = told_of_decades(RatioNetwork(1, (2,)), BOTH)  # whose standardization was not fitted
    assert "x (at (1,)) reaches over" in told
    for ratio in (estimator(), pair(), estimator(BOTH, SET)):
        assert told_of_decades(ratio.network, BOTH) == ""
    assert told_of_decades(estimator(np.sign(BOTH)).network, BOTH) != ""  # other simulations
