// dZ_prev = W^T dZ * g'(Z_prev) in one launch, for narrow layers.
//
// Grid: (tiles of examples, tiles of the units below); block: PRODUCT_THREADS. Z_prev may be A_prev, unless g' reads Z.

extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS) backpropagate(
    const real* __restrict__ W, const real* __restrict__ dZ, const real* Z_prev, const real* A_prev,
    real* __restrict__ dZ_prev, int m, int n, int n_prev) {
    __shared__ Tiles tiles;
    const int i = blockIdx.x * TILE, j = blockIdx.y * TILE;
    real sums[ROWS][COLUMNS] = {};
    multiply(tiles, Operand<true>(dZ, m, n), Operand<true>(W, n_prev, n), i, j, 0, n, sums);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int example = i + own_row() + r;
        if (example >= m) continue;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const int unit = j + own_column() + c;
            if (unit >= n_prev) continue;
            const long long at = static_cast<long long>(example) * n_prev + unit;
            const real z = BACKWARD_READS_Z ? load(Z_prev + at) : 0, a = BACKWARD_READS_A ? load(A_prev + at) : 0;
            store(dZ_prev + at, activation_backward(sums[r][c], z, a));
        }
    }
}
