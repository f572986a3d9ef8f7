"""Logs of training, one record an epoch: files of JSON lines, of CSV, and of TensorBoard's events.

A log belongs to one network's life. Where a network that has been trained goes on, its log goes on: records of later
epochs, which some training came to that was cut off or given up, are superseded and taken out. A log of another
training is not written over unless that is asked for.

A log that cannot be begun is an error before the first step. Later on it is no reason to lose a training: one warning
says so, and the log catches up once it can be written.
"""

import csv
import io
import json
import math
import os
import platform
import re
import socket
import struct
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import accelnn
from accelnn.callbacks import Callback, Progress
from accelnn.errors import DataError, OutputError
from accelnn.storage.files import write_atomically

__all__ = ["FIELDS", "CsvLog", "JsonLog", "TensorBoardLog", "log_to"]

# Of a record, and columns of a table.
FIELDS = ("epoch", "step", "loss", "validation_loss", "learning_rate", "seconds", "examples", "examples_per_second")

PAUSE = 1.0  # seconds before a file that could not be written is tried again


def log_to(path: str | os.PathLike[str], replace: bool = False) -> "Log":
    """The callback that writes a log, of the kind that the path's ending names.

    Parameters
    ----------
    path : path
        Ending in ``.jsonl`` or ``.ndjson`` for JSON lines, in ``.csv``, or in ``/`` for a folder of TensorBoard's.
    replace : bool
        Whether a training that begins anew may take the place of the log that is there.

    Returns
    -------
    JsonLog, CsvLog or TensorBoardLog
        To be given to ``fit`` in ``callbacks``.

    Raises
    ------
    DataError
        For another ending, or where tensorboardX is needed and missing.
    """
    text = os.fspath(path)
    folder = text.endswith(("/", os.sep)) or (text != "" and Path(text).is_dir())
    kind = TensorBoardLog if folder else _KINDS.get(Path(text).suffix.lower())
    if kind is None:
        raise DataError(
            f"log: {text!r} names no format; end it in .jsonl or .csv, or in / for a folder of TensorBoard's events"
        )
    return kind(path, replace)


class Log(Callback):
    """Base of the logs.

    Parameters
    ----------
    path : path
    replace : bool
        Whether a training that begins anew may take the place of the log that is there.

    Attributes
    ----------
    path : Path
    replace : bool

    Raises
    ------
    OutputError
        From ``fit``, before its first step: where the log cannot be written, or what is there is of another training,
        or no log at all.
    """

    def __init__(self, path: str | os.PathLike[str], replace: bool = False):
        self.path, self.replace = Path(path), bool(replace)
        self._file: _Growing | None = None
        self._start: dict[str, Any] = {}
        self._before = (0, 0.0)

    def on_fit_begin(self, progress: Progress) -> None:
        """Open the log, or go on with the one that is there."""
        network = progress.network
        try:
            self._file, latest = self._open(progress)
        except OutputError:
            raise
        except OSError as problem:
            raise OutputError(f"{self.path}: cannot be written ({_words(problem)})") from None
        # What to add to the counts of this run, so that they go on where those of the log end.
        self._start = {
            "epoch": network.epochs_trained - progress.epoch,
            "step": network.steps_trained - progress.step,
            "examples": latest["examples"] - progress.examples,
            "seconds": latest["seconds"] - progress.seconds,
        }
        self._before = progress.examples, progress.seconds

    def on_epoch_end(self, progress: Progress) -> None:
        """Write the epoch's record."""
        if self._file is not None:
            self._file.add(self._encoded(self._record(progress)))

    def on_fit_end(self, progress: Progress) -> None:
        """Write what could not be written before."""
        if self._file is not None:
            self._file.write()
            self._file = None

    def _record(self, progress: Progress) -> dict[str, Any]:
        """FIELDS of the epoch that has just ended; None is what there is not."""
        examples, seconds = self._before
        examples, seconds = progress.examples - examples, progress.seconds - seconds
        self._before = progress.examples, progress.seconds
        start, validation_loss = self._start, progress.validation_loss
        return {
            "epoch": start["epoch"] + progress.epoch,
            "step": start["step"] + progress.step,
            "loss": float(progress.loss),
            "validation_loss": None if validation_loss is None else float(validation_loss),
            # L-BFGS has none.
            "learning_rate": None if math.isnan(progress.learning_rate) else float(progress.learning_rate),
            "seconds": round(start["seconds"] + progress.seconds, 6),
            "examples": start["examples"] + progress.examples,
            "examples_per_second": float(f"{examples / seconds:.6g}") if seconds > 0 else None,
        }

    def _open(self, progress: Progress) -> "tuple[_Growing, dict[str, Any]]":
        """The file to add to, begun, and the examples and seconds that it has come to."""
        raise NotImplementedError

    def _encoded(self, record: dict[str, Any]) -> bytes:
        raise NotImplementedError

    def _refuse(self, what: str) -> OutputError:
        return OutputError(
            f"{self.path}: {what}; give another name or delete it (in Python, replace=True takes its place)"
        )


