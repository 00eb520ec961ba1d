r"""Activations and their first two derivatives, written so that the compiler vectorizes them.

Calls of ``exp``, ``tanh`` or ``erf`` keep a loop scalar. Here they are arithmetic without
branches, so a loop over an array handles four or more numbers at once. Everything rests on
the exponential (Cody and Waite, 1980): with :math:`k` the integer nearest to
:math:`y / \log 2` and :math:`r = y - k \log 2`,

.. math:: e^y = 2^k (1 + q(r)), \qquad |r| \le \tfrac12 \log 2,

where :math:`q` is the Taylor polynomial of :math:`e^r - 1` and :math:`2^k` is written as an
exponent straight into the bits of a number. With 2^k and q apart, :math:`e^y - 1` keeps its
digits near zero. The normal distribution function takes :math:`(1 + 2a)\,
\mathrm{erfcx}(a)` as a polynomial in :math:`(a - 3)/(a + 3)` (after Schonfelder, 1978), and
:math:`\log(1 + u) = 2\,\mathrm{artanh}(u / (2 + u))` the odd polynomial of artanh. Both are
Chebyshev interpolants; in double precision all are good to a few units in the last place.

Each activation is a function from a number to three: value, derivative, second derivative.
Those that the caller drops are not computed. It is made when it is first compiled, in the precision
that is asked for. They follow torch in every detail that shows
(`softplus` is the identity above 20). NaN stays NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from .program import Elu, Gelu, Relu, Silu, Softplus, Tanh

__all__ = ["ARTANH", "ERFCX", "TAYLOR", "activate"]

_LOG2E = 1 / math.log(2)
# Taylor coefficients of (exp(r) - 1) / r.
TAYLOR = [1 / math.factorial(k) for k in range(1, 14)]
_ERFCX_DOUBLE = [
    1.2530080582697296529,
    -0.13562110612457571866,
    -0.047562294353445755676,
    0.12964515870228097668,
    -0.11927366341575335604,
    0.068308027356440746439,
    -0.023770514907124610136,
    0.0025293916666184490027,
    0.0018886902217574545478,
    -0.00077983127642348387461,
    -0.00010515888872785820373,
    0.0001250952996349254185,
    4.9457917230761346398e-6,
    -0.000020089974460065412872,
    -7.2189094082518731067e-7,
    3.454263878410675114e-6,
    3.4040789645156609032e-7,
    -5.9637339887591927957e-7,
    -1.2329704889097829755e-7,
    8.7647548818316457285e-8,
    2.9000869615336876813e-8,
    -7.6397881257162224074e-9,
    -3.3911788566955877222e-9,
]
_ERFCX_SINGLE = [
    1.2530080582697296529,
    -0.13562021387623402725,
    -0.047562251706437569974,
    0.12962717489066664477,
    -0.11927451860620696157,
    0.068410759522004090006,
    -0.023765692173267205824,
    0.0022849521490433769049,
    0.0018774946483841400086,
    -0.00051315943599518425445,
    -0.000093510629153444789408,
]
# Coefficients of artanh(s) / s in s^2, for s^2 <= 1/9.
_ARTANH_DOUBLE = [
    0.99999999999999995579,
    0.33333333333341287164,
    0.19999999997643800004,
    0.14285714555828580111,
    0.11111095430673142019,
    0.090914299002369554786,
    0.076818381244458171292,
    0.067956527427899469179,
    0.049403945243823931204,
    0.088903819130566514469,
]
_ARTANH_SINGLE = [
    1.0000000038408794404,
    0.33333160820688886578,
    0.20012297615351873956,
    0.13982578872598634444,
    0.14078889181554540327,
]
ERFCX = {"double": _ERFCX_DOUBLE, "single": _ERFCX_SINGLE}
ARTANH = {"double": _ARTANH_DOUBLE, "single": _ARTANH_SINGLE}
# Neither reordering of sums, which would undo the range reduction, nor the assumption that
# there is no NaN.
_OPTIONS = {
    "fastmath": {"contract", "nsz", "arcp"},
    "error_model": "numpy",
    "nogil": True,
    # Python never calls them, and to compile what would let it takes time.
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
_loop = numba.njit(**_OPTIONS)
_jit = numba.njit(**_OPTIONS, forceinline=True)  # calls in a loop would keep it scalar


@intrinsic
def _bits(typing_context: Any, number: Any) -> Any:
    """The bits of a number, as an integer of its width."""
    return _bitcast(number, {64: types.int64, 32: types.int32}[number.bitwidth])


@intrinsic
def _from_bits(typing_context: Any, bits: Any) -> Any:
    """The number that has these bits."""
    return _bitcast(bits, {64: types.float64, 32: types.float32}[bits.bitwidth])


def _bitcast(before: Any, after: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(after))

    return after(before), generate


def _polynomial(coefficients: list[float], number: type) -> Callable[[Any], Any]:
    """Horner's rule, unrolled, with a fused multiplication and addition where there is one."""

    @intrinsic
    def polynomial(typing_context: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            *others, total = (context.get_constant(x, float(number(c))) for c in coefficients)
            for constant in reversed(others):
                product = builder.fmul(total, arguments[0], flags=("contract",))
                total = builder.fadd(product, constant, flags=("contract",))
            return total

        return x(x), generate

    return polynomial


@cache
def _exponentials(number: type) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """``exp(y)`` and ``exp(y) - 1`` in one precision."""
    double = number is np.float64
    one, integer = number(1), np.int64 if double else np.int32
    digits, bias = (52, 1023) if double else (23, 127)
    shift, offset = integer(digits), integer(bias)
    # Adding it rounds to an integer, which stands in the last bits of the sum.
    rounder = number(1.5 * 2**digits)
    log2e = number(_LOG2E)
    # The high part has so few digits that k times it is exact.
    high = number(0.693145751953125)
    low = number(math.log(2) - 0.693145751953125)
    largest = number(700 if double else 85)
    taylor = _polynomial(TAYLOR if double else TAYLOR[:7], number)

    @_jit
    def parts(y: Any) -> Any:
        """2^k and q of ``exp(y) = 2^k (1 + q)``, y cut to where neither over- nor underflows."""
        y = y if y < largest else largest
        y = y if y > -largest else -largest
        rounded = y * log2e + rounder
        k = rounded - rounder
        power = _from_bits(integer((_bits(rounded) + offset) << shift))
        r = (y - k * high) - k * low
        return power, r * taylor(r)

    @_jit
    def exp(y: Any) -> Any:
        power, q = parts(y)
        return power + power * q

    @_jit
    def expm1(y: Any) -> Any:
        power, q = parts(y)
        return (power - one) + power * q

    return exp, expm1


def _silu(number: type) -> Callable[[Any], Any]:
    exp, _ = _exponentials(number)
    one, two = number(1), number(2)

    @_jit
    def silu(x: Any) -> Any:
        s = one / (one + exp(-x))
        rise = one + x * (one - s)
        return x * s, s * rise, s * (one - s) * (two + x * (one - two * s))

    return silu


def _gelu(number: type) -> Callable[[Any], Any]:
    exp, _ = _exponentials(number)
    zero, half, one, two, three = map(number, (0, 0.5, 1, 2, 3))
    erfcx = _polynomial(_ERFCX_DOUBLE if number is np.float64 else _ERFCX_SINGLE, number)
    sqrt_half, density_at_0 = number(math.sqrt(0.5)), number(1 / math.sqrt(2 * math.pi))

    @_jit
    def gelu(x: Any) -> Any:
        a = abs(x) * sqrt_half
        bell = exp(-(x * x) * half)
        tail = half * bell * erfcx((a - three) / (a + three)) / (one + two * a)
        below = one - tail if x > zero else tail
        density = density_at_0 * bell
        return x * below, below + x * density, density * (two - x * x)

    return gelu


def _tanh(number: type) -> Callable[[Any], Any]:
    _, expm1 = _exponentials(number)
    one, two = number(1), number(2)

    @_jit
    def tanh(x: Any) -> Any:
        # Beyond 350 (42) it is one in either precision; e must not overflow.
        e = expm1(x + x)
        t = e / (e + two)
        t = t if x == x else x
        slope = one - t * t
        return t, slope, -two * t * slope

    return tanh


def _elu(number: type) -> Callable[[Any], Any]:
    _, expm1 = _exponentials(number)
    zero, one = number(0), number(1)

    @_jit
    def elu(x: Any) -> Any:
        e = expm1(x if x < zero else zero)
        below = x < zero
        value = e if below else x
        return value, e + one if below else one, e + one if below else zero

    return elu


def _softplus(number: type) -> Callable[[Any], Any]:
    exp, _ = _exponentials(number)
    zero, one, two, twenty = map(number, (0, 1, 2, 20))
    artanh = _polynomial(_ARTANH_DOUBLE if number is np.float64 else _ARTANH_SINGLE, number)

    @_jit
    def softplus(x: Any) -> Any:
        u = exp(-abs(x))
        s = u / (two + u)
        value = (x if x > zero else zero) + two * s * artanh(s * s)
        sigmoid = (one if x > zero else u) / (one + u)
        linear = x > twenty
        value = x if linear else value
        value = value if x == x else x
        curve = sigmoid * (one - sigmoid)
        return value, one if linear else sigmoid, zero if linear else curve

    return softplus


def _relu(number: type) -> Callable[[Any], Any]:
    zero, one = number(0), number(1)

    @_jit
    def relu(x: Any) -> Any:
        positive = x > zero
        # In this order NaN stays NaN.
        return zero if x <= zero else x, one if positive else zero, zero

    return relu


_MAKERS: dict[type, Callable[[type], Callable[[Any], Any]]] = {
    Silu: _silu,
    Gelu: _gelu,
    Tanh: _tanh,
    Elu: _elu,
    Softplus: _softplus,
    Relu: _relu,
}


@cache
def _loops(activation: type, number: type) -> list[Callable[..., Any]]:
    """Loops that replace an array by its activations and write 0, 1 or 2 derivatives."""
    f = _MAKERS[activation](number)

    @_loop
    def values(h: Any, derivatives: Any) -> None:
        for i in range(h.size):
            h[i] = f(h[i])[0]

    @_loop
    def with_slopes(h: Any, derivatives: Any) -> None:
        (slopes,) = derivatives
        for i in range(h.size):
            h[i], slopes[i], _ = f(h[i])

    @_loop
    def with_curves(h: Any, derivatives: Any) -> None:
        slopes, curves = derivatives
        for i in range(h.size):
            h[i], slopes[i], curves[i] = f(h[i])

    return [values, with_slopes, with_curves]


def activate(activation, h, derivatives):
    """Replace a flat array by its activations; for compiled code.

    Parameters
    ----------
    activation : Silu, Gelu, Tanh, Elu, Softplus or Relu
        Its type says which is meant.
    h : array, shape (n,)
        Double or single precision.
    derivatives : tuple of array, each (n,)
        None, one or two: where to write the first and the second derivatives.
    """
    raise NotImplementedError("activate is for compiled code")


@overload(activate)
def _compiled_activate(activation, h, derivatives):
    number = np.float64 if h.dtype == types.float64 else np.float32
    loop = _loops(activation.instance_class, number)[len(derivatives)]
    return lambda activation, h, derivatives: loop(h, derivatives)
