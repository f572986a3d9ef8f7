"""What a file of accelnn's holds, as JSON has it: read from the file alone, and nothing of it is run."""

import itertools
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from accelnn.storage import container
from accelnn.storage.fields import count, field, listed, readable
from accelnn.storage.values import unpacked

__all__ = ["card"]

WIDTH = 40  # of the picture of a history
BARS = "▁▂▃▄▅▆▇█"


def card(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Everything that a model, an estimator or a checkpoint says of itself.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict
        As JSON holds it, with None for what is no finite number: ``file``, ``bytes``, ``kind``, ``format``, ``sha256``
        (which has been compared with the contents), ``written_by``, ``network``, ``epochs_trained``,
        ``steps_trained``, ``history``, ``tensors``, and whatever else the file describes, such as ``table``,
        ``estimator`` and ``training``.

    Raises
    ------
    ModelFileError
        For a file that is damaged, of another kind or of another format.
    """
    about, tensors = container.read(path)
    with readable(path):
        settings = field(about, "network", dict)
        sizes = listed(settings, "sizes", int)
        parameters = sum(n * (n_prev + 1) for n_prev, n in itertools.pairwise(sizes))
        if about.get("training"):
            about["training"] = _training_of(field(about, "training", dict), tensors)
        if "estimator" in about:
            about["estimator"] = _estimator(field(about, "estimator", dict), tensors)
        found = {
            "file": os.fspath(path),
            "bytes": os.path.getsize(path),
            **{name: about.pop(name) for name in ("kind", "format", "sha256", "written_by")},
            "network": {**about.pop("network"), "parameters": parameters},
            "epochs_trained": count(about, "epochs_trained"),
            "steps_trained": count(about, "steps_trained"),
            "history": _history(about.pop("history", {}), tensors),
        }
        shapes = {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in tensors.items()}
        more = {**field({"description": about.pop("description", {})}, "description", dict), **about}
        return _finite({**more, **found, "tensors": shapes})


def _training_of(about: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """With what its arrays say: how far an epoch that has begun has come, and what other callbacks remember."""
    if "optimizer.losses" in tensors:
        about["steps_within_epoch"] = len(tensors["optimizer.losses"])
    for k, callback in enumerate(about.get("callbacks", ())):
        callback["state"] = {**callback["state"], **_single(f"callbacks.{k}.", tensors)}
    return about


def _single(prefix: str, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Arrays of one number, such as the best loss so far, by what follows the prefix of their names."""
    return {
        name.removeprefix(prefix): array.item()
        for name, array in tensors.items()
        if name.startswith(prefix) and array.size == 1
    }


def _estimator(about: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Its parameters and attributes as plain values."""
    found: dict[str, Any] = {name: _plain(value) for name, value in about.items()}
    for section in ("parameters", "attributes"):
        prefix = f"{section}."
        own = {key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)}
        values = field(about, section, dict)
        found[section] = {name: _plain(unpacked(value, own)) for name, value in values.items()}
    return found


def _plain(value: Any) -> Any:
    """As JSON holds it."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _history(about: Any, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What a history comes to; its curves are the file's."""
    found: dict[str, Any] = dict(about)
    for name in ("loss", "validation_loss", "learning_rate"):
        curve = tensors.get(f"history.{name}")
        if curve is None or curve.ndim != 1 or not len(curve) or curve.dtype.kind != "f":
            continue
        values = curve.astype(np.float64)
        finite = np.isfinite(values)
        best = int(np.argmin(np.where(finite, values, np.inf))) if finite.any() else None
        found[name] = {"epochs": len(values), "first": float(values[0]), "last": float(values[-1])}
        if name != "learning_rate":
            lowest = None if best is None else float(values[best])
            found[name] |= {"best": lowest, "best_epoch": None if best is None else best + 1}
            found[name]["picture"] = _picture(values[finite])
    return found


def _picture(values: np.ndarray) -> str:
    """A curve as a row of bars, each the mean of some epochs."""
    if not len(values):
        return ""
    means = np.array([part.mean() for part in np.array_split(values, min(WIDTH, len(values)))])
    low, high = means.min(), means.max()
    if not high > low:
        return BARS[0] * len(means)
    return "".join(BARS[int(height)] for height in np.round((means - low) / (high - low) * (len(BARS) - 1)))


def _finite(value: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
