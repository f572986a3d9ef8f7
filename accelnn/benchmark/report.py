"""Comparisons as a table in the terminal, as Markdown and as JSON. Every contestant has its row, faster or slower."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelnn.benchmark.figures import paired_ratio, summary
from accelnn.benchmark.processes import THREADS
from accelnn.benchmark.rounds import Comparison, Outcome, Settings

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Report", "best", "bytes_text", "floor", "print_report", "ratios", "seconds_text", "write"]

COLUMNS = (
    "",
    "step",
    "quartiles",
    "minimum",
    "to accelnn",
    "to floor",
    "loss",
    "import",
    "first epoch",
    "memory",
)
NOTES = (
    "step: time of a training step, the median of the rounds, with their quartiles and minimum",
    "to accelnn, to floor: that time divided by accelnn's best backend's and by the floor's, the median of the rounds' "
    "ratios",
    "floor: the step's matrix products alone, as NumPy calls them; it trains nothing",
    "loss: J after the same training from the same weights; who reaches another loss is not timed",
    "memory: the most beyond what was held before the first epoch, compilation included",
)

TIMES = 6  # of these columns, the first
UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


@dataclass(frozen=True)
class Report:
    """All that is known about a run of ``accelnn bench``.

    Attributes
    ----------
    machine : dict
        See :func:`accelnn.benchmark.machine.machine`.
    settings : Settings
    comparisons : list of Comparison
    """

    machine: dict[str, Any]
    settings: Settings
    comparisons: list[Comparison]

    def heading(self) -> str:
        """One line about machine and settings."""
        settings = self.settings
        busy = ", one core held by another process" if settings.busy else ""
        cores, threads = _count(self.machine["usable_cores"], "core"), _count(settings.threads, "thread")
        length = f"{_count(settings.rounds, 'round')} of about {settings.seconds:g} s"
        return f"{self.machine['cpu']}, {cores}, {threads} each; {length}, interleaved{busy}"

    def as_json(self) -> str:
        """Everything, with every round's figure."""
        return json.dumps(
            {
                "format": "accelnn-bench 1",
                "machine": self.machine,
                "settings": asdict(self.settings)
                | {"threads_by": f"environment variables {', '.join(THREADS)} set before a contestant's imports"},
                "comparisons": [_comparison(comparison) for comparison in self.comparisons],
            },
            indent=1,
        )

    def as_markdown(self) -> str:
        """A table a case, and who is not in it."""
        parts = ["# accelnn bench", self.heading() + "."]
        parts.append(", ".join(f"{name} {version}" for name, version in self.machine["versions"].items()) + ".")
        for comparison in self.comparisons:
            parts.append(f"## {comparison.case.name}")
            parts.append(comparison.case.describe() + ".")
            lines = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *_rows(comparison)]
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
            absent = _absent(comparison)
            if absent:
                parts.append("\n".join(f"- {line}" for line in absent))
        parts.append("\n".join(f"- {note}" for note in NOTES))
        return "\n\n".join(parts) + "\n"


def seconds_text(seconds: float | None) -> str:
    """With the unit that leaves one to three digits before the point."""
    if seconds is None:
        return ""
    unit, size = next(((unit, size) for unit, size in UNITS if seconds >= size), UNITS[-1])
    return f"{seconds / size:.3g} {unit}"


def bytes_text(count: int | None) -> str:
    """In MiB."""
    return "" if count is None else f"{count / 2**20:,.1f} MiB"


def print_report(report: Report, console: "Console") -> None:
    """To the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(report.heading())
    for comparison in report.comparisons:
        say(f"\n{comparison.case.name}: {comparison.case.describe()}")
        rows = _rows(comparison)
        # Two tables, so that each fits a terminal of 80 columns.
        for part in (range(TIMES), (0, *range(TIMES, len(COLUMNS)))):
            table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
            for i in part:
                table.add_column(Text(COLUMNS[i]), justify="right" if i else "left", no_wrap=True)
            for row in rows:
                table.add_row(*(Text(row[i]) for i in part))
            console.print(table)
        for line in _absent(comparison):
            say(line)
    say("")
    for note in NOTES:
        say(note)


def write(report: Report, folder: Path) -> list[Path]:
    """``bench.json`` and ``bench.md`` in a folder that exists."""
    contents = {"bench.json": report.as_json(), "bench.md": report.as_markdown()}
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in contents]


def best(comparison: Comparison) -> Outcome | None:
    """The fastest backend of accelnn's here."""
    ours = [outcome for outcome in comparison.timed() if outcome.family == "accelnn"]
    return min(ours, key=lambda outcome: summary(outcome.seconds_per_step).median, default=None)


def floor(comparison: Comparison) -> Outcome | None:
    """The floor's outcome, where it was timed."""
    return next((outcome for outcome in comparison.timed() if outcome.name == "floor"), None)


def ratios(comparison: Comparison, outcome: Outcome) -> tuple[float | None, float | None]:
    """To accelnn's best and to the floor."""
    to_best, to_floor = (
        paired_ratio(outcome.seconds_per_step, base.seconds_per_step) if base else None
        for base in (best(comparison), floor(comparison))
    )
    return to_best, to_floor


def _rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The timed contestants, the fastest first."""
    rows = []
    for outcome in sorted(comparison.timed(), key=lambda outcome: summary(outcome.seconds_per_step).median):
        figures = summary(outcome.seconds_per_step)
        quartiles = (seconds_text(figures.lower_quartile), seconds_text(figures.upper_quartile))
        rows.append(
            (
                outcome.name,
                seconds_text(figures.median),
                " to ".join(quartiles),
                seconds_text(figures.minimum),
                *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios(comparison, outcome)),
                "" if outcome.loss is None else f"{outcome.loss:.6g}",
                seconds_text(outcome.import_seconds),
                seconds_text(outcome.first_fit_seconds),
                bytes_text(outcome.memory_bytes),
            )
        )
    return rows


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _absent(comparison: Comparison) -> list[str]:
    return [f"{o.name}: {o.status}: {o.reason}" for o in comparison.outcomes if o.status != "timed"]


def _comparison(comparison: Comparison) -> dict[str, Any]:
    contestants = []
    for outcome in comparison.outcomes:
        entry = asdict(outcome)
        if outcome.status == "timed":
            to_best, to_floor = ratios(comparison, outcome)
            entry |= {"summary": asdict(summary(outcome.seconds_per_step)), "to_accelnn": to_best, "to_floor": to_floor}
        contestants.append(entry)
    return {
        "case": asdict(comparison.case),
        "start_loss": comparison.start_loss,
        "agreed_epochs": comparison.agreed_epochs,
        "contestants": contestants,
    }
