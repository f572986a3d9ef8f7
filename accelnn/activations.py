"""Activation functions: each is one pair of formulas, ``g(Z)`` and ``dZ = dA * g'``, and serves every backend.

The derivative is written in terms of the output ``a`` wherever that is possible, so that ``Z`` need not be kept;
the one exception (gelu, which is not monotonic) sets ``keeps_z`` and reads ``z``. Constants are floats, never
integers: a backend compiles them in the network's own precision.
"""

from collections.abc import Callable
from dataclasses import dataclass

from array_api_compat import array_namespace

from accelnn.elementary import exp, expm1, log1p, maximum, minimum, tanh, where
from accelnn.errors import require_known

__all__ = ["ACTIVATIONS", "HIDDEN", "OUTPUTS", "Activation", "activation"]

LEAK = 0.01  # slope of leaky_relu left of zero (Maas, Hannun, Ng 2013)
GELU_SCALE = 0.7978845608028654  # sqrt(2 / pi)
GELU_CUBIC = 0.044715
GELU_CUBIC_SLOPE = 0.134145  # 3 * GELU_CUBIC
LOG_RATE_LIMIT = 60.0  # exp() saturates here, about 1e26, so that no logit overflows float32


@dataclass(frozen=True, eq=False)
class Activation:
    """One activation function.

    Attributes
    ----------
    name : str
    function : callable
        ``g(z)``, elementwise; for a columnwise activation, of a whole array with examples as columns.
    backward : callable or None
        ``dz = backward(da, z, a)``, the product of ``da`` with ``g'``; None for an output that only has a
        gradient together with its loss (softmax).
    keeps_z : bool
        Whether ``backward`` reads ``z``; otherwise the memory of ``z`` is reused for ``a``.
    columnwise : bool
        Whether ``g`` mixes the units of one example.
    """

    name: str
    function: Callable
    backward: Callable | None
    keeps_z: bool = False
    columnwise: bool = False


def identity(z):
    """``g(z) = z``."""
    return z


def identity_backward(da, z, a):
    """``g' = 1``."""
    return da


def sigmoid(z):
    """``1 / (1 + exp(-z))``, in the form that cannot overflow."""
    e = exp(-abs(z))
    return where(z < 0.0, e, 1.0) / (1.0 + e)


def sigmoid_backward(da, z, a):
    """``g' = a (1 - a)``."""
    return da * (a * (1.0 - a))


def hyperbolic_tangent(z):
    """``tanh(z)``."""
    return tanh(z)


def hyperbolic_tangent_backward(da, z, a):
    """``g' = 1 - a^2``."""
    return da * (1.0 - a * a)


def relu(z):
    """``max(z, 0)``."""
    return maximum(z, 0.0)


def relu_backward(da, z, a):
    """``g' = 1 where a > 0, else 0``."""
    return where(a > 0.0, da, 0.0)


def leaky_relu(z):
    """``max(z, 0.01 z)``."""
    return maximum(z, LEAK * z)


def leaky_relu_backward(da, z, a):
    """``g' = 1 where a > 0, else 0.01``."""
    return where(a > 0.0, da, LEAK * da)


def elu(z):
    """``z`` where positive, else ``exp(z) - 1`` (Clevert, Unterthiner, Hochreiter 2016, alpha = 1)."""
    return where(z > 0.0, z, expm1(minimum(z, 0.0)))


def elu_backward(da, z, a):
    """``g' = 1 where a > 0, else a + 1``."""
    return where(a > 0.0, da, da * (a + 1.0))


def gelu(z):
    """``z Phi(z)`` with the tanh form of the normal distribution function (Hendrycks, Gimpel 2016, section 2)."""
    return 0.5 * z * (1.0 + tanh(GELU_SCALE * (z + GELU_CUBIC * z * z * z)))


def gelu_backward(da, z, a):
    """``g' = (1 + t) / 2 + z (1 - t^2) u' / 2`` with ``t = tanh(u(z))``."""
    t = tanh(GELU_SCALE * (z + GELU_CUBIC * z * z * z))
    return da * (0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * GELU_SCALE * (1.0 + GELU_CUBIC_SLOPE * z * z))


def softplus(z):
    """``log(1 + exp(z))``, in the form that cannot overflow."""
    return maximum(z, 0.0) + log1p(exp(-abs(z)))


def softplus_backward(da, z, a):
    """``g' = sigmoid(z) = 1 - exp(-a)``."""
    return da * -expm1(-a)


def rate(z):
    """``exp(z)``, the mean of a Poisson variable from its log-rate; saturates at ``z = 60``."""
    return exp(minimum(z, LOG_RATE_LIMIT))


def softmax(z):
    """``exp(z_k) / sum_j exp(z_j)`` down each column, with the maximum taken out."""
    xp = array_namespace(z)
    e = xp.exp(z - xp.max(z, axis=0, keepdims=True))
    return e / xp.sum(e, axis=0, keepdims=True)


ACTIVATIONS: dict[str, Activation] = {
    entry.name: entry
    for entry in (
        Activation("identity", identity, identity_backward),
        Activation("sigmoid", sigmoid, sigmoid_backward),
        Activation("tanh", hyperbolic_tangent, hyperbolic_tangent_backward),
        Activation("relu", relu, relu_backward),
        Activation("leaky_relu", leaky_relu, leaky_relu_backward),
        Activation("elu", elu, elu_backward),
        Activation("gelu", gelu, gelu_backward, keeps_z=True),
        Activation("softplus", softplus, softplus_backward),
        Activation("exp", rate, None),
        Activation("softmax", softmax, None, columnwise=True),
    )
}

HIDDEN = tuple(name for name, entry in ACTIVATIONS.items() if entry.backward is not None)
OUTPUTS = ("identity", "sigmoid", "softmax", "exp")


def activation(argument: str, name: str, allowed: tuple[str, ...]) -> Activation:
    """Look an activation up.

    Parameters
    ----------
    argument : str
        The argument to name in the error.
    name : str
    allowed : tuple of str
        `HIDDEN` or `OUTPUTS`.

    Raises
    ------
    UnknownNameError
        Where `name` is not among the allowed ones.
    """
    require_known(argument, name, allowed)
    return ACTIVATIONS[name]
