"""Kernels without a fault, which the emulator's tests run as they stand or with a fault planted in them."""

import numpy as np

SEEDS = range(8)

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
