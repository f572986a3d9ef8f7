"""Training from a file that is five times as large as memory may be, beside the same in memory.

``python bench/streaming.py`` writes a file, trains on it in turn in a process whose memory is capped by a cgroup,
reading from the disk, and in one that holds all of it, and writes streaming.json and streaming.md into bench/results/.
Each round begins with a file that the operating system has dropped from its cache. Both must end with the same loss.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from accelnn.benchmark.machine import machine

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import capped

RESULTS = Path(__file__).parent / "results"
CAP = 512 * 2**20
WINDOWS = 2**26
FEATURES = 100
ROWS = 5 * CAP // (4 * FEATURES)
SIZES = {
    "100-256-256-10, batch 256": ([FEATURES, 256, 256, 10], 256),
    "100-64-10, batch 256": ([FEATURES, 64, 10], 256),
}

CODE = """
import json, sys, time
import numpy as np
from accelnn import Network, Stream
from accelnn.streaming import StreamFeed
path, rows, memory, sizes, size, streams = json.loads(sys.argv[1])
X = np.memmap(path, np.float32, "r", shape=(rows, sizes[0]))
y = np.arange(rows, dtype=np.int64) % 10
options = dict(batch_size=size, learning_rate=0.01, epochs=1)
warm = Network(sizes, output="softmax", backend="numba")
warm.fit(X[:4096].T, y[:4096], **options)
net = Network(sizes, output="softmax", backend="numba")
data = Stream(X.T, y, memory=memory)
if streams:
    given = (data,)
else:
    # The same batches, laid out in memory before the clock starts.
    order = StreamFeed(data, net, size, True).order(0)
    given = (np.array(X)[order].T, y[order])
    options["shuffle"] = False
start = time.perf_counter()
history = net.fit(*given, **options)
print(json.dumps({"speed": rows / (time.perf_counter() - start), "loss": history.loss[-1]}))
"""


def forget(path: Path) -> None:
    """Drop a file from the operating system's cache."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def written(path: Path) -> None:
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, ROWS, 2**16):
            file.write(rng.standard_normal((min(2**16, ROWS - start), FEATURES), np.float32).tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    found: list[dict[str, Any]] = []
    how, most = "", 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.bin"
        written(path)
        for name, (sizes, size) in SIZES.items():
            speeds: dict[str, list[float]] = {"streamed": [], "in memory": []}
            losses = set()
            for _ in range(rounds):
                for kind in speeds:
                    forget(path)
                    arguments = json.dumps([str(path), ROWS, WINDOWS, sizes, size, kind == "streamed"])
                    if kind == "streamed":
                        printed, peak, how = capped.run(CODE, arguments, limit=CAP)
                        most = max(most, peak or 0)
                    else:
                        run = [sys.executable, "-c", CODE, arguments]
                        printed = subprocess.run(run, capture_output=True, text=True, check=True).stdout
                    answer = json.loads(printed)
                    speeds[kind].append(answer["speed"])
                    losses.add(answer["loss"])
            assert len(losses) == 1, losses
            ratios = [a / b for a, b in zip(speeds["streamed"], speeds["in memory"], strict=True)]
            found.append({"network": name, **speeds, "ratios": ratios})
            print(name, {kind: f"{median(values):,.0f}" for kind, values in speeds.items()}, f"{median(ratios):.2f}")
    about = {"machine": machine(), "cap": CAP, "capped by": how, "peak": most, "file": 4 * FEATURES * ROWS}
    text = json.dumps({**about, "windows": WINDOWS, "results": found}, indent=1)
    (RESULTS / "streaming.json").write_text(text + "\n")
    lines = [
        "# Training on a file larger than memory",
        "",
        f"A file of {about['file'] / 2**20:,.0f} MiB ({ROWS:,} rows of {FEATURES} float32) on disk, dropped from the",
        f"cache before each run; the process that streams has {CAP >> 20} MiB in all ({how}), of which",
        f"{WINDOWS >> 20} MiB are two windows; the one in memory has what it needs, its batches laid out beforehand.",
        "One epoch with numba;",
        f"medians of {rounds} rounds in turn, [least, most]. Both end with the same loss, to the last bit.",
        "",
        "| network | streamed, examples a second | in memory | ratio |",
        "|---|---|---|---|",
    ]
    for row in found:
        cells = [f"{median(row[k]):,.0f} [{min(row[k]):,.0f}, {max(row[k]):,.0f}]" for k in ("streamed", "in memory")]
        ratio = f"{median(row['ratios']):.2f} [{min(row['ratios']):.2f}, {max(row['ratios']):.2f}]"
        lines.append(f"| {row['network']} | {cells[0]} | {cells[1]} | {ratio} |")
    told = ", ".join(f"{key} {value}" for key, value in machine().items())
    lines += ["", f"{told}. Made by `python bench/streaming.py`.", ""]
    (RESULTS / "streaming.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
