"""Arrays and a description in one file: safetensors, sealed with a checksum.

safetensors stores plain arrays and text, so reading a file can run no code. It does not notice a flipped bit; the
description therefore begins with the SHA-256 of the whole file as it is with zeros in the checksum's place. A file is
looked at from the outside in: its size, its seal, its description, its arrays; nothing takes memory that the step
before has not shown to be there.
"""

import hashlib
import json
import math
import operator
import os
import platform
import re
import stat
import struct
from collections.abc import Collection, Mapping
from typing import Any, BinaryIO

import numpy as np

import accelnn
from accelnn.errors import DataError, ModelFileError
from accelnn.storage.fields import field, only, readable
from accelnn.storage.files import write_atomically

__all__ = ["FORMAT", "READERS", "UnusableError", "named", "read", "write"]

FORMAT = 2
# Each kind of file, and what reads it.
READERS = {
    "model": "Network.load, or TableModel.load for a model of a table",
    "estimator": "MLPClassifier.load or MLPRegressor.load",
    "checkpoint": "fit(..., resume=path), or Network.load for its network alone",
}
_KEY = "accelnn"
_HEADER_LIMIT = 2**24  # bytes of description
_VALUES_LIMIT = 900_000  # values in it: a table of a hundred thousand columns has up to eight of each
_BLANK = "0" * 64
_FOREIGN = "it does not begin like one; accelnn import reads those of PyTorch and scikit-learn"
# How the description begins, as JSON within JSON has it; a user's own quotes are escaped once more. Later formats have
# to begin with `format` too.
_START = re.compile(rb'"accelnn":"\{(?:\\"sha256\\": \\"([0-9a-f]{64})\\", )?\\"format\\": ([0-9]{1,9})[,}]')


class UnusableError(ModelFileError):
    """A file that may be whole, but cannot be read now, or not by this caller: of another kind, or another format."""


