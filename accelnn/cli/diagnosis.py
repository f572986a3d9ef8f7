"""``accelnn doctor``."""

import json
from typing import Annotated

import typer
from rich.console import Console

from accelnn.cli.console import one_line_errors

__all__ = ["doctor"]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Say what is installed and test every backend. For example, accelnn doctor --json > doctor.json."""
    with one_line_errors():
        from accelnn.doctor import examine, printer

        found = examine() if as_json else examine(printer(Console()))
        if as_json:
            typer.echo(json.dumps(found, indent=1, allow_nan=False))
        if not found["passed"]:
            raise typer.Exit(1)
