"""Each fault planted in a small kernel is caught by the layer named for it: results, the emulator or a sanitizer."""

import shutil

import numpy as np
import pytest
from gpu import emulator
from gpu.emulator import Program, sanitize
from gpu.emulator.cases import BLOCK_SUMS, SEEDS, BlockSums, Product, Softplus, is_right, with_real

if shutil.which(emulator.COMPILER) is None:
    pytest.skip(f"kernels are emulated with {emulator.COMPILER}, which is not installed", allow_module_level=True)


def plant(case, old, new):
    """The case's text with a fault, and the line where it is."""
    text = with_real(case.text)
    assert text.count(old) == 1
    return text.replace(old, new), text[: text.index(old)].count("\n") + 1


MISSING_BARRIERS = {
    "in a reduction": (BlockSums, (300,), "        __syncthreads();\n", ""),
    "before use": (Product, (9, 9, 20), "        __syncthreads();  // all is read\n", ""),
    "after use": (Product, (9, 9, 20), "        __syncthreads();  // all is used\n", ""),
}


@pytest.mark.parametrize("fault", MISSING_BARRIERS)
def test_a_missing_barrier_gives_wrong_results(fault):
    case, size, old, new = MISSING_BARRIERS[fault]
    launch = case(*size, np.float32, np.random.default_rng(3))
    kernel = Program(plant(case, old, new)[0]).kernels[case.kernel]
    assert not all(is_right(launch, kernel, seed, 1e-5) for seed in SEEDS)


@pytest.mark.parametrize("fault", MISSING_BARRIERS)
def test_a_missing_barrier_is_a_race(fault):
    case, size, old, new = MISSING_BARRIERS[fault]
    launch = case(*size, np.float32, np.random.default_rng(3))
    text, _ = plant(case, old, new)
    report = sanitize(text, case.kernel, (1, 1), launch.block, launch.arguments, "thread")
    assert "data race" in report
    assert "program.cu:" in report


# In one line, before the kernel. What the compiler sees in a function of its own says nothing of the array's size.
AIDS = (
    "typedef float real; struct alignas(8) float2 { float x, y; };"
    "__attribute__((noinline)) float element(const float* x, int i) { return x[i]; }"
)
OUTSIDE = {
    "off by one": (Softplus, (64,), "A[i] =", "A[i + 1] =", "heap-buffer-overflow"),
    "before the first": (Softplus, (64,), "softplus(Z[i])", "softplus(Z[i - 1])", "heap-buffer-overflow"),
    "unguarded tail": (Softplus, (50,), "if (i < n) A", "A", "heap-buffer-overflow"),
    "unguarded tail of a tile": (Product, (9, 8, 8), "row < m && start", "start", "heap-buffer-overflow"),
    "unguarded column": (Product, (8, 9, 8), "row < m && column < n) C", "row < m) C", "heap-buffer-overflow"),
    "shared": (BlockSums, (128,), "sums[blockIdx.x] = partial[0]", "sums[0] = element(partial, n)",
               "global-buffer-overflow"),
    "inner axis of shared": (Product, (8, 8, 8), "b[l][x]", "b[l][x + 1]", "out of bounds for type"),
    "misaligned": (Softplus, (64,), "softplus(Z[i])", "reinterpret_cast<const float2*>(Z + 1)->x", "misaligned"),
    "overflow": (Product, (8, 8, 8), "A[row * k", "A[row * (k << 27) / (1 << 27)", "signed integer overflow"),
}  # fmt: skip


@pytest.mark.parametrize("fault", OUTSIDE)
def test_an_access_outside_of_an_array_is_reported_with_its_line(fault):
    case, size, old, new, kind = OUTSIDE[fault]
    launch = case(*size, np.float32, np.random.default_rng(4))
    text, line = plant(case, old, new)
    text = text.replace("typedef float real;", AIDS)
    report = sanitize(text, case.kernel, launch.grid, launch.block, launch.arguments, "address")
    assert kind in report
    assert f"program.cu:{line}" in report
    if fault == "shared":
        assert "'partial'" in report


def test_unset_shared_memory_is_nan():
    launch = BlockSums(100, np.float32, np.random.default_rng(5))
    text, _ = plant(
        BlockSums, "partial[threadIdx.x] = i < n ? x[i] : real(0)", "if (i < n) partial[threadIdx.x] = x[i]"
    )
    kernel = Program(text).kernels["block_sums"]
    kernel.launch(launch.grid, launch.block, launch.arguments)
    assert np.isnan(launch.result).all()


# A block finds what it has not written itself: nothing.
LEFTOVERS = """
extern "C" __global__ void leftovers(double* reals, int* integers) {
    __shared__ double real;
    __shared__ int integer;
    reals[blockIdx.x] = real;
    integers[blockIdx.x] = integer;
    real = integer = 1;
}
"""


def test_shared_memory_keeps_nothing_from_block_to_block_or_launch_to_launch():
    kernel = Program(LEFTOVERS).kernels["leftovers"]
    for _ in range(2):
        reals, integers = np.zeros(5), np.zeros(5, np.int32)
        kernel.launch((5,), (1,), (reals, integers))
        assert np.isnan(reals).all()
        assert (integers == -1).all()


