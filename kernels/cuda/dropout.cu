// A = A / (1 - rate) with probability 1 - rate, else 0 (Srivastava et al. 2014, in the inverted form).
//
// No verb asks for it yet; tests/gpu/test_verbs.py holds it against NumPy. The same launch over dA, with the same key, layer and step, is the backward pass. Whether element k stays is decided by
// number k of a stream of Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), so that no
// mask is stored, and the host draws the same one with
//     numpy.random.Generator(numpy.random.Philox(key=key, counter=[0, layer, step, 0])).random(size) >= rate
//
// Grid: blocks; block: THREADS.

struct Words {
    unsigned long long at[4];
};

__device__ __forceinline__ Words philox(Words counter, unsigned long long key0, unsigned long long key1) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned long long high0 = __umul64hi(0xD2E7470EE14C6C93ULL, counter.at[0]);
        const unsigned long long low0 = 0xD2E7470EE14C6C93ULL * counter.at[0];
        const unsigned long long high1 = __umul64hi(0xCA5A826395121157ULL, counter.at[2]);
        const unsigned long long low1 = 0xCA5A826395121157ULL * counter.at[2];
        counter = {{high1 ^ counter.at[1] ^ key0, low1, high0 ^ counter.at[3] ^ key1, low0}};
        key0 += 0x9E3779B97F4A7C15ULL;
        key1 += 0xBB67AE8584CAA73BULL;
    }
    return counter;
}

extern "C" __global__ void __launch_bounds__(THREADS) dropout(
    real* A, long long size, double rate, unsigned long long key, unsigned long long layer, const long long* clock) {
    const unsigned long long step = load(clock);
    const real scale = static_cast<real>(1 / (1 - rate));
    const long long stride = static_cast<long long>(gridDim.x) * THREADS;
    for (long long group = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; 4 * group < size; group += stride) {
        // NumPy counts up before it draws.
        const Words words = philox({{static_cast<unsigned long long>(group) + 1, layer, step, 0}}, key, 0);
#pragma unroll
        for (int v = 0; v < 4; v++) {
            const long long k = 4 * group + v;
            const double uniform = static_cast<double>(words.at[v] >> 11) * (1.0 / 9007199254740992.0);
            if (k < size) store(A + k, uniform >= rate ? scale * load(A + k) : real(0));
        }
    }
}
