"""What a file of accelnn's holds, for a person: what its author wrote never reaches the terminal as a command."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from accelnn.storage.fields import readable

__all__ = ["lines"]

SHOWN = 10  # columns, or classes
LONGEST = 60  # characters of a text that the file's author wrote
LINE = 100  # characters, more or less


def lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What `accelnn.exchange.card.card` gave in words, as pairs of a heading, which may be empty, and a line.

    Parameters
    ----------
    found : mapping

    Raises
    ------
    ModelFileError
        For a description of another form than accelnn writes.
    """
    with readable(found["file"]):
        told = [(_printable(heading), _printable(text)) for heading, text in _lines(found)]
    yield from told


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
    """What the file's author wrote, cut where it is long."""
    plain = _printable(str(text)[: most + 1])
    return plain if len(str(text)) <= most else f"{plain[:most]}..."


def _printable(text: str) -> str:
    """In one line and without what a terminal would obey, or cannot show."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
