"""A loss of one's own: two formulas, looked at before anybody trains with them."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from accelnn import elementary
from accelnn.activations import OUTPUTS
from accelnn.backends.numpy.tape import Tape
from accelnn.backends.recording import Recording
from accelnn.binding import Binding
from accelnn.errors import DataError, require_known
from accelnn.losses import Loss

__all__ = ["custom_loss"]

POINTS = 256  # at which the gradient is compared with the value's slope
STEP = 1e-6  # of the central differences
ALLOWED = 1e-5  # difference, relative to the slope from 1 on
ROUNDING = 8 * np.finfo(np.float64).eps / STEP  # of the slope, for each unit of the value
KEPT = 256  # pairs of formulas that are remembered

_FUNCTIONS = {name: getattr(elementary, name) for name in elementary.__all__}
_made: dict[Any, tuple[Callable, Callable]] = {}

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
        :mod:`accelnn.elementary`, imported by name, so that every backend can compile it. Numbers that it finds
        outside of itself are those of now: after a change of one, make the loss again.
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
    # Copies, whose numbers stay what they are now.
    freeze = Binding({}, kept=_FUNCTIONS.values())
    formulas = _formula("value", value, freeze), _formula("gradient", gradient, freeze)
    made_name = getattr(value, "__name__", "custom") if name is None else name
    recording = Recording(*formulas, inputs=2)
    key = recording.key(), targets
    if key not in _made:
        _check(*formulas, targets)
        if len(_made) >= KEPT:
            _made.clear()
        _made[key] = formulas
    # The same formulas are the same object, wherever they come from: a search, or a pickle, compiles them once.
    remade = custom_loss, value, gradient, output, targets, made_name
    kept = _made[key]
    return Loss(made_name, output, kept[0], kept[1], targets, remade=remade)


def _check(value: Callable, gradient: Callable, targets: str) -> None:
    """Hold the gradient against the value's slope, and what backends make of both against what Python does."""
    random = np.random.default_rng(0)
    z, y = random.normal(scale=2.0, size=POINTS), _TARGETS[targets](random)
    y[: POINTS // 8], y[POINTS // 8 : POINTS // 4] = 0.0, 1.0  # which formulas like to single out
    with np.errstate(all="ignore"):
        upper, lower = (_at("value", value, z + step, y) for step in (STEP, -STEP))
        found = _at("gradient", gradient, z, y)
        slope = (upper - lower) / (2 * STEP)
        allowed = ALLOWED * np.maximum(1.0, np.abs(slope)) + ROUNDING * np.abs(upper)
        wrong = ~(np.abs(found - slope) <= allowed)  # NaN is wrong too
    if wrong.any():
        k = int(np.argmax(wrong))
        raise DataError(
            f"gradient: at z={z[k]:.6g}, y={y[k]:.6g} it is {found[k]:.6g}, but central differences of value give "
            f"{slope[k]:.6g}; it must be the derivative with respect to z, and finite"
        )
    for argument, formula in (("value", value), ("gradient", gradient)):
        recorded = np.empty_like(z)
        with np.errstate(all="ignore"):
            Tape(formula, arrays=2)((z, y), (), (recorded,))
        if not np.allclose(recorded, _at(argument, formula, z, y), rtol=1e-9, atol=1e-9):
            raise DataError(
                f"{argument}: backends would compute something else than Python does; write it as arithmetic alone, "
                "with where(condition, x, y) for a choice"
            )


def _formula(argument: str, formula: Any, freeze: Binding) -> Callable:
    """A copy of the formula. It is recorded, as backends do; what cannot be recorded no backend could compile."""
    if not isinstance(formula, FunctionType):
        raise DataError(f"{argument}: {formula!r} is no Python function of z and y")
    try:
        formula = freeze(formula)
        recording = Recording(formula, inputs=2)
    except Exception as problem:  # whatever a stranger's function may raise
        raise DataError(
            f"{argument}: cannot be used as a formula of z and y ({problem}); write it as a function of both, with "
            "arithmetic, abs, comparisons and the functions of accelnn.elementary, imported by name (where instead of "
            "if)"
        ) from None
    if len(recording.results) != 1 or not hasattr(recording.results[0], "operation"):
        raise DataError(f"{argument}: must return one number that depends on z or y")
    return formula


def _at(argument: str, formula: Callable, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    try:
        return np.broadcast_to(np.asarray(formula(z, y), dtype=np.float64), z.shape)
    except Exception as problem:  # whatever a stranger's function may raise
        raise DataError(f"{argument}: cannot be computed for arrays z and y ({problem})") from None
