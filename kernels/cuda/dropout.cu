// D = A * M: M is 0 with the layer's rate, else `scale` = 1 / (1 - rate) (Srivastava et al. 2014, section 10). D may be A.
//
// The same launch over dA, in the same step, is the backward pass: no mask is stored. Element k stays where number k of a
// stream of 16-bit numbers is not below `threshold`. The stream is Philox4x64-10 (Salmon et al. 2011, "Parallel random
// numbers: as easy as 1, 2, 3") as accelnn/dropout.py says, with the counter [0, layer, step, 0]; `first` is the step that
// the clock's 0 stands for.
//
// Grid: blocks of DRAWN numbers for each thread; block: THREADS. A thread draws DRAWN numbers that follow each other, which
// pass through shared memory, so that the block reads and writes its elements pack by pack.

constexpr int WORDS = 4;    // of 64 bits, that a thread draws at once
constexpr int IN_WORD = 4;  // numbers of 16 bits that a word holds
static_assert(WORDS * IN_WORD == DRAWN, "what a thread draws");

struct Words {
    unsigned long long at[WORDS];
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
    const real* A, real* D, long long size, int threshold, double scale, unsigned long long key, unsigned long long layer,
    const long long* __restrict__ first, const long long* __restrict__ clock) {
    // Some places more than needed: what a warp reads then lies in different banks.
    __shared__ unsigned long long words[WORDS][THREADS + WORDS];
    const long long number = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    if (number * DRAWN < size) {
        const unsigned long long step = load(first) + load(clock);
        // NumPy counts up before it draws.
        const Words drawn = philox({{static_cast<unsigned long long>(number) + 1, layer, step, 0}}, key, 0);
#pragma unroll
        for (int w = 0; w < WORDS; w++) words[w][threadIdx.x] = drawn.at[w];
    }
    __syncthreads();
    const long long start = static_cast<long long>(blockIdx.x) * THREADS * DRAWN;
    const bool aligned = is_aligned(A, PACK) && is_aligned(D, PACK);
    for (int at = threadIdx.x * PACK; at < THREADS * DRAWN && start + at < size; at += THREADS * PACK) {
        const int count = size - start - at < PACK ? static_cast<int>(size - start - at) : PACK;
        const unsigned long long word = words[at / IN_WORD % WORDS][at / DRAWN];
        Pack pack = load_pack(A + start + at, count, aligned);
#pragma unroll
        for (int v = 0; v < PACK; v++) {
            const int drawn = static_cast<int>((word >> (16 * ((at + v) % IN_WORD))) & 0xFFFF);
            pack.at[v] *= drawn >= threshold ? static_cast<real>(scale) : real(0);
        }
        store_pack(D + start + at, pack, count, aligned);
    }
}
