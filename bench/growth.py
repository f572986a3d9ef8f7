"""How the time of a step grows with width, depth and batch, beside the floor: ``python bench/growth.py``.

Writes growth.png and growth.json into bench/results/. Where the curve leaves the floor, something besides the matrix
products costs time; where both bend, a cache is full.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from accelnn.benchmark.cases import Case
from accelnn.benchmark.contestants import ENTRIES
from accelnn.benchmark.machine import machine
from accelnn.benchmark.processes import Process
from accelnn.threads import thread_count

CONTESTANTS = ("accelnn numba", "floor")
# So small a learning rate that the widest network stays finite: nothing is learnt here.
BASE = Case("base", (256, 256, 256, 10), "relu", "softmax", "cross_entropy", "sgd", 1e-6, 128, 512)


@dataclass(frozen=True)
class Panel:
    """One question: the cases along an axis, the rest at `BASE`."""

    axis: str
    values: list[int]

    def case(self, value: int) -> Case:
        """With one thing changed."""
        if self.axis == "width":
            return replace(BASE, sizes=(value, value, value, 10))
        if self.axis == "depth":
            return replace(BASE, sizes=(*[256] * value, 10))
        # At least a few steps an epoch, and no batch larger than the data.
        return replace(BASE, batch_size=value, examples=max(512, value))


def doublings(first: int, last: int, limit: int) -> list[int]:
    """``first, 2 first, ... last``, none above the limit."""
    return [value for value in (first << k for k in range(20)) if value <= min(last, limit)]


def seconds_per_step(case: Case, threads: int, rounds: int, seconds: float) -> dict[str, float]:
    """The median of interleaved rounds."""
    processes = {name: Process(ENTRIES[name], case, threads) for name in CONTESTANTS}
    try:
        epochs = {}
        for name, process in processes.items():
            process("prepare", 1)
            epochs[name] = process("calibrate", seconds)
        taken: dict[str, list[float]] = {name: [] for name in processes}
        for _ in range(rounds):
            for name, process in processes.items():
                time.sleep(0.1)
                taken[name].append(process("time", epochs[name]) / (epochs[name] * case.steps))
        return {name: float(np.median(values)) for name, values in taken.items()}
    finally:
        for process in processes.values():
            process.close()


def draw(results: dict[str, list[dict]], heading: str, path: Path) -> None:
    """Three panels, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(results), figsize=(4.2 * len(results), 4), layout="constrained")
    for axes, (axis, points) in zip(panels, results.items(), strict=True):
        for name, style in zip(CONTESTANTS, ("o-", "s--"), strict=True):
            axes.loglog(
                [point["value"] for point in points], [point[name] for point in points], style, label=name, markersize=4
            )
        axes.set(xlabel=axis, title=points[0]["note"])
        axes.set_xscale("log", base=2)
        axes.set_xticks([point["value"] for point in points], [str(point["value"]) for point in points], fontsize=7)
        axes.title.set_fontsize(8)
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("seconds a step")
    panels[0].legend()
    figure.suptitle(heading, fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=4096, help="the largest width and batch")
    parser.add_argument("--depth", type=int, default=32, help="the largest number of layers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a round")
    parser.add_argument("--threads", type=int, default=thread_count())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()

    panels = [
        Panel("width", doublings(64, 4096, options.limit)),
        Panel("depth", doublings(2, 32, options.depth)),
        Panel("batch", doublings(1, 4096, options.limit)),
    ]
    notes = {
        "width": "n-n-n-10, batch 128",
        "depth": "layers of 256 units, batch 128",
        "batch": "256-256-256-10",
    }
    results: dict[str, list[dict]] = {}
    for panel in panels:
        points = results[panel.axis] = []
        for value in panel.values:
            times = seconds_per_step(panel.case(value), options.threads, options.rounds, options.seconds)
            points.append({"value": value, "note": notes[panel.axis], **times})
            print(f"{panel.axis} {value:5}", *(f"{name} {1e6 * times[name]:.1f} µs" for name in CONTESTANTS), sep="  ")
    where = machine()
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"machine": where, "threads": options.threads, "results": results}
    (options.out / "growth.json").write_text(json.dumps(content, indent=1))
    draw(results, f"{where['cpu']}, {options.threads} thread(s), float32, SGD", options.out / "growth.png")


if __name__ == "__main__":
    main()
