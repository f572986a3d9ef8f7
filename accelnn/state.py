"""What a training leaves behind: its history, and where its optimiser stands."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from accelnn.schedules import Schedule

__all__ = ["NOTHING", "Batches", "History", "OptimizerState"]


@dataclass
class History:
    """What training recorded, epoch by epoch.

    Attributes
    ----------
    loss : list of float
        J, the mean over the epoch's batches of the loss that each started from.
    validation_loss : list of float
        J of the validation set after each epoch; empty without one.
    learning_rate : list of float
        Of the epoch's last step.
    seconds : float
        Length of the run.
    examples : int
        Examples trained on, counted once an epoch.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: float = 0.0
    examples: int = 0

    def mark(self) -> tuple[int, int, int, float, int]:
        """Where it stands: the lengths of its lists, its seconds and its examples."""
        return len(self.loss), len(self.validation_loss), len(self.learning_rate), self.seconds, self.examples

    def since(self, mark: tuple[int, int, int, float, int]) -> "History":
        """Another with what came after a mark."""
        loss, validation_loss, learning_rate, seconds, examples = mark
        return History(
            self.loss[loss:],
            self.validation_loss[validation_loss:],
            self.learning_rate[learning_rate:],
            self.seconds - seconds,
            self.examples - examples,
        )

    def truncate(self, mark: tuple[int, int, int, float, int]) -> None:
        """Forget what came after a mark."""
        loss, validation_loss, learning_rate, self.seconds, self.examples = mark
        del self.loss[loss:], self.validation_loss[validation_loss:], self.learning_rate[learning_rate:]


NOTHING = History().mark()


@dataclass(frozen=True)
class Batches:
    """How an epoch is cut into batches; where two are equal, so are the batches of the same data.

    Attributes
    ----------
    examples : int
    size : int
    order : str
        How the order of the examples is found.
    """

    examples: int
    size: int
    order: str


@dataclass
class OptimizerState:
    """Where an optimiser stands, so that another call of `fit` can go on as if there had been no end between.

    Attributes
    ----------
    rule : str
        Name of the update rule.
    step : int
        Steps so far.
    vectors : array of shape (number of state vectors, theta's length)
        Where the network's backend computes.
    epoch : int
        Finished epochs so far, which a schedule counts.
    schedule : Schedule or None
        The one of the latest run.
    memory : tuple of float
        What it remembers.
    batches : Batches or None
        Those of the latest run.
    losses : array of float64, shape (steps into an epoch that is not finished,)
        J of these steps.
    """

    rule: str
    step: int
    vectors: Any
    epoch: int = 0
    schedule: Schedule | None = None
    memory: tuple[float, ...] = ()
    batches: Batches | None = None
    losses: np.ndarray = field(default_factory=lambda: np.empty(0))
