"""Memory of this process: what it holds, and the most that it has held since a moment."""

import sys
from pathlib import Path

__all__ = ["peak", "reset_peak", "resident"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Let `peak` start from here; only Linux can, elsewhere an earlier peak hides growth below it."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def resident() -> int:
    """Bytes that lie in memory now (where the system does not say, the most so far)."""
    return _status("VmRSS") if _STATUS.exists() else _maximum()


def peak() -> int:
    """The most bytes since `reset_peak`."""
    # Not ru_maxrss on Linux: a new process inherits its parent's.
    return _status("VmHWM") if _STATUS.exists() else _maximum()


def _status(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])


def _maximum() -> int:
    if sys.platform == "win32":  # no `resource` there
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
