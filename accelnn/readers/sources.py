"""Which files are read: those that are there, are files, and whose ending says what they hold."""

import os
import stat
from pathlib import Path
from typing import Any

from accelnn.datasets import DATASETS
from accelnn.errors import DataError

__all__ = ["ARROW", "ENDINGS", "NPY", "NPZ", "PARQUET", "SVMLIGHT", "TEXT", "existing", "listed"]

TEXT = (".csv", ".tsv", ".txt")
PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
NPY = (".npy",)
NPZ = (".npz",)
SVMLIGHT = (".svm", ".svmlight", ".libsvm")
ENDINGS = (*TEXT, *PARQUET, *ARROW, *NPY, *NPZ, *SVMLIGHT)

_SHOWN = 8  # names in an error
_LONGEST = 40  # characters of each


def existing(source: Any, argument: str = "") -> Path:
    """The path of a file that is there, can be opened, holds something, and has an ending of `ENDINGS`.

    Parameters
    ----------
    source : str or path
    argument : str, optional
        Of which it is the value, for the message.

    Raises
    ------
    DataError
        For anything else: a folder, a pipe, a file that may not be read, an ending that is not known.
    """
    start = f"{argument}: " if argument else ""
    if not isinstance(source, str | os.PathLike):
        raise DataError(f"{start or 'source: '}a {type(source).__name__} is no path; give the name of a file")
    path = Path(os.fsdecode(source))
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        known = "" if argument else f", and no built-in data set of this name (there are {', '.join(sorted(DATASETS))})"
        raise DataError(f"{start}{path}: no such file{known}") from None
    except (OSError, ValueError) as problem:  # a name that is too long, or that holds a NUL
        raise DataError(f"{start}{str(path)[:_LONGEST]!r}: cannot be read ({reason(problem)})") from None
    if stat.S_ISDIR(about.st_mode):
        raise DataError(f"{start}{path}: is a folder; give a file")
    if not stat.S_ISREG(about.st_mode):
        raise DataError(f"{start}{path}: is a pipe or a device, which can be read only once; save it to a file")
    if path.suffix.lower() not in ENDINGS:
        ending = repr(path.suffix) if path.suffix else "no ending"
        raise DataError(f"{start}{path}: {ending} does not say what it holds; give one of {', '.join(ENDINGS)}")
    if about.st_size == 0:
        raise DataError(f"{start}{path}: is empty")
    try:
        path.open("rb").close()
    except OSError as problem:
        raise DataError(f"{start}{path}: cannot be read ({reason(problem)})") from None
    return path


def reason(problem: BaseException) -> str:
    """What an error of another library says, in one short line."""
    text = getattr(problem, "strerror", None) or str(problem).strip() or type(problem).__name__
    return text.splitlines()[0][:200]


def listed(names: Any) -> str:
    """Names as an error lists them: the first few, none too long."""
    names = list(names)
    shown = [repr(name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "...") for name in names[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
