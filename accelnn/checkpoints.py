"""Files from which an interrupted training goes on as if nothing had happened."""

import contextlib
import itertools
import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn import checks
from accelnn.callbacks import Callback, Progress
from accelnn.errors import DataError, ModelFileError, OutputError
from accelnn.state import History
from accelnn.storage import container
from accelnn.storage.fields import count, field, listed, only, readable
from accelnn.storage.files import TEMPORARY
from accelnn.storage.networks import described, rebuilt
from accelnn.storage.training_state import described_state, rebuilt_state

if TYPE_CHECKING:
    from accelnn.feeding import Feed
    from accelnn.network import Network
    from accelnn.training import Settings

__all__ = ["Checkpoint", "interval", "restore"]

CHECKPOINT = "checkpoint"
_NAME = re.compile(r"step-(\d{12,})\.safetensors")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_TRAINING = ("epochs", "epoch", "finished", "settings", "optimizer", "callbacks", "environment")
_SETTINGS: dict[str, tuple[type, ...]] = {
    "optimizer": (str,),
    "learning_rate": (float, str),
    "l2": (float,),
    "clip_norm": (float, type(None)),
    "dropout": (list,),
    "schedule": (str, type(None)),
    "examples": (int,),
    "batch_size": (int,),
    "order": (str,),
    "sample_weight": (bool,),
    "data": (str,),
}


