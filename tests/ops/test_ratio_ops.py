"""One battery for every Op, engine and linker; another engine is a row of `bound.ENGINES`."""

import pickle
import warnings

import cloudpickle
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from bound import MODES, ROWS, Bound, c_mode, perturbed, reference, symbolic
from pytensor.gradient import NullTypeGradError

from pymc_nre.ops.ratio_ops import LogRatio, LogRatioAndGradient, RatioOp


@pytest.mark.parametrize("linker", MODES)
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


@pytest.mark.parametrize("linker", MODES)
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


def ratio_ops(function):
    ops = (node.op for node in function.maker.fgraph.apply_nodes)
    return [op for op in ops if isinstance(op, RatioOp)]


@pytest.mark.parametrize("linker", MODES)
def test_graphs_hold_one_op(case, theta, linker):
    """One evaluation gives value and gradient; a value alone pays for no gradient."""
    t = symbolic(theta)
    target = case[1](t, case[4]).sum()
    for outputs, kind in (
        ([target, pytensor.grad(target, t)], LogRatioAndGradient),
        ([target], LogRatio),
    ):
        function = pytensor.function([t], outputs, mode=MODES[linker]())
        assert [type(op) for op in ratio_ops(function)] == [kind]


def test_equal_estimators_merge(case, theta):
    _, both, _, _, x = case
    copy = pickle.loads(pickle.dumps(both))
    assert copy is not both
    assert copy == both
    assert hash(copy) == hash(both)
    t = symbolic(theta)
    function = pytensor.function([t], both(t, x) + copy(t, x), mode=c_mode())
    assert [type(op) for op in ratio_ops(function)] == [LogRatio]


def test_different_estimators_do_not_merge(engine, case, theta):
    ratio, both, _, _, x = case
    other_op = Bound(LogRatioAndGradient, engine, perturbed(ratio))
    assert other_op != both
    t = symbolic(theta)
    difference = pytensor.function([t], both(t, x) - other_op(t, x), mode=c_mode())(theta)
    assert np.abs(difference).min() > 0


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


def test_read_only_and_strided_inputs_are_fine(engine, case, theta):
    _, both, _, _, x = case
    values, gradients = both.perform(theta, x)
    frozen = x.copy()
    frozen.flags.writeable = False
    strided = np.repeat(x, 2, axis=0)[::2]
    # Vectorized sums of the kernels are ordered by where an array lies in memory.
    rtol = 1e-12 if engine == "compiled" else 0
    for other in (frozen, strided):
        np.testing.assert_allclose(both.perform(theta, other)[0], values, rtol=rtol)
        np.testing.assert_allclose(both.perform(theta, other)[1], gradients, rtol=rtol)


def test_rows_that_do_not_match_are_an_error(case):
    _, both, _, size, x = case
    with pytest.raises(ValueError, match=rf"theta has 2 rows and x has {ROWS}"):
        both.perform(np.zeros((2, size)), x)


def test_wrong_types_are_refused(case):
    _, both, _, _, x = case
    with pytest.raises(TypeError, match=r"needs theta as a float64 tensor with 2 axes"):
        both(pt.vector("t", dtype="float64"), x)
    with pytest.raises(TypeError, match=r"float32.*Cast it"):
        both(pt.matrix("t", dtype="float32"), x)
    with pytest.raises(TypeError, match=r"needs x as a float64 tensor.*x\.astype"):
        both(pt.matrix("t", dtype="float64"), x.astype("float32"))


def test_shapes_are_inferred_without_an_evaluation(case, theta, monkeypatch):
    _, both, value, size, x = case
    monkeypatch.setattr(RatioOp, "perform", lambda *arguments: pytest.fail("it was evaluated"))
    t, xs = pt.matrix("t", dtype="float64"), pt.tensor("x", shape=(None,) * x.ndim, dtype="float64")
    values, gradients = both.make_node(t, xs).outputs
    product = pytensor.grad(gradients.sum(), t)
    shapes = [values.shape, gradients.shape, value(t, xs).shape, product.shape]
    function = pytensor.function([t, xs], shapes, mode=c_mode(), on_unused_input="ignore")
    assert [tuple(shape) for shape in function(theta, x)] == [
        (ROWS,),
        (ROWS, size),
        (ROWS,),
        (ROWS, size),
    ]
