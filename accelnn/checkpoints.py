"""Files from which an interrupted training goes on as if nothing had happened."""

import contextlib
import os
import re
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn import checks
from accelnn.callbacks import Callback, Progress
from accelnn.errors import AccelnnError, DataError, OutputError
from accelnn.interrupts import Interrupts
from accelnn.storage import container
from accelnn.storage.files import TEMPORARY
from accelnn.storage.networks import described
from accelnn.storage.training_state import described_state

if TYPE_CHECKING:
    from accelnn.network import Network

__all__ = [
    "CHECKPOINT",
    "Checkpoint",
    "environment_of",
    "files_of",
    "interval",
    "kind_of",
    "step_of",
    "watching",
]

CHECKPOINT = "checkpoint"
ABANDONED = 60.0  # seconds after which nobody is still writing a file
_NAME = re.compile(r"step-(\d{12,})\.safetensors")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Checkpoint(Callback):
    """Writes a training down now and then, and where SIGTERM or Ctrl-C ends it.

    A file holds the network, its optimiser and schedule, the history, the position within the epoch and the state of
    the other callbacks, such as the best parameters so far. The order of the batches and the masks of dropout are
    functions of the network's seed and of the step, so that a training which goes on from a file
    (``fit(..., resume=folder)``) gives the bits of one that was never interrupted, with the same number of threads.

    Parameters
    ----------
    folder : path
        Made if it is missing. Files of another training in it are refused, and not written over.
    every : str or int
        ``"30s"``, ``"5m"`` or ``"2h"``; or a number of steps.
    keep : int
        Files that are kept, the latest ones.
    description : mapping, optional
        What the files are to hold besides, as JSON has it.

    Raises
    ------
    DataError
        For an argument that cannot be used; in `fit`, for a folder with files of another training, and for a network
        that no file can hold.
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
        self._interrupts = Interrupts()
        self._due = 0.0
        self._network: weakref.ref[Network] | None = None  # whose files are in the folder

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_interrupts": Interrupts(), "_network": None}

    def goes_on(self, network: "Network") -> None:
        """Take the files that are in the folder for those of this network's training."""
        self._network = weakref.ref(network)

    @staticmethod
    def latest(folder: str | os.PathLike[str]) -> Path | None:
        """The file of the latest step in a folder, or None."""
        return next(iter(files_of(Path(folder))), None)

    def on_fit_begin(self, progress: Progress) -> None:
        """Make sure that files can be written, and listen to signals."""
        if progress.run is None:
            raise DataError("Checkpoint: lbfgs has no steps to go on from; use another optimiser")
        described(progress.network)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._tidy()
        except OSError as problem:
            raise OutputError(f"{self.folder}: cannot be made ({problem.strerror})") from None
        latest, own = self.latest(self.folder), self._network is not None and self._network() is progress.network
        if latest is not None and (not own or step_of(latest) > progress.network.steps_trained):
            raise DataError(
                f"{latest}: is of another training, or of a later step than this one begins with; go on from it with "
                "resume, or give another folder"
            )
        self._write(progress)
        self.goes_on(progress.network)
        self._due = time.monotonic() + self.seconds
        self._interrupts.listen()

    def on_progress(self, progress: Progress) -> None:
        """Write a file, if it is time, or if a signal has come."""
        if self._interrupts.pending is not None:
            self._try(progress)
            self._interrupts.let_through()
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
        self._interrupts.leave()

    def _tidy(self) -> None:
        """Remove what a killed process has left; one that lives and shares the folder has only just made its own."""
        for left in self.folder.glob(f".step-*{TEMPORARY}"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > ABANDONED:
                    left.unlink()

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
        try:
            container.write(path, CHECKPOINT, tensors, {**about, "description": self.description})
        except (TypeError, ValueError) as problem:
            if isinstance(problem, AccelnnError):
                raise
            raise DataError(f"Checkpoint: what a callback or the description holds fits no file ({problem})") from None
        for old in files_of(self.folder)[self.keep :]:
            with contextlib.suppress(OSError):
                old.unlink()


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
    for k, callback in enumerate(watching(run.callbacks)):
        words = {}
        for name, value in callback.to_checkpoint().items():
            if isinstance(value, np.ndarray):
                tensors[f"callbacks.{k}.{name}"] = value
            else:
                words[name] = value
        told.append({"kind": kind_of(callback), "state": words})
    training = {
        "epochs": progress.epochs,
        "epoch": progress.epoch,
        "finished": finished,
        "settings": run.described(),
        "optimizer": state,
        "callbacks": told,
        "environment": environment_of(network),
    }
    return {**about, "training": training}, tensors


def environment_of(network: "Network") -> dict[str, Any]:
    """Where a network computes, as far as it tells in the last bits of the result."""
    backend = network.backend
    return {"backend": backend.name, "threads": backend.workers()}


def kind_of(callback: Callback) -> str:
    """The name of a callback's class."""
    return f"{type(callback).__module__}.{type(callback).__qualname__}"


def watching(callbacks: Sequence[Callback]) -> list[Callback]:
    """The callbacks themselves, but for checkpoints, which have nothing to keep."""
    return [one.itself for one in callbacks if not isinstance(one.itself, Checkpoint)]


def files_of(folder: Path) -> list[Path]:
    """A folder's checkpoints, the latest first."""
    try:
        return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=step_of, reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return []


def step_of(path: Path) -> int:
    """The number of steps that a checkpoint's name tells."""
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1])
