// A block whose threads form lines: threadIdx.x runs along the elements of a row, threadIdx.y over rows.

// The sum (or another combination) of one number from each thread of the calling thread's line; blockDim.x is a power of
// two. Every thread of the block calls.
template <class T, class Combine>
__device__ T line_reduce(T value, T* scratch, Combine combine) {
    const int own = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads();  // the scratch may still be read for an earlier sum
    scratch[own] = value;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (static_cast<int>(threadIdx.x) < half) scratch[own] = combine(scratch[own], scratch[own + half]);
    }
    __syncthreads();
    return scratch[threadIdx.y * blockDim.x];
}

struct Larger {
    __device__ real operator()(real x, real y) const { return maximum(x, y); }
};

struct Sum {
    template <class T>
    __device__ T operator()(T x, T y) const {
        return x + y;
    }
};

// The maximum of a row of n elements and, with that taken out, the sum of the exponentials.
struct Softmax {
    real top, norm;
};

__device__ __forceinline__ Softmax softmax_of(const real* z, int n, real* scratch) {
    Softmax row = {-LARGEST, 0};
    for (int j = threadIdx.x; j < n; j += blockDim.x) row.top = maximum(row.top, load(z + j));
    row.top = line_reduce(row.top, scratch, Larger());
    for (int j = threadIdx.x; j < n; j += blockDim.x) row.norm += exp(load(z + j) - row.top);
    row.norm = line_reduce(row.norm, scratch, Sum());
    return row;
}