class _LinesLog(Log):
    """A text file that grows by lines."""

    def _open(self, progress: Progress) -> "tuple[_Growing, dict[str, Any]]":
        path = self.path
        if path.exists() and not path.is_file():
            raise OutputError(f"{self.path}: is no ordinary file; give another name")
        *lines, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
        # What follows the last line break was cut off, if it is of such a log at all.
        if rest and not self._was_cut(rest, first=not lines):
            raise self._no_record(len(lines) + 1)
        kept, latest = self._kept(lines, progress)
        content = b"".join(line + b"\n" for line in kept) + self._beginning(kept, progress)
        with write_atomically(path) as file:
            file.write(content)
        return _Growing(path, len(content)), latest

    def _kept(self, lines: list[bytes], progress: Progress) -> tuple[list[bytes], dict[str, Any]]:
        """The lines up to the network's latest epoch, and the last of their records."""
        epochs, losses = progress.network.epochs_trained, progress.losses_before
        kept, latest, records, compared = [], {"examples": 0, "seconds": 0.0}, [], False
        for number, line in enumerate(lines, 1):
            try:
                place, record = self._decoded(line, number, progress)
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError, csv.Error):
                raise self._no_record(number) from None
            if epochs == 0 and record is not None:
                if not self.replace and not progress.resumed:
                    raise self._refuse("holds the log of another training")
            elif place <= epochs:
                kept.append(line)
                latest = latest if record is None else record
            if record is not None:
                records.append(place)
                if epochs - len(losses) < place <= epochs:
                    self._compare(place, record["loss"], losses[place - epochs - 1])
                    compared = True
        # The losses of lbfgs are the estimator's, not its network's.
        forgotten = not losses and progress.run is not None
        if epochs and records and not compared and (forgotten or max(records) > epochs):
            raise self._refuse(
                f"holds a log, and whether it is this network's cannot be told, which remembers no loss of the log's "
                f"epochs {min(records)} to {max(records)}"
            )
        return kept, latest

    def _compare(self, epoch: int, loss: float, expected: float) -> None:
        """The log and what the network remembers of its latest epoch."""
        if loss != expected:
            raise OutputError(
                f"{self.path}: is the log of another training, with a loss of {loss!r} in epoch {epoch}, not "
                f"{expected!r}; give another name"
            )

    def _no_record(self, number: int) -> OutputError:
        return OutputError(
            f"{self.path}: line {number} is no record of such a log, so the file is left as it is; give another name"
        )

    def _was_cut(self, rest: bytes, first: bool) -> bool:
        """Whether this is how a line, or the first line, begins."""
        raise NotImplementedError

    def _decoded(self, line: bytes, number: int, progress: Progress) -> tuple[int, dict[str, Any] | None]:
        """From which epoch of the network's on a line is kept, and its record if it has one."""
        raise NotImplementedError

    def _beginning(self, kept: list[bytes], progress: Progress) -> bytes:
        raise NotImplementedError


