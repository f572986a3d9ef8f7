"""scikit-learn's callbacks (its module `sklearn.callback`, from 1.9 on): what an estimator tells them of its training.

A callback sees a tree of tasks: the fit, and within it one task for each epoch.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

from accelnn.callbacks import Callback, Progress

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]  # one of the two exists, by scikit-learn's version
        """Nothing: this version of scikit-learn has no callbacks."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """The method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "Tasks", "alone", "fit_tasks"]

# What the decorator does after a method, whether it ended well or not, for the context manager below.
_tear_down = with_callbacks(lambda estimator: None)


@contextlib.contextmanager
def fit_tasks(estimator: Any, epochs: int, whole: bool = True) -> Iterator["Tasks"]:
    """Set up the callbacks of an estimator; tear them down afterwards, whatever happens within.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its attributes that scikit-learn sets here have to last: within, none of an earlier time may be restored.
    epochs : int
        The most that there can be.
    whole : bool
        Whether it is `fit` that was called, or else `partial_fit`.

    Yields
    ------
    Tasks
    """
    if not getattr(estimator, "_skl_callbacks", None):
        yield Tasks(estimator)
        return
    try:
        name = "fit" if whole else "partial_fit"
        yield Tasks(estimator, whole, estimator._init_callback_context(task_name=name, max_subtasks=epochs))
    finally:
        _tear_down(estimator)


def alone(estimator: Any) -> Any:
    """A shallow copy of an estimator that has nothing to do with its callbacks, in or after training."""
    twin = copy.copy(estimator)
    for name in ("_skl_callbacks", "_skl_callbacks_to_teardown", "_callback_fit_ctx", "_parent_callback_ctx"):
        twin.__dict__.pop(name, None)
    return twin


class Tasks:
    """The tasks of one call of `fit` or `partial_fit`, which :func:`fit_tasks` makes; idle where no callback is set.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    whole : bool
        Whether the call trains until the training ends, as `fit` does.
    context : sklearn.callback.CallbackContext, optional
        Of the whole call; None where no callback is set.
    """

    def __init__(self, estimator: Any, whole: bool = True, context: Any = None):
        self.estimator, self.whole, self.context = estimator, whole, context
        self._data: dict[str, Any] = {}

    def begin(self, X: Any, y: Any, sample_weight: Any = None) -> None:
        """Say that the fit begins.

        Parameters
        ----------
        X, y, sample_weight : arrays
            As `fit` was given them, so that the estimator's own `score` takes them.
        """
        if self.context is not None:
            metadata = None if sample_weight is None else {"sample_weight": sample_weight}
            self._data = {"X": X, "y": y, "metadata": metadata}
            self.context.call_on_fit_task_begin(**self.given())

    def end(self) -> None:
        """Say that the fit has ended, and the estimator is ready to predict."""
        if self.context is not None:
            self.context.call_on_fit_task_end(**self.given(lambda: _unshared(self.estimator)))

    def given(self, attributes: Callable[[], dict[str, Any]] | None = None) -> dict[str, Any]:
        """What scikit-learn hands on to a callback that asks for it.

        Parameters
        ----------
        attributes : callable, optional
            Gives what an estimator that is ready to predict has in place of the attributes of the one in training.
        """
        return {"estimator": self.estimator, "reconstruction_attributes": attributes, **self._data}

    @contextlib.contextmanager
    def epochs(self, callbacks: list[Callback], name: str = "epoch") -> Iterator[list[Callback]]:
        """Make a task of each epoch; the first one begins at once.

        Parameters
        ----------
        callbacks : list of Callback
            The estimator's own. They see an epoch before scikit-learn's callbacks do, and may end the training too.
        name : str
            Of each task.

        Yields
        ------
        list of Callback
            To be given to the training instead.

        Notes
        -----
        An epoch that was begun and never came, since Ctrl-C ended it, or since a solver did without it, is ended on
        the way out as an empty task, without data.
        """
        if self.context is None:
            yield callbacks
            return
        heard = [_Heard(callback) for callback in callbacks]
        last = _Epochs(self, heard, name)
        last.begin(0)
        yield [*heard, last]
        last.leave()


class _Heard(Callback):
    """A callback, and whether it has ended the training."""

    def __init__(self, callback: Callback):
        self.callback, self.stop = callback, False
        self.every_steps, self.comes_last = callback.every_steps, callback.comes_last

    def on_fit_begin(self, progress: Progress) -> None:
        self.callback.on_fit_begin(progress)

    def on_progress(self, progress: Progress) -> bool:
        self.stop = bool(self.callback.on_progress(progress)) or self.stop
        return self.stop

    def on_epoch_end(self, progress: Progress) -> bool:
        self.stop = bool(self.callback.on_epoch_end(progress)) or self.stop
        return self.stop

    def on_fit_end(self, progress: Progress) -> None:
        self.callback.on_fit_end(progress)

    def on_fit_exit(self, progress: Progress) -> None:
        self.callback.on_fit_exit(progress)

    @property
    def itself(self) -> Callback:
        return self.callback


class _Epochs(Callback):
    """Tells of each epoch, after the other callbacks have seen it."""

    def __init__(self, tasks: Tasks, others: list[_Heard], name: str):
        self.tasks, self.others, self.name = tasks, others, name
        self.task: Any = None  # scikit-learn's context of the epoch that is going on

    def begin(self, epochs: int) -> None:
        self.task = self.tasks.context.subcontext(task_name=self.name)
        self.task.call_on_fit_task_begin(**self._given(epochs))

    def on_epoch_end(self, progress: Progress) -> bool:
        task, self.task = self.task, None
        stop = task.call_on_fit_task_end(**self._given(progress.epoch))
        if not stop and progress.epoch < progress.epochs and not any(other.stop for other in self.others):
            self.begin(progress.epoch)
        return bool(stop)

    def leave(self) -> None:
        if self.task is not None:
            self.task.call_on_fit_task_end(estimator=self.tasks.estimator)

    def _given(self, epochs: int) -> dict[str, Any]:
        return self.tasks.given(lambda: _as_if_stopped(self.tasks.estimator, epochs, whole=self.tasks.whole))


def _unshared(estimator: Any) -> dict[str, Any]:
    """Attributes without which a shallow copy of an estimator would go on training along with it."""
    backend = estimator.network_.backend
    attributes: dict[str, Any] = {"network_": copy.deepcopy(estimator.network_, {id(backend): backend})}
    for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_"):
        attributes[name] = copy.copy(getattr(estimator, name, None))
    return attributes


def _as_if_stopped(estimator: Any, epochs: int, whole: bool) -> dict[str, Any]:
    """The same of an estimator in training: what a call would leave behind if it stopped after this epoch of its own.

    But for what is made of the trained network: probabilities are not calibrated.
    """
    attributes = _unshared(estimator) | {"n_iter_": epochs}
    attributes["network_"].optimizer_state = None  # where the optimiser stands is known after the run
    if whole and estimator._stops:
        attributes["network_"].theta = estimator._best
    if getattr(estimator, "calibration", None) is not None:
        attributes["calibration"] = None
    return attributes