class Checkpoint(Callback):
    """Writes a training down now and then, and where SIGTERM or Ctrl-C ends it.

    A file holds the network, its optimiser and schedule, the history, the position within the epoch and the state of
    the other callbacks, such as the best parameters so far. The order of the batches and the masks of dropout are
    functions of the network's seed and of the step, so that a training which goes on from a file
    (``fit(..., resume=folder)``) gives the bits of one that was never interrupted, with the same number of threads.

    Parameters
    ----------
    folder : path
        Made if it is missing. It may hold earlier files of the same training and no later ones.
    every : str or int
        ``"30s"``, ``"5m"`` or ``"2h"``; or a number of steps.
    keep : int
        Files that are kept, the latest ones.
    description : mapping, optional
        What the files are to hold besides, as JSON has it.

    Raises
    ------
    DataError
        For an argument that cannot be used; in `fit`, for a folder with files of a later step, and for a network that
        no file can hold.
    OutputError
        In `fit`, where the folder cannot be written to. Where that happens later, training goes on, and a warning says
        that the checkpoint is missing.

    Examples
    --------
    >>> net.fit(X, Y, epochs=100, callbacks=[Checkpoint("run", every="5m")], resume="run")  # doctest: +SKIP
    """

    comes_last = True  # what it writes down of the other callbacks is what they have seen

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: str | int = "30s",
        keep: int = 3,
        description: Mapping[str, Any] | None = None,
    ):
        self.folder = Path(folder)
        self.seconds, self.every_steps = interval("every", every)
        self.keep = checks.integer("keep", keep, 1)
        self.description = dict(description or {})
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}
        self._due = 0.0
        self._written: int | None = None

    @staticmethod
    def latest(folder: str | os.PathLike[str]) -> Path | None:
        """The file of the latest step in a folder, or None."""
        return next(iter(_files(Path(folder))), None)

    def on_fit_begin(self, progress: Progress) -> None:
        """Make sure that files can be written, and listen to signals."""
        if progress.run is None:
            raise DataError("Checkpoint: lbfgs has no steps to go on from; use another optimiser")
        described(progress.network)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                for left in self.folder.glob(f".step-*{TEMPORARY}"):
                    left.unlink()
        except OSError as problem:
            raise OutputError(f"{self.folder}: cannot be made ({problem.strerror})") from None
        latest = self.latest(self.folder)
        if latest is not None and _step(latest) > progress.network.steps_trained:
            raise DataError(
                f"{latest}: is of a later step than {progress.network.steps_trained}, where this training begins; go "
                "on from it with resume, or give another folder"
            )
        self._written, self._signal = None, None
        self._write(progress)
        self._due = time.monotonic() + self.seconds
        self._listen()

    def on_progress(self, progress: Progress) -> None:
        """Write a file, if it is time, or if a signal has come."""
        if self._signal is not None:
            self._try(progress)
            self._leave(self._signal)
        if progress.epoch == progress.epochs:
            return  # the end comes next
        steps = self.every_steps
        if (steps and progress.step % steps == 0) or (not steps and time.monotonic() >= self._due):
            self._try(progress)
            self._due = time.monotonic() + self.seconds

    def on_fit_end(self, progress: Progress) -> None:
        """Write the last file: a training that goes on from it has nothing left to do."""
        self._try(progress, finished=True)

    def on_fit_exit(self, progress: Progress) -> None:
        """Leave signals to who had them before."""
        self._unlisten()

    def _unlisten(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _try(self, progress: Progress, finished: bool = False) -> None:
        try:
            self._write(progress, finished)
        except OutputError as problem:
            warnings.warn(f"no checkpoint was written, and training goes on: {problem}", stacklevel=2)

    def _write(self, progress: Progress, finished: bool = False) -> None:
        network = progress.network
        xp = network.backend.xp
        if not bool(xp.all(xp.isfinite(network.theta))):
            return  # the run is about to end with an error
        path = self.folder / f"step-{network.steps_trained:012d}.safetensors"
        about, tensors = _described(progress, finished)
        container.write(path, CHECKPOINT, tensors, {**about, "description": self.description})
        for old in _files(self.folder)[self.keep :]:
            with contextlib.suppress(OSError):
                old.unlink()

    def _listen(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) not in (None, signal.SIG_IGN):  # None: somebody has set it from C
                self._handlers[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        """Training ends at the next step that it can go on from; a second Ctrl-C does not wait for that."""
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number

    def _leave(self, number: int) -> None:
        """What the signal would have done."""
        handler = self._handlers.get(number)
        self._unlisten()
        if callable(handler):
            handler(number, None)
        elif handler == signal.SIG_DFL:
            raise SystemExit(128 + number)
        self._signal = None
        self._listen()


def interval(argument: str, value: str | int) -> tuple[float, int | None]:
    """Seconds, and None; or infinity, and a number of steps.

    Raises
    ------
    DataError
        For what is neither ``"30s"``, ``"5m"`` or ``"2h"`` nor a whole number.
    """
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", value)
        if found and found[2] and float(found[1]) > 0:
            return float(found[1]) * _UNITS[found[2]], None
        if not found or "." in found[1]:
            raise DataError(
                f"{argument}: {value!r} is no interval; give a time such as 30s, 5m or 2h, or a number of steps"
            )
        value = int(found[1])
    return np.inf, checks.integer(argument, value, 1)


def restore(
    source: str | os.PathLike[str],
    network: "Network",
    settings: "Settings",
    feed: "Feed",
    callbacks: Sequence[Callback],
) -> int:
    """Bring a network and the callbacks to where a checkpoint was written.

    Parameters
    ----------
    source : path
        A file, or a folder, whose latest file that is whole is taken. A damaged one gets another name, and a warning.
    network : Network
    settings : Settings
        With which training goes on; they have to be those of the checkpoint, but for `epochs`.
    feed : Feed
        Likewise.
    callbacks : sequence of Callback

    Returns
    -------
    int
        Epochs that have been done.

    Raises
    ------
    DataError
        Where the network, the settings or the data are others than the checkpoint's.
    ModelFileError
        Where there is no file that is whole.
    """
    found = _found(Path(source), callbacks)
    if found is None:
        network.optimizer_state, network.history = None, History()
        return 0
    path, about, tensors = found
    saved = rebuilt(path, about, tensors, network.backend)
    _require_same(path, saved, network)
    with readable(path):
        training = field(about, "training", dict)
        only(training, _TRAINING, "its training")
        done, epochs = count(training, "epoch"), count(training, "epochs")
        finished, had = field(training, "finished", bool), listed(training, "callbacks", dict)
        where, settings_had = _where(field(training, "environment", dict)), _had(field(training, "settings", dict))
    _require_settings(path, settings_had, _settings(settings, feed))
    with readable(path):
        state, optimizer_state = training["optimizer"], None
        if state is not None:
            state = field(training, "optimizer", dict)
            optimizer_state = rebuilt_state(path, state, tensors, network, settings.schedule)
    if not 0 <= done <= epochs or (optimizer_state is None and not finished):
        raise ModelFileError(f"{path}: is no checkpoint (its numbers do not fit together)")
    if done > settings.epochs:
        raise DataError(f"epochs: {settings.epochs} are fewer than the {done} that {path} has done")
    _restore_callbacks(path, had, tensors, callbacks)
    network.theta = saved.theta
    network.epochs_trained, network.steps_trained = saved.epochs_trained, saved.steps_trained
    network.optimizer_state, network.history = optimizer_state, saved.history
    here = _environment(network)
    if where != here:
        warnings.warn(
            f"{path} was written by {_words(where)} and goes on with {_words(here)}: the result will be the same to "
            "rounding, not to the last bit",
            stacklevel=5,
        )
    return settings.epochs if finished and epochs == settings.epochs else done


def _described(progress: Progress, finished: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A training at this moment, as a description and arrays."""
    network, run = progress.network, progress.run
    assert run is not None
    about, tensors = described(network)
    state: dict[str, Any] | None = None
    if network.optimizer_state is not None:
        state, arrays = described_state(network)
        tensors |= arrays
    told = []
    for k, callback in enumerate(c for c in run.callbacks if not isinstance(c, Checkpoint)):
        words = {}
        for name, value in callback.to_checkpoint().items():
            if isinstance(value, np.ndarray):
                tensors[f"callbacks.{k}.{name}"] = value
            else:
                words[name] = value
        told.append({"kind": _kind(callback), "state": words})
    training = {
        "epochs": progress.epochs,
        "epoch": progress.epoch,
        "finished": finished,
        "settings": run.described(),
        "optimizer": state,
        "callbacks": told,
        "environment": _environment(network),
    }
    return {**about, "training": training}, tensors


def _settings(settings: "Settings", feed: "Feed") -> dict[str, Any]:
    return settings.described(feed.batches, feed.weighs) | {"data": feed.fingerprint()}


def _environment(network: "Network") -> dict[str, Any]:
    backend = network.backend
    return {"backend": backend.name, "threads": backend.workers()}


def _where(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What `_environment` gave, if it is that."""
    only(environment, ("backend", "threads"), "its environment")
    return {"backend": field(environment, "backend", str), "threads": count(environment, "threads")}


def _had(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `_settings` gave, if it is that."""
    only(settings, _SETTINGS, "its settings")
    for name, kinds in _SETTINGS.items():
        if type(settings[name]) not in kinds:
            raise TypeError(f"its setting {name} is nothing of the kind")
    if type(settings["learning_rate"]) is str and settings["learning_rate"] != "a function":
        raise ValueError("its learning rate is no number")
    listed(settings, "dropout", float)
    count(settings, "examples")
    count(settings, "batch_size")
    return settings


def _words(environment: Mapping[str, Any]) -> str:
    return f"{environment.get('backend')} on {environment.get('threads')} thread(s)"


def _kind(callback: Callback) -> str:
    return f"{type(callback).__module__}.{type(callback).__qualname__}"


def _files(folder: Path) -> list[Path]:
    """A folder's checkpoints, the latest first."""
    try:
        return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=_step, reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _step(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def _found(source: Path, callbacks: Sequence[Callback]) -> tuple[Path, dict[str, Any], dict[str, np.ndarray]] | None:
    """The file to go on from, read; None for a folder that a run is only about to fill."""
    if source.is_file():
        return source, *_read(source)
    for path in _files(source):
        try:
            return path, *_read(path)
        except container.UnusableError:
            raise  # it may be whole
        except ModelFileError as problem:
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            warnings.warn(f"{problem}; it is now {aside.name}, and the one before it is taken", stacklevel=6)
    if source.is_dir() and any(source.glob("*.damaged")):
        raise ModelFileError(f"{source}: every checkpoint is damaged; remove them to begin again")
    if not source.is_dir() and not any(isinstance(c, Checkpoint) and c.folder == source for c in callbacks):
        raise DataError(f"resume: there is no file or folder {source}")
    return None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    about, tensors = container.read(path)
    if about["kind"] != CHECKPOINT:
        raise container.UnusableError(f"{path}: is no checkpoint but {container.named(about['kind'])}")
    with readable(path):
        field(about, "description", dict)
    return about, tensors


def _require_same(path: Path, saved: "Network", network: "Network") -> None:
    for name in ("sizes", "activations", "output", "loss_entry", "dtype", "seed"):
        had, has = getattr(saved, name), getattr(network, name)
        if had != has:
            word = "loss" if name == "loss_entry" else name
            raise DataError(f"resume: {path} was written with {word}={had}, not {has}; give the same, or begin again")


def _require_settings(path: Path, had: Mapping[str, Any], has: Mapping[str, Any]) -> None:
    for name, value in has.items():
        if had[name] != value:
            if name == "data":
                raise DataError(f"resume: {path} was written in training on other data; give the same, or begin again")
            raise DataError(
                f"resume: {path} was written with {name}={had[name]!r}, not {value!r}; give the same, or begin again"
            )


def _restore_callbacks(
    path: Path, had: Sequence[Mapping[str, Any]], tensors: Mapping[str, np.ndarray], callbacks: Sequence[Callback]
) -> None:
    """Give each callback its state; those that keep none may be others than before."""
    with readable(path):
        kept = []
        for k, told in enumerate(had):
            only(told, ("kind", "state"), "what it holds of a callback")
            prefix = f"callbacks.{k}."
            arrays = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
            if state := {**field(told, "state", dict), **arrays}:
                kept.append((field(told, "kind", str), state))
    waiting = [callback for callback in callbacks if not isinstance(callback, Checkpoint) and callback.to_checkpoint()]
    for given, callback in itertools.zip_longest(kept, waiting):
        if given is None or callback is None or given[0] != _kind(callback):
            name = given[0] if given else _kind(callback)
            raise DataError(
                f"resume: {path} was written with {'' if given else 'no '}{name} among the callbacks; give the same, "
                "in the same order, or begin again"
            )
        with readable(path):
            callback.from_checkpoint(given[1])
