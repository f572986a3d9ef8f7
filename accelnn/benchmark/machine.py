"""Where figures come from: the processor, the system and the versions of every library that takes part."""

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import accelnn
from accelnn.threads import thread_count

__all__ = ["cpu_model", "machine", "versions"]

LIBRARIES = (
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "scikit-learn",
    "torch",
    "jax",
    "jaxlib",
    "optax",
    "cupy-cuda12x",
    "cupy-cuda13x",
)


def cpu_model() -> str:
    """The processor's own name."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of those that are installed."""
    found = {"python": platform.python_version(), "accelnn": accelnn.__version__}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Nothing that names its owner: no host name, no folders."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": thread_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
