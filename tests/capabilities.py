"""What each backend can do: every feature of the code, tried on every backend and compared with the reference.

    python tests/capabilities.py

writes docs/capabilities.md. The features come from the code's own tables and signatures, so that a new activation or a
new argument has a row here before anybody thinks of it; tests/probes says how each is tried.
"""

import contextlib
import itertools
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from conftest import FACTORIES, assert_same, gpu_found
from probes import BY_DESIGN, GROUPS

from accelnn import AccelnnError
from accelnn.backends import BACKENDS
from accelnn.network import DTYPES

TABLE = Path(__file__).parent.parent / "docs" / "capabilities.md"

INTRODUCTION = """\
# What every backend can do

Made by `python tests/capabilities.py`; `tests/test_capabilities.py` holds it to the code. The features are read from
the code's own tables and signatures. Each was tried in float32 and float64 on a small network, and "yes" means the
results of the reference bodies to a relative 1e-4 and 1e-10. `cupy` ran on the device double, which runs the CUDA
kernels in an emulator, not on hardware. What a backend refuses or leaves unused by design is said in words.
"""


class Feature(NamedTuple):
    """One capability: `probe` takes a backend and a dtype, and gives arrays, or words for what is so by design."""

    group: str
    name: str
    probe: Callable


FEATURES = [Feature(group, name, probe) for group, probes in GROUPS.items() for name, probe in probes.items()]


@cache
def backend(name: str):
    """One backend of each name for all probes."""
    return FACTORIES[name]()


@cache
def expected(feature: Feature, dtype: str) -> list:
    """The results of the reference bodies on NumPy arrays."""
    return feature.probe(backend("reference"), dtype)


def attempt(feature: Feature, name: str, dtype: str) -> str:
    """Try a feature in one precision: "yes", or what a backend says instead."""
    try:
        results = feature.probe(backend(name), dtype)
    except AccelnnError as refusal:
        if (feature.name, name) not in BY_DESIGN:
            raise
        return f"refused: {refusal}"
    if isinstance(results, str):
        return results
    for actual, wanted in zip(results, expected(feature, dtype), strict=True):
        assert_same(actual, wanted, dtype, f"{feature.name} on {name}")
    return "yes"


@cache
def outcome(feature: Feature, name: str) -> tuple[str, Exception | None]:
    """A cell of the table, and what went wrong where it is empty."""
    try:
        with gpu_found() if name == "cupy" else contextlib.nullcontext():
            words = {attempt(feature, name, dtype) for dtype in DTYPES}
        assert len(words) == 1, f"{feature.name} on {name} depends on the precision: {words}"
        (cell,) = words
        assert (cell != "yes") is ((feature.name, name) in BY_DESIGN), f"{feature.name} on {name}: {cell!r}"
    except Exception as fault:
        return "", fault
    return cell, None


def cells(feature: Feature) -> tuple[str, ...]:
    """What is said of a feature, a cell a backend."""
    return tuple(outcome(feature, name)[0] for name in BACKENDS)


def table() -> str:
    """The page: features of one group that have the same cells share a row."""
    lines = [f"| | | {' | '.join(BACKENDS)} |", f"|{'---|' * (len(BACKENDS) + 2)}"]
    for group, features in itertools.groupby(FEATURES, key=lambda feature: feature.group):
        rows: dict[tuple[str, ...], list[str]] = {}
        for feature in features:
            rows.setdefault(cells(feature), []).append(feature.name)
        for row, names in rows.items():
            lines.append(f"| {' | '.join([group, ', '.join(names), *row])} |")
            group = ""
    return "\n".join([INTRODUCTION, *lines, ""])


def main() -> int:
    """Write the table; 1 where a cell is empty."""
    if "cupy" not in FACTORIES:
        sys.exit("the emulator compiles cupy's kernels with g++, which is not installed")
    TABLE.write_text(table(), encoding="utf-8")
    faults = [fault for feature in FEATURES for name in BACKENDS if (fault := outcome(feature, name)[1]) is not None]
    for fault in faults:
        print(repr(fault), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
