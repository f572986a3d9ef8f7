// What every kernel shares. `real` is float or double, defined before this text.
//
// Matrices are in memory order, as in all of kernels/: line i of an array of m examples is example i, and element (i, j)
// of n columns is number i * n + j. Nothing here knows a warp's size or inlines PTX, so that the same text is valid for
// CuPy on ROCm; nothing adds with atomics, so that the same input gives the same bits.

// An emulator may count what passes through these.
#ifndef COUNT_READ
#define COUNT_READ(bytes)
#define COUNT_WRITE(bytes)
#define COUNT_OPERATIONS(number)
#endif

constexpr int PACK = 16 / sizeof(real);  // elements of the widest load

struct alignas(16) Pack {
    real at[PACK];
};

template <class T>
__device__ __forceinline__ T load(const T* place) {
    COUNT_READ(sizeof(T));
    return *place;
}

template <class T>
__device__ __forceinline__ void store(T* place, T value) {
    COUNT_WRITE(sizeof(T));
    *place = value;
}

// Whether all lines of `length` elements, `data` being the first, may be read and written in packs.
__device__ __forceinline__ bool is_aligned(const real* data, int length) {
    return length % PACK == 0 && reinterpret_cast<unsigned long long>(data) % sizeof(Pack) == 0;
}

// Up to PACK elements; the places from `count` on are 0.
__device__ __forceinline__ Pack load_pack(const real* place, int count, bool aligned) {
    if (aligned && count >= PACK) return load(reinterpret_cast<const Pack*>(place));
    Pack pack;
#pragma unroll
    for (int v = 0; v < PACK; v++) pack.at[v] = v < count ? load(place + v) : real(0);
    return pack;
}

__device__ __forceinline__ void store_pack(real* place, const Pack& pack, int count, bool aligned) {
    if (aligned && count >= PACK) {
        store(reinterpret_cast<Pack*>(place), pack);
        return;
    }
#pragma unroll
    for (int v = 0; v < PACK; v++)
        if (v < count) store(place + v, pack.at[v]);
}

// The sum of one number from each thread, in an order that depends on the block's shape alone. Every thread of the block
// calls, and every thread receives the sum. `scratch` is shared memory with a place for each thread.
template <class T>
__device__ T block_sum(T value, T* scratch) {
    const int threads = blockDim.x * blockDim.y, own = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads();  // the scratch may still be read for an earlier sum
    scratch[own] = value;
    for (int live = threads; live > 1;) {
        const int half = (live + 1) / 2;
        __syncthreads();
        if (own + half < live) scratch[own] += scratch[own + half];
        live = half;
    }
    __syncthreads();
    return scratch[0];
}

// The sum of `count` numbers in global memory, by all threads of a block.
__device__ __forceinline__ double sum_of(const double* numbers, int count, double* scratch) {
    double sum = 0;
    for (int k = threadIdx.y * blockDim.x + threadIdx.x; k < count; k += blockDim.x * blockDim.y) sum += load(numbers + k);
    return block_sum(sum, scratch);
}
