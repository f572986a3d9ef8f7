"""One contestant in a process of its own: ``python -m accelnn.benchmark.worker``.

Messages come in on standard input: first the entry, the case and the number of threads, then calls as
``[method, *arguments]``. Each is answered with ``[True, value]`` or ``[False, reason]``. Nothing that a contestant
needs is imported before its own time is taken.
"""

import gc
import importlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from accelnn.benchmark import memory, messages
from accelnn.errors import AccelnnError

if TYPE_CHECKING:
    from accelnn.benchmark.cases import Case
    from accelnn.benchmark.contestants import Entry

__all__ = ["Worker", "main"]


class Worker:
    """What the parent may ask for."""

    def __init__(self, entry: "Entry", case: "Case", threads: int):
        self.entry, self.case, self.threads = entry, case, threads

    def prepare(self, epochs: int) -> dict[str, Any]:
        """Import, place the data, train one epoch, then `epochs` from the common start."""
        began = time.perf_counter()
        for name in self.entry.needs:
            importlib.import_module(name)
        import_seconds = time.perf_counter() - began

        from accelnn.benchmark.cases import problem

        module = importlib.import_module(self.entry.module)
        options = {"backend": self.entry.backend} if self.entry.backend else {}
        self.contestant = module.create(problem(self.case), self.threads, **options)
        self.contestant.reset()
        memory.reset_peak()
        self.memory_before = memory.resident()
        first_fit_seconds = self.time(1)
        self.time(epochs)
        return {
            "import_seconds": import_seconds,
            "first_fit_seconds": first_fit_seconds,
            "parameters": self.contestant.parameters(),
        }

    def time(self, epochs: int) -> float:
        """Seconds of training, from the common start."""
        self.contestant.reset()
        gc.collect()
        began = time.perf_counter()
        self.contestant.train(epochs)
        return time.perf_counter() - began

    def calibrate(self, seconds: float) -> int:
        """Epochs that fit into `seconds`, at least one."""
        epochs = 1
        while True:
            taken = self.time(epochs)
            if taken >= 0.2 * seconds:
                return max(1, round(epochs * seconds / taken))
            epochs *= 2

    def memory_growth(self) -> int:
        """Bytes at the peak beyond those before the first epoch, with the data in place."""
        return max(0, memory.peak() - self.memory_before)


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    calls = sys.stdin.buffer
    worker = Worker(*messages.introduced(messages.receive(calls)))
    while True:
        try:
            method, *arguments = messages.receive(calls)
        except EOFError:
            return
        answer: tuple[bool, Any]
        try:
            answer = True, getattr(worker, method)(*arguments)
        except AccelnnError as problem:
            answer = False, str(problem)
        except Exception as problem:  # whatever a library raises is a reason to leave it out
            lines = [line for line in str(problem).splitlines() if line.strip()]
            answer = False, f"{type(problem).__name__}: {lines[0].strip() if lines else 'no message'}"
        messages.send(answers, answer)


if __name__ == "__main__":
    main()
