"""Graphs keep their ratio, and what PyTensor remembers of them does not."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.mode import Mode
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import ancestors
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.networks import MLP, DeepSet
from pymc_nre.ops.engines import choice
from pymc_nre.ops.engines.compilable import compilable, whole
from pymc_nre.ops.held import HeldRatio

MODE = Mode(linker="py", optimizer="fast_run")  # all rewrites, no compiler
NETWORKS = {"torch": None, "auto": MLP((8,), embedding=DeepSet((4,)))}


def forget():
    """The last few ratios, which are remembered for the next model."""
    choice._compiles.cache_clear()
    compilable.cache_clear()
    whole.cache_clear()


def compiled(seed, engine):
    """A weak reference to a ratio, and a function that evaluates it with its gradient."""
    ratio = make_estimator({"mu": ()}, (3,), NETWORKS[engine], seed=seed)
    mu, x = pt.dscalar("mu"), pt.dmatrix("x")
    value = nre.log_ratio(ratio, x, mu=mu, engine=engine, outside="ignore").sum()
    function = pytensor.function([mu, x], [value, pytensor.grad(value, mu)], mode=MODE)
    forget()
    return weakref.ref(ratio.network), function


@pytest.mark.parametrize("engine", NETWORKS)
def test_ratios_go_with_what_was_compiled_of_them(engine):
    kept = [compiled(seed, engine) for seed in range(3)]
    gc.collect()
    assert all(network() is not None for network, _ in kept)  # the functions can run
    x = np.ones((2, 3))
    assert len({float(function(0.5, x)[0]) for _, function in kept}) == 3
    networks = [network for network, _ in kept]
    del kept
    gc.collect()
    assert [network() for network in networks] == [None] * 3


@pytest.mark.parametrize("engine", NETWORKS)
def test_graphs_that_are_cloned_or_pickled_keep_it(engine):
    ratio = make_estimator({"mu": ()}, (3,), NETWORKS[engine], seed=9)
    mu, x = pt.dscalar("mu"), pt.dmatrix("x")
    value = nre.log_ratio(ratio, x, mu=mu, engine=engine, outside="ignore").sum()
    expected = float(value.eval({mu: 0.5, x: np.ones((2, 3))}, mode=MODE))
    clone = clone_replace(value, {mu: 2 * mu})
    text = pickle.dumps((mu, x, value))
    del value, ratio
    forget()
    gc.collect()
    assert float(clone.eval({mu: 0.25, x: np.ones((2, 3))}, mode=MODE)) == pytest.approx(expected)
    del clone
    gc.collect()
    mu, x, value = pickle.loads(text)
    assert float(value.eval({mu: 0.5, x: np.ones((2, 3))}, mode=MODE)) == pytest.approx(expected)


@pytest.mark.parametrize("engine", NETWORKS)
def test_types_alone_are_pickled_without_it(engine):
    """PyTensor writes those of what it compiles in C into a cache that programs share."""
    ratio = make_estimator({"mu": ()}, (3,), NETWORKS[engine])
    ratio.network.not_to_be_pickled = lambda: None
    mu, x = pt.dscalar("mu"), pt.dmatrix("x")
    value = nre.log_ratio(ratio, x, mu=mu, engine=engine)
    kept = [v.type for v in ancestors([value]) if getattr(v.type, "kept_ratio", None)]
    assert kept
    for tensor_type in kept:
        assert pickle.loads(pickle.dumps(tensor_type)).kept_ratio.ratio is None
        assert copy.deepcopy(tensor_type).kept_ratio.ratio is not None


def test_deep_copies_leave_the_original_its_ratio():
    ratio = make_estimator({"mu": ()}, (3,))
    mu, x = pt.dscalar("mu"), pt.dmatrix("x")
    value = nre.log_ratio(ratio, x, mu=mu, engine="torch", outside="ignore").sum()
    del ratio
    copied = copy.deepcopy(value)
    del copied
    gc.collect()
    assert np.isfinite(value.eval({mu: 0.5, x: np.ones((2, 3))}, mode=MODE))


def test_what_nobody_keeps_is_told():
    held = HeldRatio(make_estimator(seed=1))
    other, ratio = HeldRatio(make_estimator(seed=2)), make_estimator(seed=1)
    gc.collect()
    assert held == HeldRatio(ratio)
    assert hash(held) == hash(HeldRatio(ratio))
    assert held != other
    with pytest.raises(RuntimeError, match="ratio of an Op is gone"):
        held()


def test_models_and_their_variables_keep_it_too():
    def of_a_model(seed):
        ratio = make_estimator({"mu": ()}, seed=seed).replace(simulator=lambda rng, mu: mu)
        with pm.Model() as model:
            nre.RatioLikelihood("x", ratio, mu=pm.Normal("mu"), observed=np.zeros(3))
        function = model.compile_fn(model.logp(), inputs=model.value_vars, mode=MODE)
        assert np.isfinite(function({"mu": 0.5}))
        forget()
        return weakref.ref(ratio.network), model

    network, model = of_a_model(7)
    gc.collect()
    assert model["x"].owner.op.simulator is not None
    del model
    gc.collect()
    assert network() is None


def test_graphs_inside_of_ops_keep_their_ratio():
    """Marginalized variables are such; PyTensor 3 makes nodes without tags of theirs."""
    mu = pt.scalar("mu")
    draws = nre.RatioLikelihood.dist(make_estimator({"mu": ()}), mu=mu)
    inner = OpFromGraph([mu, draws.owner.inputs[0]], [draws])
    del draws
    gc.collect()
    assert inner.fgraph.outputs[0].owner.op.ratio.parameters == {"mu": ()}


def test_simulators_tell_random_variables_apart():
    # PyTensor may put an equal Op in another's place: it would draw by the other's simulator.
    ratio = make_estimator({"mu": ()})
    ones, twos = (
        nre.RatioLikelihood.dist(ratio, mu=0.0, simulator=lambda rng, mu, value=value: value)
        for value in (1.0, 2.0)
    )
    assert ones.owner.op != twos.owner.op
    assert pm.draw([ones, twos]) == [1.0, 2.0]
    assert nre.RatioLikelihood.dist(ratio, mu=0.0).owner.op == (
        nre.RatioLikelihood.dist(ratio, mu=0.0).owner.op
    )


@pytest.mark.parametrize("engine", NETWORKS)
def test_log_ratios_in_loops_keep_it_too(engine):
    mu, x = pt.dvector("mu"), pt.dmatrix("x")

    def value_and_gradient(mu, x):
        ratio = make_estimator({"mu": ()}, (3,), NETWORKS[engine])
        value = nre.log_ratio(ratio, x, mu=mu, engine=engine, outside="ignore").sum()
        return value, pytensor.grad(value, mu)

    outputs = pytensor.scan(value_and_gradient, [mu], None, [x], return_updates=False)
    forget()
    gc.collect()
    values, gradients = pytensor.function([mu, x], outputs, mode=MODE)([0.5, 0.5], np.ones((2, 3)))
    expected = make_estimator({"mu": ()}, (3,), NETWORKS[engine]).log_ratio(np.ones((2, 3)), mu=0.5)
    np.testing.assert_allclose(values, expected.sum(), rtol=1e-6)
    assert np.isfinite(gradients).all()
