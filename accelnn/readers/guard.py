"""Calls into polars: whatever it makes of a damaged file, what comes out is an error of ours in one line."""

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accelnn.errors import DataError
from accelnn.readers.sources import reason

__all__ = ["guarded", "import_polars", "panics_unprinted"]


def import_polars(path: Path) -> Any:
    """The module, or an error that names the extra which brings it."""
    try:
        import polars
    except ImportError:
        raise DataError(f'{path}: reading tables needs polars; run: pip install "accelnn[tables]"') from None
    return polars


@contextlib.contextmanager
def guarded(path: Path, kind: str) -> Iterator[None]:
    """Within, what polars raises because of a file becomes a DataError; so does a panic of its, which is no Exception.

    Parameters
    ----------
    path : Path
    kind : str
        What the file should have been, for the message.
    """
    polars = import_polars(path)
    try:
        yield
    except (polars.exceptions.PolarsError, OSError, ValueError, OverflowError, MemoryError) as problem:
        if isinstance(problem, DataError):
            raise
        raise DataError(f"{path}: cannot be read as {kind} ({reason(problem)})") from None
    except polars.exceptions.PanicException as problem:
        raise DataError(f"{path}: cannot be read as {kind}, and is probably damaged ({reason(problem)})") from None


_one_at_a_time = threading.RLock()  # two that end in another order would leave each other's file in place


def _is_standard_error() -> bool:
    """Whether descriptor 2 is one that text goes to: where it was closed, another file of the process may have it."""
    mode = os.fstat(2).st_mode
    kinds = (stat.S_ISREG, stat.S_ISCHR, stat.S_ISFIFO, stat.S_ISSOCK)
    return sys.stderr is not None and any(kind(mode) for kind in kinds)


@contextlib.contextmanager
def panics_unprinted() -> Iterator[None]:
    """Within, what Rust prints of a panic on standard error is dropped.

    It writes past Python, to the descriptor itself. What else arrives there meanwhile is written once the block is
    left, unless there was a panic. One thread at a time is within.
    """
    with contextlib.ExitStack() as undo:
        undo.enter_context(_one_at_a_time)
        try:
            if not _is_standard_error():
                raise OSError
            sys.stderr.flush()
            kept = os.dup(2)
            undo.callback(os.close, kept)
            held = undo.enter_context(tempfile.TemporaryFile())
            os.dup2(held.fileno(), 2)
        except (OSError, ValueError):  # there is no standard error to keep clean, or it is closed
            yield
            return
        panicked = False
        try:
            yield
        except Exception:
            raise
        except BaseException as problem:
            panicked = type(problem).__name__ == "PanicException"
            raise
        finally:
            os.dup2(kept, 2)
            if not panicked:
                held.seek(0)
                with open(2, "wb", closefd=False) as out:
                    shutil.copyfileobj(held, out)
