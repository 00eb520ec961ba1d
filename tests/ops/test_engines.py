"""One battery for every Op, engine and linker; a second engine is one more row of ENGINES."""

import pickle
import warnings

import cloudpickle
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import torch
from pytensor.compile.mode import get_mode
from pytensor.gradient import NullTypeGradError

import pymc_nre as nre
from pymc_nre import networks
from pymc_nre.estimators.domain import Domain
from pymc_nre.estimators.estimator import RatioEstimator
from pymc_nre.kernels.export import export
from pymc_nre.ops import compiled_ops, engines
from pymc_nre.ops import torch_ops as ops

# "C" is PyTensor's virtual machine with C code, which calls `perform`.
LINKERS = {"C": "FAST_RUN_C", "numba": "NUMBA"}
MODELS = {"one parameter": (1, ()), "several parameters": (3, (2,))}
ROWS = 5


def c_mode():
    """The C linker, whatever this PyTensor's default."""
    mode = get_mode("FAST_RUN")
    return pytensor.compile.mode.Mode(linker="cvm", optimizer=mode.provided_optimizer)


MODES = {"C": c_mode, "numba": lambda: get_mode("NUMBA")}


def torch_engine(theta_size, event_shape):
    """A random smooth network behind the Ops of the torch engine."""
    with torch.random.fork_rng():
        torch.manual_seed(theta_size)
        net = networks.MLP((16, 8), activation="tanh").build(theta_size, event_shape)
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(2_000, theta_size))
    x = rng.normal(size=(50, *event_shape))
    net.fit_standardization(torch.tensor(draws), torch.tensor(x))
    ratio = RatioEstimator(
        net, {"theta": (theta_size,)}, domain=Domain.from_draws(draws), probe_x=x
    )
    return ratio, ops.LogRatioAndGradient, ops.LogRatio


class Compiled:
    """A compiled Op with the arrays that make it a particular ratio."""

    kind = compiled_ops.CompiledRatioAndGradient

    def __init__(self, ratio):
        self.estimator = ratio
        exported = export(ratio.network, features=False)
        self.op = self.kind(exported.program)
        arrays = exported.moments, exported.weights, np.empty(0)
        self.arrays = [engines._share("array", array) for array in arrays]

    def make_node(self, theta, x):
        return self.op.make_node(theta, x, *self.arrays)

    def __call__(self, theta, x):
        return self.make_node(theta, x).outputs[0]

    def __eq__(self, other):
        return self.op == other.op and self.arrays == other.arrays

    def __hash__(self):
        return hash(self.op)

    def __getstate__(self):
        return self.estimator  # a copy shares its arrays

    def __setstate__(self, ratio):
        self.__init__(ratio)

    def _evaluate(self, theta, x):
        node = self.make_node(theta, x)
        storage = [[None] for _ in node.outputs]
        self.op.perform(node, [theta, x, *(a.get_value() for a in self.arrays)], storage)
        return [cell[0] for cell in storage]


class CompiledValue(Compiled):
    kind = compiled_ops.CompiledRatio


def compiled_engine(theta_size, event_shape):
    return torch_engine(theta_size, event_shape)[0], Compiled, CompiledValue


ENGINES = {"torch": torch_engine, "compiled": compiled_engine}
only_torch = pytest.mark.parametrize("engine", ["torch"], indirect=True)
only_compiled = pytest.mark.parametrize("engine", ["compiled"], indirect=True)


@pytest.fixture(params=ENGINES)
def engine(request):
    return ENGINES[request.param]


@pytest.fixture(params=MODELS)
def case(request, engine):
    """Ratio, both Ops, parameters, observations."""
    size, event_shape = MODELS[request.param]
    ratio, both, value = engine(size, event_shape)
    rng = np.random.default_rng(3)
    return ratio, both(ratio), value(ratio), size, rng.normal(size=(ROWS, *event_shape))


@pytest.fixture(params=["one row", "n rows"])
def theta(request, case):
    rows = 1 if request.param == "one row" else ROWS
    return np.random.default_rng(4).normal(size=(rows, case[3]))


def symbolic(theta):
    return pt.tensor("theta", shape=theta.shape, dtype="float64")


