// Z = Z + b and A = g(Z), after a product that is already in Z, for wide layers.
//
// Grid: (groups of `rows` examples, groups of ACROSS packs of units); block: (ACROSS, DOWN). Where A is Z, only A is kept.

extern "C" __global__ void __launch_bounds__(ACROSS* DOWN) bias_activation(
    real* Z, const real* __restrict__ b, real* A, int m, int n, int rows) {
    const int unit = (blockIdx.y * ACROSS + threadIdx.x) * PACK, count = n - unit;
    if (count <= 0) return;
    const bool aligned = is_aligned(Z, n) && is_aligned(A, n);
    const Pack bias = load_pack(b + unit, count, is_aligned(b, n));
    const int first = blockIdx.x * rows, end = m - first < rows ? m : first + rows;
    for (int example = first + threadIdx.y; example < end; example += DOWN) {
        const long long at = static_cast<long long>(example) * n + unit;
        Pack z = load_pack(Z + at, count, aligned);
#pragma unroll
        for (int v = 0; v < PACK; v++) z.at[v] += bias.at[v];
        if (A != Z) store_pack(Z + at, z, count, aligned);
#pragma unroll
        for (int v = 0; v < PACK; v++) z.at[v] = activation(z.at[v]);
        store_pack(A + at, z, count, aligned);
    }
}
