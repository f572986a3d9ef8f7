"""Who takes part: one module for each way to train, by name, with what it needs."""

import importlib.util
from dataclasses import dataclass

from accelnn.backends import BACKENDS, why_unavailable

__all__ = ["ENTRIES", "FAMILIES", "Entry", "why_missing"]


@dataclass(frozen=True)
class Entry:
    """A contestant, before anything of it is imported.

    Attributes
    ----------
    name : str
        In tables.
    family : str
        What the options call it: ``"accelnn"``, ``"torch"``, ...; ``"reference"`` always takes part.
    module : str
        Where its ``create(problem, threads)`` is.
    needs : tuple of str
        Modules whose import is timed as its own.
    install : str
        The command that installs them.
    backend : str
        Of accelnn; for the others empty.
    tolerance : float
        Of the parity check, where a formula of its own makes the dtype's too narrow.
    """

    name: str
    family: str
    module: str
    needs: tuple[str, ...]
    install: str = ""
    backend: str = ""
    tolerance: float = 0.0


_HERE = "accelnn.benchmark.contestants"

ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("floor", "reference", f"{_HERE}.floor", ("numpy",)),
        *(
            Entry(f"accelnn {name}", "accelnn", f"{_HERE}.network", (f"accelnn.backends.{name}",), backend=name)
            for name in BACKENDS
        ),
        Entry("textbook", "reference", f"{_HERE}.textbook", ("numpy",)),
        Entry("torch", "torch", f"{_HERE}.pytorch", ("torch",), "pip install torch"),
        Entry("torch.compile", "torch", f"{_HERE}.pytorch_compiled", ("torch",), "pip install torch"),
        Entry("jax jit", "jax", f"{_HERE}.jax_step", ("jax", "optax"), "pip install jax optax"),
        Entry("jax scan", "jax", f"{_HERE}.jax_scan", ("jax", "optax"), "pip install jax optax"),
        # It adds Adam's epsilon before the bias correction of the second moment, not after it.
        Entry(
            "sklearn",
            "sklearn",
            f"{_HERE}.scikit",
            ("sklearn.neural_network",),
            "pip install scikit-learn",
            tolerance=1e-5,
        ),
    )
}

FAMILIES = ("torch", "jax", "sklearn")


def why_missing(entry: Entry) -> str | None:
    """None where a contestant can be started, else what is missing and the command that installs it."""
    if entry.backend:
        return why_unavailable(entry.backend)
    missing = [name for name in entry.needs if importlib.util.find_spec(name.partition(".")[0]) is None]
    return f"{' and '.join(missing)} not installed; run: {entry.install}" if missing else None
