// Z = W X + b and A = g(Z) in one launch, for a sparse X, in compressed rows: a row is an example.
//
// Grid: (groups of examples, groups of units); block: (a power of two along the units, in packs; lines, an example each).
// Z is null where it need not be kept.

extern "C" __global__ void __launch_bounds__(THREADS) sparse_linear_activation(
    const real* __restrict__ W, const real* __restrict__ b, const long long* __restrict__ starts,
    const int* __restrict__ places, const real* __restrict__ values, real* __restrict__ Z, real* __restrict__ A, int m,
    int n) {
    const int example = blockIdx.x * blockDim.y + threadIdx.y;
    const int unit = (blockIdx.y * blockDim.x + threadIdx.x) * PACK, count = n - unit;
    if (example >= m || count <= 0) return;
    const Pack bias = load_pack(b + unit, count, is_aligned(b, n));
    Pack z = sparse_row(starts, places, values, example, W, n, unit, count);
    const long long at = static_cast<long long>(example) * n + unit;
#pragma unroll
    for (int v = 0; v < PACK; v++) z.at[v] += bias.at[v];
    if (Z) store_pack(Z + at, z, count, is_aligned(Z, n));
#pragma unroll
    for (int v = 0; v < PACK; v++) z.at[v] = activation(z.at[v]);
    store_pack(A + at, z, count, is_aligned(A, n));
}
