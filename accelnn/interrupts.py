"""SIGTERM and Ctrl-C, kept until somebody has time for them."""

import signal
import threading
from typing import Any

__all__ = ["Interrupts"]


class Interrupts:
    """Keeps a signal until it is let through; idle in other threads than the main one, which alone receives any.

    Attributes
    ----------
    pending : int or None
        The signal that has come.
    """

    def __init__(self) -> None:
        self.pending: int | None = None
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Keep signals from now on; those that are ignored stay so."""
        self.pending = None
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) not in (None, signal.SIG_IGN):  # None: somebody has set it from C
                self._before[number] = signal.signal(number, self._keep)

    def let_through(self) -> None:
        """Do what the kept signal would have done: KeyboardInterrupt, SystemExit, or what a program has set for it."""
        number, self.pending = self.pending, None
        handler = self._before.get(number) if number is not None else None
        if callable(handler):
            handler(number, None)
        elif handler == signal.SIG_DFL and number is not None:
            raise SystemExit(128 + number)

    def leave(self) -> None:
        """Give signals back to who had them before, and let through what has come meanwhile."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        try:
            if self.pending is not None:
                self.let_through()
        finally:
            self._before = {}

    def _keep(self, number: int, frame: Any) -> None:
        if self.pending is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait
        self.pending = number
