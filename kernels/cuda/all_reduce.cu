// The gradient as the sum of its slices, with the L2 penalty's part, and the squares that clipping and J need.
//
// Grid: (blocks for each layer, layers); block: THREADS. For each layer, `table` holds where its weights, its bias and
// its end are in theta, from where on its gradient is a sum of slices, where those begin in `parts`, and how many there
// are; before that place dtheta has its values already. `squares` receives, block by block, the sum of squares of the
// gradient, and behind those, of the weights; null: neither clipping nor a penalty wants them, and then gradients that
// have their values already need not be read.
//
// The step's number advances here: nobody reads clock[1] in this kernel, and nobody reads clock[0] while update.cu,
// which follows, changes it.

extern "C" __global__ void __launch_bounds__(THREADS) all_reduce(
    real* __restrict__ dtheta, const real* __restrict__ theta, const real* __restrict__ parts,
    const long long* __restrict__ table, double* __restrict__ squares, double decay, long long* clock) {
    __shared__ double scratch[THREADS];
    const long long* layer = table + LAYER_FIELDS * blockIdx.y;
    const long long weights = load(layer), bias = load(layer + 1), end = load(layer + 2), summed = load(layer + 3);
    const real* slices = parts + load(layer + 4);
    const int count = static_cast<int>(load(layer + 5));
    double gradient_squares = 0, weight_squares = 0;
    const int stride = gridDim.x * THREADS;
    for (long long k = (squares ? weights : summed) + blockIdx.x * THREADS + threadIdx.x; k < end; k += stride) {
        real d = 0;
        if (k < summed) {
            d = load(dtheta + k);
        } else {
            for (int s = 0; s < count; s++) d += load(slices + s * (end - summed) + (k - summed));
            COUNT_OPERATIONS(count);
        }
        if (decay != 0 && k < bias) {
            const real w = load(theta + k);
            d += static_cast<real>(decay) * w;
            weight_squares += static_cast<double>(w) * w;
        }
        gradient_squares += static_cast<double>(d) * d;
        if (decay != 0 || k >= summed) store(dtheta + k, d);
    }
    const int block = blockIdx.y * gridDim.x + blockIdx.x, blocks = gridDim.x * gridDim.y;
    if (squares) {
        gradient_squares = block_sum(gradient_squares, scratch);
        weight_squares = block_sum(weight_squares, scratch);
        if (threadIdx.x == 0) {
            store(squares + block, gradient_squares);
            store(squares + blocks + block, weight_squares);
        }
    }
    if (block == 0 && threadIdx.x == 0) store(clock + 1, load(clock));
}
