"""Loss functions, each as the value and the gradient of one example's loss, both computed from the logits.

A loss belongs to the outputs with which its gradient is well behaved. For the matched pairs (sigmoid with binary
cross-entropy, softmax with cross-entropy, identity with half the squared error, and the log-rate with Poisson) the
gradient is ``dZ[L] = A[L] - Y``. The losses of a residual also work behind a sigmoid, through the chain rule.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache
from numbers import Real
from typing import Any

from array_api_compat import array_namespace

from accelnn.activations import rate, sigmoid, sigmoid_backward, softmax
from accelnn.binding import Binding, free
from accelnn.elementary import exp, log1p, maximum, minimum, sign, where
from accelnn.errors import DataError, require_known

__all__ = ["LOSSES", "LOSS_NAMES", "Loss", "loss"]


@dataclass(frozen=True)
class Loss:
    """One loss for one output; see :func:`loss` for those there are, and :func:`accelnn.custom_loss` for one's own.

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
    parameters : tuple of pairs of str and float
        Numbers that the formulas hold, by name.
    remade : tuple, optional
        A function and its arguments, from which another process makes the same loss.
    """

    name: str
    output: str
    value: Callable
    gradient: Callable
    targets: str = "real"
    columnwise: bool = False
    parameters: tuple[tuple[str, float], ...] = ()
    remade: tuple[Any, ...] | None = field(default=None, compare=False, repr=False)

    @property
    def custom(self) -> bool:
        """Whether it is none of `LOSSES`, whatever it is called."""
        return (self.name, self.output) not in LOSSES or self != _named(self.name, self.output, self.parameters)

    def __reduce__(self):
        # A loss of ours goes by its name, since its formulas may be bound copies, which nobody finds by theirs.
        if not self.custom:
            return _named, (self.name, self.output, self.parameters)
        if self.remade is not None:
            return self.remade[0], self.remade[1:]
        return Loss, tuple(getattr(self, part.name) for part in fields(self))

    def __deepcopy__(self, memo: Any) -> "Loss":
        return self  # nothing in it changes; a copy's formulas would be compiled again

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v:g}' for k, v in self.parameters)})" if self.parameters else self.name


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


delta = 1.0  # residuals up to here count by their square, beyond by their size
level = 0.5  # the share of the targets that a quantile lies above


def huber(a, y):
    """``r^2 / 2`` up to ``|r| = delta``, then ``delta (|r| - delta / 2)``, with ``r = a - y`` (Huber 1964)."""
    r = abs(a - y)
    return where(r <= delta, 0.5 * r * r, delta * (r - 0.5 * delta))


def huber_gradient(a, y):
    """``r`` cut to -delta .. delta."""
    return minimum(maximum(a - y, -delta), delta)


def quantile(a, y):
    """``level (y - a)`` below the target, ``(1 - level) (a - y)`` above it (Koenker, Bassett 1978)."""
    r = a - y
    return 0.5 * abs(r) + (0.5 - level) * r


def quantile_gradient(a, y):
    """``-level`` below the target, ``1 - level`` above it, ``1/2 - level`` at the kink."""
    return 0.5 * sign(a - y) + (0.5 - level)


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


def behind_sigmoid(entry: Loss) -> Loss:
    """The loss of a residual, for a sigmoid output."""
    names = {"value": entry.value, "gradient": entry.gradient, "output": sigmoid, "backward": sigmoid_backward}
    binding = Binding(names)
    bound = binding(composed_value), binding(composed_gradient)
    return Loss(entry.name, "sigmoid", *bound, parameters=entry.parameters)


_RESIDUAL = (
    Loss("squared_error", "identity", squared_error, squared_error_gradient),
    Loss("absolute_error", "identity", absolute_error, absolute_error_gradient),
    Loss("huber", "identity", huber, huber_gradient, parameters=(("delta", delta),)),
    Loss("quantile", "identity", quantile, quantile_gradient, parameters=(("level", level),)),
)

LOSSES: dict[tuple[str, str], Loss] = {
    (entry.name, entry.output): entry
    for entry in (
        Loss("binary_cross_entropy", "sigmoid", binary_cross_entropy, binary_cross_entropy_gradient, "probability"),
        Loss("cross_entropy", "softmax", cross_entropy, cross_entropy_gradient, "distribution", columnwise=True),
        *_RESIDUAL,
        *map(behind_sigmoid, _RESIDUAL),
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
_MOST = {"delta": float("inf"), "level": 1.0}


def loss(name: "str | Loss | None", output: str, **parameters: float) -> Loss:
    """Look a loss up; None gives the one that matches the output.

    Parameters
    ----------
    name : str or Loss, optional
        binary_cross_entropy, cross_entropy, squared_error, absolute_error, huber, quantile or poisson; a `Loss` is
        returned as it is.
    output : str
        Activation of the last layer.
    **parameters : float
        `delta` of huber, the size of a residual from where on it no longer counts by its square (1.0); `level` of
        quantile, the share of the targets that is to lie below the prediction (0.5).

    Raises
    ------
    UnknownNameError
        Where no loss has this name, or the loss no such parameter.
    DataError
        Where the loss exists but does not go with this output, or a parameter is out of range.
    """
    if isinstance(name, Loss):
        if name.output != output:
            raise DataError(f"loss: {name.name!r} was made for output={name.output!r}, not {output!r}")
        if parameters:
            raise DataError(f"loss: {name.name!r} has its parameters already; leave out {', '.join(parameters)}")
        return name
    name = _MATCHED[output] if name is None else name
    require_known("loss", name, LOSS_NAMES)
    if (name, output) not in LOSSES:
        fitting = [out for known, out in LOSSES if known == name]
        raise DataError(
            f"loss: {name!r} does not go with output={output!r}; use output={' or '.join(map(repr, fitting))}"
        )
    known = dict(LOSSES[name, output].parameters)
    for key, number in parameters.items():
        require_known(f"loss {name}", key, known or ("no parameter",))
        if not isinstance(number, Real) or not 0.0 < number < _MOST[key]:
            limit = f" and below {_MOST[key]:g}" if _MOST[key] < float("inf") else ""
            raise DataError(f"loss {name}: {key}={number!r} is out of range; give a finite number above 0{limit}")
        known[key] = float(number)
    return _named(name, output, tuple(known.items()))


@cache
def _named(name: str, output: str, parameters: tuple[tuple[str, float], ...]) -> Loss:
    entry = LOSSES[name, output]
    if parameters == entry.parameters:
        return entry
    if output == "sigmoid":
        return behind_sigmoid(_named(name, "identity", parameters))
    binding = Binding(dict(parameters))
    return Loss(name, output, binding(entry.value), binding(entry.gradient), entry.targets, parameters=parameters)
