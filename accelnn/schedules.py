"""Learning-rate schedules: by which factor the base learning rate is multiplied, and when.

A schedule is data and pure functions. Time ``t`` is the number of epochs since training began, a fraction within an
epoch: a step's number divided by the batches of an epoch, so that step 0 stands at 0 and the last step stands one step
short of the horizon, the number of epochs that training is planned for.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np

from accelnn.errors import DataError, require_known

__all__ = [
    "SCHEDULES",
    "Cosine",
    "Exponential",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "in_words",
    "schedule",
]

WARMUP_FROM = 0.01  # a warm-up's first factor: from 0 the first step would do nothing


class Schedule:
    """Base of schedules, itself the constant one: override `factors`, and the rest if it looks at the loss.

    Attributes
    ----------
    start : tuple of float
        The state before training; empty for a schedule that looks at the time alone.
    """

    start: ClassVar[tuple[float, ...]] = ()

    def factors(self, t: np.ndarray, epochs: int, state: tuple[float, ...] = ()) -> np.ndarray:
        """By what to multiply the base learning rate.

        Parameters
        ----------
        t : array of float64
            Epochs since training began, 0 or more. Each element is answered for itself.
        epochs : int
            The horizon. Time may go beyond it.
        state : tuple of float, optional
            As `after_epoch` last returned it; ``()`` stands for `start`.

        Returns
        -------
        array of float64, of t's shape
            0 or more.
        """
        return np.ones(np.shape(t))

    def after_epoch(self, state: tuple[float, ...], loss: float) -> tuple[float, ...]:
        """The state after an epoch that ended with this loss."""
        return state


@dataclass(frozen=True)
class Step(Schedule):
    """``factor^floor(t / every)``: multiply the rate by `factor` once in `every` epochs.

    It has no horizon and goes on for as long as training does.

    Parameters
    ----------
    every : int
        Epochs, at least 1.
    factor : float
        Above 0, up to 1.
    """

    every: int = 10
    factor: float = 0.5

    def __post_init__(self):
        _whole(self, "every", 1)
        _number(self, "factor", ABOVE_ZERO_TO_ONE)

    def factors(self, t: np.ndarray, epochs: int, state: tuple[float, ...] = ()) -> np.ndarray:
        """See `Schedule.factors`."""
        # A t below k * every, be it by one bit, gives a quotient below k: rounding never lifts it to k.
        return np.power(self.factor, np.floor(t / self.every))


@dataclass(frozen=True)
class Exponential(Schedule):
    """``factor^floor(t)``: multiply the rate by `factor` after each epoch.

    The rate changes once an epoch and not with each step, as in PyTorch's ``ExponentialLR``. It has no horizon and
    goes on for as long as training does.

    Parameters
    ----------
    factor : float
        Above 0, up to 1.
    """

    factor: float = 0.95

    def __post_init__(self):
        _number(self, "factor", ABOVE_ZERO_TO_ONE)

    def factors(self, t: np.ndarray, epochs: int, state: tuple[float, ...] = ()) -> np.ndarray:
        """See `Schedule.factors`."""
        return np.power(self.factor, np.floor(t))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 down to `final` at the horizon, after a linear warm-up if asked for.

    ``final + (1 - final) (1 + cos(pi (t - warmup) / (horizon - warmup))) / 2``: equation 5 of Loshchilov, Hutter 2017
    (SGDR), without restarts. Before it, the warm-up is a straight line from 0.01 at ``t = 0`` to 1 at ``t = warmup``
    (Goyal et al. 2017, section 2.2, who likewise start above 0): from 0 the first step would do nothing. Beyond the
    horizon `final` holds.

    Parameters
    ----------
    warmup : float
        Epochs, 0 or more, and fewer than the horizon.
    final : float
        From 0 to 1.
    epochs : int, optional
        The horizon, in place of the run's epochs: with ``epochs=10`` two runs of 5 epochs, the second of which goes
        on with the first, are one of 10.
    """

    warmup: float = 0.0
    final: float = 0.0
    epochs: int | None = None

    def __post_init__(self):
        _number(self, "warmup", ZERO_ON)
        _number(self, "final", ZERO_TO_ONE)
        if self.epochs is not None:
            _whole(self, "epochs", 1)
            self._decline(self.epochs)

    def factors(self, t: np.ndarray, epochs: int, state: tuple[float, ...] = ()) -> np.ndarray:
        """See `Schedule.factors`.

        Raises
        ------
        DataError
            If the horizon is `epochs`, and the warm-up does not end before it.
        """
        horizon = epochs if self.epochs is None else self.epochs
        down = _half_cosine(1.0, self.final, (t - self.warmup) / self._decline(horizon))
        if not self.warmup:
            return down
        return (WARMUP_FROM + (1.0 - WARMUP_FROM) * (np.minimum(t, self.warmup) / self.warmup)) * down

    def _decline(self, horizon: int) -> float:
        """Length of the half cosine, in epochs."""
        if self.warmup >= horizon:
            raise DataError(
                f"Cosine: warmup={self.warmup:g} does not end before the horizon of {horizon} epoch(s); give a shorter "
                "warmup, or train for longer (for one training in several runs, say its whole length: "
                "Cosine(epochs=...))"
            )
        return horizon - self.warmup


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Half a cosine from `initial` up to 1 at `peak_at` of the horizon, and another down to `final` at its end.

    The policy is of Smith, Topin 2018 (Super-Convergence). The two halves and the defaults are those of PyTorch's
    ``OneCycleLR`` (``anneal_strategy="cos"``, ``pct_start=0.3``, ``div_factor=25``, ``final_div_factor=1e4``: from
    1/25 of the largest rate, down to 1/1e4 of that), which has them from fastai. The base learning rate is the largest
    one. PyTorch reaches the peak and the end one step earlier, and moves the momentum too; this does not. Beyond the
    horizon `final` holds.

    Parameters
    ----------
    peak_at : float
        Fraction of the horizon, above 0 and below 1.
    initial : float
        Above 0, up to 1.
    final : float
        From 0 to 1.
    epochs : int, optional
        The horizon, in place of the run's epochs, as in `Cosine`.
    """

    peak_at: float = 0.3
    initial: float = 0.04
    final: float = 4e-6
    epochs: int | None = None

    def __post_init__(self):
        _number(self, "peak_at", ABOVE_ZERO_BELOW_ONE)
        _number(self, "initial", ABOVE_ZERO_TO_ONE)
        _number(self, "final", ZERO_TO_ONE)
        if self.epochs is not None:
            _whole(self, "epochs", 1)

    def factors(self, t: np.ndarray, epochs: int, state: tuple[float, ...] = ()) -> np.ndarray:
        """See `Schedule.factors`."""
        passed = np.minimum(t / (epochs if self.epochs is None else self.epochs), 1.0)
        up = _half_cosine(self.initial, 1.0, np.minimum(passed, self.peak_at) / self.peak_at)
        down = _half_cosine(1.0, self.final, (passed - self.peak_at) / (1.0 - self.peak_at))
        return up * down


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """Multiply the rate by `factor` when the loss has stopped falling.

    An epoch improves on the best loss so far if ``loss < best - threshold |best|``; only then is its loss the new
    best. The first epoch always improves. After more than `patience` epochs in a row without improvement the rate is
    multiplied by `factor`, and the `cooldown` epochs that follow are not counted. This is PyTorch's
    ``ReduceLROnPlateau`` with ``mode="min"`` and ``threshold_mode="rel"``, but for losses below zero, which the
    Poisson loss can have: there ``best (1 - threshold)`` would take a worse loss for a better one.

    The state is the factor now, the best loss, the epochs without improvement, and the epochs of cooldown left.

    Parameters
    ----------
    factor : float
        Above 0, below 1.
    patience : int
        Epochs in a row without improvement that change nothing, 0 or more.
    threshold : float
        Relative size of an improvement, from 0 on and below 1.
    cooldown : int
        Epochs, 0 or more.
    least : float
        The lowest factor of the base learning rate, from 0 to 1.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    least: float = 0.0

    start: ClassVar[tuple[float, ...]] = (1.0, math.inf, 0.0, 0.0)

    def __post_init__(self):
        _number(self, "factor", ABOVE_ZERO_BELOW_ONE)
        _whole(self, "patience", 0)
        _number(self, "threshold", ZERO_BELOW_ONE)
        _whole(self, "cooldown", 0)
        _number(self, "least", ZERO_TO_ONE)

    def factors(self, t: np.ndarray, epochs: int, state: tuple[float, ...] = ()) -> np.ndarray:
        """See `Schedule.factors`: the state's factor, whatever the time."""
        return np.full(np.shape(t), (state or self.start)[0])

    def after_epoch(self, state: tuple[float, ...], loss: float) -> tuple[float, ...]:
        """The state after an epoch that ended with this loss; a loss that is NaN is no improvement."""
        factor, best, waited, cooling = state or self.start
        margin = self.threshold * abs(best) if math.isfinite(best) else 0.0
        if loss < best - margin:
            best, waited = float(loss), 0.0
        else:
            waited += 1.0
        if cooling > 0:
            cooling, waited = cooling - 1.0, 0.0
        if waited > self.patience:
            factor, waited, cooling = max(factor * self.factor, self.least), 0.0, float(self.cooldown)
        return factor, best, waited, cooling


