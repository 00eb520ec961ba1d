"""What JAX compiles of networks, against torch."""

import subprocess
import sys
from itertools import cycle

import numpy as np
import pytest
import torch
from jax_process import process_with_jax
from traced import Alone, rows_of, traced
from traced import everything as all_of

from pymc_nre.estimators.evaluator import TorchEvaluator
from pymc_nre.kernels.traced import twin
from pymc_nre.kernels.traced.twin import JaxEvaluator
from pymc_nre.networks import MLP, Dense, ResidualMLP, build
from pymc_nre.networks.composed.correction import QuadraticCorrection
from pymc_nre.networks.composed.ensemble import Ensemble
from pymc_nre.networks.layers import ACTIVATIONS

TOLERANCE = {"float64": 1e-11, "float32": 2e-4}  # sums of 16 products, eight layers deep
D, N = 3, 7
EVENT = (2, 2)

ARCHITECTURES = {
    "MLP": lambda **options: MLP((16, 8), **options),
    "one layer": lambda **options: MLP((5,), **options),
    "ResidualMLP": lambda **options: ResidualMLP(width=8, blocks=2, **options),
}
# All activations, all norms: compiling every pair would take minutes.
KINDS = [("MLP", activation, None) for activation in ACTIVATIONS if activation != "silu"]
KINDS += [(kind, "silu", norm) for kind in ARCHITECTURES for norm in (None, "batch", "layer")]
# Rows of parameters, and whether observations are features: what parameters and observations meet
# is ahead of all that KINDS differ in, so that each needs two of the four, such that each norm,
# kind and activation is there with one row and with many, and with features and without.
GIVEN = [((1, False), (N, True)), ((N, False), (1, True))]


@pytest.fixture(scope="module")
def elsewhere():
    """tests/ops has JAX compile as it does for users."""
    with process_with_jax(optimized=False) as call:
        yield call


