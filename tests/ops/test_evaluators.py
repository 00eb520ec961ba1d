"""One battery for everything that evaluates a ratio; another evaluator is one more row."""

import numpy as np
import pytest
import torch
from jax_process import process_with_jax
from untrained import make_estimator

from pymc_nre.estimators.evaluator import Evaluator, TorchEvaluator
from pymc_nre.kernels.evaluator import CompiledEvaluator
from pymc_nre.kernels.export import export
from pymc_nre.networks import MLP, ResidualMLP
from pymc_nre.ops.compiled_engine import CompiledEngine
from pymc_nre.ops.torch_engine import TorchEngine

N = 6
NETWORKS = {
    "one parameter": lambda: make_estimator({"mu": ()}, (), MLP((8, 4), activation="tanh")),
    "several": lambda: make_estimator({"mu": (), "beta": (2,)}, (2, 2), ResidualMLP(6, 2)),
}


def exported(ratio):
    return export(ratio.network, features=False)


def constants(ratio, domain):
    given = exported(ratio)
    return given.moments, given.weights, ratio.domain.to_vector() if domain else np.empty(0)


def compiled(ratio, domain=False):
    return CompiledEngine(exported(ratio).program).evaluator(*constants(ratio, domain))


def by_jax(ratio, domain=False):
    return CompiledEngine(exported(ratio).program).jax_evaluator(*constants(ratio, domain))


EVALUATORS = {
    "an estimator's": lambda ratio: ratio.evaluator,
    "torch in graphs": lambda ratio: TorchEngine(ratio).evaluator(),
    "kernels": lambda ratio: CompiledEvaluator.of(exported(ratio)),
    "kernels in graphs": compiled,
}
OF_JAX = {
    "kernels": by_jax,
    "callbacks": lambda ratio: TorchEngine(ratio).jax_evaluator(),
}
IN_A_DOMAIN = {"kernels": compiled}
OF_JAX_IN_A_DOMAIN = {"kernels": by_jax}


def points(ratio, shared):
    rng = np.random.default_rng(7)
    theta = rng.normal(1, 2, (1 if shared else N, ratio.layout.size))
    x = rng.normal(-1, 3, (N, *ratio.event_shape))
    return theta, x, rng.normal(size=(N, ratio.layout.size))


def everything(evaluator, *inputs, compiled=lambda function: function):
    def function(theta, x, v):
        both = evaluator.value_and_gradient(theta, x)
        return evaluator.value(theta, x), *both, evaluator.hessian_product(theta, x, v)

    return [np.asarray(result) for result in compiled(function)(*inputs)]


def expected(ratio, theta, x, v):
    """By torch's autograd, a row at a time."""
    rows = np.broadcast_to(theta, (len(x), theta.shape[1]))
    found = []
    for row, one, along in zip(rows, x, v, strict=True):
        data = torch.tensor(one[None])

        def log_ratio(t, data=data):
            return ratio.network(t[None], data)[0]

        t = torch.tensor(row)
        gradient = torch.autograd.functional.jacobian(log_ratio, t)
        hessian = torch.autograd.functional.hessian(log_ratio, t)
        found.append((float(log_ratio(t)), gradient.numpy(), hessian.numpy() @ along))
    values, gradients, products = map(np.stack, zip(*found, strict=True))
    return [values, values, gradients, products]


def check(kinds, name, **how):
    evaluator_of = kinds[name]
    for make in NETWORKS.values():
        ratio = make()
        evaluator = evaluator_of(ratio)
        assert isinstance(evaluator, Evaluator)
        for shared in (True, False):
            theta, x, v = points(ratio, shared)
            right = expected(ratio, theta, x, v)
            assert np.abs(right[3]).max() > 1e-3  # not a comparison of zeros
            for got, wanted in zip(everything(evaluator, theta, x, v, **how), right, strict=True):
                assert got.dtype == np.float64
                np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-11)


def check_in_a_domain(kinds, name, **how):
    ratio = NETWORKS["several"]()
    evaluator = kinds[name](ratio, domain=True)
    assert isinstance(evaluator, Evaluator)
    for shared in (True, False):
        theta, x, v = points(ratio, shared)
        theta[-1] = 1e3
        inside = np.broadcast_to(ratio.domain.inside(theta), N)
        assert not inside[-1]
        right = expected(ratio, theta, x, v)
        for part, outside in enumerate((-np.inf, -np.inf, 0, 0)):
            right[part][~inside] = outside
        for got, wanted in zip(everything(evaluator, theta, x, v, **how), right, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", EVALUATORS)
def test_evaluators_agree_with_autograd(name):
    check(EVALUATORS, name)


@pytest.mark.parametrize("name", IN_A_DOMAIN)
def test_outside_a_domain_nothing_counts(name):
    check_in_a_domain(IN_A_DOMAIN, name)


@pytest.mark.parametrize("name", EVALUATORS)
def test_rows_that_do_not_match_are_refused(name):
    evaluator = EVALUATORS[name](NETWORKS["one parameter"]())
    with pytest.raises(ValueError, match="one row"):
        evaluator.value(np.zeros((2, 1)), np.zeros(N))


def test_what_lacks_a_method_is_no_evaluator():
    class Values:
        def value(self, theta, x):
            return np.zeros(len(x))

    assert not isinstance(Values(), Evaluator)


def test_the_battery_sees_a_wrong_evaluator():
    """The twin: a gradient of the wrong row."""

    class Shifted(TorchEvaluator):
        def value_and_gradient(self, theta, x):
            values, gradients = super().value_and_gradient(theta, x)
            return values, np.roll(gradients, 1, axis=0)

    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check({"shifted": lambda ratio: Shifted(ratio.network)}, "shifted")


@pytest.fixture(scope="module")
def elsewhere():
    with process_with_jax() as call:
        yield call


def check_of_jax(name):
    import jax

    check(OF_JAX, name, compiled=jax.jit)


def check_of_jax_in_a_domain(name):
    import jax

    check_in_a_domain(OF_JAX_IN_A_DOMAIN, name, compiled=jax.jit)


@pytest.mark.parametrize("name", OF_JAX)
def test_evaluators_of_jax_agree_with_autograd(elsewhere, name):
    elsewhere(check_of_jax, name)


@pytest.mark.parametrize("name", OF_JAX_IN_A_DOMAIN)
def test_outside_a_domain_nothing_counts_in_jax(elsewhere, name):
    elsewhere(check_of_jax_in_a_domain, name)