def _half_cosine(a: float, b: float, x: np.ndarray) -> np.ndarray:
    """From a at ``x = 0`` to b at ``x = 1``, both exactly; constant outside, so that a rise times a fall joins them."""
    w = 0.5 - 0.5 * np.cos(np.pi * np.clip(x, 0.0, 1.0))
    return (1.0 - w) * a + w * b


class _Range(NamedTuple):
    words: str
    holds: Callable[[float], bool]


ZERO_ON = _Range("a finite number from 0 on", lambda v: 0.0 <= v < math.inf)
ZERO_TO_ONE = _Range("a number from 0 to 1", lambda v: 0.0 <= v <= 1.0)
ZERO_BELOW_ONE = _Range("a number from 0 on and below 1", lambda v: 0.0 <= v < 1.0)
ABOVE_ZERO_TO_ONE = _Range("a number above 0 and up to 1", lambda v: 0.0 < v <= 1.0)
ABOVE_ZERO_BELOW_ONE = _Range("a number above 0 and below 1", lambda v: 0.0 < v < 1.0)


def _number(owner: Schedule, argument: str, within: _Range) -> None:
    """Make a field the float that it stands for, or refuse it."""
    value = getattr(owner, argument)
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not within.holds(number):
        raise DataError(f"{type(owner).__name__}: {argument}={value!r} is out of range; give {within.words}")
    object.__setattr__(owner, argument, number)


