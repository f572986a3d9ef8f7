// A = softmax(A) in place, example by example, for predictions.
//
// Grid: groups of as many examples as the block has lines; block: (a power of two along the units, lines).

extern "C" __global__ void __launch_bounds__(THREADS) softmax(real* A, int m, int n) {
    __shared__ real scratch[THREADS];
    const int example = blockIdx.x * blockDim.y + threadIdx.y;
    const int columns = example < m ? n : 0;
    real* row = A + static_cast<long long>(example) * n;
    const Softmax softmax = softmax_of(row, columns, scratch);
    for (int j = threadIdx.x; j < columns; j += blockDim.x) store(row + j, exp(load(row + j) - softmax.top) / softmax.norm);
}
