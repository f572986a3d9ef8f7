// The examples of one batch, in the epoch's order: rows of X and of Y, and their weights w, if there are any (else null).
//
// Grid: groups of DOWN examples; block: (ACROSS, DOWN). `order` has a row of `total` examples for each epoch, and is null
// for the order of the data. The clock says which step comes; an epoch has `batches` of `size` examples, of which this
// one holds m.

__device__ __forceinline__ void copy_row(const real* from, real* to, int n, bool aligned) {
    for (int j = threadIdx.x * PACK; j < n; j += ACROSS * PACK)
        store_pack(to + j, load_pack(from + j, n - j, aligned), n - j, aligned);
}

extern "C" __global__ void __launch_bounds__(ACROSS* DOWN) gather(
    const real* __restrict__ X, const real* __restrict__ Y, const real* __restrict__ w, const long long* __restrict__ order,
    real* __restrict__ X_batch, real* __restrict__ Y_batch, real* __restrict__ w_batch, int m, int n_inputs, int n_outputs,
    long long total, long long size, long long batches, const long long* __restrict__ clock) {
    const int example = blockIdx.x * DOWN + threadIdx.y;
    if (example >= m) return;
    const long long step = load(clock), place = step % batches * size + example;
    const long long source = order ? load(order + step / batches * total + place) : place;
    const long long target = example;
    copy_row(X + source * n_inputs, X_batch + target * n_inputs, n_inputs, is_aligned(X, n_inputs) && is_aligned(X_batch, n_inputs));
    copy_row(Y + source * n_outputs, Y_batch + target * n_outputs, n_outputs, is_aligned(Y, n_outputs) && is_aligned(Y_batch, n_outputs));
    if (w && threadIdx.x == 0) store(w_batch + target, load(w + source));
}
