"""Elementary functions of vectors, in LLVM's code.

Written without branches and without calls, so that a vector's numbers go through side by side. See
`polynomials` for the exponential and what others are made of. What is rare is left to the C
library, number by number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from .polynomials import ARTANH, ERFCX, TAYLOR

__all__ = ["DIGAMMA", "Vectors"]

DIGAMMA = "pymc_nre_digamma"  # a name for SciPy's

_LN2_HIGH = 0.693145751953125  # so few digits that k times it is exact ...
_LN2_LOW = 1.42860682030941723212e-6  # ... and what is left of log 2
_ERF_ONE = 8.0  # from here on it is one
_ERF_SMALL = 0.5  # below it a series, which keeps the digits near zero


class Vectors:
    """Arithmetic on vectors of one type.

    Parameters
    ----------
    builder : ir.IRBuilder
    number : ir.Type
        Double or single precision.
    rows : int
        Numbers in a vector.
    """

    def __init__(self, builder: ir.IRBuilder, number: ir.Type, rows: int) -> None:
        self.builder, self.number, self.rows = builder, number, rows
        self.type = ir.VectorType(number, rows)
        self.double = isinstance(number, ir.DoubleType)
        self._integer = ir.IntType(64 if self.double else 32)
        self._digits, self._bias = (52, 1023) if self.double else (23, 127)
        self._splats: dict[Any, Any] = {}

    # Constants, and functions of LLVM.

    def constant(self, value: float) -> Any:
        """The same number in all rows."""
        return self._splat(ir.Constant(self.number, _rounded(value, self.double)))

    def _integers(self, value: int) -> Any:
        return self._splat(ir.Constant(self._integer, value))

    def _splat(self, constant: ir.Constant) -> Any:
        key = str(constant)
        if key not in self._splats:
            with self.builder.goto_entry_block():
                self._splats[key] = self.broadcast(constant)
        return self._splats[key]

    def broadcast(self, scalar: Any) -> Any:
        """A number in all rows."""
        kind = ir.VectorType(scalar.type, self.rows)
        one = self.builder.insert_element(
            ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
        )
        first = ir.Constant(ir.VectorType(ir.IntType(32), self.rows), [0] * self.rows)
        return self.builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), first)

    def _intrinsic(self, name: str, *values: Any) -> Any:
        letter = f"v{self.rows}f{64 if self.double else 32}"
        full = f"llvm.{name}.{letter}"
        module = self.builder.module
        function = module.globals.get(full)
        if function is None:
            kind = ir.FunctionType(self.type, [self.type] * len(values))
            function = ir.Function(module, kind, full)
        return self.builder.call(function, values)

    def muladd(self, x: Any, y: Any, z: Any) -> Any:
        """``x * y + z``, in one where the processor can."""
        return self._intrinsic("fmuladd", x, y, z)

    def _by_number(self, name: str, *values: Any) -> Any:
        """A function of the C library for doubles, number by number."""
        double, module = ir.DoubleType(), self.builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(double, [double] * len(values)), name)
        result = ir.Constant(self.type, ir.Undefined)
        for i in range(self.rows):
            at = ir.Constant(ir.IntType(32), i)
            parts = [self.builder.extract_element(value, at) for value in values]
            if not self.double:
                parts = [self.builder.fpext(part, double) for part in parts]
            part = self.builder.call(function, parts)
            if not self.double:
                part = self.builder.fptrunc(part, self.number)
            result = self.builder.insert_element(result, part, at)
        return result

    def _polynomial(self, coefficients: Sequence[float], x: Any) -> Any:
        total = self.constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            total = self.muladd(total, x, self.constant(coefficient))
        return total

    def select(self, condition: Any, x: Any, y: Any) -> Any:
        """Row by row ``x`` where a comparison held, else ``y``."""
        return self.builder.select(condition, x, y)

    def holds(self, name: str, x: Any, y: Any) -> Any:
        """A comparison, for `select`."""
        compare = self.builder.fcmp_unordered if name == "!=" else self.builder.fcmp_ordered
        return compare(name, x, y)

    # Primitives, by the names of the vocabulary.

    def add(self, x: Any, y: Any) -> Any:
        """``x + y``."""
        return self.builder.fadd(x, y)

    def sub(self, x: Any, y: Any) -> Any:
        """``x - y``."""
        return self.builder.fsub(x, y)

    def mul(self, x: Any, y: Any) -> Any:
        """``x y``."""
        return self.builder.fmul(x, y)

    def div(self, x: Any, y: Any) -> Any:
        """``x / y``."""
        return self.builder.fdiv(x, y)

    def neg(self, x: Any) -> Any:
        """``-x``."""
        return self.builder.fneg(x)

    def abs(self, x: Any) -> Any:
        """``|x|``."""
        return self._intrinsic("fabs", x)

    def sqrt(self, x: Any) -> Any:
        """The square root."""
        return self._intrinsic("sqrt", x)

    def floor(self, x: Any) -> Any:
        """The largest whole number that is not larger."""
        return self._intrinsic("floor", x)

    def ceil(self, x: Any) -> Any:
        """The smallest whole number that is not smaller."""
        return self._intrinsic("ceil", x)

    def max(self, x: Any, y: Any) -> Any:
        """The larger one; NaN stays NaN, whichever it is."""
        larger = self.select(self.holds(">", x, y), x, y)
        return self.select(self.holds("!=", x, x), x, larger)

    def min(self, x: Any, y: Any) -> Any:
        """The smaller one; NaN stays NaN."""
        smaller = self.select(self.holds("<", x, y), x, y)
        return self.select(self.holds("!=", x, x), x, smaller)

    def truth(self, condition: Any) -> Any:
        """One where a comparison held, else zero."""
        return self.select(condition, self.constant(1.0), self.constant(0.0))

    def gt(self, x: Any, y: Any) -> Any:
        """One where ``x > y``, else zero."""
        return self.truth(self.holds(">", x, y))

    def ge(self, x: Any, y: Any) -> Any:
        """One where ``x >= y``, else zero."""
        return self.truth(self.holds(">=", x, y))

    def lt(self, x: Any, y: Any) -> Any:
        """One where ``x < y``, else zero."""
        return self.truth(self.holds("<", x, y))

    def le(self, x: Any, y: Any) -> Any:
        """One where ``x <= y``, else zero."""
        return self.truth(self.holds("<=", x, y))

    def eq(self, x: Any, y: Any) -> Any:
        """One where they are equal, else zero."""
        return self.truth(self.holds("==", x, y))

    def ne(self, x: Any, y: Any) -> Any:
        """One where they differ, else zero; NaN differs from all."""
        return self.truth(self.holds("!=", x, y))

    def _true(self, x: Any) -> Any:
        return self.holds("!=", x, self.constant(0.0))

    def both(self, x: Any, y: Any) -> Any:
        """One where neither is zero."""
        return self.truth(self.builder.and_(self._true(x), self._true(y)))

    def either(self, x: Any, y: Any) -> Any:
        """One where not both are zero."""
        return self.truth(self.builder.or_(self._true(x), self._true(y)))

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """``x`` where the condition is not zero, else ``y``."""
        return self.select(self._true(condition), x, y)

    def exp(self, x: Any) -> Any:
        """The exponential."""
        largest = 710.0 if self.double else 89.0
        smallest = -746.0 if self.double else -104.0
        y = self._cut(x, smallest, largest)
        k, q = self._parts(y)
        # In two steps: 2^k itself may be infinite, or smaller than what has all digits.
        half = self.builder.ashr(k, self._integers(1))
        result = self.muladd(self._power(half), q, self._power(half))
        return self.mul(result, self._power(self.builder.sub(k, half)))

    def expm1(self, x: Any) -> Any:
        """``exp(x) - 1``, with all digits near zero."""
        largest = 709.0 if self.double else 88.0
        small = self._quick_expm1(self._cut(x, -700.0 if self.double else -85.0, largest))
        return self.select(self.holds(">", x, self.constant(largest)), self.exp(x), small)

    def quick_exp(self, x: Any) -> Any:
        """Where it does not matter whether what is tiny or huge is exactly zero or infinite."""
        largest = 700.0 if self.double else 85.0
        k, q = self._parts(self._cut(x, -largest, largest))
        power = self._power(k)
        return self.muladd(power, q, power)

    def _quick_expm1(self, y: Any) -> Any:
        """Of what was cut already."""
        k, q = self._parts(y)
        power = self._power(k)
        return self.muladd(power, q, self.sub(power, self.constant(1.0)))

    def _cut(self, x: Any, low: float, high: float) -> Any:
        least, most = self.constant(low), self.constant(high)
        x = self.select(self.holds("<", x, least), least, x)
        return self.select(self.holds(">", x, most), most, x)

    def _parts(self, y: Any) -> tuple[Any, Any]:
        """k, an integer, and q of ``exp(y) = 2^k (1 + q)``."""
        rounder = self.constant(1.5 * 2.0**self._digits)
        rounded = self.add(self.mul(y, self.constant(1 / math.log(2))), rounder)
        k = self.sub(rounded, rounder)
        r = self.sub(y, self.mul(k, self.constant(_LN2_HIGH)))
        r = self.sub(r, self.mul(k, self.constant(_LN2_LOW)))
        taylor = TAYLOR if self.double else TAYLOR[:7]
        # What was rounded stands in the last bits of the sum, above those of the rounder.
        bits = self.builder.bitcast(rounded, ir.VectorType(self._integer, self.rows))
        whole = self.builder.sub(bits, self.builder.bitcast(rounder, bits.type))
        return whole, self.mul(r, self._polynomial(taylor, r))

    def _power(self, k: Any) -> Any:
        """2^k of an integer."""
        shifted = self.builder.add(k, self._integers(self._bias))
        return self.builder.bitcast(
            self.builder.shl(shifted, self._integers(self._digits)), self.type
        )

    def sigmoid(self, x: Any) -> Any:
        """``1 / (1 + exp(-x))``."""
        one = self.constant(1.0)
        e = self.exp(self.neg(self.abs(x)))  # neither tail is lost
        s = self.div(one, self.add(one, e))
        return self.select(self.holds("<", x, self.constant(0.0)), self.mul(e, s), s)

    def tanh(self, x: Any) -> Any:
        """The hyperbolic tangent."""
        e = self._quick_expm1(self._cut(self.add(x, x), -80.0, 80.0))
        return self.div(e, self.add(e, self.constant(2.0)))

    def log(self, x: Any) -> Any:
        """The natural logarithm."""
        smallest = 2.0 ** (1 - self._bias)
        steps = self._digits + 2
        tiny = self.holds("<", x, self.constant(smallest))
        y = self.select(tiny, self.mul(x, self.constant(2.0**steps)), x)
        integers = ir.VectorType(self._integer, self.rows)
        bits = self.builder.bitcast(y, integers)
        # So that the mantissa lies between the root of a half and the root of two.
        offset = _bits_of(math.sqrt(0.5), self.double)
        moved = self.builder.sub(bits, self._integers(offset))
        k = self.builder.ashr(moved, self._integers(self._digits))
        kept = self.builder.sub(bits, self.builder.shl(k, self._integers(self._digits)))
        mantissa = self.builder.bitcast(kept, self.type)
        s = self.div(self.sub(mantissa, self.constant(1.0)), self.add(mantissa, self.constant(1.0)))
        small = self.mul(self.add(s, s), self._polynomial(self._artanh(), self.mul(s, s)))
        exponent = self.builder.sitofp(k, self.type)
        exponent = self.sub(
            exponent, self.select(tiny, self.constant(float(steps)), self.constant(0.0))
        )
        low = self.muladd(exponent, self.constant(_LN2_LOW), small)
        result = self.muladd(exponent, self.constant(_LN2_HIGH), low)
        zero, infinity = self.constant(0.0), self.constant(math.inf)
        result = self.select(self.holds("==", x, infinity), infinity, result)
        result = self.select(self.holds("==", x, zero), self.constant(-math.inf), result)
        possible = self.holds(">=", x, zero)  # not so NaN
        return self.select(possible, result, self.constant(math.nan))

    def _artanh(self) -> Sequence[float]:
        return ARTANH["double" if self.double else "single"]

    def log1p(self, x: Any) -> Any:
        """``log(1 + x)``, with all digits near zero."""
        one = self.constant(1.0)
        u = self.add(one, x)
        log = self.log(u)
        lost = self.div(self.sub(self.sub(u, one), x), u)  # what rounding u took away
        exact = self.sub(log, lost)
        return self.select(self.holds("==", self.sub(exact, exact), self.constant(0.0)), exact, log)

    def erf(self, x: Any) -> Any:
        """The error function."""
        a = self._cut(self.abs(x), 0.0, _ERF_ONE)
        three, one, two = map(self.constant, (3.0, 1.0, 2.0))
        bell = self.quick_exp(self.neg(self.mul(a, a)))
        ratio = self.div(self.sub(a, three), self.add(a, three))
        coefficients = ERFCX["double" if self.double else "single"]
        tail = self.mul(bell, self._polynomial(coefficients, ratio))
        tail = self.div(tail, self.muladd(two, a, one))
        large = self.select(
            self.holds("<", x, self.constant(0.0)), self.sub(tail, one), self.sub(one, tail)
        )
        series = [
            2 / math.sqrt(math.pi) * (-1) ** k / (math.factorial(k) * (2 * k + 1))
            for k in range(12 if self.double else 6)
        ]
        small = self.mul(x, self._polynomial(series, self.mul(x, x)))
        result = self.select(self.holds("<", a, self.constant(_ERF_SMALL)), small, large)
        return self.select(self.holds("!=", x, x), x, result)

    def sin(self, x: Any) -> Any:
        """The sine."""
        return self._by_number("sin", x)

    def cos(self, x: Any) -> Any:
        """The cosine."""
        return self._by_number("cos", x)

    def pow(self, x: Any, y: Any) -> Any:
        """``x`` to the power of ``y``."""
        return self._by_number("pow", x, y)

    def lgamma(self, x: Any) -> Any:
        """The logarithm of the gamma function."""
        return self._by_number("lgamma", x)

    def digamma(self, x: Any) -> Any:
        """Its derivative."""
        return self._by_number(DIGAMMA, x)


def _rounded(value: float, double: bool) -> float:
    with np.errstate(over="ignore"):
        return float(value) if double else float(np.float32(value))


def _bits_of(value: float, double: bool) -> int:
    if double:
        return int(np.float64(value).view(np.int64))
    return int(np.float32(value).view(np.int32))
