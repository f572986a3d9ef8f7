// Z = W A_prev + b and A = g(Z) in one launch, for narrow layers.
//
// Grid: (tiles of examples, tiles of units); block: PRODUCT_THREADS. Z is null where it need not be kept.

extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS) linear_activation(
    const real* __restrict__ W, const real* __restrict__ b, const real* __restrict__ A_prev, real* __restrict__ Z,
    real* __restrict__ A, int m, int n, int n_prev) {
    __shared__ Tiles tiles;
    const int i = blockIdx.x * TILE, j = blockIdx.y * TILE;
    real sums[ROWS][COLUMNS] = {};
    multiply(tiles, Operand<true>(A_prev, m, n_prev), Operand<false>(W, n_prev, n), i, j, 0, n_prev, sums);
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
        const int unit = j + own_column() + c;
        if (unit >= n) continue;
        const real bias = load(b + unit);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int example = i + own_row() + r;
            if (example >= m) continue;
            const long long at = static_cast<long long>(example) * n + unit;
            const real z = sums[r][c] + bias;
            if (Z) store(Z + at, z);
            store(A + at, activation(z));
        }
    }
}