# Each thread adds to the cell: the order decides the rounding.
RACE = """
extern "C" __global__ void total(const float* x, float* y) {
    __shared__ float cell;
    if (threadIdx.x == 0) cell = 0;
    __syncthreads();
    cell += x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) y[blockIdx.x] = cell;
}
"""
NO_RACE = RACE.replace("cell +=", "if (threadIdx.x == 0) for (int i = 0; i < blockDim.x; i++) cell +=")
NO_RACE = NO_RACE.replace("x[threadIdx.x]", "x[i]")

# All blocks write to one place.
BLOCK_RACE = """
extern "C" __global__ void last(int* y) {
    y[0] = blockIdx.x;
}
"""
NO_BLOCK_RACE = BLOCK_RACE.replace("y[0]", "y[blockIdx.x]")


def outcomes(text, kernel, grid, block, arguments, result):
    """The different results under several seeds."""
    launch = Program(text).kernels[kernel].launch
    found = set()
    for seed in SEEDS:
        launch(grid, block, arguments, seed)
        found.add(result.tobytes())
    return len(found)


def test_a_race_between_threads_is_caught():
    x = np.random.default_rng(6).standard_normal(64).astype(np.float32)
    y = np.zeros(2, np.float32)
    assert outcomes(RACE, "total", (2,), (64,), (x, y), y) > 1
    assert outcomes(NO_RACE, "total", (2,), (64,), (x, y), y) == 1
    assert "program.cu:6" in sanitize(RACE, "total", (2,), (64,), (x, y), "thread")
    assert sanitize(NO_RACE, "total", (2,), (64,), (x, y), "thread") == ""


def test_a_race_between_blocks_is_caught():
    y = np.zeros(5, np.int32)
    assert outcomes(BLOCK_RACE, "last", (5,), (1,), (y,), y) > 1
    assert outcomes(NO_BLOCK_RACE, "last", (5,), (1,), (y,), y) == 1
    assert "program.cu:3" in sanitize(BLOCK_RACE, "last", (5,), (1,), (y,), "thread")
    assert sanitize(NO_BLOCK_RACE, "last", (5,), (1,), (y,), "thread") == ""


# A block reads what another writes, in whichever order they run.
BLOCK_READ = """
extern "C" __global__ void shift(int* y) {
    if (blockIdx.x == 0) y[0] = 1;
    else y[1] = y[0];
}
"""


def test_a_block_that_reads_what_another_writes_is_caught():
    y = np.zeros(2, np.int32)
    for seed in SEEDS:
        assert "data race" in sanitize(BLOCK_READ, "shift", (2,), (1,), (y,), "thread", seed)


DIVERGENCES = {
    "branch": ("if (threadIdx.x < 32) __syncthreads();", "some (have returned|wait in line 3), others"),
    "early return": ("if (threadIdx.x == 63) return; __syncthreads();", "have returned"),
    "two barriers": (
        "if (threadIdx.x < 32) __syncthreads();\nelse __syncthreads();",
        "line 3.* line 4|line 4.* line 3",
    ),
    "loop": ("for (int i = 0; i < threadIdx.x; i++) __syncthreads();", "have returned"),
}


@pytest.mark.parametrize("fault", DIVERGENCES)
def test_a_barrier_that_not_all_threads_reach_is_an_error(fault):
    statement, message = DIVERGENCES[fault]
    text = f'\nextern "C" __global__ void diverge(int* y) {{\n{statement}\ny[threadIdx.x] = 1;\n}}'
    y = np.zeros(64, np.int32)
    kernel = Program(text).kernels["diverge"]
    for seed in SEEDS:
        with pytest.raises(RuntimeError, match=f"kernel diverge.*not all threads reach the same barrier.*({message})"):
            kernel.launch((2,), (64,), (y,), seed)
    with pytest.raises(RuntimeError, match="not all threads reach the same barrier"):
        sanitize(text, "diverge", (2,), (64,), (y,), "thread")
    with pytest.raises(RuntimeError, match="not all threads reach the same barrier"):
        sanitize(text, "diverge", (2,), (64,), (y,), "address")


DIVERGE_IF = """
extern "C" __global__ void diverge_if(int yes) {
    if (!yes || threadIdx.x % 2 == 0) __syncthreads();
}
"""


def test_a_kernel_runs_after_one_that_failed():
    text = with_real(BLOCK_SUMS) + DIVERGE_IF
    kernels = Program(text).kernels
    launch = BlockSums(300, np.float32, np.random.default_rng(7))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="same barrier"):
            kernels["diverge_if"].launch((3,), (128,), (1,))
        kernels["diverge_if"].launch((3,), (128,), (0,))
        assert is_right(launch, kernels["block_sums"], 0, 1e-5)


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_a_crash_without_a_report_is_an_error(sanitizer):
    for statement in ("__builtin_trap();", "exit(0);"):
        text = f'extern "C" __global__ void crash(int* y) {{ {statement} }}'
        with pytest.raises(RuntimeError, match="kernel crash, exit status"):
            sanitize(text, "crash", (1,), (1,), (np.zeros(1, np.int32),), sanitizer)
