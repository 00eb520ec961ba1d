"""One battery for everything that evaluates a ratio; another evaluator is one more row."""

import numpy as np
import pytest
import torch
from bound import compiled_of
from jax_process import process_with_jax
from traced import Alone
from traced import everything as all_of
from untrained import make_estimator

from pymc_nre.estimators.domain import Domain
from pymc_nre.estimators.estimator import RatioEstimator
from pymc_nre.estimators.evaluator import Evaluator, TorchEvaluator
from pymc_nre.estimators.wall import Wall
from pymc_nre.kernels.traced.evaluator import CompiledEvaluator
from pymc_nre.networks import MLP, ResidualMLP
from pymc_nre.ops.engines.compiled_engine import CompiledEngine
from pymc_nre.ops.engines.torch_engine import TorchEngine
from pymc_nre.ops.engines.walled import Walled

N = 6
NETWORKS = {
    "one parameter": lambda: make_estimator({"mu": ()}, (), MLP((8, 4), activation="tanh")),
    "several": lambda: make_estimator({"mu": (), "beta": (2,)}, (2, 2), ResidualMLP(6, 2)),
}


def compiled(ratio, wall=False):
    found = compiled_of(ratio, wall)
    return CompiledEngine(found.program).evaluator(found.moments, found.weights)


def by_jax(ratio, wall=False):
    found = compiled_of(ratio, wall)
    return CompiledEngine(found.program).jax_evaluator(found.moments, found.weights)


EVALUATORS = {
    "an estimator's": lambda ratio: ratio.evaluator,
    "torch in graphs": lambda ratio: TorchEngine(ratio).evaluator(),
    "compiled": lambda ratio: CompiledEvaluator.of(compiled_of(ratio)),
    "compiled in graphs": compiled,
}
OF_JAX = {
    "compiled": by_jax,
    "callbacks": lambda ratio: TorchEngine(ratio).jax_evaluator(),
}
BEHIND_A_WALL = {"compiled": compiled}
OF_JAX_BEHIND_A_WALL = {"compiled": by_jax}


def points(ratio, shared):
    rng = np.random.default_rng(7)
    theta = rng.normal(1, 2, (1 if shared else N, ratio.layout.size))
    x = rng.normal(-1, 3, (N, *ratio.event_shape))
    return theta, x, rng.normal(size=(N, ratio.layout.size))


def everything(evaluator, *inputs, compiled=lambda function: function):
    def function(theta, x, v):
        return all_of(evaluator, theta, x, v)

    return [np.asarray(result) for result in compiled(function)(*inputs)]


def expected(ratio, theta, x, v, log_ratio=None):
    """By torch's autograd, a row at a time."""
    log_ratio = log_ratio or (lambda t, data: ratio.network(t[None], data)[0])
    rows = np.broadcast_to(theta, (len(x), theta.shape[1]))
    found = []
    for row, one, along in zip(rows, x, v, strict=True):
        data = torch.tensor(one[None])

        def function(t, data=data):
            return log_ratio(t, data)

        t = torch.tensor(row)
        gradient = torch.autograd.functional.jacobian(function, t)
        hessian = torch.autograd.functional.hessian(function, t)
        found.append((float(function(t)), gradient.numpy(), hessian.numpy() @ along))
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


def around_the_edges(domain):
    """Parameters inside, outside by one, by all, on both sides, and by their combination alone."""
    middle, (low, high) = np.median(domain.draws, 0), (domain.lower, domain.upper)
    out = np.stack([middle, high + 0.3, low - 7.0, *([middle] * 3)])
    out[3, 0], out[4, -1] = low[0] - 0.1, high[-1] + 40
    out[5] = np.where(np.arange(len(low)) % 2, low, high)
    height = Wall.around(domain).height(out)
    assert height[0] == 0
    assert (height[1:5] > 0).all()
    assert (height[5] > 0) == (len(low) > 1)
    return out


def check_behind_a_wall(kinds, name, height=None, **how):
    for make in NETWORKS.values():
        ratio = make()
        around = vars(Wall.around(ratio.domain))
        wall = Wall(**{name: torch.tensor(value) for name, value in around.items()})
        height_of = height or Wall.height

        def log_ratio(t, data, ratio=ratio, wall=wall, height_of=height_of):
            at = t.clip(wall.low, wall.high)
            return ratio.network(at[None], data)[0] - height_of(wall, t)

        evaluator = kinds[name](ratio, wall=True)
        assert isinstance(evaluator, Evaluator)
        _, x, v = points(ratio, False)
        theta = around_the_edges(ratio.domain)
        for rows in (theta, *theta[:, None]):
            right = expected(ratio, rows, x, v, log_ratio)
            for got, wanted in zip(everything(evaluator, rows, x, v, **how), right, strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-9)
        theta[1, 0], theta[2, 0] = np.nan, np.inf
        values, _, gradients, products = everything(evaluator, theta, x, v, **how)
        assert np.isneginf(values).tolist() == [False, True, True, *[False] * 3]
        assert not gradients[1:3].any()
        assert not products[1:3].any()


@pytest.mark.parametrize("name", EVALUATORS)
def test_evaluators_agree_with_autograd(name):
    check(EVALUATORS, name)


@pytest.mark.parametrize("name", BEHIND_A_WALL)
def test_the_wall_is_that_of_autograd(name):
    check_behind_a_wall(BEHIND_A_WALL, name)


def far_away():
    ratio = make_estimator({"mu": ()}, (), MLP((8, 4)))
    draws = 1e6 + np.random.default_rng(1).normal(size=(500, 1))
    ratio.network.standardize_theta.fit(torch.tensor(draws))
    return RatioEstimator(
        ratio.network, {"mu": ()}, domain=Domain.from_draws(draws), probe_x=ratio.probe_x
    )


def test_single_precision_sees_the_wall_far_from_zero():
    """Only differences are rounded, on both sides."""
    ratio = far_away()
    wall, found = Wall.around(ratio.domain), compiled_of(ratio, wall=True)
    single = CompiledEvaluator(found.program, found.moments, found.weights.astype(np.float32))
    steps = np.array([[0.1], [1.0], [5.0]])
    at = np.concatenate([wall.low - steps, wall.high + steps])
    right = CompiledEvaluator.of(found).value_and_gradient(at, np.zeros(6))
    for got, wanted in zip(single.value_and_gradient(at, np.zeros(6)), right, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_no_draw_of_a_skewed_prior_is_nowhere():
    draws = np.random.default_rng(1).gamma(0.001, 1000.0, (1_000, 1))
    domain = Domain.from_draws(draws)
    walled = Walled(Alone(torch.nn.Identity()), Wall.around(domain))
    assert torch.isfinite(walled.head(torch.tensor(draws), torch.zeros(1_000, 1))).all()


def test_the_battery_sees_a_wrong_wall():
    """The twin: a wall that is a thousandth higher."""
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_behind_a_wall(BEHIND_A_WALL, "compiled", lambda wall, t: 1.001 * wall.height(t))


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


def check_of_jax_behind_a_wall(name):
    import jax

    check_behind_a_wall(OF_JAX_BEHIND_A_WALL, name, compiled=jax.jit)


@pytest.mark.parametrize("name", OF_JAX)
def test_evaluators_of_jax_agree_with_autograd(elsewhere, name):
    elsewhere(check_of_jax, name)


@pytest.mark.one_python
@pytest.mark.parametrize("name", OF_JAX_BEHIND_A_WALL)
def test_walls_of_jax_are_those_of_autograd(elsewhere, name):
    elsewhere(check_of_jax_behind_a_wall, name)
