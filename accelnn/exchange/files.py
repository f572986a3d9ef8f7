"""Files of other programs: read with suspicion, and written with the lines that read them."""

import json
import os
import stat
from pathlib import Path
from typing import NamedTuple

from accelnn.errors import ModelFileError

__all__ = ["TEXT", "Written", "content_of", "quoted"]

# Lines of Python for programs that use neither polars nor accelnn: `accelnn.tables.frames.as_text` for one value.
TEXT = """
def text(v, missing):  # as accelnn has it: 7.0 is "7", True is "true"
    if type(v).__name__ in ("NoneType", "NAType") or v != v:
        return missing
    if isinstance(v, float) and v.is_integer() and abs(v) < 2**63:
        v = int(v)
    return str(v).lower() if type(v).__name__.startswith("bool") else str(v)
""".splitlines()


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
    text = json.dumps(os.fspath(path), ensure_ascii=False)
    # A byte that is no UTF-8 is half a character in Python, and no file of text can hold that as it is.
    return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)


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
