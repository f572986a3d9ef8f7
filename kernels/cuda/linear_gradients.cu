// dW = 1/m dZ A_prev^T and db = 1/m sum_i dZ(i), each slice of the examples by itself, for narrow layers.
//
// In memory dW is followed by db, and together they are the product of [A_prev, 1]^T and dZ. Grid: (tiles of inputs and
// the ones, tiles of units, slices); block: PRODUCT_THREADS. Slice s, of `length` examples, writes its sums behind `parts` at
// s * (n_prev + 1) * n; all_reduce.cu adds the slices in their order.

extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS) linear_gradients(
    const real* __restrict__ dZ, const real* __restrict__ A_prev, real* __restrict__ parts, int m, int n, int n_prev,
    int length, double scale) {
    __shared__ Tiles tiles;
    const int i = blockIdx.x * TILE, j = blockIdx.y * TILE, slice = blockIdx.z;
    // A last slice without any examples is a sum of nothing.
    const int first = length * slice < m ? length * slice : m, last = m - first < length ? m : first + length;
    real sums[ROWS][COLUMNS] = {};
    multiply(tiles, Operand<false, true>(A_prev, m, n_prev), Operand<false>(dZ, m, n), i, j, first, last, sums);
    real* part = parts + static_cast<long long>(slice) * (n_prev + 1) * n;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int input = i + own_row() + r;
        if (input > n_prev) continue;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const int unit = j + own_column() + c;
            if (unit >= n) continue;
            store(part + static_cast<long long>(input) * n + unit, sums[r][c] * static_cast<real>(scale));
        }
    }
}
