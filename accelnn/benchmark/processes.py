"""The parent's side of a worker: start it with equal thread counts, call it, end it."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from accelnn.benchmark import messages
from accelnn.benchmark.cases import Case
from accelnn.benchmark.contestants import Entry

__all__ = ["THREADS", "Process", "WorkerFailure", "busy_core"]

# How each library is told its number of threads, before it is imported. NPROC is the size of XLA's pool (JAX).
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ACCELNN_NUM_THREADS",
    "NPROC",
)


class WorkerFailure(Exception):  # noqa: N818 (a contestant's failure is a result here)
    """A contestant cannot go on; the message is one line."""


class Process:
    """A worker, called as if it were here: ``process("time", 3)``."""

    def __init__(self, entry: Entry, case: Case, threads: int):
        # What it prints is read only where it dies.
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the worker)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "accelnn.benchmark.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, **dict.fromkeys(THREADS, str(threads))},
            # Ctrl-C reaches the parent alone, which ends its workers.
            start_new_session=True,
        )
        self.send(messages.introduction(entry, case, threads))

    def send(self, message: Any) -> None:
        """A process that is gone says so when it is asked for an answer."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            messages.send(self.process.stdin, message)  # type: ignore[arg-type]

    def __call__(self, method: str, *arguments: Any) -> Any:
        """The answer of the worker's method of this name."""
        self.send((method, *arguments))
        assert self.process.stdout is not None
        try:
            good, answer = messages.receive(self.process.stdout)  # type: ignore[arg-type]
        except (EOFError, ValueError):
            raise WorkerFailure(self.last_words()) from None
        if not good:
            raise WorkerFailure(answer)
        return answer

    def last_words(self) -> str:
        """Why the process is gone."""
        code = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "without a word")
        return f"its process ended with code {code}: {last}"

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


@contextlib.contextmanager
def busy_core(wanted: bool) -> Iterator[None]:
    """Another process that holds one core, as on a machine that is shared."""
    if not wanted:
        yield
        return
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"], start_new_session=True) as process:
        try:
            yield
        finally:
            process.kill()
