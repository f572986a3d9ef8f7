"""An optimiser's state and a history as a description and arrays, and back."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from accelnn import schedules
from accelnn.errors import ModelFileError, require_known
from accelnn.network import Network
from accelnn.optimizers import RULES
from accelnn.schedules import Schedule
from accelnn.state import Batches, History, OptimizerState
from accelnn.storage.fields import count, field, only, readable
from accelnn.storage.values import packed, unpacked

__all__ = ["described_history", "described_state", "rebuilt_history", "rebuilt_state"]

_CURVES = ("loss", "validation_loss", "learning_rate")


def described_state(network: Network) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What :func:`rebuilt_state` makes the network's optimiser state of; a state there must be."""
    state = network.optimizer_state
    assert state is not None
    about = {
        "rule": state.rule,
        "step": state.step,
        "epoch": state.epoch,
        "schedule": _described_schedule(state.schedule),
        "batches": None if state.batches is None else dataclasses.asdict(state.batches),
    }
    tensors = {
        "optimizer.vectors": network.backend.to_host(state.vectors),
        "optimizer.memory": np.array(state.memory, dtype=np.float64),
        "optimizer.losses": np.array(state.losses, dtype=np.float64),
    }
    return about, tensors


def rebuilt_state(
    path: str | os.PathLike[str],
    about: Mapping[str, Any],
    tensors: dict[str, np.ndarray],
    network: Network,
    schedule: Schedule | None = None,
) -> OptimizerState:
    """The state that was described, for a network; its arrays leave `tensors`.

    Parameters
    ----------
    path : path
        For errors.
    about : mapping
    tensors : dict of arrays
    network : Network
    schedule : Schedule, optional
        The one that the state belongs to, if it is none of accelnn's.

    Raises
    ------
    ModelFileError
        Where the description fits no such network.
    """
    with readable(path):
        vectors, memory, losses = (tensors.pop(f"optimizer.{name}") for name in ("vectors", "memory", "losses"))
        require_known("rule", field(about, "rule", str), RULES)
        rule, n = RULES[about["rule"]], network.layout.n_parameters
        if vectors.shape != (len(rule.state), n) or vectors.dtype.name != network.dtype:
            raise ValueError("its optimiser's state does not fit its parameters")
        if any(array.ndim != 1 or array.dtype != np.float64 for array in (memory, losses)):
            raise ValueError("its optimiser's state is of another form")
        if np.isnan(vectors).any() or not np.isfinite(losses).all():
            raise ValueError("its optimiser's state holds NaN or infinity")
        batches = _rebuilt_batches(about["batches"])
        if len(losses) and (batches is None or len(losses) * batches.size >= batches.examples):
            raise ValueError("its position is not within an epoch")
        step, epoch = count(about, "step"), count(about, "epoch")
        if step < len(losses) + epoch:
            raise ValueError("its numbers of steps and epochs do not fit together")
        own = _rebuilt_schedule(path, about["schedule"], schedule)
        if own is not None and own is not schedule and len(memory) != len(own.start):
            raise ValueError("its schedule remembers what it cannot")
        with network.backend.context():
            kept = network.backend.from_host(np.require(vectors, requirements=["C", "W"]))
        return OptimizerState(rule.name, step, kept, epoch, own, tuple(memory.tolist()), batches, losses)


def described_history(history: History) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What :func:`rebuilt_history` makes the same history of."""
    about = {"seconds": float(history.seconds), "examples": int(history.examples)}
    return about, {f"history.{name}": np.array(getattr(history, name), dtype=np.float64) for name in _CURVES}


def rebuilt_history(path: str | os.PathLike[str], about: Mapping[str, Any], tensors: dict[str, np.ndarray]) -> History:
    """The history that was described; its arrays leave `tensors`.

    Raises
    ------
    ModelFileError
        Where there is none.
    """
    with readable(path):
        only(about, ("seconds", "examples"), "its history")
        curves = [tensors.pop(f"history.{name}") for name in _CURVES]
        if any(curve.ndim != 1 or curve.dtype != np.float64 for curve in curves) or len(curves[0]) != len(curves[2]):
            raise ValueError("its history is of another form")
        loss, validation_loss, learning_rate = (curve.tolist() for curve in curves)
        return History(loss, validation_loss, learning_rate, field(about, "seconds", float), count(about, "examples"))


def _rebuilt_batches(about: Any) -> Batches | None:
    if about is None:
        return None
    only(about, ("examples", "size", "order"), "its batches")
    batches = Batches(count(about, "examples"), count(about, "size"), field(about, "order", str))
    if not 1 <= batches.size <= batches.examples:
        raise ValueError("its batches are larger than all examples")
    return batches


def _described_schedule(schedule: Schedule | None) -> Any:
    if schedule is None or type(schedule) in map(type, schedules.SCHEDULES.values()):
        return packed(schedule, "schedule", {})
    return {"own": schedules.in_words(schedule)}


def _rebuilt_schedule(path: Any, about: Any, given: Schedule | None) -> Schedule | None:
    if isinstance(about, dict) and "own" in about:
        only(about, ("own",), "its schedule")
        if given is None:
            text = field(about, "own", str)[:80]
            raise ModelFileError(f"{path}: was trained with a schedule of your own, {text}; give it again")
        return given
    schedule = unpacked(about, {})
    if not isinstance(schedule, Schedule | None):
        raise TypeError("its schedule is none")
    return schedule
