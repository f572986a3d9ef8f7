// J by itself, where no update follows. Grid: 1; block: THREADS.

extern "C" __global__ void __launch_bounds__(THREADS) total_loss(
    const double* __restrict__ losses, int blocks, double inverse_m, const double* __restrict__ squares, int n_squares,
    double penalty, double* __restrict__ J) {
    __shared__ double scratch[THREADS];
    const double total = loss_of_parts(losses, blocks, inverse_m, squares, n_squares, penalty, scratch);
    if (threadIdx.x == 0) store(J, total);
}