def write(path: str | os.PathLike[str], kind: str, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write arrays with their description, whole or not at all; the same bytes for the same contents.

    Parameters
    ----------
    path : path
    kind : str
        What it is, of `READERS`.
    tensors : mapping of str to array
        Numbers that must come back to the last bit, infinities and NaN included, belong here. Names are of ASCII.
    about : mapping
        Anything that JSON holds.

    Raises
    ------
    DataError
        For a description that is larger than what is read again, and another name.
    OutputError
        Where the file cannot be written; an old one is as it was.
    """
    from safetensors.numpy import save

    written_by = {"accelnn": accelnn.__version__, "numpy": np.__version__, "python": platform.python_version()}
    description = {"sha256": _BLANK, "format": FORMAT, "kind": kind, "written_by": written_by, **about}
    if not all(map(str.isascii, tensors)):
        raise DataError(f"{path}: the names of arrays are to be of ASCII, not {', '.join(tensors)}")
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    content = save(arrays, metadata={_KEY: json.dumps(description, allow_nan=False)})
    (length,) = struct.unpack_from("<Q", content)
    header = content[8 : 8 + length]
    if len(header) > _HEADER_LIMIT or _values(header) > _VALUES_LIMIT:
        raise DataError(
            f"{path}: the description takes {length:,} bytes for {_values(header):,} values, more than the "
            f"{_HEADER_LIMIT:,} and {_VALUES_LIMIT:,} that are read again"
        )
    start = _seal(header)[1]
    parts = memoryview(content)
    with write_atomically(path) as file:
        file.write(parts[:start])
        file.write(_digest(content, start).encode())
        file.write(parts[start + 64 :])


def read(
    path: str | os.PathLike[str], kinds: Collection[str] = READERS.keys()
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays of a file that is exactly as it was written.

    Parameters
    ----------
    path : path
    kinds : collection of str
        Those that the caller can use.

    Returns
    -------
    description : dict
    tensors : dict of str to array

    Raises
    ------
    ModelFileError
        For a file that is damaged, of another kind, or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content, header = _content(path)
    except OSError as problem:
        raise UnusableError(f"{path}: cannot be read ({problem.strerror or problem})") from None
    with readable(path):
        seal, start = _seal(header)
        if seal != _digest(content, start):
            raise _damaged(path, "its checksum does not match its contents")
        metadata = field(_json(header), "__metadata__", dict)
        only(metadata, (_KEY,), "its header")
        description = _json(field(metadata, _KEY, str))
        kind, written_by = field(description, "kind", str), field(description, "written_by", dict)
        for program in ("accelnn", "numpy", "python"):
            field(written_by, program, str)
        if field(description, "format", int) != FORMAT or description["sha256"] != seal or kind not in READERS:
            raise ValueError("its description is of no kind that there is")
        if kind not in kinds:
            raise UnusableError(f"{path}: holds {named(kind)}; read it with {READERS[kind]}")
        try:
            return description, load(content)
        except SafetensorError as problem:
            raise ValueError(str(problem)) from None
        except KeyError as problem:
            raise ValueError(f"it holds numbers of the unknown type {problem}") from None


def named(kind: str) -> str:
    """The kind with its article."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _content(path: str | os.PathLike[str]) -> tuple[bytes, bytes]:
    """All bytes of a file that is as long as its header says, and those of its header."""
    with readable(path):
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open some of what else there is means to wait
            raise UnusableError(f"{path}: cannot be read (it is no file)")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = _header(path, file, size)
            end = 8 + len(header) + _data_size(header)
            if size != end:
                raise _damaged(path, f"it has {size:,} bytes, not {end:,}")
            file.seek(0)
            content = file.read(size)
    if len(content) != size or content[8 : 8 + len(header)] != header:
        raise _damaged(path, "it changed while it was read")
    return content, header


def _header(path: str | os.PathLike[str], file: BinaryIO, size: int) -> bytes:
    """The header of a file of this format, whose values are few enough to be parsed."""
    (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
    if length > _HEADER_LIMIT:
        raise ValueError(_FOREIGN)
    header = file.read(length)
    found = _START.search(header)
    if found is None:
        raise ValueError(_FOREIGN)
    if int(found[2]) != FORMAT or found[1] is None:
        raise UnusableError(
            f"{path}: format {int(found[2])} is not known to accelnn {accelnn.__version__}, which reads format "
            f"{FORMAT}; install the version that fits"
        )
    if len(header) != length:
        raise _damaged(path, f"it has {size:,} bytes, fewer than its header")
    if not header.isascii() or _values(header) > _VALUES_LIMIT:
        raise ValueError("its description is larger than any")
    return header


def _values(header: bytes) -> int:
    """At least as many values as there are in it."""
    return sum(map(header.count, (b",", b"[", b"{")))


def _data_size(header: bytes) -> int:
    """Bytes of all arrays; where they lie, safetensors compares."""
    size = 0
    for name, entry in _json(header).items():
        if name != "__metadata__":
            only(entry, ("dtype", "shape", "data_offsets"), f"its array {name}")
            size = max(size, *map(operator.index, entry["data_offsets"]))
    return size


def _seal(header: bytes) -> tuple[str, int]:
    """The checksum, and where in the file it stands."""
    found = _START.search(header)
    if found is None or found[1] is None:
        raise ValueError("it has no checksum")
    return found[1].decode(), 8 + found.start(1)


def _digest(content: bytes, start: int) -> str:
    parts = memoryview(content)
    digest = hashlib.sha256(parts[:start])
    digest.update(_BLANK.encode())
    digest.update(parts[start + 64 :])
    return digest.hexdigest()


def _json(text: bytes | str) -> dict[str, Any]:
    """An object of JSON as `write` leaves it, stricter than Python's reader: no name twice, no infinity, no NaN."""
    value = json.loads(text, object_pairs_hook=_object, parse_float=_number, parse_constant=_number)
    if type(value) is not dict:
        raise TypeError("its description is no object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its description has a name twice")
    return found


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"its description holds {text[:20]}")
    return number


def _damaged(path: str | os.PathLike[str], why: str) -> ModelFileError:
    return ModelFileError(f"{path}: is damaged ({why})")