def reference(ratio, theta, x):
    """Values and per-row gradients straight from torch autograd."""
    rows = torch.tensor(np.broadcast_to(theta, (len(x), theta.shape[1])).copy())
    rows.requires_grad_()
    values = ratio.network(rows, torch.tensor(x))
    (gradients,) = torch.autograd.grad(values.sum(), rows)
    return values.detach().numpy(), gradients.numpy()


@pytest.mark.parametrize("linker", LINKERS)
def test_values_and_gradients_are_those_of_the_network(case, theta, linker):
    ratio, both, value, _, x = case
    t = symbolic(theta)
    outputs = [*both.make_node(t, x).outputs, value(t, x)]
    got = pytensor.function([t], outputs, mode=MODES[linker]())(theta)
    values, gradients = reference(ratio, theta, x)
    np.testing.assert_allclose(got[0], values, rtol=1e-12)
    np.testing.assert_allclose(got[1], gradients, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(got[2], values, rtol=1e-12)


@pytest.mark.parametrize("which", ["both", "value"])
def test_verify_grad(case, theta, which):
    op = case[1] if which == "both" else case[2]
    # verify_grad projects on random vectors, so the cotangent is not ones.
    pytensor.gradient.verify_grad(
        lambda t: op(pt.specify_shape(t, theta.shape), case[4]),
        [theta],
        rng=np.random.default_rng(5),
        mode=c_mode(),
    )


def test_gradient_scales_with_the_cotangent(case, theta):
    ratio, both, _, _, x = case
    cotangent = np.arange(1.0, ROWS + 1)
    t = symbolic(theta)
    gradient = pytensor.grad((both(t, x) * cotangent).sum(), t)
    _, by_row = reference(ratio, theta, x)
    expected = cotangent[:, None] * by_row
    if len(theta) == 1:
        expected = expected.sum(0, keepdims=True)
    np.testing.assert_allclose(gradient.eval({t: theta}), expected, rtol=1e-10)
    # The twin: a gradient that drops the cotangent is another one.
    dropped = by_row.sum(0, keepdims=True) if len(theta) == 1 else by_row
    assert not np.allclose(dropped, expected, rtol=1e-3)


def finite_difference_hessian(function, point, step=1e-5):
    n = point.size
    hessian = np.empty((n, n))
    for i in range(n):
        shift = np.zeros(n)
        shift[i] = step
        shift = shift.reshape(point.shape)
        hessian[i] = ((function(point + shift) - function(point - shift)) / (2 * step)).ravel()
    return hessian


@pytest.mark.parametrize("linker", LINKERS)
def test_second_derivatives_agree_with_finite_differences(case, theta, linker):
    _, both, _, _, x = case
    t = symbolic(theta)
    target = (both(t, x) * np.arange(1.0, ROWS + 1)).sum()
    first = pytensor.grad(target, t)
    direction = np.random.default_rng(6).normal(size=theta.shape)
    product = pytensor.grad((first * direction).sum(), t)
    got = pytensor.function([t], product, mode=MODES[linker]())(theta)
    hessian = finite_difference_hessian(pytensor.function([t], first, mode=c_mode()), theta)
    assert np.abs(hessian).max() > 1e-3  # not a comparison of zeros
    np.testing.assert_allclose(got.ravel(), hessian @ direction.ravel(), rtol=1e-5, atol=1e-7)


def test_third_derivatives_are_refused(case, theta):
    t = symbolic(theta)
    first = pytensor.grad(case[1](t, case[4]).sum(), t)
    second = pytensor.grad(first.sum(), t)
    with pytest.raises(NotImplementedError, match="Third derivatives"):
        pytensor.grad(second.sum(), t)


def test_gradient_in_x_is_refused(case, theta):
    x = pt.tensor("x", shape=case[4].shape, dtype="float64")
    with pytest.raises(NullTypeGradError, match="A ratio is not differentiated in x"):
        pytensor.grad(case[1](theta, x).sum(), x)


def test_data_that_depend_on_a_parameter_are_refused(case, theta):
    """Their part of the gradient would otherwise be missing without a word."""
    _, both, _, _, x = case
    parameter = pt.scalar("parameter", dtype="float64")
    total = both(theta + parameter, x + parameter).sum()
    with pytest.raises(NullTypeGradError, match="A ratio is not differentiated in x"):
        pytensor.grad(total, parameter)


@only_torch
def test_shapes_are_inferred_without_an_evaluation(case, theta, monkeypatch):
    _, both, value, size, x = case
    assert hash(both) == hash(both)  # the digest evaluates a few points, once
    assert hash(value) == hash(value)
    count_evaluations(monkeypatch, lambda: pytest.fail("the network was evaluated"))
    t, xs = pt.matrix("t", dtype="float64"), pt.tensor("x", shape=(None,) * x.ndim, dtype="float64")
    values, gradients = both.make_node(t, xs).outputs
    shapes = [values.shape, gradients.shape, value(t, xs).shape]
    function = pytensor.function([t, xs], shapes, mode=c_mode(), on_unused_input="ignore")
    assert [tuple(shape) for shape in function(theta, x)] == [(ROWS,), (ROWS, size), (ROWS,)]


def count_evaluations(monkeypatch, tell):
    for name in ("value", "value_and_gradient", "hessian_product"):
        original = getattr(nre.estimators.evaluator.TorchEvaluator, name)

        def counting(self, *arguments, original=original):
            tell()
            return original(self, *arguments)

        monkeypatch.setattr(nre.estimators.evaluator.TorchEvaluator, name, counting)


@only_torch
@pytest.mark.parametrize("linker", LINKERS)
def test_one_evaluation_for_value_and_gradient(case, theta, linker, monkeypatch):
    calls = []
    t = symbolic(theta)
    target = case[1](t, case[4]).sum()
    function = pytensor.function([t], [target, pytensor.grad(target, t)], mode=MODES[linker]())
    count_evaluations(monkeypatch, lambda: calls.append(1))
    function(theta)
    assert len(calls) == 1


@only_torch
@pytest.mark.parametrize("linker", LINKERS)
def test_value_alone_pays_for_no_gradient(case, theta, linker, monkeypatch):
    t = symbolic(theta)
    function = pytensor.function([t], case[1](t, case[4]).sum(), mode=MODES[linker]())
    monkeypatch.setattr(
        nre.estimators.evaluator.TorchEvaluator,
        "value_and_gradient",
        lambda *arguments: pytest.fail("a gradient was computed"),
    )
    function(theta)
    kinds = {type(node.op) for node in function.maker.fgraph.apply_nodes}
    assert ops.LogRatio in kinds
    assert ops.LogRatioAndGradient not in kinds


def test_equal_estimators_merge(case, theta):
    _, both, _, _, x = case
    copy = pickle.loads(pickle.dumps(both))
    assert copy is not both
    assert copy == both
    assert hash(copy) == hash(both)
    t = symbolic(theta)
    function = pytensor.function([t], both(t, x) + copy(t, x), mode=c_mode())
    values = (ops.LogRatio, compiled_ops.CompiledRatio)
    ratio_nodes = [n for n in function.maker.fgraph.apply_nodes if isinstance(n.op, values)]
    assert len(ratio_nodes) == 1


def test_different_estimators_do_not_merge(engine, case, theta):
    ratio, both, _, _, x = case
    other = RatioEstimator(
        perturbed(ratio.network), ratio.parameters, domain=ratio.domain, probe_x=ratio.probe_x
    )
    other_op = type(both)(other)
    assert other_op != both
    t = symbolic(theta)
    difference = pytensor.function([t], both(t, x) - other_op(t, x), mode=c_mode())(theta)
    assert np.abs(difference).min() > 0


def perturbed(network):
    network = pickle.loads(pickle.dumps(network))
    with torch.no_grad():
        network.x_in.bias += 1e-3
    return network


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_compiled_functions_survive_pickling(case, theta, pickler):
    t = symbolic(theta)
    target = case[1](t, case[4]).sum()
    function = pytensor.function([t], [target, pytensor.grad(target, t)], mode=c_mode())
    copy = pickler.loads(pickler.dumps(function))
    for mine, its in zip(function(theta), copy(theta), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_linkers_agree(case, theta):
    t = symbolic(theta)
    target = case[1](t, case[4]).sum()
    outputs = [target, pytensor.grad(target, t)]
    results = [pytensor.function([t], outputs, mode=mode())(theta) for mode in MODES.values()]
    for mine, its in zip(*results, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-10)


def test_no_warnings_anywhere(case, theta):
    t = symbolic(theta)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        target = case[1](t, case[4]).sum()
        for mode in MODES.values():
            pytensor.function([t], [target, pytensor.grad(target, t)], mode=mode())(theta)


def test_read_only_and_strided_inputs_are_fine(case, theta):
    _, both, _, _, x = case
    values, gradients = both._evaluate(theta, x)
    frozen = x.copy()
    frozen.flags.writeable = False
    strided = np.repeat(x, 2, axis=0)[::2]
    # Vectorized sums of the kernels are ordered by where an array lies in memory.
    rtol = 1e-12 if isinstance(both, Compiled) else 0
    for other in (frozen, strided):
        np.testing.assert_allclose(both._evaluate(theta, other)[0], values, rtol=rtol)
        np.testing.assert_allclose(both._evaluate(theta, other)[1], gradients, rtol=rtol)


@only_torch
def test_wrong_types_are_refused(case):
    _, both, _, size, x = case
    with pytest.raises(TypeError, match=r"needs theta as a float64 tensor with 2 axes"):
        both(pt.vector("t", dtype="float64"), x)
    with pytest.raises(TypeError, match=r"float32.*Cast it"):
        both(pt.matrix("t", dtype="float32"), x)
    with pytest.raises(TypeError, match="needs x as a float64 tensor"):
        both(np.zeros((1, size)), np.zeros((*x.shape, 1)))
    with pytest.raises(ValueError, match=rf"shape \(1 or n, {size}\), got"):
        both(np.zeros((1, size + 1)), x)


def test_rows_that_do_not_match_are_an_error(case):
    _, both, _, size, x = case
    with pytest.raises(ValueError, match=rf"theta has 2 rows and x has {ROWS}"):
        both._evaluate(np.zeros((2, size)), x)


@only_torch
def test_cuda_in_a_forked_process_is_a_clear_error(case, theta, monkeypatch):
    # No CUDA is needed to see the check: it looks at where the network is said to live.
    _, both, _, _, x = case
    monkeypatch.setattr(RatioEstimator, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(RuntimeError, match=r"cores=1.*forkserver.*ratio\.to\('cpu'\)"):
        both.perform(both.make_node(theta, x), [theta, x], [[None], [None]])


@only_compiled
@pytest.mark.parametrize("linker", LINKERS)
def test_compiled_graphs_hold_one_op(case, theta, linker):
    """One evaluation gives value and gradient; a value alone pays for no gradient."""
    t = symbolic(theta)
    target = case[1](t, case[4]).sum()
    for outputs, kind in (
        ([target, pytensor.grad(target, t)], compiled_ops.CompiledRatioAndGradient),
        ([target], compiled_ops.CompiledRatio),
    ):
        function = pytensor.function([t], outputs, mode=MODES[linker]())
        nodes = function.maker.fgraph.apply_nodes
        ours = [n.op for n in nodes if isinstance(n.op, compiled_ops._CompiledOp)]
        assert [type(op) for op in ours] == [kind]


@only_compiled
@pytest.mark.parametrize("linker", LINKERS)
def test_outside_the_domain_nothing_counts(case, theta, linker):
    ratio, both, _, _, x = case
    both.arrays[2] = engines._share("domain", ratio.domain.to_vector())
    theta = theta.copy()
    theta[-1] = 1e3
    t = symbolic(theta)
    values, gradients = pytensor.function([t], both.make_node(t, x).outputs, mode=MODES[linker]())(
        theta
    )
    inside = np.broadcast_to(ratio.domain.inside(theta), ROWS)
    assert not inside.all()
    expected, by_row = reference(ratio, theta, x)
    np.testing.assert_allclose(values, np.where(inside, expected, -np.inf), rtol=1e-12)
    np.testing.assert_allclose(gradients, np.where(inside[:, None], by_row, 0), rtol=1e-10)


@only_compiled
@pytest.mark.parametrize("linker", LINKERS)
def test_compiled_engine_refuses_holes(case, theta, linker):
    x = pt.tensor("x", shape=case[4].shape, dtype="float64")
    function = pytensor.function([x], case[1](theta, x), mode=MODES[linker]())
    function(case[4])
    holes = case[4].copy()
    holes[1] = np.nan
    with pytest.raises(ValueError, match="no NaN or infinite values"):
        function(holes)


@only_compiled
def test_compiled_ops_of_one_architecture_are_equal(case):
    ratio, both, *_ = case
    other = RatioEstimator(
        perturbed(ratio.network), ratio.parameters, domain=ratio.domain, probe_x=ratio.probe_x
    )
    assert type(both)(other).op == both.op
    assert type(both)(other) != both
