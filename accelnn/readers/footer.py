"""What the footer of a Parquet file promises: how many rows, and how many bytes once they are unpacked.

The footer says the number of rows twice, for the file and for each group of rows. Readers trust the one or the other:
with a footer that contradicts itself, rows are lost in silence, or more are unpacked than there is memory for. So both
are read here and compared before anything is unpacked. Sources: the structures FileMetaData and RowGroup of
parquet.thrift (github.com/apache/parquet-format), written in Thrift's compact protocol
(github.com/apache/thrift, doc/specs/thrift-compact-protocol.md).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from accelnn.errors import DataError
from accelnn.readers.sources import reason

__all__ = ["Promise", "promise_of"]

FOOTER_BYTES = 2**26  # of half a million columns of groups of rows; it is read in Python
DEEPEST = 32  # structures within structures

_MAGIC = b"PAR1"
_BYTE, _LONG_INTEGER, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 3, 6, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, _LONG_INTEGER)
_FIXED = {1: 1, 2: 1, _BYTE: 1, _DOUBLE: 8}  # bytes of an element of a list
_ROWS, _GROUPS = 3, 4  # of FileMetaData
_GROUP_BYTES, _GROUP_ROWS = 2, 3  # of RowGroup


@dataclass(frozen=True)
class Promise:
    """Of a file.

    Attributes
    ----------
    rows : int
    size : int
        Bytes of all columns, unpacked.
    """

    rows: int
    size: int


def promise_of(path: Path) -> Promise | None:
    """What a Parquet file's footer says, or None where the file has none, which its reader will say better.

    Raises
    ------
    DataError
        For a footer that contradicts itself, is damaged or is longer than `FOOTER_BYTES`.
    """
    text = _text(path)
    if text is None:
        return None
    try:
        rows, groups = _read(_Compact(text))
    except (IndexError, ValueError):
        raise DataError(f"{path}: its footer is damaged; save it again") from None
    if min(rows, *(group.rows for group in groups), 0) < 0 or rows != sum(group.rows for group in groups):
        raise DataError(f"{path}: its footer promises {rows:,} rows, and its parts promise others; save it again")
    return Promise(rows, sum(group.size for group in groups))


def _text(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - 8))
            tail = file.read(8)
            if len(tail) < 8 or tail[4:] != _MAGIC:
                return None
            (length,) = struct.unpack("<I", tail[:4])
            if length > end - 12:
                return None
            if length > FOOTER_BYTES:
                raise DataError(
                    f"{path}: its footer has {length:,} bytes, and {FOOTER_BYTES:,} is the most that is read; save it "
                    "with more rows in each group"
                )
            file.seek(end - 8 - length)
            return file.read(length)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({reason(problem)})") from None


def _read(footer: "_Compact") -> tuple[int, list[Promise]]:
    rows, groups = 0, []
    for number, kind in footer.members():
        if (number, kind) == (_ROWS, _LONG_INTEGER):
            rows = footer.integer()
        elif (number, kind) == (_GROUPS, _LIST):
            count, of = footer.list_start()
            if of != _STRUCT:
                raise ValueError
            groups += [_group(footer) for _ in range(count)]
        else:
            footer.skip(kind)
    return rows, groups


def _group(footer: "_Compact") -> Promise:
    rows = size = 0
    for number, kind in footer.members():
        if (number, kind) == (_GROUP_ROWS, _LONG_INTEGER):
            rows = footer.integer()
        elif (number, kind) == (_GROUP_BYTES, _LONG_INTEGER):
            size = footer.integer()
        else:
            footer.skip(kind)
    return Promise(rows, size)


class _Compact:
    """Thrift's compact protocol, as much of it as a footer has; IndexError or ValueError for what is none."""

    def __init__(self, text: bytes):
        self.text, self.place = text, 0

    def byte(self) -> int:
        value = self.text[self.place]
        self.place += 1
        return value

    def varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError

    def integer(self) -> int:
        """With its sign in the lowest bit."""
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def members(self) -> Iterator[tuple[int, int]]:
        """Number and kind of each member of a structure, whose values the caller reads or skips."""
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.integer()
            yield number, head & 15

    def list_start(self) -> tuple[int, int]:
        """Length, and kind of the elements."""
        head = self.byte()
        return (self.varint() if head >> 4 == 15 else head >> 4), head & 15

    def skip(self, kind: int, depth: int = 0) -> None:
        if depth > DEEPEST:
            raise ValueError
        if kind in _INTEGERS:
            self.varint()
        elif kind in (1, 2):  # a boolean is its kind
            return
        elif kind in _FIXED:
            self.place += _FIXED[kind]
        elif kind == _BINARY:
            length = self.varint()
            self.place += length
        elif kind in (_LIST, _SET):
            count, of = self.list_start()
            self._skip_all((of,), count, depth)
        elif kind == _MAP:
            if count := self.varint():
                kinds = self.byte()
                self._skip_all((kinds >> 4, kinds & 15), count, depth)
        elif kind == _STRUCT:
            for _, member in self.members():
                self.skip(member, depth + 1)
        else:
            raise ValueError
        if self.place > len(self.text):
            raise ValueError

    def _skip_all(self, kinds: tuple[int, ...], count: int, depth: int) -> None:
        if count * len(kinds) > len(self.text):  # an element takes a byte at least
            raise ValueError
        for _ in range(count):
            for kind in kinds:
                if kind in _FIXED:
                    self.place += _FIXED[kind]
                else:
                    self.skip(kind, depth + 1)
