"""What parent and worker say to each other: JSON, in which an array is its type, its shape and its bytes.

Not pickles: nothing in accelnn reads any. NumPy is imported where an array arrives, and not before: a worker times its
own imports.
"""

import base64
import json
import struct
from dataclasses import asdict
from typing import Any, BinaryIO

from accelnn.benchmark.cases import Case
from accelnn.benchmark.contestants import Entry

__all__ = ["introduced", "introduction", "receive", "send"]

_LENGTH = struct.Struct("<Q")
_ARRAY = "array in base64"


def send(stream: BinaryIO, message: Any) -> None:
    """Write a message: numbers, text, arrays, and lists and mappings of these."""
    content = json.dumps(message, default=_described).encode()
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read a message; tuples come as lists.

    Raises
    ------
    EOFError
        Where the other side is gone.
    """
    start = stream.read(_LENGTH.size)
    content = stream.read(_LENGTH.unpack(start)[0]) if len(start) == _LENGTH.size else b""
    if not content:
        raise EOFError("the other side is gone")
    return json.loads(content, object_hook=_array)


def introduction(entry: Entry, case: Case, threads: int) -> list[Any]:
    """What a worker is to do, as a message."""
    return [asdict(entry), asdict(case), threads]


def introduced(message: Any) -> tuple[Entry, Case, int]:
    """What :func:`introduction` said."""
    entry, case, threads = message
    entry, case = {**entry, "needs": tuple(entry["needs"])}, {**case, "sizes": tuple(case["sizes"])}
    return Entry(**entry), Case(**case), threads


def _described(array: Any) -> dict[str, Any]:
    """An array, or a number of NumPy's, which has no dimensions."""
    return {_ARRAY: base64.b64encode(array.tobytes()).decode(), "dtype": array.dtype.str, "shape": array.shape}


def _array(found: dict[str, Any]) -> Any:
    if _ARRAY not in found:
        return found
    import numpy as np

    return np.frombuffer(base64.b64decode(found[_ARRAY]), found["dtype"]).reshape(found["shape"])
