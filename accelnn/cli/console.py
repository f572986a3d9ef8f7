"""What the commands share: lines for a person, errors in one line, and outputs that can be written."""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from accelnn.errors import AccelnnError, DataError, OutputError

__all__ = [
    "complain",
    "named_path",
    "one_line_errors",
    "require_apart",
    "require_writable",
    "say",
    "standard_streams",
    "visible",
]

NOBODY_READS = 141  # exit code, as a shell gives it for a program that SIGPIPE ended


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Within, an error of accelnn's becomes one line on standard error, and exit code 2; a warning one line too."""
    show = warnings.showwarning
    warnings.showwarning = _one_line_warning
    try:
        yield
    except AccelnnError as problem:
        complain(str(problem))
        raise typer.Exit(2) from None
    finally:
        warnings.showwarning = show


def _one_line_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    complain(f"warning: {message}")


def complain(text: str) -> None:
    """One line on standard error, whatever a file's names hold."""
    typer.echo(f"accelnn: {visible(' '.join(text.split()))}", err=True)


def visible(text: str) -> str:
    """The text with escapes for what would steer a terminal or fit no encoding, as `repr` has them."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def say(console: Console, text: str) -> None:
    """Print as it is: no markup in the user's names, no wrapping, nothing that steers the terminal."""
    text = "\n".join(visible(line) for line in text.split("\n"))
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def standard_streams() -> None:
    """Make standard output and error take any character, and say in one line what cannot be written."""
    for name, kind in (("stdout", _Output), ("stderr", _Complaints)):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            setattr(sys, name, kind(stream))


class _Output(io.TextIOWrapper):
    """Standard output; a failure is an OutputError, and where nobody reads any more the program ends."""

    def __init__(self, stream: io.TextIOWrapper):
        buffer: Any = stream.buffer
        if isinstance(buffer, io.RawIOBase):  # of python -u, which writes a part and forgets the rest
            buffer = io.BufferedWriter(buffer)
        self._at_once = stream.write_through
        super().__init__(
            buffer,
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
        )

    def write(self, text: str) -> int:
        try:
            written = super().write(text)
            if self._at_once:
                super().flush()
            return written
        except OSError as problem:
            self._fail(problem)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as problem:
            self._fail(problem)

    def _fail(self, problem: OSError) -> None:
        self._forget()
        if isinstance(problem, BrokenPipeError):
            raise SystemExit(NOBODY_READS) from None
        raise OutputError(f"standard output: cannot be written ({problem.strerror or problem})") from None

    def _forget(self) -> None:
        """What could not be written waits in a buffer, and Python would try it again on its way out."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


class _Complaints(_Output):
    """Standard error: where that fails, there is nowhere left to say so."""

    def _fail(self, problem: OSError) -> None:
        self._forget()


def named_path(option: str) -> Callable[[str], Path]:
    """For typer: what reads an option's text as a path, and refuses an empty one, which pathlib takes for ``.``."""

    def path(text: str) -> Path:
        with one_line_errors():
            if not str(text):
                raise DataError(f"{option}: is empty; give a name")
        return Path(text)

    return path


def require_writable(out: Path | None, *inputs: str) -> None:
    """Refuse, before any work is done, an output that could not be written or would replace an input."""
    if out is None:
        return
    if not out.parent.is_dir():
        raise DataError(f"--out: there is no folder {out.parent}")
    if out.is_dir() or not os.access(out if out.exists() else out.parent, os.W_OK):
        raise DataError(f"--out: {out} cannot be written")
    for name in inputs:
        if out.exists() and _same(out, name):
            raise DataError(f"--out: {out} is also read; give another name")


def require_apart(outputs: list[tuple[str, str]], inputs: list[str]) -> None:
    """Refuse two outputs in one place, and one in an input's.

    Parameters
    ----------
    outputs : list of pairs
        The option and its path, whether there is such a file yet or not.
    inputs : list of str
        Paths that are read; what is no file is no matter.
    """
    for k, (option, path) in enumerate(outputs):
        for name in inputs:
            if Path(name).exists() and _same(path, name):
                raise DataError(f"{option}: {path} is also read; give another name")
        for other, taken in outputs[:k]:
            if _same(path, taken):
                twice = "twice" if other == option else f"for {other} too"
                raise DataError(f"{option}: {path} is given {twice}; give another name")


def _same(one: str | Path, other: str | Path) -> bool:
    """Whether two paths are one place, behind all links; a device takes from everybody."""
    try:
        if os.path.exists(one) and os.path.exists(other):
            ordinary = os.path.isfile(one) or os.path.isdir(one)
            return ordinary and os.path.samefile(one, other)
        return os.path.realpath(one) == os.path.realpath(other)
    except (OSError, ValueError):
        return False
