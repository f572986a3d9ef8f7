"""Writing a file so that it is there as a whole or not at all."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from accelnn.errors import OutputError

__all__ = ["TEMPORARY", "write_atomically"]

TEMPORARY = ".tmp"  # ending of a file that is being written; its name begins with a dot and the final name


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Within, a new file that takes the place of `path` at the end.

    It is written beside its final place, flushed to disk and renamed, and then the folder is flushed, so that neither a
    failure nor a loss of power leaves half a file. It has the mode of the file that it replaces. Of two that write to
    one path at once, the later to end stays, whole.

    Parameters
    ----------
    path : path
        A symbolic link stays, and the file that it points at is replaced. What is no file, such as ``/dev/stdout`` or a
        named pipe, keeps nothing that could be lost, and is written to as it is.

    Raises
    ------
    OutputError
        Where something cannot be written. A file that was there is as it was, and nothing else is left behind; only
        where the folder cannot be flushed, at the very end, is the new file in place already, and the message says so.

    Notes
    -----
    Within, an OSError is taken for one of writing this file: read others before.
    """
    try:
        target, mode = _target(path)
        if mode is not None and not stat.S_ISREG(mode):
            with open(path, "wb") as file:
                yield file
            return
        with _replacement(target, mode) as file:
            yield file
    except OutputError:
        raise
    except OSError as problem:
        raise OutputError(f"{path}: cannot be written ({problem.strerror or problem})") from None
    try:
        _flush_folder(target.parent)
    except OSError as problem:
        raise OutputError(
            f"{path}: the new file is in place, but might not outlast a loss of power, since its folder cannot be "
            f"flushed ({problem.strerror or problem})"
        ) from None


def _target(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """The file to replace, behind all links, and what `stat` says of its kind and mode, if there is one."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = None
    except ValueError as problem:  # a name that no file can have
        raise OutputError(f"{path!r}: cannot be written ({problem})") from None
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError(f"{path}: cannot be written (it is a folder)")
    return Path(os.path.realpath(path)), mode


@contextlib.contextmanager
def _replacement(target: Path, mode: int | None) -> Iterator[BinaryIO]:
    # Of a long name a part, lest this one is too long for the file system.
    temporary = target.with_name(f".{target.name[:50]}.{secrets.token_hex(8)}{TEMPORARY}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        file = os.fdopen(os.open(temporary, flags, 0o666), "wb")
        try:
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode) & 0o777)
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):  # which would hide what has happened
                file.close()
            raise
        file.close()
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _flush_folder(folder: Path) -> None:
    """Make the new name last; some file systems cannot be asked to."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except BaseException as problem:
        with contextlib.suppress(OSError):
            os.close(handle)
        if isinstance(problem, OSError) and problem.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            return
        raise
    os.close(handle)
