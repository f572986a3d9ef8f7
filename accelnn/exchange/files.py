"""Files of other programs: read with suspicion, and written with the lines that read them."""

import json
import os
import stat
from pathlib import Path
from typing import NamedTuple

from accelnn.errors import ModelFileError

__all__ = ["Written", "content_of", "quoted"]


class Written(NamedTuple):
    """What there is to know of a file for another program.

    Attributes
    ----------
    program : str
        Lines of Python that read it.
    note : str
        What it holds, in a few words.
    """

    program: str
    note: str


def quoted(path: str | os.PathLike[str]) -> str:
    """A file's name as Python has it."""
    return json.dumps(os.fspath(path), ensure_ascii=False)


def content_of(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file.

    Raises
    ------
    ModelFileError
        Where there is none, or it cannot be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ModelFileError(f"{path}: is no file")
        return Path(path).read_bytes()
    except (OSError, ValueError) as problem:
        if isinstance(problem, ModelFileError):
            raise
        raise ModelFileError(f"{path}: cannot be read ({getattr(problem, 'strerror', None) or problem})") from None
    except MemoryError:
        raise ModelFileError(f"{path}: is larger than the memory that is free") from None
