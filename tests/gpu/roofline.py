"""What a step moves and computes, against the least that it could, and how long that takes an H100, on paper.

    python tests/gpu/roofline.py

writes the table that stands beside the kernels. Each launch of a recorded step knows the least bytes and operations of
its work; the emulator counts those that the kernel's threads really load, store and multiply, before any cache. cuBLAS
is not counted, and taken to need the least.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# An NVIDIA H100 SXM, by its data sheet: memory, float32 arithmetic, multiprocessors; each of these takes at most 64
# bytes a clock cycle from the second-level cache (1.755 GHz).
BANDWIDTH, ARITHMETIC, MULTIPROCESSORS = 3.35e12, 67e12, 132
BANDWIDTH_OF_ONE = 64 * 1.755e9
LAUNCH = 2.5e-6  # seconds from one small kernel to the next on a stream

NETWORKS = (
    "2-4-1",
    "20-64-64-1",
    "64-100-10",
    "4-32-16-4",
    "784-256-128-10",
    "784-1024-1024-10",
    "2048-2048-2048-10",
)


@dataclass(frozen=True)
class Cost:
    """One launch of a step.

    Attributes
    ----------
    kernel : str
    blocks : int
        0 for cuBLAS.
    least_bytes, bytes, least_operations, operations : int
    """

    kernel: str
    blocks: int
    least_bytes: int
    bytes: int
    least_operations: int
    operations: int

    @property
    def floor(self) -> float:
        """Seconds: a launch, and the slower of moving and computing no more than must be."""
        return LAUNCH + max(self.least_bytes / BANDWIDTH, self.least_operations / ARITHMETIC)

    @property
    def seconds(self) -> float:
        """The same with what is really moved and computed, on the multiprocessors that have a block."""
        if not self.blocks:
            return self.floor
        share = min(1.0, self.blocks / MULTIPROCESSORS)
        bandwidth = min(BANDWIDTH, self.blocks * BANDWIDTH_OF_ONE)
        return LAUNCH + max(self.bytes / bandwidth, self.operations / (ARITHMETIC * share))


def step_costs(name: str) -> list[Cost]:
    """Every launch of a step of a benchmark's case, as the cupy backend makes it on the device double."""
    from conftest import make_cupy_backend
    from gpu.double.kernels import program

    from accelnn import Network
    from accelnn.benchmark.cases import CASES, problem

    case = CASES[name]
    given = problem(case)
    net = Network(case.sizes, case.activation, case.output, case.loss, dtype=case.dtype, backend=make_cupy_backend())
    X, Y = net.check(given.X[:, : 2 * case.batch_size], given.Y[:, : 2 * case.batch_size])
    kept = []
    train = net.backend.train
    net.backend.train = lambda *arguments: (train(*arguments), kept.append(arguments))
    net.fit(X, Y, epochs=1, batch_size=case.batch_size, optimizer=case.optimizer, learning_rate=case.learning_rate)
    work = next(value for value in kept[0] if hasattr(value, "programs"))
    recorded, *_ = next(iter(work.programs.values()))
    costs = []
    for launch in recorded.launches:
        if not launch.grid:
            costs.append(Cost(launch.name, 0, launch.bytes, launch.bytes, launch.operations, launch.operations))
            continue
        with net.backend.context():
            work.clock.fill(0)  # the tables have rows for the steps of this fit alone
            launch.run(*launch.arguments)
        counts = program(launch.run._module.code).kernels[launch.name].counts()
        blocks = launch.grid[0] * launch.grid[1] * launch.grid[2]
        moved = counts.bytes_read + counts.bytes_written
        costs.append(Cost(launch.name, blocks, launch.bytes, moved, launch.operations, counts.operations))
    return costs


def row(name: str, costs: list[Cost]) -> str:
    """A line of the summary: a step of one network."""
    kind = "narrow" if all(cost.blocks for cost in costs) else "with cuBLAS"
    floor, seconds = sum(c.floor for c in costs), sum(c.seconds for c in costs)
    least, moved = sum(c.least_bytes for c in costs), sum(c.bytes for c in costs)
    return (
        f"| {name} | {kind} | {len(costs)} | {least / 1e6:.3f} | {moved / 1e6:.3f} | "
        f"{sum(c.least_operations for c in costs) / 1e6:.3f} | {sum(c.operations for c in costs) / 1e6:.3f} | "
        f"{1e6 * floor:.1f} | {1e6 * seconds:.1f} | {seconds / floor:.2f} |"
    )


def kernel_rows(name: str, costs: list[Cost]) -> Iterator[str]:
    """A line for each launch."""
    for cost in costs:
        operations = f"{cost.least_operations:,} | {cost.operations:,}" if cost.least_operations else "- | -"
        blocks = cost.blocks or "-"
        yield f"| {name} | {cost.kernel} | {blocks} | {cost.least_bytes:,} | {cost.bytes:,} | {operations} |"


_HEAD = """# What a step costs, on paper

Nothing here was measured on a GPU. A step of each network of the benchmark (float32, SGD, shuffled batches where there
are several), as the cupy backend launches it. The least: each input of a launch read once, each result written once.
Moved: what the kernel's threads load and store, counted in the emulator, before any cache. Operations: those of the
products. cuBLAS is taken to need the least.

Roofline of a launch on an H100: {launch:.1f} us, and the longer of its least bytes at {bandwidth:.2f} TB/s and its
least operations at {arithmetic:.0f} TFLOP/s. On paper: the same with what is moved and computed, where a kernel with
fewer blocks than the {multiprocessors} multiprocessors has only their share of the arithmetic, and 64 bytes a cycle
for each.

Made by `python tests/gpu/roofline.py`; `tests/gpu/test_roofline.py` counts the narrow networks again.

| network | step | launches | least MB | moved MB | least Mflop | done Mflop | roofline, us | on paper, us | ratio |
|---|---|---|---|---|---|---|---|---|---|
"""

_KERNELS = """
## Launch by launch

| network | kernel | blocks | least bytes | moved bytes | least operations | operations |
|---|---|---|---|---|---|---|
"""


def table() -> str:
    """Markdown, for all networks."""
    found = {name: step_costs(name) for name in NETWORKS}
    head = _HEAD.format(
        launch=1e6 * LAUNCH, bandwidth=BANDWIDTH / 1e12, arithmetic=ARITHMETIC / 1e12, multiprocessors=MULTIPROCESSORS
    )
    summary = "".join(f"{row(name, costs)}\n" for name, costs in found.items())
    kernels = "".join(f"{line}\n" for name, costs in found.items() for line in kernel_rows(name, costs))
    return head + summary + _KERNELS + kernels


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from accelnn.kernels import cuda

    Path(cuda.__file__).with_name("ROOFLINE.md").write_text(table(), encoding="utf-8")
