// dW = 1/m dZ X^T for a sparse X, whose transpose is in compressed rows: a row is an input, its entries are of examples.
//
// Grid: (groups of inputs, groups of units); block: (a power of two along the units, in packs; lines, an input each). Each
// sum belongs to one thread, which adds in the examples' order; an input without entries has the gradient 0.

extern "C" __global__ void __launch_bounds__(THREADS) sparse_linear_gradients(
    const real* __restrict__ dZ, const long long* __restrict__ starts, const int* __restrict__ places,
    const real* __restrict__ values, real* __restrict__ dW, int n, int n_prev, double scale) {
    const int input = blockIdx.x * blockDim.y + threadIdx.y;
    const int unit = (blockIdx.y * blockDim.x + threadIdx.x) * PACK, count = n - unit;
    if (input >= n_prev || count <= 0) return;
    Pack sum = sparse_row(starts, places, values, input, dZ, n, unit, count);
#pragma unroll
    for (int v = 0; v < PACK; v++) sum.at[v] *= static_cast<real>(scale);
    store_pack(dW + static_cast<long long>(input) * n + unit, sum, count, is_aligned(dW, n));
}
