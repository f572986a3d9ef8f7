// One step of an update rule over the flat vector, after clipping the gradient's norm, and the step's J into its place.
//
// Grid: blocks; block: THREADS. Each block computes the norm from the sums of squares that all_reduce.cu left, in the
// same order, hence the same number. `limit` is infinity for no clipping. `coefficients` has a row for each step.

extern "C" __global__ void __launch_bounds__(THREADS) update(
    real* __restrict__ theta, const real* __restrict__ dtheta, real* __restrict__ state,
    const real* __restrict__ coefficients, long long size, const double* __restrict__ squares, int n_squares,
    double limit, double* __restrict__ J, const double* __restrict__ losses, int n_losses, double inverse_m,
    double penalty, long long* clock) {
    __shared__ double scratch[THREADS];
    const long long step = load(clock + 1);
    real factor = 1;
    if (limit - limit == 0) {  // finite
        const double norm = sqrt(sum_of(squares, n_squares, scratch));
        factor = static_cast<real>(norm <= limit ? 1 : limit / norm);
    }
    real c[COEFFICIENTS];
#pragma unroll
    for (int k = 0; k < COEFFICIENTS; k++) c[k] = load(coefficients + step * COEFFICIENTS + k);
    const long long stride = static_cast<long long>(gridDim.x) * THREADS;
#pragma unroll 1  // several at once would spill registers, in double precision
    for (long long k = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; k < size; k += stride)
        rule(theta + k, factor * load(dtheta + k), state + k, size, c);
    if (blockIdx.x == 0) {
        const double total = loss_of_parts(losses, n_losses, inverse_m, squares + n_squares, n_squares, penalty, scratch);
        if (threadIdx.x == 0) {
            store(J + step, total);
            store(clock, step + 1);
        }
    }
}
