"""Which engine evaluates a ratio, and what it is given for its observations."""

import logging

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from bound import smooth
from own_networks import COMPILE, LEFT, D, E, made
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.estimators.estimator import RatioEstimator
from pymc_nre.networks import MLP, DeepSet, RatioNetwork
from pymc_nre.ops.engines import choice
from pymc_nre.ops.engines.choice import as_data, check_engine, log_ratios
from pymc_nre.ops.engines.compiled_engine import CompiledEngine
from pymc_nre.ops.engines.torch_engine import TorchEngine

OPTIONS = {"outside": "repel", "engine": "auto", "precision": "double"}


def op_of(ratio, x, **options):
    theta = pt.matrix("theta", dtype="float64")
    values = log_ratios(ratio, theta, as_data(ratio, pt.as_tensor_variable(x)), **OPTIONS | options)
    nodes = pytensor.graph.traversal.ancestors([values])
    (op,) = {v.owner.op for v in nodes if v.owner and hasattr(v.owner.op, "engine")}
    return op


def test_compiled_code_is_preferred_and_torch_takes_the_rest():
    ratio, x = smooth(1, ()), np.zeros(3)
    assert isinstance(op_of(ratio, x).engine, CompiledEngine)
    assert op_of(ratio, x, engine="torch").engine == TorchEngine(ratio.for_evaluation())
    exact = nre.tasks.GaussianMean(half_width=6.1).estimator()
    assert isinstance(op_of(exact, x).engine, TorchEngine)


def own(factory):
    """An estimator of a network of a user's own."""
    rng = np.random.default_rng(1)
    domain = Domain.from_draws(rng.normal(size=(500, D)))
    return RatioEstimator(
        made(factory), {"t": (D,)}, domain=domain, probe_x=rng.normal(size=(9, E))
    )


def test_a_network_of_ones_own_is_traced_or_left_to_torch_with_the_reason(caplog):
    ratio, x = own(COMPILE["bilinear"]), np.ones((5, E))
    assert isinstance(op_of(ratio, x).engine, CompiledEngine)
    assert not caplog.text
    left = own(LEFT["a sort"][0])
    assert isinstance(op_of(left, x).engine, TorchEngine)
    assert "no machine code for torch's aten.sort" in caplog.text
    with pytest.raises(ValueError, match=r"does not compile: .* aten\.sort"):
        check_engine("compiled", "double", left, "repel")
    with pytest.raises(ValueError, match=r"aten\.sort"):
        check_engine("auto", "single", left, "repel")


class Halved(RatioNetwork):
    """A network that calculates with its parameters as they are."""

    def embed(self, x):
        return x

    def head(self, theta, features):
        return (theta / 2 - self.standardize_theta.mean / 2).sum(-1) + features[..., 0]


@pytest.mark.parametrize("kept", [True, False])
def test_single_precision_is_refused_where_nothing_would_be_left_of_parameters(kept):
    """What takes off a mean before all else does that in double precision."""
    draws, probe_x = own(COMPILE["film"]).domain.draws, np.ones((9, E))
    for far in (0, 1e6):
        network = made(COMPILE["film"]) if kept else Halved(D, (E,)).eval()
        network.standardize_theta.mean += far
        domain = Domain.from_draws(draws + far)
        ratio = RatioEstimator(network, {"t": (D,)}, domain=domain, probe_x=probe_x)
        check_engine("auto", "double", ratio, "repel")
        if kept or not far:
            check_engine("auto", "single", ratio, "repel")
            continue
        with pytest.raises(ValueError, match="rounded first"):
            check_engine("auto", "single", ratio, "repel")


def test_who_asks_for_torch_waits_for_no_tracing(monkeypatch):
    def refuse(ratio, walled):
        raise AssertionError("traced")

    ratio = own(COMPILE["fourier"])
    monkeypatch.setattr(choice, "compilable", refuse)
    check_engine("torch", "double", ratio, "repel")
    assert isinstance(op_of(ratio, np.ones((5, E)), engine="torch").engine, TorchEngine)


