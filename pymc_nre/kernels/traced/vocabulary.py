"""ATen's operations that go element by element, put together of a few primitives.

Derivatives are written with the slope in one piece, which depends on what went in alone: so it is
computed beside the value, from what the two share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["ELEMENTWISE", "LOGICAL", "OF_TRUTH", "Arithmetic"]

Value = Any  # Rows, Constant or a number

# What gives true or false, and what else takes it; sums of such values are other things than sums.
LOGICAL = {"gt", "ge", "lt", "le", "eq", "ne", "both", "either"}
OF_TRUTH = LOGICAL | {"logical_and", "logical_or", "logical_not", "where"}
OF_TRUTH |= {"bitwise_and", "bitwise_or", "bitwise_not"}
COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")


class Arithmetic:
    """Primitives by name, ``a.add(x, y)``, on whatever ``compute(name, *values)`` takes."""

    def __init__(self, compute: Callable[..., Value]) -> None:
        self._compute = compute

    def __getattr__(self, name: str) -> Callable[..., Value]:
        return partial(self._compute, name)


def _add(a: Arithmetic, x: Value, y: Value, alpha: float = 1) -> Value:
    return a.add(x, y if alpha == 1 else a.mul(y, alpha))


def _sub(a: Arithmetic, x: Value, y: Value, alpha: float = 1) -> Value:
    return a.sub(x, y if alpha == 1 else a.mul(y, alpha))


def _rsub(a: Arithmetic, x: Value, y: Value, alpha: float = 1) -> Value:
    return _sub(a, y, x, alpha)


def _div(a: Arithmetic, x: Value, y: Value, rounding_mode: str | None = None) -> Value:
    quotient = a.div(x, y)
    if rounding_mode == "floor":
        return a.floor(quotient)
    if rounding_mode == "trunc":
        return _trunc(a, quotient)
    return quotient


def _trunc(a: Arithmetic, x: Value) -> Value:
    return a.where(a.lt(x, 0.0), a.ceil(x), a.floor(x))


def _pow(a: Arithmetic, x: Value, power: Value) -> Value:
    if isinstance(x, (int, float)):
        return a.exp(a.mul(power, math.log(x))) if x > 0 else a.pow(x, power)
    if not isinstance(power, (int, float)):
        return a.pow(x, power)
    if power == 0:
        return a.where(a.eq(x, x), 1.0, 1.0)
    if power < 0:
        return a.div(1.0, _pow(a, x, -power))
    if power == 0.5:
        return a.sqrt(x)
    if power != int(power) or power > 16:
        return a.pow(x, float(power))
    result, square, power = 1.0, x, int(power)
    while power:  # by squaring
        if power % 2:
            result = square if result == 1.0 else a.mul(result, square)
        power //= 2
        square = a.mul(square, square) if power else square
    return result


def _clamp(a: Arithmetic, x: Value, low: Value = None, high: Value = None) -> Value:
    x = x if low in (None, -math.inf) else a.max(x, low)
    return x if high in (None, math.inf) else a.min(x, high)


def _silu_backward(a: Arithmetic, g: Value, x: Value) -> Value:
    s = a.sigmoid(x)
    return a.mul(g, a.mul(s, a.add(1.0, a.mul(x, a.sub(1.0, s)))))


def _gelu(a: Arithmetic, x: Value, approximate: str = "none") -> Value:
    if approximate == "tanh":
        return a.mul(a.mul(0.5, x), a.add(1.0, a.tanh(_gelu_inner(a, x))))
    return a.mul(x, _normal_below(a, x))


def _gelu_inner(a: Arithmetic, x: Value) -> Value:
    cubic = a.mul(0.044715, a.mul(x, a.mul(x, x)))
    return a.mul(math.sqrt(2 / math.pi), a.add(x, cubic))


def _normal_below(a: Arithmetic, x: Value) -> Value:
    return a.mul(0.5, a.add(1.0, a.erf(a.mul(math.sqrt(0.5), x))))


def _gelu_backward(a: Arithmetic, g: Value, x: Value, approximate: str = "none") -> Value:
    if approximate == "tanh":
        t = a.tanh(_gelu_inner(a, x))
        inner = a.mul(math.sqrt(2 / math.pi), a.add(1.0, a.mul(0.134145, a.mul(x, x))))
        rise = a.mul(a.mul(x, a.sub(1.0, a.mul(t, t))), inner)
        return a.mul(g, a.mul(0.5, a.add(a.add(1.0, t), rise)))
    bell = a.exp(a.mul(-0.5, a.mul(x, x)))
    density = a.mul(1 / math.sqrt(2 * math.pi), bell)
    return a.mul(g, a.add(_normal_below(a, x), a.mul(x, density)))


def _softplus(a: Arithmetic, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    y = a.mul(beta, x)
    # Not log1p(exp(y)): what is above the threshold must not overflow either.
    log = a.add(a.max(y, 0.0), a.log1p(a.exp(a.neg(a.abs(y)))))
    return a.where(a.gt(y, float(threshold)), x, a.div(log, beta))


def _softplus_backward(
    a: Arithmetic, g: Value, x: Value, beta: float = 1, threshold: float = 20
) -> Value:
    y = a.mul(beta, x)
    return a.mul(g, a.where(a.gt(y, float(threshold)), 1.0, a.sigmoid(y)))


def _elu(
    a: Arithmetic, x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> Value:
    below = a.mul(alpha, a.expm1(a.mul(a.min(x, 0.0), input_scale)))
    return a.mul(scale, a.where(a.gt(x, 0.0), x, below))


def _elu_backward(
    a: Arithmetic,
    g: Value,
    alpha: float,
    scale: float,
    input_scale: float,
    is_result: bool,
    x: Value,
) -> Value:
    if is_result:
        below = a.mul(input_scale, a.add(x, alpha))
    else:
        below = a.mul(input_scale * alpha, a.exp(a.mul(a.min(x, 0.0), input_scale)))
    return a.mul(g, a.mul(scale, a.where(a.gt(x, 0.0), 1.0, below)))


def _leaky_relu(a: Arithmetic, x: Value, slope: float = 0.01) -> Value:
    return a.where(a.gt(x, 0.0), x, a.mul(slope, x))


def _leaky_relu_backward(a: Arithmetic, g: Value, x: Value, slope: float, is_result: bool) -> Value:
    return a.mul(g, a.where(a.gt(x, 0.0), 1.0, slope))


def _not_a_number(a: Arithmetic, x: Value) -> Value:
    return a.ne(x, x)


def _is_infinite(a: Arithmetic, x: Value) -> Value:
    return a.eq(a.abs(x), math.inf)


def _sign(a: Arithmetic, x: Value) -> Value:
    return a.sub(a.gt(x, 0.0), a.lt(x, 0.0))


def _tan(a: Arithmetic, x: Value) -> Value:
    return a.div(a.sin(x), a.cos(x))


def _asinh(a: Arithmetic, x: Value) -> Value:
    size = a.abs(x)
    inverse = a.div(1.0, size)  # whose square is none of a large number, which would overflow
    root = a.sqrt(a.add(1.0, a.mul(inverse, inverse)))
    height = a.log1p(a.add(size, a.div(size, a.add(inverse, root))))
    return a.where(a.lt(x, 0.0), a.neg(height), height)


def _fmod(a: Arithmetic, x: Value, y: Value) -> Value:
    return a.sub(x, a.mul(y, _trunc(a, a.div(x, y))))


def _remainder(a: Arithmetic, x: Value, y: Value) -> Value:
    return a.sub(x, a.mul(y, a.floor(a.div(x, y))))


def _of(name: str) -> Callable[..., Value]:
    """The operation that is a primitive."""
    return lambda a, *values: getattr(a, name)(*values)


# Names are ATen's, without the overload.
ELEMENTWISE: dict[str, Callable[..., Value]] = {
    "add": _add,
    "sub": _sub,
    "rsub": _rsub,
    "mul": _of("mul"),
    "div": _div,
    "neg": _of("neg"),
    "exp": _of("exp"),
    "exp2": lambda a, x: a.exp(a.mul(math.log(2), x)),
    "expm1": _of("expm1"),
    "log": _of("log"),
    "log1p": _of("log1p"),
    "log2": lambda a, x: a.mul(1 / math.log(2), a.log(x)),
    "log10": lambda a, x: a.mul(1 / math.log(10), a.log(x)),
    "sqrt": _of("sqrt"),
    "rsqrt": lambda a, x: a.div(1.0, a.sqrt(x)),
    "reciprocal": lambda a, x: a.div(1.0, x),
    "square": lambda a, x: a.mul(x, x),
    "pow": _pow,
    "abs": _of("abs"),
    "sign": _sign,
    "floor": _of("floor"),
    "ceil": _of("ceil"),
    "trunc": _trunc,
    "fmod": _fmod,
    "remainder": _remainder,
    "sin": _of("sin"),
    "cos": _of("cos"),
    "tan": _tan,
    "tanh": _of("tanh"),
    "tanh_backward": lambda a, g, y: a.mul(g, a.sub(1.0, a.mul(y, y))),
    "sinh": lambda a, x: a.mul(0.5, a.sub(a.expm1(x), a.expm1(a.neg(x)))),
    "cosh": lambda a, x: a.mul(0.5, a.add(a.exp(x), a.exp(a.neg(x)))),
    "asinh": _asinh,
    "sigmoid": _of("sigmoid"),
    "sigmoid_backward": lambda a, g, y: a.mul(g, a.mul(y, a.sub(1.0, y))),
    "erf": _of("erf"),
    "lgamma": _of("lgamma"),
    "digamma": _of("digamma"),
    "relu": lambda a, x: a.max(x, 0.0),
    "threshold_backward": lambda a, g, x, at: a.where(a.le(x, float(at)), 0.0, g),
    "leaky_relu": _leaky_relu,
    "leaky_relu_backward": _leaky_relu_backward,
    "silu": lambda a, x: a.mul(x, a.sigmoid(x)),
    "silu_backward": _silu_backward,
    "gelu": _gelu,
    "gelu_backward": _gelu_backward,
    "softplus": _softplus,
    "softplus_backward": _softplus_backward,
    "elu": _elu,
    "elu_backward": _elu_backward,
    "clamp": _clamp,
    "hardtanh": lambda a, x, low=-1.0, high=1.0: _clamp(a, x, low, high),
    "clamp_min": _of("max"),
    "clamp_max": _of("min"),
    "maximum": _of("max"),
    "minimum": _of("min"),
    "where": _of("where"),
    "logical_and": _of("both"),
    "logical_or": _of("either"),
    "bitwise_and": _of("both"),
    "bitwise_or": _of("either"),
    "logical_not": lambda a, x: a.eq(x, 0.0),
    "bitwise_not": lambda a, x: a.eq(x, 0.0),
    "isnan": _not_a_number,
    "isinf": _is_infinite,
    **{name: _of(name) for name in COMPARISONS},
}