class JsonLog(_LinesLog):
    """A file of JSON lines: first what is trained, as the object ``run``, then a record an epoch.

    A record holds FIELDS. What there is not is null (a validation loss without a validation set, L-BFGS's learning
    rate); JSON has no number for NaN and infinity, which are the strings "NaN", "Infinity" and "-Infinity". Where
    training goes on, there is another ``run`` before its first epoch. A line is handed to the operating system as soon
    as its epoch ends: ``tail -f`` shows it, and a process that is killed leaves all but the last.

    Parameters
    ----------
    path : path
    replace : bool
        Whether a training that begins anew may take the place of the log that is there.

    Raises
    ------
    OutputError
        From ``fit``; see :class:`Log`.

    Examples
    --------
    >>> net.fit(X, Y, callbacks=[accelnn.JsonLog("history.jsonl")])  # doctest: +SKIP
    """

    def _was_cut(self, rest: bytes, first: bool) -> bool:
        beginnings = (b'{"run": {"accelnn": "',) if first else (b'{"run": {"accelnn": "', b'{"epoch": ')
        return any(rest.startswith(one) or one.startswith(rest) for one in beginnings)

    def _decoded(self, line: bytes, number: int, progress: Progress) -> tuple[int, dict[str, Any] | None]:
        entry = json.loads(line)
        if "run" not in entry:
            return int(entry["epoch"]), _counts(entry)
        # A run is worth keeping where one of its epochs is.
        first = int(entry["run"]["epochs_trained"]) + 1
        sizes = list(progress.network.sizes)
        if first <= progress.network.epochs_trained and entry["run"]["sizes"] != sizes:
            raise OutputError(
                f"{self.path}: is the log of a network of sizes {entry['run']['sizes']}, not {sizes}; give another name"
            )
        return first, None

    def _beginning(self, kept: list[bytes], progress: Progress) -> bytes:
        return _json_line({"run": _described(progress)})

    def _encoded(self, record: dict[str, Any]) -> bytes:
        return _json_line({name: _json_number(value) for name, value in record.items()})


class CsvLog(_LinesLog):
    """A CSV file: a line of names, FIELDS, then a line an epoch; what there is not is empty.

    A line is handed to the operating system as soon as its epoch ends: ``tail -f`` shows it, and a process that is
    killed leaves all but the last.

    Parameters
    ----------
    path : path
    replace : bool
        Whether a training that begins anew may take the place of the log that is there.

    Raises
    ------
    OutputError
        From ``fit``; see :class:`Log`.

    Examples
    --------
    >>> net.fit(X, Y, callbacks=[accelnn.CsvLog("history.csv")])  # doctest: +SKIP
    """

    def _was_cut(self, rest: bytes, first: bool) -> bool:
        if first:
            return _csv_line(FIELDS).startswith(rest)
        return re.fullmatch(rb"\d+(,[\w.+-]*)*", rest) is not None and rest.count(b",") < len(FIELDS)

    def _decoded(self, line: bytes, number: int, progress: Progress) -> tuple[int, dict[str, Any] | None]:
        (row,) = csv.reader([line.decode()], strict=True)
        if number == 1:
            if tuple(row) != FIELDS:
                raise ValueError
            return 0, None
        record = dict(zip(FIELDS, row, strict=True))
        return int(record["epoch"]), _counts(record)

    def _beginning(self, kept: list[bytes], progress: Progress) -> bytes:
        return b"" if kept else _csv_line(FIELDS)

    def _encoded(self, record: dict[str, Any]) -> bytes:
        return _csv_line(record.values())


