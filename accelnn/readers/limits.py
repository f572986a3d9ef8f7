"""What a file of data may ask of this machine, so that no file, however made, takes all of its memory."""

from pathlib import Path

from accelnn.errors import DataError

__all__ = [
    "ARRAY_COLUMNS",
    "ARRAY_HEADER_BYTES",
    "FIELD_BYTES",
    "ROW_BYTES",
    "TEXT_COLUMNS",
    "UNPACKED_BYTES",
    "free_memory",
    "require_memory",
]

FIELD_BYTES = 2**17  # of one field of a text table; Python's csv module has the same limit
ROW_BYTES = 2**24  # of one row of a text table, and of one line of a svmlight file
TEXT_COLUMNS = 50_000  # of a text table
ARRAY_COLUMNS = 2**22  # of an array, and the highest index in a svmlight file
ARRAY_HEADER_BYTES = 10_000  # of the description of an array in an NPY file; NumPy has the same limit
UNPACKED_BYTES = 2**31  # of the arrays in a compressed NPZ file; others are limited by the free memory alone

_SYSTEM = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Bytes that this process could still take: those of the system, and of its container; None if nobody says."""
    known = [count for count in (_free_in_system(), _free_in_container()) if count is not None]
    return min(known) if known else None


def require_memory(what: str, needed: int, remedy: str) -> None:
    """Refuse what would take more memory than is free, before any of it is taken.

    Parameters
    ----------
    what : str
        The file, and the part of it, as the message begins.
    needed : int
        Bytes.
    remedy : str
        What to do about it, as the message ends.

    Raises
    ------
    DataError
    """
    free = free_memory()
    if free is not None and needed > free:
        raise DataError(f"{what} would take {_shown(needed)} of memory, and {_shown(free)} are free; {remedy}")


def _shown(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count < 2**60 else "more than 2**30 GiB"


def _free_in_system() -> int | None:
    try:
        lines = _SYSTEM.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _free_in_container() -> int | None:
    """Version 2 of Linux' control groups; what the container holds of files' contents can be had back."""
    try:
        most = int((_CONTAINER / "memory.max").read_text())  # "max" is no number: no limit
        held = int((_CONTAINER / "memory.current").read_text())
        given = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
        return max(0, most - held + int(given.get("inactive_file", 0)) + int(given.get("active_file", 0)))
    except (OSError, ValueError):
        return None
