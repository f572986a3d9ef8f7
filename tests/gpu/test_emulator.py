"""The emulator is right about right kernels, and each fault planted in one is caught by the layer named for it."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gpu import emulator
from gpu.emulator import Counts, Program, sanitize

if shutil.which(emulator.COMPILER) is None:
    pytest.skip(f"kernels are emulated with {emulator.COMPILER}, which is not installed", allow_module_level=True)

SEEDS = range(8)
REALS = {"float": np.float32, "double": np.float64}
TOLERANCE = {"float": 1e-5, "double": 1e-13}

# ----------------------------------------------------------------------------------------------------------------------
# Kernels without a fault
# ----------------------------------------------------------------------------------------------------------------------

BLOCK_SUMS = """
extern "C" __global__ void __launch_bounds__(128) block_sums(const real* x, real* sums, int n) {
    __shared__ real partial[128];
    const int i = blockIdx.x * 128 + threadIdx.x;
    partial[threadIdx.x] = i < n ? x[i] : real(0);
    for (int half = 64; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = partial[0];
}
"""

PRODUCT = """
constexpr int TILE = 8;

// C = A B of m x k and k x n elements.
extern "C" __global__ __launch_bounds__(TILE * TILE) void product(
    const real* __restrict__ A, const real* __restrict__ B, real* __restrict__ C, int m, int n, int k
) {
    __shared__ real a[TILE][TILE + 1];
    alignas(16) __shared__ real b[TILE][TILE];
    const int x = threadIdx.x, y = threadIdx.y;
    const int row = blockIdx.y * TILE + y, column = blockIdx.x * TILE + x;
    real sum = 0;
    for (int start = 0; start < k; start += TILE) {
        a[y][x] = row < m && start + x < k ? A[row * k + start + x] : real(0);
        b[y][x] = start + y < k && column < n ? B[(start + y) * n + column] : real(0);
        __syncthreads();  // all is read
#pragma unroll
        for (int l = 0; l < TILE; l++) sum += a[y][l] * b[l][x];
        __syncthreads();  // all is used
    }
    if (row < m && column < n) C[row * n + column] = sum;
}
"""

SOFTPLUS = """
template <class T>
__device__ __forceinline__ T softplus(T z) {
    return (z > 0 ? z : T(0)) + log1p(exp(-fabs(z)));
}

extern "C" __global__ void softplus_of(const real* Z, real* A, long long n) {
    const long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) A[i] = softplus(Z[i]);
}
"""


def with_real(text, real="float"):
    return f"typedef {real} real;\n{text}"


def blocks(n, size):
    """Blocks for n elements, and one where there are none, so that something is launched."""
    return max(1, -(-n // size))


class BlockSums:
    text, kernel, block = BLOCK_SUMS, "block_sums", (128,)
    sizes = ((0,), (1,), (127,), (128,), (129,), (1000,))

    def __init__(self, n, dtype, rng):
        self.grid = (blocks(n, 128),)
        x = rng.standard_normal(n).astype(dtype)
        self.result = np.zeros(self.grid, dtype)
        self.arguments = (x, self.result, n)
        self.expected = np.add.reduceat(np.append(x, dtype(0)).astype(float), range(0, max(n, 1), 128))


class Product:
    text, kernel, block = PRODUCT, "product", (8, 8)
    sizes = ((1, 1, 1), (8, 8, 8), (9, 17, 23), (16, 5, 40), (3, 2, 0), (0, 3, 5), (0, 0, 0))

    def __init__(self, m, n, k, dtype, rng):
        self.grid = (blocks(n, 8), blocks(m, 8))
        A, B = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        self.result = np.full((m, n), np.nan, dtype)
        self.arguments = (A, B, self.result, m, n, k)
        self.expected = A.astype(float) @ B.astype(float)


class Softplus:
    text, kernel, block = SOFTPLUS, "softplus_of", (32,)
    sizes = ((0,), (1,), (31,), (32,), (1000,))

    def __init__(self, n, dtype, rng):
        self.grid = (blocks(n, 32),)
        Z = (10 * rng.standard_normal(n)).astype(dtype)
        self.result = np.full(n, np.nan, dtype)
        self.arguments = (Z, self.result, n)
        self.expected = np.logaddexp(0, Z.astype(float))


CASES = [BlockSums, Product, Softplus]


def is_right(case, kernel, seed, tolerance):
    """Launch, and compare with NumPy."""
    case.result[...] = np.nan
    kernel.launch(case.grid, case.block, case.arguments, seed)
    return np.allclose(case.result, case.expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("case", CASES)
def test_results_are_numpys(case, real):
    kernel = Program(with_real(case.text, real)).kernels[case.kernel]
    rng = np.random.default_rng(1)
    for size in case.sizes:
        launch = case(*size, REALS[real], rng)
        for seed in SEEDS:
            assert is_right(launch, kernel, seed, TOLERANCE[real]), (size, seed)


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
@pytest.mark.parametrize("case", CASES)
def test_sanitizers_find_nothing_in_right_kernels(case, sanitizer):
    for size in ((20, 9, 19), (0, 0, 0)):
        launch = case(*size[: len(case.sizes[0])], np.float32, np.random.default_rng(2))
        before = launch.result.copy()
        report = sanitize(with_real(case.text), case.kernel, launch.grid, launch.block, launch.arguments, sanitizer)
        assert report == ""
        np.testing.assert_array_equal(launch.result, before)


# ----------------------------------------------------------------------------------------------------------------------
# Planted faults
# ----------------------------------------------------------------------------------------------------------------------


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


# ----------------------------------------------------------------------------------------------------------------------
# Orders, indices and built-in functions
# ----------------------------------------------------------------------------------------------------------------------

# Threads take numbers one after another, twice, with a barrier between.
TICKETS = """
extern "C" __global__ void tickets(int* next, int* order) {
    order[(*next)++] = blockIdx.x * blockDim.x + threadIdx.x;
    __syncthreads();
    order[(*next)++] = blockIdx.x * blockDim.x + threadIdx.x;
}
"""


def test_threads_and_blocks_run_in_an_order_of_the_seed():
    kernel = Program(TICKETS).kernels["tickets"]

    def order(seed):
        found = np.zeros((5, 2, 16), np.int32)
        kernel.launch((5,), (16,), (np.zeros(1, np.int32), found), seed)
        return found

    orders = [order(seed) for seed in SEEDS]
    for found in orders:
        # One block after another, and each between two barriers its threads in an order of its own.
        assert sorted(found[:, 0, 0] // 16) == [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(np.sort(found % 16), np.broadcast_to(np.arange(16), found.shape))
        np.testing.assert_array_equal(found // 16, np.broadcast_to(found[:, :1, :1] // 16, found.shape))
        assert len({row.tobytes() for row in (found % 16).reshape(10, 16)}) == 10
    assert len({found.tobytes() for found in orders}) == len(SEEDS)
    assert len({(found[:, 0, 0] // 16).tobytes() for found in orders}) > 1
    np.testing.assert_array_equal(order(3), orders[3])


INDICES = """
extern "C" __global__ void indices(int* y) {
    const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    int* place = y + (block * blockDim.x * blockDim.y * blockDim.z + thread) * 6;
    place[0] += blockIdx.x, place[1] += blockIdx.y, place[2] += blockIdx.z;
    place[3] += threadIdx.x, place[4] += threadIdx.y, place[5] += threadIdx.z;
}
"""


def test_indices_have_three_axes():
    y = np.zeros((2, 3, 4, 5, 6, 7, 6), np.int32)
    Program(INDICES).kernels["indices"].launch((4, 3, 2), (7, 6, 5), (y,))
    expected = np.stack(np.indices(y.shape[:-1])[[2, 1, 0, 5, 4, 3]], axis=-1)
    np.testing.assert_array_equal(y, expected)


FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh", "sqrt", "fabs")


@pytest.mark.parametrize("real", REALS)
def test_functions_have_both_precisions(real):
    lines = "".join(
        f"    static_assert(sizeof({name}(x)) == sizeof(real)); y[{i}] = {name}(x);\n"
        for i, name in enumerate(FUNCTIONS)
    )
    text = with_real(f'extern "C" __global__ void all(real x, real* y) {{\n{lines}}}', real)
    y = np.zeros(len(FUNCTIONS), REALS[real])
    x = REALS[real](0.7)
    Program(text).kernels["all"].launch((1,), (1,), (x, y))
    np.testing.assert_allclose(y, [getattr(np, name)(x) for name in FUNCTIONS], rtol=4 * np.finfo(y.dtype).eps)


def test_the_high_half_of_a_product():
    text = """
