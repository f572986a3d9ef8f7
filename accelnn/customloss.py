"""A loss of one's own: two formulas, looked at before anybody trains with them."""

from collections.abc import Callable

import numpy as np

from accelnn.activations import OUTPUTS
from accelnn.backends.recording import Recording
from accelnn.errors import DataError, require_known
from accelnn.losses import Loss

__all__ = ["custom_loss"]

POINTS = 256  # at which the gradient is compared with the value's slope
STEP = 1e-6  # of the central differences
ALLOWED = 1e-5  # difference, relative to the slope from 1 on

_TARGETS: dict[str, Callable] = {
    "real": lambda random: random.normal(size=POINTS),
    "probability": lambda random: random.uniform(size=POINTS),
    "count": lambda random: random.poisson(2.0, size=POINTS).astype(np.float64),
}


def custom_loss(
    value: Callable, gradient: Callable, output: str = "identity", targets: str = "real", name: str | None = None
) -> Loss:
    """A loss of one's own, for every backend.

    Parameters
    ----------
    value : callable
        ``value(z, y)``: the loss of one output of one example, from the logit ``z`` (the prediction, where `output`
        is the identity) and the target ``y``. Written with arithmetic, `abs`, comparisons and the functions of
        :mod:`accelnn.elementary`, so that every backend can compile it.
    gradient : callable
        ``gradient(z, y)``: its derivative with respect to ``z``.
    output : {"identity", "sigmoid", "exp"}
        Activation of the last layer, which predictions pass through.
    targets : {"real", "probability", "count"}
        What targets may be: any number, 0 to 1, or 0 and more.
    name : str, optional
        By default, that of `value`.

    Returns
    -------
    Loss
        For the `loss` of :class:`accelnn.Network` and of the estimators.

    Raises
    ------
    DataError
        Where a formula cannot be used, or the gradient is not the slope that central differences of the value give.

    Examples
    --------
    >>> def log_cosh(z, y):
    ...     r = z - y
    ...     return abs(r) + log1p(exp(-2.0 * abs(r)))
    >>> def log_cosh_gradient(z, y):
    ...     return tanh(z - y)
    >>> from accelnn.elementary import exp, log1p, tanh
    >>> custom_loss(log_cosh, log_cosh_gradient).name
    'log_cosh'
    """
    require_known("output", output, [known for known in OUTPUTS if known != "softmax"])
    require_known("targets", targets, _TARGETS)
    for argument, formula in (("value", value), ("gradient", gradient)):
        _require_formula(argument, formula)
    random = np.random.default_rng(0)
    z, y = random.normal(scale=2.0, size=POINTS), _TARGETS[targets](random)
    with np.errstate(all="ignore"):
        upper, lower, found = (_at(*pair, y) for pair in ((value, z + STEP), (value, z - STEP), (gradient, z)))
        slope = (upper - lower) / (2 * STEP)
        wrong = ~(np.abs(found - slope) <= ALLOWED * np.maximum(1.0, np.abs(slope)))  # NaN is wrong too
    if wrong.any():
        k = int(np.argmax(wrong))
        raise DataError(
            f"gradient: at z={z[k]:.6g}, y={y[k]:.6g} it is {found[k]:.6g}, but central differences of value give "
            f"{slope[k]:.6g}; it must be the derivative with respect to z, and finite"
        )
    made_name = getattr(value, "__name__", "custom") if name is None else name
    return Loss(made_name, output, value, gradient, targets, custom=True)


def _require_formula(argument: str, formula: Callable) -> None:
    """Record the formula, as backends do; what it cannot be recorded for is what no backend could compile."""
    try:
        recording = Recording(formula, inputs=2)
    except Exception as problem:  # whatever a stranger's function may raise
        raise DataError(
            f"{argument}: cannot be used as a formula of z and y ({problem}); write it as a function of both, with "
            "arithmetic, abs, comparisons and the functions of accelnn.elementary (where instead of if)"
        ) from None
    if len(recording.results) != 1 or not hasattr(recording.results[0], "operation"):
        raise DataError(f"{argument}: must return one number that depends on z or y")


def _at(formula: Callable, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.asarray(formula(z, y), dtype=np.float64), z.shape)
