"""What ``accelnn bench`` does: options become cases and contestants, comparisons become a report."""

import contextlib
import importlib.util
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelnn import checks
from accelnn.backends import BACKENDS
from accelnn.benchmark import cases
from accelnn.benchmark.contestants import ENTRIES, FAMILIES, Entry
from accelnn.benchmark.machine import machine
from accelnn.benchmark.report import Report, print_report, write
from accelnn.benchmark.rounds import Settings, Watch, compare
from accelnn.errors import DataError, require_known
from accelnn.threads import thread_count

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Options", "chosen_cases", "chosen_entries", "run"]

DEFAULT_CASE = "784-256-128-10"
BATCH_SIZE, BATCHES = 128, 20  # of a network that is no standard case


@dataclass(frozen=True)
class Options:
    """The command line's, under its names; None is what was not given."""

    sizes: str | None = None
    case: tuple[str, ...] = ()
    backends: str = "all"
    peers: str = "all"
    batch_size: int | None = None
    examples: int | None = None
    activation: str | None = None
    output_activation: str | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    dtype: str | None = None
    threads: int | None = None
    rounds: int = 9
    seconds: float = 0.3
    busy: bool = False
    out: Path | None = None


def run(options: Options, console: "Console") -> None:
    """Compare, print, and write what was asked for.

    Raises
    ------
    DataError
        For an option that cannot be used, before anything is timed.
    """
    chosen, entries = chosen_cases(options), chosen_entries(options.backends, options.peers)
    threads = thread_count() if options.threads is None else checks.integer("--threads", options.threads, 1)
    settings = Settings(
        threads,
        checks.integer("--rounds", options.rounds, 1),
        checks.number("--seconds", options.seconds, positive=True),
        options.busy,
    )
    folder = _folder(options.out)
    where = machine()
    with _watched(console) as watch:
        report = Report(where, settings, [compare(case, entries, settings, watch) for case in chosen])
    print_report(report, console)
    if folder is not None:
        for line in _written(report, folder):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def chosen_cases(options: Options) -> list[cases.Case]:
    """The standard cases asked for, or one of the user's own sizes."""
    if options.sizes is not None and options.case:
        raise DataError("--sizes: goes with no --case; give one of them")
    changes: dict[str, Any] = {
        "activation": _known("--activation", options.activation, cases.ACTIVATIONS),
        "output": _known("--output-activation", options.output_activation, cases.LOSSES),
        "optimizer": _known("--optimizer", options.optimizer, cases.OPTIMIZERS),
        "dtype": _known("--dtype", options.dtype, ("float32", "float64")),
        "learning_rate": _given("--learning-rate", options.learning_rate),
        "batch_size": None if options.batch_size is None else checks.integer("--batch-size", options.batch_size, 0),
        "examples": None if options.examples is None else checks.integer("--examples", options.examples, 1),
    }
    if options.sizes is None:
        chosen = cases.find_cases(list(options.case) or [DEFAULT_CASE])
    else:
        chosen = [_own(options.sizes, changes)]
    return [_fitted(cases.variant(case, **changes)) for case in chosen]


def _own(text: str, changes: dict[str, Any]) -> cases.Case:
    try:
        sizes = checks.layer_sizes([int(part) for part in text.split(",")])
    except ValueError:  # a DataError is one too
        raise DataError(
            f"--sizes: {text!r} is no list of at least two positive widths; give inputs, hidden layers and outputs, "
            "such as 784,256,128,10"
        ) from None
    output = changes["output"] or ("softmax" if sizes[-1] > 1 else "sigmoid")
    optimizer = changes["optimizer"] or "sgd"
    batch_size = changes["batch_size"] or (0 if changes["batch_size"] == 0 else BATCH_SIZE)
    return cases.Case(
        "-".join(map(str, sizes)),
        sizes,
        "relu",
        output,
        cases.LOSSES[output],
        optimizer,
        cases.default_learning_rate(optimizer, sizes[0]),
        batch_size,
        BATCHES * (batch_size or BATCH_SIZE),
    )


def _fitted(case: cases.Case) -> cases.Case:
    """Batch size 0 is a full batch, and none is larger; a softmax needs an example of each of its classes."""
    n_L = case.sizes[-1]
    if case.output == "softmax" and n_L == 1:
        raise DataError("--output-activation: softmax over one output is always 1; use sigmoid")
    if case.output == "softmax" and case.examples < n_L:
        raise DataError(f"--examples: {case.examples} are too few for {n_L} classes; give at least {n_L}")
    return cases.variant(case, batch_size=min(case.batch_size or case.examples, case.examples))


def chosen_entries(backends: str, peers: str) -> list[Entry]:
    """The floor and the textbook, and who was asked for, in the order of the tables."""
    wanted = {"reference"} | {f"accelnn {name}" for name in _names("--backends", backends, BACKENDS)}
    wanted |= set(_names("--peers", peers, FAMILIES))
    return [entry for entry in ENTRIES.values() if wanted & {entry.family, entry.name}]


def _names(option: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = [part.strip() for part in text.split(",")]
    for name in names:
        require_known(option, name, ("all", "none", *known))
    if "none" in names and len(names) > 1:
        raise DataError(f"{option}: none goes with no other name")
    return known if "all" in names else tuple(name for name in names if name != "none")


def _known(option: str, name: str | None, known: Iterable[str]) -> str | None:
    if name is not None:
        require_known(option, name, known)
    return name


def _given(option: str, value: float | None) -> float | None:
    return None if value is None else checks.number(option, value, positive=True)


def _folder(out: Path | None) -> Path | None:
    """Made before anything is timed, so that no figure is lost."""
    if out is None:
        return None
    if out.exists() and not out.is_dir():
        raise DataError(f"--out: {out} is no folder")
    try:
        out.mkdir(exist_ok=True)
    except FileNotFoundError:
        raise DataError(f"--out: there is no folder {out.parent}") from None
    except OSError as problem:
        raise DataError(f"--out: {out} cannot be made ({problem.strerror})") from None
    if not os.access(out, os.W_OK):
        raise DataError(f"--out: {out} cannot be written")
    return out


def _written(report: Report, folder: Path) -> list[str]:
    try:
        lines = [f"written to {path}" for path in write(report, folder)]
        if importlib.util.find_spec("matplotlib") is None:
            return [*lines, 'no picture: matplotlib is not installed; run: pip install "accelnn[plot]"']
        from accelnn.benchmark.picture import draw

        draw(report, folder / "bench.png")
    except OSError as problem:
        raise DataError(f"--out: {problem.filename or folder} cannot be written ({problem.strerror})") from None
    return [*lines, f"written to {folder / 'bench.png'}"]


@contextlib.contextmanager
def _watched(console: "Console") -> Iterator[Watch]:
    """A bar on a terminal; elsewhere nothing, so that a file holds the tables alone."""
    if not console.is_terminal:
        yield lambda what, done, total: None
        return
    from rich.progress import BarColumn, Progress, TextColumn

    # Drawn when something begins and not in between: the bar must not take time from what is timed.
    with Progress(
        TextColumn("{task.description}"), BarColumn(), console=console, transient=True, auto_refresh=False
    ) as bar:
        task = bar.add_task("")

        def watch(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total, refresh=True)

        yield watch
