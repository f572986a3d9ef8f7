"""The emulator computes what CUDA would, counts it, and refuses what CUDA would."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gpu import emulator
from gpu.emulator import Counts, Program, sanitize
from gpu.emulator.cases import CASES, SEEDS, SOFTPLUS, is_right, with_real

if shutil.which(emulator.COMPILER) is None:
    pytest.skip(f"kernels are emulated with {emulator.COMPILER}, which is not installed", allow_module_level=True)

REALS = {"float": np.float32, "double": np.float64}
TOLERANCE = {"float": 1e-5, "double": 1e-13}

# ----------------------------------------------------------------------------------------------------------------------
# Kernels without a fault
# ----------------------------------------------------------------------------------------------------------------------


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