class TensorBoardLog(Log):
    """A folder of TensorBoard's event files, one for each call of ``fit``.

    Loss, validation loss, learning rate and examples per second are scalars over the epochs, in single precision as
    TensorBoard keeps them; the text ``run`` says what is trained. Where training goes on, TensorBoard is told that
    later epochs are superseded, and no file is deleted.

    Parameters
    ----------
    path : path
        The folder, which is made where there is none.
    replace : bool
        Whether a training that begins anew may take the place of the events that are there, for TensorBoard.

    Raises
    ------
    DataError
        Where tensorboardX is missing.
    OutputError
        From ``fit``; see :class:`Log`.

    Examples
    --------
    >>> net.fit(X, Y, callbacks=[accelnn.TensorBoardLog("runs/first")])  # doctest: +SKIP
    """

    SCALARS = ("loss", "validation_loss", "learning_rate", "examples_per_second")

    def __init__(self, path: str | os.PathLike[str], replace: bool = False):
        super().__init__(path, replace)
        try:
            import_module("tensorboardX.proto.event_pb2")
        except ImportError as problem:
            raise DataError(
                f"log: {path} needs tensorboardX, which cannot be imported ({problem}); "
                'pip install "accelnn[tensorboard]"'
            ) from None

    def _open(self, progress: Progress) -> "tuple[_Growing, dict[str, Any]]":
        from tensorboardX.proto.event_pb2 import SessionLog
        from tensorboardX.summary import text

        epochs = progress.network.epochs_trained
        self.path.mkdir(parents=True, exist_ok=True)
        earlier = any(self.path.glob("*tfevents*"))
        if earlier and epochs == 0 and not self.replace:
            raise self._refuse("holds the events of another training")
        content = _event(file_version="brain.Event:2")
        if earlier:
            content += _event(step=epochs + 1, session_log=SessionLog(status=SessionLog.START))
        description = json.dumps(_described(progress), indent=2)
        content += _event(step=epochs, summary=text("run", f"```\n{description}\n```"))
        # TensorBoard reads a folder's files in the order of their names.
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        name = f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{nanoseconds:09d}.{os.getpid()}"
        with write_atomically(self.path / name) as file:
            file.write(content)
        return _Growing(self.path / name, len(content)), {"examples": 0, "seconds": 0.0}

    def _encoded(self, record: dict[str, Any]) -> bytes:
        from tensorboardX.proto.summary_pb2 import Summary

        with np.errstate(over="ignore"):
            values = {name: np.float32(record[name]) for name in self.SCALARS if record[name] is not None}
        scalars = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        return _event(step=record["epoch"], summary=Summary(value=scalars))


_KINDS: dict[str, type[Log]] = {".jsonl": JsonLog, ".ndjson": JsonLog, ".csv": CsvLog}


class _Growing:
    """A file that grows by whole records, whatever happens.

    It is opened anew for each, so that a folder that has gone away is noticed, and a callback can be copied.
    """

    def __init__(self, path: Path, end: int):
        self.path, self.end = path, end
        self.waiting = bytearray()
        self.warned, self.again = False, -math.inf

    def add(self, data: bytes) -> None:
        """Write a record, and those before it that wait; while that fails, try only now and then."""
        self.waiting += data
        if time.monotonic() >= self.again:
            self.write()

    def write(self) -> None:
        """Write what waits."""
        if not self.waiting:
            return
        try:
            with open(self.path, "r+b") as file:
                file.seek(self.end)  # before a part of a record that did not fit
                file.write(self.waiting)
        except OSError as problem:
            self.again = time.monotonic() + PAUSE
            if not self.warned:
                self.warned = True
                warnings.warn(
                    f"{self.path}: cannot be written ({_words(problem)}); training goes on without this log, which "
                    "catches up once it can be written",
                    RuntimeWarning,
                    stacklevel=2,
                )
        else:
            self.end += len(self.waiting)
            self.waiting.clear()
            self.again = -math.inf


def _described(progress: Progress) -> dict[str, Any]:
    """What is trained, on what."""
    network = progress.network
    return {
        "accelnn": accelnn.__version__,
        "python": platform.python_version(),
        **dict(_versions("numpy", network.backend.name)),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "backend": network.backend.name,
        "device": network.backend.describe(),
        "dtype": network.dtype,
        "sizes": list(network.sizes),
        "activations": list(network.activations),
        "output": network.output,
        "loss": network.loss,
        "parameters": network.layout.n_parameters,
        "seed": network.seed,
        "epochs_trained": network.epochs_trained,
        "epochs": progress.epochs,
        "steps": progress.steps,
    }


def _versions(*names: str) -> Iterator[tuple[str, str]]:
    for name in names:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            yield name, str(version)


def _counts(record: dict[str, Any]) -> dict[str, Any]:
    """What a log is gone on with, as numbers."""
    return {
        "examples": int(record["examples"]),
        "seconds": float(record["seconds"]),
        "loss": float(record["loss"]),
    }


def _json_line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, allow_nan=False).encode() + b"\n"


def _json_number(value: Any) -> Any:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _csv_line(values: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()


def _event(**fields: Any) -> bytes:
    """An event as a record of TFRecord's: its length and its bytes, each with a masked CRC-32C.

    The framing is that of TensorFlow's guide "TFRecord and tf.train.Example".
    """
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    data = Event(wall_time=time.time(), **fields).SerializeToString()
    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))))


def _words(problem: OSError) -> str:
    return problem.strerror or str(problem)