def network(specification, event_shape=EVENT, seed=0):
    """A network whose every number is random, moments and running statistics among them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(specification, D, event_shape).double().eval().requires_grad_(False)
        net.fit_standardization(1 + 2 * torch.randn(50, D), 3 * torch.randn(50, *event_shape) - 1)
        for name, value in [*net.body.named_parameters(), *net.body.named_buffers()]:
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.ndim == 1:
                value.add_(torch.randn(len(value)), alpha=0.5)
    return net


def points(rows, event_shape=EVENT, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(-1, 3, (N, *event_shape))
    return rng.normal(1, 2, (rows, D)), x, rng.normal(size=(N, D))


def arguments(net, theta, x, embedded):
    """A program and what its functions take."""
    found = traced(net, theta.shape[1], x.shape[1:], embedded=embedded)
    return found.program, (theta, rows_of(found, net, x), found.moments, found.weights)


def close(got, expected, precision="float64"):
    rtol = TOLERANCE[precision]
    assert got.dtype == precision
    assert got.shape == expected.shape
    np.testing.assert_allclose(
        got, expected, rtol=rtol, atol=rtol * (1 + np.abs(expected).max(initial=0))
    )


def everything(program, inputs, v):
    """Values, then values and gradients, then Hessian products, compiled together."""
    import jax

    def function(theta, x, moments, weights, v):
        return all_of(JaxEvaluator(program, moments, weights), theta, x, v)

    return jax.jit(function)(*inputs, v)


def torchs(net, theta, x, v):
    """The same by torch."""
    return all_of(TorchEvaluator(net), theta, x, v)


def check(net, program, inputs, theta, x, v, precision="float64"):
    pairs = zip(everything(program, inputs, v), torchs(net, theta, x, v), strict=True)
    for got, expected in pairs:
        close(got, expected, precision)


def check_given(net, given):
    for rows, features in given:
        theta, x, v = points(rows)
        check(net, *arguments(net, theta, x, features), theta, x, v)


def check_kind(kind, activation, norm, given):
    check_given(network(ARCHITECTURES[kind](activation=activation, norm=norm)), given)


@pytest.mark.one_python
@pytest.mark.parametrize(("case", "given"), list(zip(KINDS, cycle(GIVEN), strict=False)), ids=str)
def test_networks_agree_with_torch(elsewhere, case, given):
    elsewhere(check_kind, *case, given)


def check_together(mean_of, correction):
    net = Ensemble([network(MLP((8, 5)), seed=seed) for seed in range(3)], mean_of)
    if correction:
        net = QuadraticCorrection(net, D)
        rng = np.random.default_rng(3)
        values = (rng.normal(size=part.shape) for part in net.parts())
        center, turn, bounds, linear, quadratic, edge = values
        bounds, edge = 1 + np.abs(bounds), 1 + np.abs(edge)
        net.set_parts(center, turn, bounds, linear, quadratic + quadratic.T, edge)
    check_given(net, GIVEN[(mean_of == "logits") ^ correction])


@pytest.mark.parametrize("mean_of", ["ratios", "logits"])
@pytest.mark.parametrize("correction", [pytest.param(False, marks=pytest.mark.one_python), True])
def test_ensembles_and_corrections(elsewhere, mean_of, correction):
    elsewhere(check_together, mean_of, correction)


def check_another_program():
    """The twin: with another activation nothing agrees; nor with a matrix turned around."""
    net = network(MLP((8, 8), activation="silu"))
    theta, x, v = points(1)
    program, inputs = arguments(net, theta, x, False)
    other, _ = arguments(network(MLP((8, 8), activation="gelu")), theta, x, False)
    layers = (node for node in program.value if node.kind == "layer" and node.count == 8)
    begin = next(node.options[0] for node in layers if node.options[2] == 8)
    turned = inputs[3].copy()
    turned[begin : begin + 64] = turned[begin : begin + 64].reshape(8, 8).T.ravel()
    for wrong, weights in ((other, inputs[3]), (program, turned)):
        got = everything(wrong, (*inputs[:3], weights), v)
        for result, right in zip(got, torchs(net, theta, x, v), strict=True):
            with pytest.raises(AssertionError, match="Not equal to tolerance"):
                close(result, right)


def test_another_program_does_not_agree(elsewhere):
    elsewhere(check_another_program)


def check_events():
    for event_shape in ((), (2, 1, 3)):
        net = network(MLP((6, 4)), event_shape)
        theta, x, v = points(N, event_shape)
        check(net, *arguments(net, theta, x, False), theta, x, v)
        counts = np.round(x).astype(int)
        check(net, *arguments(net, theta, counts, False), theta, counts, v)
        check(net, *arguments(net, theta[:1], x[:0], False), theta[:1], x[:0], v[:0])
    net = network(MLP((6, 4), embedding=Dense((5,))))
    theta, x, v = points(1)
    check(net, *arguments(net, theta, x, True), theta, x, v)


def test_shapes_of_observations(elsewhere):
    """Scalars, arrays, counts, no observation at all, and an embedding that torch evaluates."""
    elsewhere(check_events)


def check_chains(rows, features):
    import jax

    net = network(ResidualMLP(width=8, blocks=1, norm="layer"))
    thetas = np.stack([points(rows, seed=seed)[0] for seed in range(3)])
    _, x, v = points(rows)
    program, (_, *data) = arguments(net, thetas[0], x, features)

    def function(theta):
        return everything(program, (theta, *data), v)

    loop = zip(*(function(theta) for theta in thetas), strict=True)
    for got, each in zip(jax.vmap(function)(thetas), loop, strict=True):
        close(got, np.stack(each))
    check_gradient_of_value(net, program, data, thetas, x)


def check_gradient_of_value(net, program, data, thetas, x):
    """What a sampler of JAX does; cotangents that are not ones, parameters that are shared."""
    import jax

    cotangents = np.linspace(-2, 3, N)
    given, *arrays = data
    evaluator = JaxEvaluator(program, *arrays)

    def target(theta):
        return (evaluator.value(theta, given) * cotangents).sum()

    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(target)))(thetas)
    for theta, value, slope in zip(thetas, values, slopes, strict=True):
        expected, rows = TorchEvaluator(net).value_and_gradient(theta, x)
        weighted = rows * cotangents[:, None]
        close(value, (expected * cotangents).sum())
        close(slope, weighted.sum(0, keepdims=True) if len(theta) == 1 else weighted)


@pytest.mark.parametrize(("rows", "features"), [(1, False), (N, False), (1, True)])
def test_chains_and_gradients(elsewhere, rows, features):
    elsewhere(check_chains, rows, features)


def check_chains_one_after_another():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "_MANY_ROWS", N)
        check_chains(1, False)


def test_chains_of_many_rows_go_one_after_another(elsewhere):
    elsewhere(check_chains_one_after_another)


def check_second_derivatives():
    import jax

    net = network(MLP((8, 8), activation="gelu", norm="batch"))
    theta, x, v = points(1)
    program, (*_, moments, weights) = arguments(net, theta, x, False)
    evaluator = JaxEvaluator(program, moments, weights)
    hessian = jax.hessian(lambda t: evaluator.value(t, x).sum())(theta)
    products = TorchEvaluator(net).hessian_product(theta, x, np.tile(v[:1], (N, 1))).sum(0)
    close(hessian[0, :, 0] @ v[0], products)
    # And through the gradients that the other function gives.
    jacobian = jax.jacrev(lambda t: evaluator.value_and_gradient(t, x)[1].sum(0))
    close(jacobian(theta)[:, 0] @ v[0], products)


def test_second_derivatives(elsewhere):
    elsewhere(check_second_derivatives)


def alone(activation):
    found = traced(Alone(ACTIVATIONS[activation]()), 1, (1,), embedded=True)
    return found.program, found.moments, found.weights


# Kinks of elu and relu among them, both sides of softplus's (on it torch has the slope of one
# side and the curve of the other), and what overflows in an exponential.
EXTREMES = np.array([-1e3, -88, -30, -1, -1e-8, 0, 1e-8, 1, 10, 19.999, 20.001, 30, 89, 1e3])


def derivatives(activation, precision):
    """Values, slopes and curves at the extremes, by JAX."""
    program, *arrays = alone(activation)
    h = EXTREMES[:, None].astype(precision)
    evaluator = JaxEvaluator(program, *(array.astype(precision) for array in arrays))
    both = evaluator.value_and_gradient(h, h)
    curves = evaluator.hessian_product(h, h, np.ones_like(h))
    return [np.asarray(array).ravel() for array in (*both, curves)]


def torch_derivatives(activation):
    h = torch.tensor(EXTREMES, requires_grad=True)
    value = ACTIVATIONS[activation]()(h)
    (slope,) = torch.autograd.grad(value.sum(), h, create_graph=True)
    if not slope.requires_grad:
        return value, slope, torch.zeros_like(h)
    return value, slope, *torch.autograd.grad(slope.sum(), h)


def check_extremes(activation):
    import jax

    expected = [array.detach().numpy() for array in torch_derivatives(activation)]
    for got, right in zip(derivatives(activation, "float64"), expected, strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-11, atol=1e-14)
    with jax.enable_x64(False):
        for got, right in zip(derivatives(activation, "float32"), expected, strict=True):
            assert got.dtype == "float32"
            np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_saturated_activations(elsewhere, activation):
    """Values and two derivatives are torch's, and finite."""
    elsewhere(check_extremes, activation)