@pytest.mark.one_python
@pytest.mark.parametrize("name", ["film", "quadratic", "bilinear"])
@pytest.mark.parametrize("precision", ["double", "single"])
def test_a_model_is_the_same_by_the_code_of_a_traced_network_and_by_torch(name, precision):
    """Inside and behind the wall, with data that are replaced afterwards, up to curvature."""
    ratio, stream = own(COMPILE[name]), np.random.default_rng(2)
    data = [stream.normal(size=(n, E)) for n in (20, 7)]
    found = {}
    for engine in ("torch", "compiled"):
        options = {"engine": engine, "precision": "double" if engine == "torch" else precision}
        with pm.Model() as model:
            x = pm.Data("data", data[0])
            nre.RatioLikelihood("x", ratio, t=pm.Normal("t", 0, 1, shape=D), observed=x, **options)
            functions = [model.compile_logp(), model.compile_dlogp()]
            curvature = model.d2logp(negate_output=False)
            functions.append(model.compile_fn(curvature, inputs=model.value_vars))
        points = [{"t": scale * np.array([0.3, -0.5, 0.8, 0.1])} for scale in (1, -1, 9)]
        found[engine] = [f(point) for f in functions for point in points]
        pm.set_data({"data": data[1]}, model)
        found[engine] += [f(points[0]) for f in functions]
    exact = 1e-9 if precision == "double" else 1e-4
    for got, wanted in zip(found["compiled"], found["torch"], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=exact, atol=exact * np.abs(wanted).max())


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_rejected_parameters_count_for_nothing(engine):
    ratio, x = make_estimator({"mu": (), "beta": (2,)}), np.linspace(-1, 1, 4)
    inside = ratio.domain.draws[:1]
    outside = np.array([[0.0, 0.0, 1e3]])
    for points, expected in (
        (np.concatenate([inside, outside, inside, inside]), [True, False, True, True]),
        (outside, [False] * 4),
    ):
        theta = pt.tensor("theta", shape=(len(points) if len(points) == 1 else None, 3))
        data = as_data(ratio, pt.as_tensor_variable(x))
        options = OPTIONS | {"engine": engine, "outside": "reject"}
        values = log_ratios(ratio, theta, data, **options)
        gradient = pt.grad(pt.switch(pt.isinf(values), 0, values).sum(), theta)
        got, slopes = pytensor.function([theta], [values, gradient])(points)
        rows = np.broadcast_to(points, (4, 3))
        right, slopes_inside = ratio.evaluator.value_and_gradient(np.ascontiguousarray(rows), x)
        np.testing.assert_allclose(got, np.where(expected, right, -np.inf), rtol=1e-9)
        if len(points) == 4:
            wanted = np.where(np.array(expected)[:, None], slopes_inside, 0)
            np.testing.assert_allclose(slopes, wanted, rtol=1e-9)


def test_graphs_keep_neither_history_nor_simulator():
    ratio = make_estimator({"mu": ()})
    assert ratio.history
    graph = nre.log_ratio(ratio, np.zeros(3), mu=0.5, engine="torch")
    (kept,) = (
        node.type.kept_ratio.ratio
        for node in pytensor.graph.traversal.ancestors([graph])
        if node.owner and hasattr(node.owner.op, "engine")
    )
    assert not kept.history


@pytest.mark.parametrize("size", [8, 9])
def test_large_observations_are_given_as_their_part_of_the_first_layer(size):
    ratio = make_estimator({"mu": ()}, (size,), MLP((4, 4)))
    program = op_of(ratio, np.zeros((3, size))).engine.program
    assert (program.columns, program.embedded) == ((8, False) if size == 8 else (4, True))


def test_an_embedding_always_is():
    ratio = make_estimator({"mu": ()}, (3,), MLP((4, 4), embedding=DeepSet((4,))))
    assert op_of(ratio, np.zeros((5, 3))).engine.program.embedded


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("fast", "double", "engine must be one of auto, compiled, torch, got 'fast'"),
        ("auto", "half", "precision must be 'double' or 'single', got 'half'"),
        ("torch", "single", "precision='single' is for the compiled engine"),
    ],
)
def test_what_no_engine_can_do_is_refused(engine, precision, message):
    with pytest.raises(ValueError, match=message):
        check_engine(engine, precision, smooth(1, ()), "repel")
    check_engine("compiled", "single", smooth(1, ()), "repel")


def test_falling_back_is_told_once(caplog):
    ratio = nre.tasks.GaussianMean(half_width=7.3).estimator()  # nobody else has this one
    for engine, told in (("torch", 0), ("auto", 1), ("auto", 1)):
        with caplog.at_level(logging.WARNING, "pymc_nre"), pm.Model() as model:
            nre.RatioLikelihood("x", ratio, mu=pm.Normal("mu"), observed=np.zeros(6), engine=engine)
            model.logp()
        assert caplog.text.count("evaluated by torch") == told
