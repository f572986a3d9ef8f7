"""The compiled product beside a BLAS, on one thread and on the shapes of a step: ``python bench/products.py``.

``OPENBLAS_NUM_THREADS=1`` or its like must be set for NumPy's own BLAS; ``--mkl libmkl_rt.so.3`` adds Intel's. Every
product is checked against NumPy's before it is timed. Writes products.json into bench/results/.
"""

import argparse
import ctypes
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from accelnn.backends.numba import _multiply_kernel
from accelnn.benchmark.machine import machine
from accelnn.kernels.products import scratch_length

# Inputs and units of a layer, and the examples of one member's share.
LAYERS = [(64, 100, 100), (784, 256, 64), (256, 128, 64), (1024, 1024, 128), (2048, 2048, 512)]
Product = tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int], tuple[int, int]]


def products(k: int, n: int, m: int) -> dict[str, Product]:
    """A, B, C and the strides of A and B, for a layer of k inputs and n units."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype("float32")

    A, W, dZ = draw(m, k), draw(k, n), draw(m, n)
    return {
        "forward": (A, W, np.empty((m, n), "float32"), (k, 1), (n, 1)),
        "dA": (dZ, W.T, np.empty((m, k), "float32"), (n, 1), (1, n)),
        "dW": (A.T, dZ, np.empty((k, n), "float32"), (1, k), (n, 1)),
    }


def ours(product: Product) -> Callable[[], Any]:
    A, B, C, A_strides, B_strides = product
    (m, k), n = A.shape, B.shape[1]
    scratch = np.empty(scratch_length(max(m, n, k), 4), "float32")
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    matrix, rows = (pointer, integer, integer), (pointer, integer)
    kernel = ctypes.CFUNCTYPE(None, *matrix, *matrix, *rows, *rows, *(integer,) * 3, ctypes.c_float, pointer)(
        _multiply_kernel("float32")
    )
    start = [array.ctypes.data for array in (A, B, C, scratch)]
    arguments = (start[0], *A_strides, start[1], *B_strides, start[2], n, None, 0, m, n, k, 1.0, start[3])
    return lambda alive=scratch: kernel(*arguments)


def by_mkl(path: str, product: Product) -> Callable[[], Any]:
    A, B, C, A_strides, B_strides = product
    gemm = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL).cblas_sgemm
    pointer, integer, number = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
    gemm.argtypes = [*(integer,) * 6, number, pointer, integer, pointer, integer, number, pointer, integer]
    (m, k), n = A.shape, B.shape[1]
    row_major, plain, transposed = 101, 111, 112
    kinds = [plain if strides[1] == 1 else transposed for strides in (A_strides, B_strides)]
    steps = [max(strides) for strides in (A_strides, B_strides)]
    data = [array.ctypes.data for array in (A, B, C)]
    return lambda: gemm(row_major, *kinds, m, n, k, 1.0, data[0], steps[0], data[1], steps[1], 0.0, data[2], n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mkl", help="path of libmkl_rt")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    os.environ["MKL_THREADING_LAYER"] = "SEQUENTIAL"
    rows = []
    for k, n, m in LAYERS:
        for name, product in products(k, n, m).items():
            A, B, C, *_ = product
            runs = {"accelnn": ours(product), "NumPy's BLAS": lambda A=A, B=B, C=C: np.dot(A, B, out=C)}
            if options.mkl:
                runs["MKL"] = by_mkl(options.mkl, product)
            for contestant, run in runs.items():
                C[:] = np.nan
                run()
                np.testing.assert_allclose(C, A @ B, rtol=1e-3, atol=1e-2, err_msg=contestant)
            work = 2 * A.shape[0] * A.shape[1] * B.shape[1]
            calls = max(1, int(2e9 / work))
            speeds: dict[str, list[float]] = {contestant: [] for contestant in runs}
            for _ in range(options.rounds):
                for contestant, run in runs.items():
                    began = time.perf_counter()
                    for _ in range(calls):
                        run()
                    speeds[contestant].append(calls * work / (time.perf_counter() - began) / 1e9)
            found = {contestant: round(float(np.median(values)), 1) for contestant, values in speeds.items()}
            rows.append({"layer": f"{k} to {n}", "examples": m, "product": name, "GFLOP/s": found})
            print(f"{k:4} to {n:4}, {m:3} examples, {name:7}", *(f"{c} {v:6.1f}" for c, v in found.items()), sep="  ")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "products.json").write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
