// J from what the kernels of a step left behind: the examples' losses, block by block, and the squares of the weights.

__device__ __forceinline__ double loss_of_parts(
    const double* losses, int blocks, double inverse_m, const double* squares, int n_squares, double penalty,
    double* scratch) {
    double J = inverse_m * sum_of(losses, blocks, scratch);
    if (penalty != 0) J += penalty * sum_of(squares, n_squares, scratch);
    return J;
}
