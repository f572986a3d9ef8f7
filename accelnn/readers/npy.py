"""One array as NPY has it: a description of its type and shape, and its bytes.

Nothing here can run code: an array of objects, which would be a pickle, is refused by its description. The description
is a Python literal, of which no more than `ARRAY_HEADER_BYTES` are looked at, and what it promises is compared with
what is there before any memory is taken.
"""

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from accelnn.errors import DataError
from accelnn.readers.limits import ARRAY_HEADER_BYTES, require_memory
from accelnn.readers.sources import reason

__all__ = ["MAGIC", "Described", "describe", "map_array", "read_array"]

MAGIC = b"\x93NUMPY"
PIECE = 2**20  # bytes that are read in one go


@dataclass(frozen=True)
class Described:
    """What precedes an array's bytes.

    Attributes
    ----------
    shape : tuple of int
    order : {"C", "F"}
    dtype : dtype
        Of numbers, booleans or text.
    offset : int
        Bytes of the description itself.
    """

    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the array, in Python's integers, which do not overflow."""
        total = self.dtype.itemsize
        for length in self.shape:
            total *= length
        return total


def describe(file: BinaryIO, where: str) -> Described:
    """Read what precedes an array's bytes.

    Parameters
    ----------
    file : binary file
        At the beginning of the array.
    where : str
        Names it, as a message begins.

    Raises
    ------
    DataError
        For another format, a damaged description, an array of objects or of anything but numbers, booleans and text.
    """
    start = file.read(len(MAGIC) + 2)
    if not start.startswith(MAGIC) or len(start) < len(MAGIC) + 2:
        hint = "; it is an NPZ archive: name it .npz" if start.startswith(b"PK") else ""
        raise DataError(f"{where}: is no array in the NPY format (it begins with {start[:6]!r}){hint}")
    version = start[len(MAGIC)]
    if version not in (1, 2, 3):
        raise DataError(
            f"{where}: is of version {version} of the NPY format, which is not known; save it with numpy.save"
        )
    field = file.read(2 if version == 1 else 4)
    if len(field) < (2 if version == 1 else 4):
        raise DataError(f"{where}: is cut off in its description")
    (length,) = struct.unpack("<H" if version == 1 else "<I", field)
    if length > ARRAY_HEADER_BYTES:
        raise DataError(
            f"{where}: its description has {length:,} bytes, and {ARRAY_HEADER_BYTES:,} is the most that is read"
        )
    text = file.read(length)
    if len(text) < length:
        raise DataError(f"{where}: is cut off in its description")
    shape, fortran, dtype = _parsed(field + text, version, where)
    if dtype.hasobject:
        raise DataError(f"{where}: holds Python objects, which only a pickle can hold; save numbers or text")
    if dtype.kind not in "fiubUS" or dtype.itemsize == 0:
        raise DataError(f"{where}: holds {str(dtype)[:40]} values; save plain numbers or text")
    return Described(shape, "F" if fortran else "C", dtype, len(start) + len(field) + length)


def _parsed(header: bytes, version: int, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    # Version 3 differs from 2 in the encoding of the names of a structure's fields, and a structure is refused.
    parse = np.lib.format.read_array_header_1_0 if version == 1 else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a description that Python 2 wrote
            shape, fortran, dtype = parse(io.BytesIO(header), max_header_size=ARRAY_HEADER_BYTES)
    except Exception as problem:  # whatever Python's parser, or a type's name, raises
        raise DataError(f"{where}: its description cannot be read ({reason(problem)})") from None
    if min(shape, default=0) < 0:
        raise DataError(f"{where}: its description says that the shape is {str(shape)[:60]}")
    return shape, fortran, dtype


def map_array(path: Path) -> np.ndarray:
    """The array of an NPY file where it lies on disk: what is not used is not read.

    Returns
    -------
    memmap
        Read-only.

    Raises
    ------
    DataError
    """
    try:
        with path.open("rb") as file:
            about = describe(file, str(path))
            there = path.stat().st_size - about.offset
            if there != about.size:
                raise DataError(
                    f"{path}: its description promises {about.size:,} bytes of {about.dtype} values of shape "
                    f"{about.shape}, and {there:,} follow; the file is cut off or damaged: save it again"
                )
            if about.size == 0:
                return np.empty(about.shape, about.dtype)
            return np.memmap(file, about.dtype, "r", about.offset, about.shape, about.order)
    except (OSError, ValueError, OverflowError) as problem:
        if isinstance(problem, DataError):
            raise
        raise DataError(f"{path}: cannot be read as NPY ({reason(problem)})") from None


def read_array(file: BinaryIO, where: str, length: int) -> np.ndarray:
    """An array in memory.

    Parameters
    ----------
    file : binary file
        At the beginning of the array.
    where : str
        Names it, as a message begins.
    length : int
        Bytes that the array has together with its description; neither more nor less is read.

    Raises
    ------
    DataError
        Where it has another length than its description says.
    """
    about = describe(file, where)
    if about.offset + about.size != length:
        raise DataError(
            f"{where}: its description promises {about.size:,} bytes of {about.dtype} values of shape {about.shape}, "
            f"and {length - about.offset:,} follow; it is cut off or damaged: save it again"
        )
    require_memory(f"{where}:", about.size, "save it as NPY, which is read as it is needed")
    content = np.empty(about.size, np.uint8)
    place = 0
    while place < about.size:
        piece = file.read(min(PIECE, about.size - place))
        if not piece:
            raise DataError(f"{where}: is cut off after {place:,} bytes of values")
        content[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
        place += len(piece)
    return content.view(about.dtype).reshape(about.shape, order=about.order)
