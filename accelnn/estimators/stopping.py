"""When a training ends, and what its learning rate is: scikit-learn's rules, seen after each epoch."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from accelnn.callbacks import Callback, Progress
from accelnn.errors import DataError

__all__ = ["Watch"]

_CURVES = ("loss_curve_", "validation_loss_curve_", "validation_scores_")
_NUMBERS = ("loss_", "best_loss_", "best_validation_score_", "_slowdown")
_SETTINGS = (
    *("solver", "learning_rate", "learning_rate_init", "power_t", "tol", "n_iter_no_change", "early_stopping"),
    *("validation_fraction", "scoring"),
)
SLOWEST = 1e-6  # an adaptive learning rate that has come down to here ends the training
SLOWER = 5.0  # what an adaptive learning rate is divided by


class Watch(Callback):
    """Follows an estimator's training.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its `loss_curve_`, `best_loss_`, `validation_scores_` and the like are kept up to date.
    n_samples : int
        Examples of an epoch.
    score : callable, optional
        The validation score now, for early stopping, as a function of the validation loss.
    best_possible, best_possible_held : float
        What scikit-learn's loss of the training and of the validation set has in addition to the network's.

    Attributes
    ----------
    epochs : int
        Epochs of this training so far.
    converged : bool
        Whether a rule has ended it.
    prints : bool
        Whether to print a line for each epoch, in scikit-learn's words.
    """

    def __init__(
        self,
        estimator: Any,
        n_samples: int,
        score: Callable[[float], float] | None,
        best_possible: float,
        best_possible_held: float,
    ):
        self.estimator, self.n_samples, self.score = estimator, n_samples, score
        self.best_possible, self.best_possible_held = best_possible, best_possible_held
        self.epochs = 0
        self.converged = self.prints = False
        # A rate that has been brought down belongs to the settings that it began with.
        settings = estimator.solver, estimator.learning_rate, estimator.learning_rate_init
        if estimator._slowed != settings:
            estimator._slowed, estimator._slowdown = settings, 1.0

    def rates(self, steps: np.ndarray) -> np.ndarray:
        """The learning rate of the epoch that comes, for each of its steps."""
        return np.full(len(steps), self._rate)

    @property
    def _rate(self) -> float:
        estimator, rate = self.estimator, float(self.estimator.learning_rate_init)
        if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
            return rate / (estimator.t_ + 1) ** estimator.power_t
        if estimator.solver == "sgd" and estimator.learning_rate == "adaptive":
            return rate / estimator._slowdown
        return rate

    def on_epoch_end(self, progress: Progress) -> bool:
        """Keep the epoch in mind; whether the training ends with it."""
        estimator = self.estimator
        self.epochs += 1
        estimator.loss_ = progress.loss + self.best_possible
        estimator.loss_curve_.append(estimator.loss_)
        if self.prints:
            print(f"Iteration {self.epochs}, loss = {estimator.loss_:.8f}")
        loss = progress.validation_loss
        if estimator.validation_loss_curve_ is not None:
            known = math.nan if loss is None else loss + self.best_possible_held
            estimator.validation_loss_curve_.append(known)
        if estimator.solver == "lbfgs":
            # It has its own rules, in scikit-learn too.
            estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)
            return False
        estimator.t_ += self.n_samples
        self._count(loss)
        if estimator._no_improvement_count <= estimator.n_iter_no_change:
            return False
        what = "Validation score" if self.score else "Training loss"
        text = f"{what} did not improve by tol={estimator.tol:g} for {estimator.n_iter_no_change} epochs in a row."
        if estimator.solver == "sgd" and estimator.learning_rate == "adaptive" and self._rate > SLOWEST:
            estimator._slowdown *= SLOWER
            estimator._no_improvement_count = 0
            if self.prints:
                print(f"{text} Setting learning rate to {self._rate:f}")
            return False
        if self.prints:
            print(f"{text} Stopping.")
        self.converged = True
        return True

    def to_checkpoint(self) -> Mapping[str, Any]:
        """What the training has come to, but for the network; see `Callback.to_checkpoint`."""
        estimator = self.estimator
        curves = {name: getattr(estimator, name) for name in _CURVES}
        numbers = [getattr(estimator, name, None) for name in _NUMBERS]
        return {
            "settings": self._settings(),
            "epochs": self.epochs,
            "converged": self.converged,
            "t": estimator.t_,
            "no_improvement_count": estimator._no_improvement_count,
            "numbers": np.array([math.nan if number is None else number for number in numbers]),
            "best": np.empty(0) if estimator._best is None else estimator._best,
            **{name: np.array(curve, dtype=np.float64) for name, curve in curves.items() if curve is not None},
        }

    def from_checkpoint(self, state: Mapping[str, Any]) -> None:
        """See `Callback.from_checkpoint`."""
        estimator = self.estimator
        self.epochs, self.converged = state["epochs"], state["converged"]
        estimator.t_, estimator._no_improvement_count = state["t"], state["no_improvement_count"]
        for name, number in zip(_NUMBERS, state["numbers"].tolist(), strict=True):
            if not math.isnan(number):
                setattr(estimator, name, number)
        for name in _CURVES:
            if name in state:
                setattr(estimator, name, state[name].tolist())
        if len(state["best"]):
            estimator._best = state["best"]

    def _settings(self) -> str:
        """The parameters on which the learning rates and the end depend."""
        values = {name: getattr(self.estimator, name) for name in _SETTINGS}
        # A function's own text tells where it lies in memory.
        return ", ".join(f"{name}={getattr(value, '__qualname__', repr(value))}" for name, value in values.items())

    def _count(self, validation_loss: float | None) -> None:
        """Epochs in a row without an improvement, and the best so far."""
        estimator = self.estimator
        if self.score is None:
            latest, worse = estimator.loss_, estimator.loss_ > estimator.best_loss_ - estimator.tol
            estimator.best_loss_ = min(latest, estimator.best_loss_)
        else:
            loss = math.nan if validation_loss is None else validation_loss + self.best_possible_held
            latest = self.score(loss)
            if math.isnan(latest) and math.isfinite(loss):  # a loss that is not ends the training by itself
                raise DataError(
                    f"scoring: the validation score is NaN after epoch {self.epochs}; give a scorer that can judge the "
                    "validation set, or a larger set"
                )
            estimator.validation_scores_.append(latest)
            if self.prints:
                print(f"Validation score: {latest:f}")
            worse = latest < estimator.best_validation_score_ + estimator.tol
            if latest > estimator.best_validation_score_:
                estimator.best_validation_score_ = latest
                estimator._keep_best()
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if worse else 0
