"""Which engine evaluates a ratio, and what it is given for its observations."""

import logging

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from bound import smooth
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.networks import MLP, DeepSet
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
        node.type.kept_ratio
        for node in pytensor.graph.traversal.ancestors([graph])
        if node.owner and hasattr(node.owner.op, "engine")
    )
    assert not kept.history


@pytest.mark.parametrize("size", [8, 9])
def test_large_observations_are_given_as_their_part_of_the_first_layer(size):
    ratio = make_estimator({"mu": ()}, (size,), MLP((4, 4)))
    program = op_of(ratio, np.zeros((3, size))).engine.program
    assert program.steps[0].kind.name == ("JOIN" if size == 8 else "FEATURES")


def test_an_embedding_always_is():
    ratio = make_estimator({"mu": ()}, (3,), MLP((4, 4), embedding=DeepSet((4,))))
    program = op_of(ratio, np.zeros((5, 3))).engine.program
    assert program.steps[0].kind.name == "FEATURES"


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
        check_engine(engine, precision, smooth(1, ()))
    check_engine("compiled", "single", smooth(1, ()))


def test_falling_back_is_told_once(caplog):
    ratio = nre.tasks.GaussianMean(half_width=7.3).estimator()  # nobody else has this one
    for engine, told in (("torch", 0), ("auto", 1), ("auto", 1)):
        with caplog.at_level(logging.WARNING, "pymc_nre"), pm.Model() as model:
            nre.RatioLikelihood("x", ratio, mu=pm.Normal("mu"), observed=np.zeros(6), engine=engine)
            model.logp()
        assert caplog.text.count("evaluated by torch") == told
