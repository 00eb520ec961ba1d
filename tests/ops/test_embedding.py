"""Embeddings of observations that may change, for the compiled engine."""

import gc

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import torch
from pytensor.compile.mode import Mode, get_mode
from pytensor.gradient import NullTypeGradError

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.estimators.estimator import RatioEstimator
from pymc_nre.networks import MLP, DeepSet
from pymc_nre.ops.embedding import Features
from pymc_nre.ops.engines import choice
from pymc_nre.ops.engines.compilable import compilable
from pymc_nre.ops.engines.compiled_engine import CompiledEngine
from pymc_nre.ops.ratio_ops import LogRatio

MODES = {
    "C": lambda: Mode(linker="cvm", optimizer=get_mode("FAST_RUN").provided_optimizer),
    "numba": lambda: get_mode("NUMBA"),
}
POINT = {"mu": np.array(0.3)}
RNG = np.random.default_rng(1)
X, OTHER = RNG.normal(size=(20, 6)), RNG.normal(size=(7, 6))


def estimator(specification, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = specification.build(1, (6,))
    draws = RNG.normal(size=(500, 1))
    network.fit_standardization(torch.tensor(draws), torch.tensor(X))
    return RatioEstimator(network, {"mu": ()}, domain=Domain.from_draws(draws), probe_x=X)


RATIO = estimator(MLP((8, 8), embedding=DeepSet((8, 4))))


def model_of(data, engine="compiled", ratio=RATIO):
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 0.3)
        nre.RatioLikelihood("x", ratio, mu=mu, observed=data(), engine=engine)
    return model


def mutable(data=X):
    return lambda: pm.Data("data", data)


@pytest.fixture(params=MODES)
def linker(request):
    return request.param


@pytest.fixture
def mode(linker):
    return MODES[linker]()


def test_replaced_data_count(mode):
    models = {engine: model_of(mutable(), engine) for engine in ("compiled", "torch")}
    functions = {name: model.compile_logp(mode=mode) for name, model in models.items()}
    slopes = {name: model.compile_dlogp(mode=mode) for name, model in models.items()}
    results = []
    for data in (X, OTHER, np.empty((0, 6)), X):
        for model in models.values():
            with model:
                pm.set_data({"data": data})
        values = {name: function(POINT) for name, function in functions.items()}
        np.testing.assert_allclose(values["compiled"], values["torch"], rtol=1e-12)
        gradients = {name: function(POINT) for name, function in slopes.items()}
        np.testing.assert_allclose(gradients["compiled"], gradients["torch"], rtol=1e-10)
        results.append(float(values["compiled"]))
    assert len(set(results)) == 3  # other data, other values; the first come again
    constant = model_of(lambda: X).compile_logp(mode=mode)(POINT)
    np.testing.assert_allclose(results[0], constant, rtol=1e-12)


def test_only_replaced_data_call_torch(mode, monkeypatch):
    model = model_of(mutable())
    function = model.compile_logp(mode=mode)
    calls = []
    original = nre.estimators.evaluator.TorchEvaluator.features
    monkeypatch.setattr(
        nre.estimators.evaluator.TorchEvaluator,
        "features",
        lambda self, x: calls.append(len(x)) or original(self, x),
    )
    function(POINT)
    assert calls == []
    with model:
        pm.set_data({"data": OTHER})
    function(POINT)
    assert calls == [7]


def test_an_equal_ratio_that_is_gone_is_not_asked(mode):
    """Code finds the embedding by name, and equal ratios have one name."""
    for _ in range(2):
        model = model_of(mutable())
        function = model.compile_logp(mode=mode)
        with model:
            pm.set_data({"data": OTHER})
        assert np.isfinite(function(POINT))
        del model, function
        choice._compiles.cache_clear()
        compilable.cache_clear()
        gc.collect()


def test_holes_in_replaced_data_are_an_error(linker, mode, caplog):
    model = model_of(mutable())
    function = model.compile_logp(mode=mode)
    holes = X.copy()
    holes[3, 2] = np.nan
    model["data"].set_value(holes)  # pm.set_data masks them
    with pytest.raises(ValueError, match=r"no NaN or infinite values|the log tells why"):
        function(POINT)
    # An error cannot pass through compiled code; the log has it.
    assert ("no NaN or infinite values" in caplog.text) == (linker == "numba")


def test_data_that_are_computed(mode):
    model = model_of(lambda: pm.Data("data", X / 2) * 2)
    expected = model_of(lambda: X).compile_logp()(POINT)
    np.testing.assert_allclose(model.compile_logp(mode=mode)(POINT), expected, rtol=1e-12)


def test_no_torch_in_the_graph():
    ops = [node.op for node in model_of(mutable()).compile_logp().f.maker.fgraph.apply_nodes]
    assert Features in map(type, ops)
    (engine,) = (op.engine for op in ops if isinstance(op, LogRatio))
    assert isinstance(engine, CompiledEngine)


def test_no_derivative_in_x():
    x = pt.matrix("x", dtype="float64")
    features = Features(RATIO)(x, X, RATIO.evaluator.features(X))
    with pytest.raises(NullTypeGradError, match="not differentiated in x"):
        pytensor.grad(features.sum(), x)
