"""Arrays by name, as NPZ has them: a zip archive of NPY files.

An archive of some megabytes can unpack to as many gigabytes. So the sizes in its directory are looked at first, and no
more than they say is unpacked: a directory that lies is an archive that is damaged.
"""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from accelnn.errors import DataError
from accelnn.readers.limits import UNPACKED_BYTES
from accelnn.readers.npy import MAGIC, read_array
from accelnn.readers.sources import listed, reason

__all__ = ["read_arrays"]

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError),
    *(ValueError, OverflowError, MemoryError, KeyError, RuntimeError),
)


def read_arrays(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Some of the arrays of an NPZ file.

    Parameters
    ----------
    path : Path
    names : sequence of str
        Those that must be there.
    optional : sequence of str
        Those that may be.

    Raises
    ------
    DataError
        For what is no such archive, lacks an array, holds objects, or unpacks to more than `UNPACKED_BYTES`.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                raise DataError(f"{path}: holds one unnamed array; save X and y with numpy.savez")
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                members = _members(path, archive)
                if missing := [name for name in names if name not in members]:
                    raise DataError(f"{path}: holds no array {missing[0]!r}; it has {listed(members)}")
                wanted = {name: members[name] for name in (*names, *optional) if name in members}
                _require_packing(path, wanted)
                return {name: _read(path, archive, name, member) for name, member in wanted.items()}
    except _DAMAGE as problem:
        if isinstance(problem, DataError):
            raise
        raise DataError(
            f"{path}: cannot be read as NPZ of plain arrays of numbers or text ({reason(problem)})"
        ) from None


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name in members:
            raise DataError(f"{path}: holds two arrays named {name[:40]!r}; save it again")
        members[name] = member
    return members


def _require_packing(path: Path, members: dict[str, zipfile.ZipInfo]) -> None:
    """Refuse before anything is unpacked what would be too much, or is packed in a way that NumPy does not use."""
    unpacked = 0
    for name, member in members.items():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{path}: array {name!r} is compressed in a way that NumPy does not use; save it again")
        unpacked += member.file_size if member.compress_type == zipfile.ZIP_DEFLATED else 0
    if unpacked > UNPACKED_BYTES:
        raise DataError(
            f"{path}: would unpack to {unpacked / 2**30:,.1f} GiB, and {UNPACKED_BYTES / 2**30:g} GiB is the most that "
            "is unpacked; save it uncompressed (numpy.savez), or X and y as NPY"
        )


def _read(path: Path, archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        array = read_array(stream, f"{path}: array {name!r}", member.file_size)  # type: ignore[arg-type]
        stream.read(1)  # at the end the checksum is compared
        return array
