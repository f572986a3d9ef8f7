"""Loss functions, each as the value and the gradient of one example's loss, both computed from the logits.

A loss belongs to the outputs with which its gradient is well behaved. For the matched pairs (sigmoid with binary
cross-entropy, softmax with cross-entropy, identity with half the squared error, and the log-rate with Poisson) the
gradient is ``dZ[L] = A[L] - Y``. The losses of a residual also work behind a sigmoid, through the chain rule.
"""

from collections.abc import Callable
from dataclasses import dataclass

from array_api_compat import array_namespace

from accelnn.activations import rate, sigmoid, sigmoid_backward, softmax
from accelnn.binding import Binding, free
from accelnn.elementary import exp, log1p, maximum, minimum, sign, where
from accelnn.errors import DataError, require_known

__all__ = ["LOSSES", "LOSS_NAMES", "Loss", "loss"]

HUBER_DELTA = 1.0  # residuals up to here count by their square, beyond by their size (Huber 1964)


@dataclass(frozen=True, eq=False)
class Loss:
    """One loss for one output.

    Attributes
    ----------
    name, output : str
    value : callable
        ``value(z, y)``: elementwise, or one number a column for a columnwise loss.
    gradient : callable
        ``gradient(z, y)``: the derivative of `value` with respect to ``z``.
    targets : str
        What ``Y`` may hold: ``"real"``, ``"probability"`` (0 to 1), ``"distribution"`` (each column sums to 1)
        or ``"count"`` (not negative).
    columnwise : bool
    """

    name: str
    output: str
    value: Callable
    gradient: Callable
    targets: str = "real"
    columnwise: bool = False


def binary_cross_entropy(z, y):
    """``-y log a - (1 - y) log(1 - a)`` with ``a = sigmoid(z)``, in the form that cannot overflow."""
    return maximum(z, 0.0) - z * y + log1p(exp(-abs(z)))


def binary_cross_entropy_gradient(z, y):
    """``a - y``."""
    return sigmoid(z) - y


def cross_entropy(z, y):
    """``-sum_k y_k log a_k`` with ``a = softmax(z)``, one number a column (log-sum-exp, maximum taken out)."""
    xp = array_namespace(z)
    shifted = z - xp.max(z, axis=0, keepdims=True)
    return xp.log(xp.sum(xp.exp(shifted), axis=0)) - xp.sum(shifted * y, axis=0)


def cross_entropy_gradient(z, y):
    """``a - y``, for columns of ``y`` that sum to 1."""
    return softmax(z) - y


def squared_error(a, y):
    """``(a - y)^2 / 2``."""
    return 0.5 * ((a - y) * (a - y))


def squared_error_gradient(a, y):
    """``a - y``."""
    return a - y


def absolute_error(a, y):
    """``|a - y|``."""
    return abs(a - y)


def absolute_error_gradient(a, y):
    """``sign(a - y)``, 0 at the kink."""
    return sign(a - y)


def huber(a, y):
    """``r^2 / 2`` up to ``|r| = 1``, then ``|r| - 1/2``, with ``r = a - y`` (Huber 1964)."""
    r = abs(a - y)
    return where(r <= HUBER_DELTA, 0.5 * r * r, HUBER_DELTA * (r - 0.5 * HUBER_DELTA))


def huber_gradient(a, y):
    """``r`` cut to -1 .. 1."""
    return minimum(maximum(a - y, -HUBER_DELTA), HUBER_DELTA)


def poisson(z, y):
    """``exp(z) - y z``, the Poisson deviance's part that depends on the log-rate ``z``."""
    return rate(z) - y * z


def poisson_gradient(z, y):
    """``a - y`` with ``a = exp(z)``."""
    return rate(z) - y


# Free names of the next two functions: `behind_sigmoid` gives them a meaning.
value = gradient = output = backward = free


def composed_value(z, y):
    """A loss of the prediction ``output(z)``."""
    return value(output(z), y)


def composed_gradient(z, y):
    """Chain rule: the gradient with respect to ``z`` of a loss of ``output(z)``."""
    a = output(z)
    return backward(gradient(a, y), z, a)


def behind_sigmoid(name: str, value: Callable, gradient: Callable) -> Loss:
    """The loss of a residual, for a sigmoid output."""
    binding = Binding({"value": value, "gradient": gradient, "output": sigmoid, "backward": sigmoid_backward})
    return Loss(name, "sigmoid", binding(composed_value), binding(composed_gradient))


_RESIDUAL = (
    ("squared_error", squared_error, squared_error_gradient),
    ("absolute_error", absolute_error, absolute_error_gradient),
    ("huber", huber, huber_gradient),
)

LOSSES: dict[tuple[str, str], Loss] = {
    (entry.name, entry.output): entry
    for entry in (
        Loss("binary_cross_entropy", "sigmoid", binary_cross_entropy, binary_cross_entropy_gradient, "probability"),
        Loss("cross_entropy", "softmax", cross_entropy, cross_entropy_gradient, "distribution", columnwise=True),
        *(Loss(name, "identity", value, gradient) for name, value, gradient in _RESIDUAL),
        *(behind_sigmoid(name, value, gradient) for name, value, gradient in _RESIDUAL),
        Loss("poisson", "exp", poisson, poisson_gradient, "count"),
        Loss("poisson", "identity", poisson, poisson_gradient, "count"),
    )
}

LOSS_NAMES = tuple(dict.fromkeys(name for name, _ in LOSSES))
_MATCHED = {
    "sigmoid": "binary_cross_entropy",
    "softmax": "cross_entropy",
    "identity": "squared_error",
    "exp": "poisson",
}


def loss(name: str | None, output: str) -> Loss:
    """Look a loss up; None gives the one that matches the output.

    Raises
    ------
    UnknownNameError
        Where no loss has this name.
    DataError
        Where the loss exists but does not go with this output.
    """
    name = _MATCHED[output] if name is None else name
    require_known("loss", name, LOSS_NAMES)
    if (name, output) not in LOSSES:
        fitting = [out for known, out in LOSSES if known == name]
        raise DataError(
            f"loss: {name!r} does not go with output={output!r}; use output={' or '.join(map(repr, fitting))}"
        )
    return LOSSES[name, output]
