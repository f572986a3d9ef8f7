"""From a checkpoint back to a training that goes on."""

import itertools
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn.callbacks import Callback
from accelnn.checkpoints import CHECKPOINT, Checkpoint, environment_of, files_of, kind_of, watching
from accelnn.errors import DataError, ModelFileError
from accelnn.state import History, OptimizerState
from accelnn.storage import container
from accelnn.storage.fields import count, field, listed, only, readable
from accelnn.storage.networks import rebuilt
from accelnn.storage.training_state import rebuilt_state
from accelnn.training import Restored

if TYPE_CHECKING:
    from accelnn.network import Network
    from accelnn.schedules import Schedule

__all__ = ["restore"]

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
    "validation": (str, type(None)),
    "data": (str,),
}


def restore(
    source: str | os.PathLike[str],
    network: "Network",
    epochs: int,
    schedule: "Schedule | None",
    settings: Mapping[str, Any],
    callbacks: Sequence[Callback],
) -> Restored:
    """Bring a network to where a checkpoint was written.

    Parameters
    ----------
    source : path
        A file, or a folder, whose latest file that is whole is taken. A damaged one gets another name, and a warning.
    network : Network
    epochs : int
        Of the whole training. There may be more than there were to be.
    schedule : Schedule or None
    settings : mapping
        As :meth:`accelnn.callbacks.Run.described` has them; they have to be those of the checkpoint.
    callbacks : sequence of Callback

    Returns
    -------
    Restored

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
        return Restored()
    path, about, tensors = found
    saved = rebuilt(path, about, tensors, network.backend)
    _require_same(path, saved, network)
    with readable(path):
        training = field(about, "training", dict)
        only(training, _TRAINING, "its training")
        done, planned = count(training, "epoch"), count(training, "epochs")
        finished, had = field(training, "finished", bool), listed(training, "callbacks", dict)
        where, settings_had = _where(field(training, "environment", dict)), _had(field(training, "settings", dict))
    _require_settings(path, settings_had, settings)
    with readable(path):
        state, optimizer_state = training["optimizer"], None
        if state is not None:
            state = field(training, "optimizer", dict)
            optimizer_state = rebuilt_state(path, state, tensors, network, schedule)
    if not 0 <= done <= planned or (optimizer_state is None and not finished):
        raise ModelFileError(f"{path}: is no checkpoint (its numbers do not fit together)")
    if done > epochs:
        raise DataError(f"epochs: {epochs} are fewer than the {done} that {path} has done")
    # A callback has ended it, as it would have ended one of more epochs.
    ended = finished and (done < planned or done == epochs)
    if optimizer_state is None and not ended:
        raise DataError(
            f"epochs: {path} holds the best parameters of a training of {planned} epochs that has ended, and no "
            f"optimiser to go on with; give {planned}, or begin again"
        )
    states = _states(path, had, tensors, callbacks)
    if not ended:
        _compare_horizons(path, schedule, optimizer_state, done, (planned, epochs))
    network.theta = saved.theta
    network.epochs_trained, network.steps_trained = saved.epochs_trained, saved.steps_trained
    network.optimizer_state, network.history = optimizer_state, saved.history
    for callback in callbacks:
        if isinstance(callback.itself, Checkpoint) and path.parent.samefile(callback.itself.folder):
            callback.itself.goes_on(network)
    here = environment_of(network)
    if where != here:
        warnings.warn(
            f"{path} was written by {_words(where)} and goes on with {_words(here)}: the result will be the same to "
            "rounding, not to the last bit",
            stacklevel=5,
        )
    return Restored(done, ended, states, path)


def _where(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What `environment_of` gave, if it is that."""
    only(environment, ("backend", "threads"), "its environment")
    return {"backend": field(environment, "backend", str), "threads": count(environment, "threads")}


def _had(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run has described, if it is that."""
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


def _found(source: Path, callbacks: Sequence[Callback]) -> tuple[Path, dict[str, Any], dict[str, np.ndarray]] | None:
    """The file to go on from, read; None for a folder that a run is only about to fill."""
    if source.is_file():
        return source, *_read(source)
    for path in files_of(source):
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
    writers = [one.itself for one in callbacks if isinstance(one.itself, Checkpoint)]
    if not source.is_dir() and all(one.folder != source for one in writers):
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


def _states(
    path: Path, had: Sequence[Mapping[str, Any]], tensors: Mapping[str, np.ndarray], callbacks: Sequence[Callback]
) -> list[tuple[Callback, Mapping[str, Any]]]:
    """The state of each callback; those that keep none may be others than before."""
    with readable(path):
        kept = []
        for k, told in enumerate(had):
            only(told, ("kind", "state"), "what it holds of a callback")
            prefix = f"callbacks.{k}."
            arrays = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
            if state := {**field(told, "state", dict), **arrays}:
                kept.append((field(told, "kind", str), state))
    waiting = [callback for callback in watching(callbacks) if callback.to_checkpoint()]
    for given, callback in itertools.zip_longest(kept, waiting):
        if given is None or callback is None or given[0] != kind_of(callback):
            name = given[0] if given else kind_of(callback)
            raise DataError(
                f"resume: {path} was written with {'' if given else 'no '}{name} among the callbacks; give the same, "
                "in the same order, or begin again"
            )
        was, now = (state.get("settings") for state in (given[1], callback.to_checkpoint()))
        if was != now:
            raise DataError(f"resume: {path} was written with {was}, not {now}; give the same, or begin again")
    return [(callback, state) for callback, (_, state) in zip(waiting, kept, strict=True)]


def _compare_horizons(
    path: Path, schedule: "Schedule | None", state: OptimizerState | None, done: int, epochs: tuple[int, int]
) -> None:
    """Warn where the epochs that were planned, and are no longer, have made the learning rates so far."""
    if schedule is None or state is None:
        return
    first = state.epoch - done
    t = np.linspace(first, state.epoch, 16)
    was, would_be = (schedule.factors(t, first + horizon, state.memory) for horizon in epochs)
    if np.any(was != would_be):
        warnings.warn(
            f"epochs: {path} followed {schedule!r} for {epochs[0]} epochs and goes on for {epochs[1]}, which is not "
            f"what one training of {epochs[1]} would have been; some schedules take a horizon of their own (epochs=)",
            stacklevel=6,
        )
