"""The elementary functions on one number, free of branches and of library calls, so that loops over them vectorise.

``math.exp`` in a compiled loop is one call for each element (pip's Numba has no vector library), about ten times the
cost. Every function here passes NaN on and takes the whole range: zeros of either sign, subnormals and infinities.
Errors, as tested: at most 2 units in the last place (expm1 and tanh: 3).

Method: argument reduction by powers of two and by ln 2 in two parts (Cody, Waite 1980); the remaining polynomials were
fitted in Chebyshev's basis with 50 digits; the logarithm is the series of atanh (as in fdlibm's e_log.c).

The functions are written once. Names in capitals, `exp_tail` and `log_tail` differ by precision: see `PRECISIONS`.
"""

import math

from accelnn.kernels.bits import power_of_two, significand

__all__ = ["PRECISIONS", "SCALARS"]

MAGIC = LOG2_E = LN2_HIGH = LN2_LOW = EXP_LEAST = EXP_MOST = TANH_MOST = INFINITY = 0.0


def where(condition, x, y):
    return x if condition else y


def maximum(x, y):
    return where((x > y) | (x != x), x, y)


def minimum(x, y):
    return where((x < y) | (x != x), x, y)


def sign(x):
    return where(x > 0.0, 1.0, where(x < 0.0, -1.0, x))


def sqrt(x):
    return math.sqrt(x)


def exp_tail(r):
    """``(exp(r) - 1 - r) / r^2`` for ``|r| <= ln 2 / 2``."""
    return r


def log_tail(v):
    """``(2 atanh(w) - 2 w) / w^3`` for ``v = w^2``, w up to tanh(ln 2 / 4)."""
    return v


def reduced(x):
    """``p, high, low, rest`` with ``exp(x) = (1 + p) high low`` and ``rest = 1 / low``.

    Two factors, because the power of two itself may overflow or underflow where the product does not.
    """
    n = (x * LOG2_E + MAGIC) - MAGIC
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    half = (n * 0.5 + MAGIC) - MAGIC
    p = r + r * r * exp_tail(r)
    return p, power_of_two((n - half) + MAGIC), power_of_two(half + MAGIC), power_of_two(MAGIC - half)


def clamped(x):
    x = where(x < EXP_LEAST, EXP_LEAST, x)
    return where(x > EXP_MOST, EXP_MOST, x)


def exp(x):
    p, high, low, _ = reduced(clamped(x))
    return (p * high + high) * low


def expm1(x):
    p, high, low, rest = reduced(clamped(x))
    return where(x == 0.0, x, (p * high + (high - rest)) * low)


def tanh(x):
    size = abs(x)
    t = expm1(2.0 * where(size > TANH_MOST, TANH_MOST, size))
    y = t / (t + 2.0)
    return where(x == 0.0, x, where(x < 0.0, -y, y))


def log1p(x):
    u = 1.0 + x
    k, f = significand(u)
    s = f - 1.0
    w = s / (2.0 + s)
    v = w * w
    # What rounding took from 1 + x, to first order.
    lost = where(x > 1.0, 1.0 - (u - x), x - (u - 1.0)) / u
    y = k * LN2_HIGH + (s - w * (s - v * log_tail(v)) + (k * LN2_LOW + lost))
    y = where(x < INFINITY, where(x > -1.0, y, where(x == -1.0, -INFINITY, x - x + (u - u) / (u - u))), x)
    return where(x == 0.0, x, y)


def _exp_tail_32(r):
    p = 1.3926183587713494541e-3
    p = p * r + 8.3631790527225773697e-3
    p = p * r + 4.1666554617204574203e-2
    p = p * r + 1.6666576989698775683e-1
    return p * r + 0.5


def _exp_tail_64(r):
    p = 2.5100385495510319077e-8
    p = p * r + 2.762008844540974816e-7
    p = p * r + 2.7557268459997064772e-6
    p = p * r + 2.4801521295954375131e-5
    p = p * r + 1.9841269863053616878e-4
    p = p * r + 1.3888888917213716901e-3
    p = p * r + 8.3333333333300618325e-3
    p = p * r + 4.1666666666624127873e-2
    p = p * r + 1.6666666666666667453e-1
    return p * r + 0.50000000000000010221


def _log_tail_32(v):
    return (2.9580053043188442144e-1 * v + 3.9988778282162807727e-1) * v + 6.6666685045156029067e-1


def _log_tail_64(v):
    p = 1.4616585424888621989e-1
    p = p * v + 1.5331710618210771568e-1
    p = p * v + 1.8182889455674946039e-1
    p = p * v + 2.2222211130259877029e-1
    p = p * v + 2.8571428626003268742e-1
    p = p * v + 3.9999999999899443233e-1
    return p * v + 6.6666666666666696883e-1


SCALARS = {f.__name__: f for f in (exp, expm1, log1p, tanh, sqrt, sign, maximum, minimum, where)}

PRECISIONS = {
    "float32": {
        "exp_tail": _exp_tail_32,
        "log_tail": _log_tail_32,
        "MAGIC": 12582912.0,  # 1.5 * 2^23: adding it rounds to an integer
        "LOG2_E": 1.4426950408889634,
        "LN2_HIGH": 0.693359375,
        "LN2_LOW": -2.1219444005469058e-4,
        "EXP_LEAST": -104.0,
        "EXP_MOST": 89.0,
        "TANH_MOST": 10.0,
        "INFINITY": math.inf,
    },
    "float64": {
        "exp_tail": _exp_tail_64,
        "log_tail": _log_tail_64,
        "MAGIC": 6755399441055744.0,  # 1.5 * 2^52
        "LOG2_E": 1.4426950408889634,
        "LN2_HIGH": 0.6931471803691238,
        "LN2_LOW": 1.9082149292705877e-10,
        "EXP_LEAST": -746.0,
        "EXP_MOST": 710.0,
        "TANH_MOST": 20.0,
        "INFINITY": math.inf,
    },
}
