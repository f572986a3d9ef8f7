"""A comparison: every contestant in its own process, the same loss first, then timed in turn."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from accelnn.benchmark.cases import Case, problem
from accelnn.benchmark.contestants import ENTRIES, Entry, why_missing
from accelnn.benchmark.processes import Process, WorkerFailure, busy_core

__all__ = ["Comparison", "Outcome", "Settings", "compare", "parity_epochs"]

PARITY_STEPS, PARITY_EPOCHS = 20, 2  # least training before losses are compared

Watch = Callable[[str, int, int], None]  # what is being done, how much of it is finished, how much there is in all


@dataclass(frozen=True)
class Settings:
    """How a comparison is timed.

    Attributes
    ----------
    threads : int
        Of every contestant.
    rounds : int
    seconds : float
        Length of a contestant's round that is aimed at.
    busy : bool
        Whether another process holds one core meanwhile.
    settle : float
        Pause before each round: threads that spin for more work after a call, of the contestant before, give up
        within 0.2 s.
    """

    threads: int
    rounds: int = 9
    seconds: float = 0.3
    busy: bool = False
    settle: float = 0.25


@dataclass
class Outcome:
    """What became of a contestant.

    Attributes
    ----------
    name, family : str
    status : str
        ``"timed"``; ``"refused"``, for another loss; ``"skipped"``, where it cannot run here; or ``"failed"``.
    reason : str or None
        Why it is not timed.
    loss : float or None
        J after the training that all must agree on; None where it is not finite, and for the floor, which trains
        nothing.
    import_seconds, first_fit_seconds : float or None
        Of importing its library, and of its first epoch, compilation included.
    memory_bytes : int or None
        Peak beyond what was held before the first epoch, compilation included.
    epochs : int or None
        A round.
    seconds_per_step : list of float
        Of each round.
    """

    name: str
    family: str
    status: str = "timed"
    reason: str | None = None
    loss: float | None = None
    import_seconds: float | None = None
    first_fit_seconds: float | None = None
    memory_bytes: int | None = None
    epochs: int | None = None
    seconds_per_step: list[float] = field(default_factory=list)


@dataclass
class Comparison:
    """One case, and each contestant's outcome in the order of the tables.

    Attributes
    ----------
    case : Case
    start_loss : float
        J of the common weights.
    agreed_epochs : int
        Training after which the losses were compared.
    outcomes : list of Outcome
    """

    case: Case
    start_loss: float
    agreed_epochs: int
    outcomes: list[Outcome]

    def outcome(self, name: str) -> Outcome:
        """Of the contestant of this name."""
        return next(outcome for outcome in self.outcomes if outcome.name == name)

    def timed(self) -> list[Outcome]:
        """Those with figures."""
        return [outcome for outcome in self.outcomes if outcome.status == "timed"]


def parity_epochs(case: Case) -> int:
    """Enough for 20 steps, and at least 2."""
    return max(PARITY_EPOCHS, math.ceil(PARITY_STEPS / case.steps))


def compare(case: Case, entries: Sequence[Entry], settings: Settings, watch: Watch) -> Comparison:
    """Time a case.

    Parameters
    ----------
    case : Case
    entries : sequence of Entry
        The textbook takes part in the check even where it is not among them.
    settings : Settings
    watch : callable
        ``watch(what, done, total)``, called before each piece of work.
    """
    from accelnn.benchmark import parity

    data = problem(case)
    start, epochs = parity.loss(data, data.W, data.b), parity_epochs(case)
    comparison = Comparison(case, start, epochs, [Outcome(entry.name, entry.family) for entry in entries])
    reference = ENTRIES["textbook"]
    waiting = {entry.name: entry for entry in [reference, *entries]}
    expected = start
    with contextlib.ExitStack() as stack:
        running: dict[str, Process] = {}
        for done, (name, entry) in enumerate(waiting.items()):
            watch(f"{case.name}: {name} prepares", done, len(waiting))
            listed = [outcome for outcome in comparison.outcomes if outcome.name == name]
            outcome = listed[0] if listed else Outcome(name, entry.family)
            missing = why_missing(entry)
            if missing:
                outcome.status, outcome.reason = "skipped", missing
                continue
            process = Process(entry, case, settings.threads)
            stack.callback(process.close)
            try:
                answer = process("prepare", epochs)
            except WorkerFailure as failure:
                outcome.status, outcome.reason = "skipped", str(failure)
                process.close()
                continue
            outcome.import_seconds = answer["import_seconds"]
            outcome.first_fit_seconds = answer["first_fit_seconds"]
            if name != "floor":
                J = parity.loss(data, *answer["parameters"])
                expected = J if entry is reference else expected
                allowed = max(parity.TOLERANCE[case.dtype], entry.tolerance)
                outcome.reason = parity.why_refused(J, start, expected, allowed)
                outcome.loss = J if math.isfinite(J) else None
            if outcome.reason:
                outcome.status = "refused"
            if outcome.reason or not listed:
                process.close()
            else:
                running[name] = process
        with busy_core(settings.busy):
            _time(comparison, running, settings, watch)
    return comparison


def _time(comparison: Comparison, running: dict[str, Process], settings: Settings, watch: Watch) -> None:
    case = comparison.case
    total = (settings.rounds + 1) * len(running)

    def ask(name: str, method: str, *arguments: object) -> float | None:
        """The answer, or None from a contestant that fails in the middle, which then drops out."""
        outcome = comparison.outcome(name)
        if outcome.status != "timed":
            return None
        try:
            return running[name](method, *arguments)
        except WorkerFailure as failure:
            outcome.status, outcome.reason = "failed", str(failure)
            return None

    names = [outcome.name for outcome in comparison.outcomes if outcome.name in running]
    for done, name in enumerate(names):
        watch(f"{case.name}: {name} calibrates", done, total)
        time.sleep(settings.settle)
        epochs = ask(name, "calibrate", settings.seconds)
        comparison.outcome(name).epochs = None if epochs is None else int(epochs)
    for r in range(settings.rounds):
        # Another one begins each time, so that no place in the order is always the same contestant's.
        first = r % max(len(names), 1)
        for done, name in enumerate(names[first:] + names[:first]):
            watch(f"{case.name}: round {r + 1}/{settings.rounds}, {name}", (r + 1) * len(names) + done, total)
            time.sleep(settings.settle)
            outcome = comparison.outcome(name)
            seconds = ask(name, "time", outcome.epochs)
            if seconds is not None and outcome.epochs:
                outcome.seconds_per_step.append(seconds / (outcome.epochs * case.steps))
    for name in names:
        growth = ask(name, "memory_growth")
        comparison.outcome(name).memory_bytes = None if growth is None else int(growth)
    watch(f"{case.name}: done", total, total)
