"""Memory that `fit` needs beyond what its caller holds, against what the equations need: ``python bench/memory.py``.

The equations need the data in the network's dtype and memory order (nothing, where they come so), three vectors of
theta's length (the gradient and Adam's two moments), and one batch's activations and gradients. Each network is
trained in a fresh process, after a small one that loads the library and the kernels. Writes memory.json into
bench/results/.
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

from accelnn.benchmark.machine import machine

MIB = 2**20
# sizes, examples, batch
NETWORKS = {
    "64-100-10": ((64, 100, 10), 20_000, 200),
    "784-256-128-10": ((784, 256, 128, 10), 20_000, 128),
    "784-1024-1024-10": ((784, 1024, 1024, 10), 20_000, 256),
    "2048-2048-2048-10": ((2048, 2048, 2048, 10), 4096, 1024),
}


def needed(sizes: tuple[int, ...], examples: int, batch: int, copied: bool) -> dict[str, int]:
    """Bytes in float32 of each part of the sum."""
    theta = sum(n * n_prev + n for n_prev, n in itertools.pairwise(sizes))
    return {
        "data": 4 * examples * (sizes[0] + sizes[-1]) if copied else 0,
        "three vectors of theta": 4 * 3 * theta,
        "a batch's activations and gradients": 4 * batch * 2 * sum(sizes[1:]),
    }


def measure(name: str, backend: str, copied: bool) -> int:
    """Bytes at the peak of `fit` beyond those before it; runs in a process of its own."""
    import numpy as np

    from accelnn import Network
    from accelnn.benchmark import memory

    sizes, examples, batch = NETWORKS[name]
    rng = np.random.default_rng(0)

    def fit(sizes: tuple[int, ...], m: int, batch: int) -> int:
        X = rng.standard_normal((m, sizes[0]), dtype="float32").T
        Y = np.zeros((m, sizes[-1]), dtype="float32").T
        Y[np.arange(m) % sizes[-1], np.arange(m)] = 1.0
        if copied:
            X, Y = X.astype("float64", order="C"), Y.astype("float64", order="C")
        net = Network(sizes, output="softmax", backend=backend)
        memory.reset_peak()
        before = memory.resident()
        net.fit(X, Y, optimizer="adam", learning_rate=1e-4, epochs=2, batch_size=batch)
        return memory.peak() - before

    fit((4, 4, 2), 64, 32)
    return fit(sizes, examples, batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append", choices=NETWORKS, help="by default all")
    parser.add_argument("--backend", action="append", choices=("numpy", "numba"), help="by default both")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, backend, kind = options.measure
        print(measure(name, backend, kind == "copied"))
        return

    rows = []
    for name in options.network or NETWORKS:
        for backend in options.backend or ("numpy", "numba"):
            for kind in ("in place", "copied"):
                command = [sys.executable, __file__, "--measure", name, backend, kind]
                result = subprocess.run(command, check=True, capture_output=True, text=True)
                grown, parts = int(result.stdout), needed(*NETWORKS[name], kind == "copied")
                total = sum(parts.values())
                rows.append(
                    {"network": name, "backend": backend, "data": kind, "grown": grown, "needed": total}
                    | {"parts": parts}
                )
                print(
                    f"{name:18} {backend:6} data {kind:8}  grown {grown / MIB:8.1f} MiB",
                    f"needed {total / MIB:8.1f} MiB  ratio {grown / total:.2f}",
                    sep="  ",
                )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "memory.json").write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