extern "C" __global__ void high(unsigned long long a, unsigned long long b, unsigned long long* y) {
    *y = __umul64hi(a, b);
}
"""
    a, b, y = 0xFEDCBA9876543210, 0x123456789ABCDEF1, np.zeros(1, np.uint64)
    Program(text).kernels["high"].launch((1,), (1,), (a, b, y))
    assert int(y[0]) == a * b >> 64


COUNTED = """
#ifndef COUNT_READ
#define COUNT_READ(bytes)
#define COUNT_WRITE(bytes)
#define COUNT_OPERATIONS(n)
#endif
extern "C" __global__ void counted() {
    COUNT_READ(sizeof(double));
    __syncthreads();
    COUNT_WRITE(sizeof(float));
    COUNT_OPERATIONS(3);
    __syncthreads();
}
"""


def test_counts_are_those_of_the_latest_launch():
    kernel = Program(COUNTED).kernels["counted"]
    for grid, threads in ((3, 32), (2, 5)):
        kernel.launch((grid,), (threads,), ())
        n = grid * threads
        assert kernel.counts() == Counts(bytes_read=8 * n, bytes_written=4 * n, operations=3 * n, barriers=2 * grid)
    assert sanitize(COUNTED, "counted", (2,), (32,), (), "thread") == ""


# ----------------------------------------------------------------------------------------------------------------------
# Launches and texts that are refused
# ----------------------------------------------------------------------------------------------------------------------

PARAMETERS = """
extern "C" __global__ void __launch_bounds__(64, 2) typed(
    const float* a, double* __restrict__ b, long long* c, const int* d, unsigned long long* e,
    int f, long long g, float h, double i, const unsigned long long j
) {}
"""
ARGUMENTS = (
    np.zeros(1, np.float32),
    np.zeros(1),
    np.zeros(1, np.int64),
    np.zeros(1, np.int32),
    None,
    np.int32(1),
    2,
    np.float32(3),
    4.0,
    np.uint64(5),
)
WRONG = {
    "dtype": (0, np.zeros(1), "const float.*pass an array of float32, not of float64"),
    "integers' dtype": (2, np.zeros(1, np.int32), "pass an array of int64, not of int32"),
    "bytes' order": (1, np.zeros(1, ">f8"), "pass an array of float64, not of >f8"),
    "list": (3, [1], "pass a NumPy array or None, not list"),
    "number for a pointer": (4, 1, "pass a NumPy array or None, not int"),
    "array for a number": (5, np.zeros(1, np.int32), "pass a NumPy scalar of int32, not ndarray"),
    "scalar's dtype": (5, np.int64(1), "pass a NumPy scalar of int32, not of int64"),
    "float for an integer": (6, 1.0, "pass a NumPy scalar of int64, not float"),
    "bool": (6, True, "pass a NumPy scalar of int64, not bool"),
    "float for float": (7, 1.0, "pass a NumPy scalar of float32, not float"),
    "integer for a double": (8, 1, "pass a NumPy scalar of float64, not int"),
    "too large": (5, 2**31, "2147483648 does not fit"),
    "negative": (9, -1, "-1 does not fit"),
}


def test_parameters_are_named_by_their_types():
    kernel = Program(PARAMETERS).kernels["typed"]
    assert kernel.name == "typed"
    assert kernel.parameters == (
        *("const float*", "double*", "long long*", "const int*", "unsigned long long*"),
        *("int", "long long", "float", "double", "unsigned long long"),
    )
    kernel.launch((1,), (1,), ARGUMENTS)


@pytest.mark.parametrize("case", WRONG)
def test_arguments_of_the_wrong_type_are_refused(case):
    place, argument, message = WRONG[case]
    arguments = [*ARGUMENTS[:place], argument, *ARGUMENTS[place + 1 :]]
    with pytest.raises(TypeError, match=f"kernel typed, parameter {place} .*{message}"):
        Program(PARAMETERS).kernels["typed"].launch((1,), (1,), arguments)


def test_arguments_of_the_wrong_number_are_refused():
    for arguments in ((), ARGUMENTS[:-1], (*ARGUMENTS, 1)):
        with pytest.raises(TypeError, match=f"kernel typed takes 10 arguments, got {len(arguments)}"):
            Program(PARAMETERS).kernels["typed"].launch((1,), (1,), arguments)


def test_arrays_must_be_writeable_where_the_kernel_may_write():
    kernel = Program(with_real(SOFTPLUS)).kernels["softplus_of"]
    x, y = np.zeros(8, np.float32), np.zeros(8, np.float32)
    x.flags.writeable = False
    kernel.launch((1,), (8,), (x, y, 8))
    np.testing.assert_allclose(y, np.log(2), rtol=1e-6)
    with pytest.raises(TypeError, match=r"parameter 1 \(float\*\): pass a writeable array"):
        kernel.launch((1,), (8,), (y, x, 8))


def test_arrays_must_be_contiguous():
    kernel = Program(with_real(SOFTPLUS)).kernels["softplus_of"]
    with pytest.raises(ValueError, match=r"parameter 0 \(const float\*\): pass a contiguous array"):
        kernel.launch((1,), (8,), (np.zeros(16, np.float32)[::2], np.zeros(8, np.float32), 8))


@pytest.mark.parametrize(
    ("grid", "block", "message"),
    [
        ((0,), (1,), "a grid has one to three sizes"),
        ((), (1,), "a grid has one to three sizes"),
        ((1, 1, 1, 1), (1,), "a grid has one to three sizes"),
        ((2**31,), (1,), "a grid has one to three sizes"),
        ((1, 65536), (1,), "a grid has one to three sizes"),
        ((1,), (1, 0), "a block has one to three sizes"),
        ((1,), (1025,), "a block has one to three sizes"),
        ((1,), (1, 1, 65), "a block has one to three sizes"),
        ((1,), (33, 32), r"a block of \(33, 32\) has more threads than 1024"),
    ],
)
def test_launches_that_cuda_refuses_are_refused(grid, block, message):
    kernel = Program(COUNTED).kernels["counted"]
    with pytest.raises(ValueError, match=f"kernel counted: {message}"):
        kernel.launch(grid, block, ())


def test_blocks_of_the_most_threads_run_and_no_larger_ones():
    Program(COUNTED).kernels["counted"].launch((1,), (32, 32), ())
    Program(PARAMETERS).kernels["typed"].launch((1,), (64,), ARGUMENTS)
    with pytest.raises(ValueError, match="more threads than 64"):
        Program(PARAMETERS).kernels["typed"].launch((1,), (65,), ARGUMENTS)


def test_sanitized_arguments_keep_the_memory_that_they_share():
    text = 'extern "C" __global__ void copy(const float* x, float* y) { y[threadIdx.x] = x[7 - threadIdx.x]; }'
    x, y = np.zeros(8, np.float32), np.zeros(8, np.float32)
    assert sanitize(text, "copy", (1,), (8,), (x, y), "thread") == ""
    assert "data race" in sanitize(text, "copy", (1,), (8,), (x, x), "thread")
    with pytest.raises(ValueError, match="arguments 0 and 1 overlap"):
        sanitize(text, "copy", (1,), (4,), (x[:6], x[2:]), "thread")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extern "C" __global__ void broken(int* y) { y[0] = missing; }', "program.cu:1:.*missing"),
        ("__global__ void plain(int* y) {}", "declare each kernel as"),
        ('extern "C" __global__ void open(int* y) {', "ends inside its body"),
        ("__device__ int f() { __shared__ int s; return s; }", "declare __shared__ arrays inside kernels"),
        ('extern "C" __global__ void odd(char c) {}', "parameters are numbers or pointers to numbers"),
    ],
)
def test_texts_that_cannot_be_emulated_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Program(text)


def test_kernels_are_those_that_the_preprocessor_leaves():
    text = """
// extern "C" __global__ void comment() { {
#define KERNEL(name) extern "C" __global__ void name
#if 0
KERNEL(absent)(int* y) {
#else
KERNEL(present)(int* y) {
#endif
    y[0] = __LINE__;
}
"""
    kernels = Program(text).kernels
    assert list(kernels) == ["present"]
    y = np.zeros(1, np.int32)
    kernels["present"].launch((1,), (1,), (y,))
    assert y[0] == 9


def test_processes_that_build_the_same_text_do_not_disturb_each_other(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda _: emulator._build(COUNTED, emulator.LIBRARY), range(4)))
    assert len(set(built)) == 1
    assert os.listdir(built[0].parent) == [built[0].name]
