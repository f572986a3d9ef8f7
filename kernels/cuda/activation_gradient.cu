// dZ = dA * g'(Z) in place, and the bias gradient's sums over the examples of each block, after a product for wide layers.
//
// Grid: (groups of `rows` examples, groups of ACROSS packs of units); block: (ACROSS, DOWN). Group s writes
// scale * sum_i dZ(i) at parts + s * n, and all_reduce.cu adds the groups in their order; null: a narrow layer wants none.

extern "C" __global__ void __launch_bounds__(ACROSS* DOWN) activation_gradient(
    real* dZ, const real* Z, const real* A, real* __restrict__ parts, int m, int n, int rows, double scale) {
    __shared__ Pack sums[DOWN][ACROSS];
    const int unit = (blockIdx.y * ACROSS + threadIdx.x) * PACK, count = n - unit;
    const bool aligned = is_aligned(dZ, n) && is_aligned(A, n) && is_aligned(Z, n);
    const int first = blockIdx.x * rows, end = m - first < rows ? m : first + rows;
    Pack sum = {};
    if (count > 0) {
        for (int example = first + threadIdx.y; example < end; example += DOWN) {
            const long long at = static_cast<long long>(example) * n + unit;
            Pack d = load_pack(dZ + at, count, aligned);
            if (BACKWARD_READS_A || BACKWARD_READS_Z) {
                const Pack z = BACKWARD_READS_Z ? load_pack(Z + at, count, aligned) : Pack();
                const Pack a = BACKWARD_READS_A ? load_pack(A + at, count, aligned) : Pack();
#pragma unroll
                for (int v = 0; v < PACK; v++)
                    if (v < count) d.at[v] = activation_backward(d.at[v], z.at[v], a.at[v]);
                store_pack(dZ + at, d, count, aligned);
            }
#pragma unroll
            for (int v = 0; v < PACK; v++) sum.at[v] += d.at[v];
        }
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (!parts || threadIdx.y != 0 || count <= 0) return;
    for (int row = 1; row < DOWN; row++)
#pragma unroll
        for (int v = 0; v < PACK; v++) sum.at[v] += sums[row][threadIdx.x].at[v];
#pragma unroll
    for (int v = 0; v < PACK; v++) sum.at[v] *= static_cast<real>(scale);
    real* part = parts + static_cast<long long>(blockIdx.x) * n;
    store_pack(part + unit, sum, count, is_aligned(part, n));
}