def _whole(owner: Schedule, argument: str, least: int) -> None:
    """Make a field the int that it stands for, or refuse it."""
    value = getattr(owner, argument)
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise DataError(
            f"{type(owner).__name__}: {argument}={value!r} is out of range; give a whole number of at least {least}"
        )
    object.__setattr__(owner, argument, int(value))


def in_words(schedule: Schedule) -> str:
    """Its name and parameters: the same in another process, of a schedule of one's own too."""
    if type(schedule).__repr__ is object.__repr__:
        fields = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(schedule).items()))
        return f"{type(schedule).__qualname__}({fields})"
    return repr(schedule)


SCHEDULES: dict[str, Schedule] = {
    "step": Step(),
    "exponential": Exponential(),
    "cosine": Cosine(),
    "one_cycle": OneCycle(),
    "plateau": ReduceOnPlateau(),
}


def schedule(value: Any) -> Schedule:
    """The schedule of this name, or the one given.

    Parameters
    ----------
    value : str or Schedule
        One of `SCHEDULES`, or an instance.

    Raises
    ------
    UnknownNameError
        For a name that does not exist.
    DataError
        For anything else.
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, str):
        require_known("schedule", value, SCHEDULES)
        return SCHEDULES[value]
    raise DataError(
        f"schedule: {value!r} is no schedule; give one of {', '.join(sorted(SCHEDULES))}, or an instance such as "
        "Cosine(warmup=5)"
    )
