"""The elementary functions that activations, losses and update rules are written in.

These bodies are the specification: they work on the arrays of any library that follows the array API standard.
A backend replaces them by name (see :mod:`accelnn.binding`), so that one definition of, say, the sigmoid runs on
arrays, compiles to a scalar kernel, or is recorded as a list of in-place operations. Absolute values, arithmetic and
comparisons are Python's own operators, which need no replacing.
"""

from array_api_compat import array_namespace

__all__ = ["exp", "expm1", "log1p", "maximum", "minimum", "sign", "sqrt", "tanh", "where"]


def exp(x):
    """Exponential, elementwise."""
    return array_namespace(x).exp(x)


def expm1(x):
    """``exp(x) - 1`` without cancellation near 0, elementwise."""
    return array_namespace(x).expm1(x)


def log1p(x):
    """``log(1 + x)`` without cancellation near 0, elementwise."""
    return array_namespace(x).log1p(x)


def tanh(x):
    """Hyperbolic tangent, elementwise."""
    return array_namespace(x).tanh(x)


def sqrt(x):
    """Square root, elementwise."""
    return array_namespace(x).sqrt(x)


def sign(x):
    """-1, 0 or 1, elementwise."""
    return array_namespace(x).sign(x)


def maximum(x, y):
    """The larger of two, at least one of which is an array; NaN wins."""
    return _namespace(x, y).maximum(x, y)


def minimum(x, y):
    """The smaller of two, at least one of which is an array; NaN wins."""
    return _namespace(x, y).minimum(x, y)


def where(condition, x, y):
    """``x`` where the condition holds, else ``y``; at most one of them is a number."""
    return array_namespace(condition).where(condition, x, y)


def _namespace(x, y):
    return array_namespace(y if type(x) in (int, float) else x)
