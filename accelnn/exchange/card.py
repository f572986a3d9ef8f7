"""What a file of accelnn's holds, for a person or as JSON: read from the file alone, and nothing of it is run."""

import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from accelnn.storage import container
from accelnn.storage.fields import count, field, listed, readable
from accelnn.storage.values import unpacked

__all__ = ["card", "lines"]

SHOWN = 10  # columns, or classes
LONGEST = 60  # characters of a text that the file's author wrote
LINE = 100  # characters, more or less
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


def lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The same in words, as pairs of a heading, which may be empty, and a line.

    Parameters
    ----------
    found : mapping
        What `card` gave.

    Raises
    ------
    ModelFileError
        For a description of another form than accelnn writes.
    """
    with readable(found["file"]):
        yield from list(_lines(found))


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    table, net = found.get("table"), found["network"]
    kind = f"{found['kind']} of a table" if table else found["kind"]
    by = ", ".join(f"{name} {_short(version)}" for name, version in found["written_by"].items())
    yield "file", f"{found['file']}, {found['bytes']:,} bytes, checksum verified"
    yield "kind", f"{kind}, format {found['format']}, written by {by}"
    hidden = net["activations"]
    functions = ", ".join([*(hidden[:1] if len(set(hidden)) == 1 else hidden), net["output"]])
    yield "network", f"{_shape(net['sizes'])}, {functions}; {net['parameters']:,} parameters, {net['dtype']}"
    extra = ", ".join(f"{name} {value:g}" for name, value in net["loss_parameters"].items())
    yield "loss", net["loss"] + (f" ({extra})" if extra else "")
    yield from _trained(found)
    if table:
        yield from _table(table)
    if "estimator" in found:
        yield from _words_of_estimator(found["estimator"])
    if found.get("training"):
        yield from _training(found["training"])
    for name, value in found.items():
        if name not in _USUAL:
            yield _short(name, 20), _value(value)


_USUAL = (
    *("file", "bytes", "kind", "format", "sha256", "written_by", "network", "epochs_trained", "steps_trained"),
    *("history", "table", "estimator", "training", "tensors"),
)


def _trained(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    history = found["history"]
    took = f" in {history['seconds']:,.3g} s" if history.get("seconds") else ""
    yield "trained", f"{found['epochs_trained']:,} epochs, {found['steps_trained']:,} steps{took}"
    for heading, name in (("history", "loss"), ("", "validation_loss")):
        curve = history.get(name)
        if curve:
            best = f", best {_number(curve['best'])} after epoch {curve['best_epoch']}" if curve["best_epoch"] else ""
            words = f"{name.replace('_', ' ')} {_number(curve['first'])} to {_number(curve['last'])}{best}"
            yield heading, f"{words}  {curve['picture']}"
    if rates := history.get("learning_rate"):
        first, last = _number(rates["first"]), _number(rates["last"])
        yield "", f"learning rate {first if first == last else f'{first} to {last}'}"


def _table(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    outputs, classes, columns = table["outputs"], table["classes"], table["schema"]
    if outputs is not None:
        what = f"a number, mean {outputs['mean']:.6g}, scale {outputs['scale']:.6g}"
    else:
        what = f"{len(classes)} classes: {_listed(classes)}"
    yield "target", f"{_short(table['target'])}, {what}"
    inputs = sum(len(c.get("categories", "1")) + c.get("indicator", False) for c in columns)
    yield "columns", f"{len(columns):,}, which become {inputs:,} inputs"
    shown = [(_short(c["name"], 30), _column(c)) for c in columns[:SHOWN]]
    width = max(len(name) for name, _ in shown)
    for name, text in shown:
        yield "", f"{name:<{width}}  {text}"
    if len(columns) > SHOWN:
        yield "", f"and {len(columns) - SHOWN:,} more"


def _column(column: Mapping[str, Any]) -> str:
    if column["kind"] == "numeric":
        kind = "boolean" if column.get("boolean") else "number"
        text, imputes = f"mean {column['mean']:.6g}, scale {column['scale']:.6g}", column.get("median") is not None
        filled = f"becomes {column['median']:.6g}" if imputes else ""
    else:
        kind, imputes = "category", column.get("imputes", False)
        text, filled = f"{len(column['categories'])}: {_listed(column['categories'], 5)}", "becomes zeros"
    policy = f"missing {filled}" if imputes else "missing is refused"
    return f"{kind:<8}  {text}; {policy}{', and is indicated' if column.get('indicator') else ''}"


def _training(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where a training stands: of a checkpoint, or of an estimator that can go on. What else there is, as it is."""
    heading, optimizer = "training", training.get("optimizer", training if "rule" in training else None)
    if "epochs" in training:
        state = "finished" if training.get("finished") else "not finished"
        steps = training.get("steps_within_epoch")
        within = f" and {steps:,} steps" if steps else ""
        yield heading, f"{training['epoch']:,} of {training['epochs']:,} epochs{within}, {state}"
        heading = ""
    if optimizer:
        named = ("schedule", "batches") if "settings" not in training else ()
        more = {name: optimizer[name] for name in named if optimizer.get(name) is not None}
        yield heading, f"optimizer {_short(optimizer['rule'])}, step {optimizer['step']:,}"
        yield from _wrapped(more)
    for name in ("settings", "environment"):
        yield from _wrapped(training.get(name) or {})
    for callback in training.get("callbacks", ()):
        yield from _wrapped(callback["state"], f"{_short(callback['kind'])}: ")


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


def _words_of_estimator(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    classes, names = (about["attributes"].get(name) for name in ("classes_", "feature_names_in_"))
    what = f", {len(classes)} classes: {_listed(classes)}" if classes else ""
    yield "estimator", _short(about["class"]) + what + (", calibrated" if about.get("calibration") else "")
    yield from _wrapped(about["parameters"])
    if names:
        yield "columns", f"{len(names):,}: {_listed(names)}"


def _wrapped(values: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, str]]:
    """Names with their values, as many as a line has room for."""
    line = start
    for k, (name, value) in enumerate(values.items()):
        word = f"{_short(name, 30)} {_value(value)}" + (", " if k < len(values) - 1 else "")
        if line.strip() and len(line) + len(word) > LINE:
            yield "", line.rstrip()
            line = "  "
        line += word
    if values or start:
        yield "", line.rstrip(": ")


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


def _shape(sizes: Sequence[int]) -> str:
    if len(sizes) <= 2 * SHOWN:
        return "-".join(map(str, sizes))
    return f"{'-'.join(map(str, sizes[:SHOWN]))}-...-{sizes[-1]} ({len(sizes) - 1} layers)"


def _number(value: float | None) -> str:
    return "no number" if value is None else f"{value:.6g}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{_short(name, 30)} {_value(part)}" for name, part in value.items())
        return f"({_short(inner, 2 * LONGEST)})"
    return _short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _listed(names: Sequence[Any], most: int = SHOWN) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(_short(name, 30) for name in names[:most]) + more


def _short(text: Any, most: int = LONGEST) -> str:
    """What the file's author wrote, in one line and without what a terminal would obey."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)[: most + 1])
    return plain if len(str(text)) <= most else f"{plain[:most]}..."
