"""The command line: one file a command, and here what makes them one program."""

import sys
from typing import Annotated

import typer

import accelnn
from accelnn.cli.benchmarking import bench
from accelnn.cli.console import complain, one_line_errors, standard_streams, visible
from accelnn.cli.diagnosis import doctor
from accelnn.cli.exchanging import export, import_model, inspect
from accelnn.cli.predicting import predict
from accelnn.cli.training import train

__all__ = ["app", "main"]

app = typer.Typer(
    help="Multilayer perceptrons on NumPy, Numba or a GPU. For example, accelnn train digits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point. Exit codes: 0; 2 for bad input or an output that fails, with one line on standard error; 1 for the
    rest; 130 on Ctrl-C; 141 where nobody reads standard output any more.
    """
    standard_streams()
    try:
        code = _run()
    except KeyboardInterrupt:
        code = 130
    except Exception as problem:
        # typer's own errors know how to say what is wrong with an option; it would print three lines.
        if not hasattr(problem, "format_message"):
            raise
        message = problem.format_message()
        if "\n" in message:
            typer.echo("\n".join(map(visible, message.split("\n"))), err=True)
        else:
            complain(message)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _run() -> object:
    """The command's exit code, once all that it has printed is written."""
    try:
        with one_line_errors():  # of --help, and of the last lines of a command
            code = app(standalone_mode=False)
            if sys.stdout is not None:
                sys.stdout.flush()
    except typer.Exit as ended:
        return ended.exit_code
    return code


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"accelnn {accelnn.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Multilayer perceptrons on NumPy, Numba or a GPU. For example, accelnn train digits."""


for _command in (train, predict, bench, doctor, inspect, export):
    app.command()(_command)
app.command("import")(import_model)
