"""``accelnn predict``."""

import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import accelnn
from accelnn.cli.console import complain, named_path, one_line_errors, require_writable
from accelnn.errors import OutputError
from accelnn.storage import write_atomically

if TYPE_CHECKING:
    from accelnn.tables.schema import Tally

__all__ = ["predict"]

IN_MEMORY = 2**26  # bytes of predictions that wait in memory until all are there, and beyond that on disk


def predict(
    model: Annotated[Path, typer.Argument(help="A file that accelnn train --out wrote.")],
    data: Annotated[str, typer.Argument(help="A table with the columns of the training, in any order.")],
    backend: Annotated[str, typer.Option(help="auto, numpy, numba or cupy.")] = "auto",
    device: Annotated[int | None, typer.Option(help="Which GPU, counted from 0.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(parser=named_path("--out"), metavar="PATH", help="A CSV file; by default, standard output."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a category that training did not see, instead of a warning.")
    ] = False,
) -> None:
    """Predict the rows of a table. For example, accelnn predict model.safetensors table.csv --out predictions.csv."""
    with one_line_errors():
        from accelnn.readers.reading import load_features
        from accelnn.tables.model import TableModel
        from accelnn.tables.schema import Categorical

        trained = TableModel.load(model, accelnn.get_backend(backend, device=device))
        require_writable(out, data, str(model))
        words = [column.name for column in trained.schema.columns if isinstance(column, Categorical)]
        table = load_features(data, trained.schema.names, categorical=words)

        def write(file: Any) -> "Tally":
            return trained.write_predictions(table.X, file, strict=strict, source=table.name, place=table.place)

        # Whatever is wrong with a row further down, nothing is written then.
        if out is None:
            tally = _to_standard_output(write)
        else:
            with write_atomically(out) as file:
                tally = _as_text(file, write)
        if remark := str(tally):
            complain(f"warning: {table.name}: {remark}")
        if out is not None:
            typer.echo(f"{table.X.shape[0]:,} predictions written to {out}", err=True)


def _to_standard_output(write: "Callable[[Any], Tally]") -> "Tally":
    """Once all of it is there, the bytes that --out would hold."""
    if sys.stdout is None:
        raise OutputError("standard output: is closed; give --out")
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        try:
            tally = _as_text(file, write)
        except OSError as problem:
            folder = tempfile.gettempdir()
            raise OutputError(f"{folder}: cannot be written ({problem.strerror or problem}); give --out") from None
        file.seek(0)
        if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8")
        shutil.copyfileobj(io.TextIOWrapper(file, encoding="utf-8", newline=""), sys.stdout)
        sys.stdout.flush()
    return tally


def _as_text(file: Any, write: "Callable[[Any], Tally]") -> "Tally":
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        tally = write(text)
    except BaseException:
        with contextlib.suppress(OSError):  # it flushes, and would hide what has happened
            text.detach()
        raise
    text.detach()  # its owner closes the file
    return tally
