// The examples' losses, summed block by block in double precision, and dZ[L], from the logits in one pass; both times the
// examples' weights w, if there are any (else null).
//
// Grid: groups of `rows` examples; block: (a power of two along the units, lines). Group s writes its loss to losses[s]
// and, where a wide layer wants its bias gradient (parts is not null), scale * sum_i dZ(i) at parts + s * n.

extern "C" __global__ void __launch_bounds__(THREADS) loss_gradient(
    const real* __restrict__ Z, const real* __restrict__ Y, const real* __restrict__ w, real* __restrict__ dZ,
    double* __restrict__ losses, real* __restrict__ parts, int m, int n, int rows, double scale) {
    __shared__ double scratch[THREADS];
    const int first = blockIdx.x * rows, end = m - first < rows ? m : first + rows;
    double total = 0;
    // All lines go round equally often, since they meet within.
    for (int group = first; group < end; group += blockDim.y) {
        const int example = group + threadIdx.y;
        const int columns = example < end ? n : 0;
        const long long row = static_cast<long long>(example) * n;
        const real weight = w && columns ? load(w + example) : real(1);
#ifdef COLUMNWISE
        // -sum_k y_k log a_k with a = softmax(z), and a - y.
        const Softmax softmax = softmax_of(Z + row, columns, reinterpret_cast<real*>(scratch));
        if (columns && threadIdx.x == 0) total += weight * log(softmax.norm);
        for (int j = threadIdx.x; j < columns; j += blockDim.x) {
            const real shifted = load(Z + row + j) - softmax.top, y = load(Y + row + j);
            total -= weight * shifted * y;
            store(dZ + row + j, weight * (exp(shifted) / softmax.norm - y));
        }
#else
        for (int j = threadIdx.x; j < columns; j += blockDim.x) {
            const real z = load(Z + row + j), y = load(Y + row + j);
            total += weight * loss_value(z, y);
            store(dZ + row + j, weight * loss_slope(z, y));
        }
#endif
    }
    total = block_sum(total, scratch);
    const int own = threadIdx.y * blockDim.x + threadIdx.x;
    if (own == 0) store(losses + blockIdx.x, total);
    if (!parts) return;
    // The sum above has let every thread of the block see what the others wrote.
    for (int j = own; j < n; j += blockDim.x * blockDim.y) {
        double sum = 0;
        for (int example = first; example < end; example++) sum += load(dZ + static_cast<long long>(example) * n + j);
        store(parts + static_cast<long long>(blockIdx.x) * n + j, static_cast<real>(scale * sum));
    }
}
