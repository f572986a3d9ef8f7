"""How many threads to compute with: what the user says, else what the environment and the machine allow."""

import os
import sys

from accelnn.errors import DataError

__all__ = ["VARIABLES", "thread_count"]

# In order: ours, then those that joblib, batch systems and users set for any numerical library.
VARIABLES = ("ACCELNN_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def thread_count(threads: int | None = None) -> int:
    """The number of threads for one computation.

    Parameters
    ----------
    threads : int, optional
        None: the first of the environment variables `VARIABLES` that is set, but no more than the processors that
        this process may use; and 1 inside a task of joblib's threads, which fill the processors already.

    Raises
    ------
    DataError
        For a number below 1, here or in the environment.
    """
    if threads is not None:
        return threads
    available = _processors()
    if _inside_joblib():
        return 1
    for name in VARIABLES:
        text = os.environ.get(name, "").partition(",")[0].strip()  # OpenMP takes one number for each level of nesting
        if text:
            if not text.isdecimal() or int(text) < 1:
                raise DataError(f"{name}: {text!r} in the environment is no number of threads; set it to 1 or more")
            return min(int(text), available)
    return available


def _processors() -> int:
    """Processors that this process may use: its affinity, and the share of a container."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return count


def _inside_joblib() -> bool:
    joblib = sys.modules.get("joblib.parallel")
    if joblib is None:
        return False
    backend, _ = joblib.get_active_backend()
    return bool(getattr(backend, "nesting_level", 0))