def check_extremes_of_networks(activation):
    net = network(MLP((8, 8), activation=activation))
    theta, x, v = points(1)
    for far in ((-1e3 * theta, x), (theta, 1e3 * x), (1e3 * theta, -1e3 * x)):
        check(net, *arguments(net, *far, False), *far, v)


@pytest.mark.parametrize("activation", ["elu", "softplus"])
def test_saturated_networks(elsewhere, activation):
    elsewhere(check_extremes_of_networks, activation)


def check_nan():
    for activation in ACTIVATIONS:
        theta = np.array([[np.nan], [1.0]])
        values = JaxEvaluator(*alone(activation)).value(theta, np.zeros((2, 1)))
        np.testing.assert_array_equal(np.isnan(values), [True, False])


def test_nan_stays_in_its_row(elsewhere):
    elsewhere(check_nan)


def check_single_precision():
    import jax

    with jax.enable_x64(False):
        net = network(ResidualMLP(width=8, norm="layer"))
        theta, x, v = points(N)
        program, inputs = arguments(net, theta, x, False)
        check(net, program, inputs, theta, x, v, "float32")
        text = str(jax.make_jaxpr(JaxEvaluator(program, *inputs[2:]).value)(*inputs[:2]))
    assert "f64" not in text
    # Not TensorFloat-32 on an accelerator.
    assert text.count("Precision.HIGHEST") > 0
    assert text.count("dot_general") <= text.count("Precision.HIGHEST")


def test_single_precision(elsewhere):
    elsewhere(check_single_precision)


def check_features():
    import pytensor
    import pytensor.tensor as pt

    from pymc_nre.estimators.domain import Domain
    from pymc_nre.estimators.estimator import RatioEstimator
    from pymc_nre.networks import DeepSet
    from pymc_nre.ops.engines.choice import as_data, log_ratios

    net = network(MLP((8, 8), embedding=DeepSet((8, 4))), (5,))
    theta, x, _ = points(1, (5,))
    domain = Domain.from_draws(np.random.default_rng(2).normal(1, 9, (200, D)))
    ratio = RatioEstimator(net, {"theta": (D,)}, domain=domain, probe_x=x)
    data = pytensor.shared(x)
    t = pt.tensor("theta", shape=(1, D), dtype="float64")
    options = {"outside": "repel", "engine": "compiled", "precision": "double"}
    values = log_ratios(ratio, t, as_data(ratio, data), **options)
    outputs = [values, pytensor.grad(values.sum(), t)]
    function = pytensor.function([t], outputs, mode="JAX")
    for replaced in (x, x[:2] + 1):
        data.set_value(replaced)
        expected, by_row = ratio.evaluator.value_and_gradient(theta, replaced)
        got = function(theta)
        np.testing.assert_allclose(got[0], expected, rtol=1e-10)
        np.testing.assert_allclose(got[1], by_row.sum(0, keepdims=True), rtol=1e-10)


def test_replaced_data_of_an_embedding(elsewhere):
    elsewhere(check_features)


WITHOUT_JAX = """
import sys
import numpy as np, pymc as pm
import pymc_nre as nre
from pymc_nre.kernels.traced import twin

simulations = nre.tasks.GaussianMean().simulate(2_000, random_seed=1)
ratio = nre.train(simulations, epochs=1, random_seed=1, progressbar=False)
with pm.Model() as model:
    mu = pm.Normal("mu")
    nre.RatioLikelihood("x", ratio, mu=mu, observed=np.zeros(3), engine="compiled")
assert np.isfinite(model.compile_logp()({"mu": 0.0}))
print("jax" in sys.modules)
"""


@pytest.mark.one_python
def test_jax_is_imported_only_where_it_is_needed():
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_JAX]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
