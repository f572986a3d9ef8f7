"""Ending a training that no longer gets better."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from accelnn import checks
from accelnn.callbacks import Callback, Progress
from accelnn.errors import DataError

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Ends a training whose validation loss has stopped falling, and goes back to the best parameters.

    Without a validation set the loss of the training set is looked at.

    Parameters
    ----------
    patience : int
        Epochs in a row without a new best that are waited for.
    tol : float
        By how much a loss has to be below the best to be a new one.

    Attributes
    ----------
    best_loss : float
    best_epoch : int or None
        Its number, counted from 1.

    Notes
    -----
    At the end the network has the parameters of the best epoch. Its optimiser belonged to the latest ones, so there is
    no state to go on from.
    """

    def __init__(self, patience: int = 10, tol: float = 0.0):
        self.patience, self.tol = checks.integer("patience", patience, 1), checks.number("tol", tol)
        self._start()

    def _start(self) -> None:
        self.best_loss, self._waited = math.inf, 0
        self.best_epoch: int | None = None
        self._best: np.ndarray | None = None

    def on_fit_begin(self, progress: Progress) -> None:
        """Forget an earlier training."""
        self._start()

    def on_epoch_end(self, progress: Progress) -> bool:
        """Whether the patience is at its end."""
        loss = progress.loss if progress.validation_loss is None else progress.validation_loss
        if loss < self.best_loss - self.tol:
            self.best_loss, self.best_epoch, self._waited = loss, progress.epoch, 0
            self._best = np.array(progress.network.backend.to_host(progress.network.theta))
        else:
            self._waited += 1
        return self._waited >= self.patience

    def on_fit_end(self, progress: Progress) -> None:
        """Go back to the best epoch."""
        if self._best is not None and self._waited:
            progress.network.theta = self._best
            progress.network.optimizer_state = None

    def to_checkpoint(self) -> Mapping[str, Any]:
        """See `Callback.to_checkpoint`."""
        best = np.empty(0) if self._best is None else self._best
        return {
            "settings": f"EarlyStopping(patience={self.patience}, tol={self.tol})",
            "best_epoch": self.best_epoch,
            "waited": self._waited,
            "loss": np.array([self.best_loss]),
            "theta": best,
        }

    def from_checkpoint(self, state: Mapping[str, Any]) -> None:
        """See `Callback.from_checkpoint`."""
        epoch, waited, loss, theta = (state[name] for name in ("best_epoch", "waited", "loss", "theta"))
        self.best_epoch = None if epoch is None else checks.integer("best_epoch", epoch, 1)
        self._waited = checks.integer("waited", waited, 0)
        if loss.shape != (1,) or loss.dtype != np.float64 or theta.dtype.kind != "f" or theta.ndim != 1:
            raise DataError("theta: what EarlyStopping has kept is of another form")
        if (epoch is None) is not (len(theta) == 0) or not np.isfinite(theta).all():
            raise DataError("best_epoch: does not fit what EarlyStopping has kept")
        self.best_loss, self._best = float(loss[0]), theta if len(theta) else None
