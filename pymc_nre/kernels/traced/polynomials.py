r"""The exponential, and polynomials that elementary functions are made of.

Calls of ``exp``, ``tanh`` or ``erf`` keep a loop scalar; what is arithmetic without branches goes
through several numbers at once. Everything rests on the exponential (Cody and Waite, 1980): with
:math:`k` the integer nearest to :math:`y / \log 2` and :math:`r = y - k \log 2`,

.. math:: e^y = 2^k (1 + q(r)), \qquad |r| \le \tfrac12 \log 2,

where :math:`q` is the Taylor polynomial of :math:`e^r - 1` and :math:`2^k` is written as an
exponent straight into the bits of a number. With 2^k and q apart, :math:`e^y - 1` keeps its
digits near zero. The normal distribution function takes :math:`(1 + 2a)\,
\mathrm{erfcx}(a)` as a polynomial in :math:`(a - 3)/(a + 3)` (after Schonfelder, 1978), and
:math:`\log(1 + u) = 2\,\mathrm{artanh}(u / (2 + u))` the odd polynomial of artanh. Both are
Chebyshev interpolants; in double precision all are good to a few units in the last place.
"""

from __future__ import annotations

import math

__all__ = ["ARTANH", "ERFCX", "TAYLOR"]

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
