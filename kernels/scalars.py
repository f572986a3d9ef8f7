"""The elementary functions on one number, for compiled loops. NaN goes through each of them."""

import math

__all__ = ["SCALARS"]


def exp(x):
    return math.exp(x)


def expm1(x):
    return math.expm1(x)


def log1p(x):
    return math.log1p(x)


def tanh(x):
    return math.tanh(x)


def sqrt(x):
    return math.sqrt(x)


def sign(x):
    return where(x > 0.0, 1.0, where(x < 0.0, -1.0, x))


def maximum(x, y):
    return where((x > y) | (x != x), x, y)


def minimum(x, y):
    return where((x < y) | (x != x), x, y)


def where(condition, x, y):
    return x if condition else y


SCALARS = {f.__name__: f for f in (exp, expm1, log1p, tanh, sqrt, sign, maximum, minimum, where)}
