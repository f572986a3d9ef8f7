"""What the commands share: lines for a person, errors in one line, and outputs that can be written."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from accelnn.errors import AccelnnError, DataError

__all__ = ["one_line_errors", "require_writable", "say"]


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Within, an error of accelnn's becomes one line on standard error, and exit code 2; a warning one line too."""
    show = warnings.showwarning
    warnings.showwarning = _one_line_warning
    try:
        yield
    except AccelnnError as problem:
        typer.echo(f"accelnn: {' '.join(str(problem).split())}", err=True)
        raise typer.Exit(2) from None
    finally:
        warnings.showwarning = show


def _one_line_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"accelnn: warning: {' '.join(str(message).split())}", err=True)


def say(console: Console, text: str) -> None:
    """Print as it is: no markup in the user's names, no wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def require_writable(out: Path | None, *inputs: str) -> None:
    """Refuse, before any work is done, an output that could not be written or would replace an input."""
    if out is None:
        return
    if not out.parent.is_dir():
        raise DataError(f"--out: there is no folder {out.parent}")
    if out.is_dir() or not os.access(out if out.exists() else out.parent, os.W_OK):
        raise DataError(f"--out: {out} cannot be written")
    for name in inputs:
        if out.exists() and Path(name).exists() and out.samefile(name):
            raise DataError(f"--out: {out} is also read; give another name")
