"""Whether contestants computed the same: the loss of the parameters that each returns, found by one short pass."""

from collections.abc import Callable
from typing import Any

import numpy as np

from accelnn.benchmark.cases import Problem

__all__ = ["MOVED", "TOLERANCE", "loss", "why_refused"]

# Largest relative difference of J from the textbook's: every library rounds in another order, and each step of
# training enlarges the difference.
TOLERANCE = {"float32": 1e-3, "float64": 1e-8}
MOVED = 1e-2  # J must have left its start by this share, or equal losses would say nothing

_HIDDEN: dict[str, Callable[[Any], Any]] = {
    "identity": lambda Z: Z,
    "relu": lambda Z: np.maximum(Z, 0.0),
    "sigmoid": lambda Z: 0.5 * (1.0 + np.tanh(0.5 * Z)),
    "tanh": np.tanh,
}


def loss(problem: Problem, W: list[Any], b: list[Any]) -> float:
    """``J`` over all examples in float64; ``W[l]`` and ``b[l]`` for l = 1..L, place 0 unused."""
    case = problem.case
    # Weights that are not finite give a loss that is not, and no warning.
    with np.errstate(all="ignore"):
        A, Y = problem.X.astype(np.float64), problem.Y.astype(np.float64)
        for l in range(1, len(W)):
            Z = np.asarray(W[l], np.float64) @ A + np.asarray(b[l], np.float64).reshape(-1, 1)
            A = _HIDDEN[case.activation](Z)
        if case.loss == "cross_entropy":
            Z = Z - Z.max(axis=0)
            each = np.log(np.exp(Z).sum(axis=0)) - (Z * Y).sum(axis=0)
        elif case.loss == "binary_cross_entropy":
            each = (np.logaddexp(0.0, Z) - Z * Y).sum(axis=0)
        else:
            each = (0.5 * (Z - Y) ** 2).sum(axis=0)
    return float(each.mean())


def why_refused(J: float, start: float, expected: float, allowed: float) -> str | None:
    """None where a contestant may be timed, else what is wrong with its loss.

    Parameters
    ----------
    J, start, expected : float
        The contestant's loss after training, the common one before, and the textbook's after.
    allowed : float
        Largest relative difference between the first and the last.
    """
    if not np.isfinite(J):
        return f"its loss is {J} after the same training"
    if abs(J - start) < MOVED * abs(start):
        return f"its loss has hardly moved, from {start:.6g} to {J:.6g}; a larger learning rate would tell"
    difference = abs(J - expected) / abs(expected)
    if not difference <= allowed:
        return (
            f"another loss: {J:.9g} after the same training, the textbook's is {expected:.9g} ({difference:.1e} apart, "
            f"{allowed:.0e} allowed)"
        )
    return None
