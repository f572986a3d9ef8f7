// A row of the product of a sparse matrix and a dense one.
//
// The sparse one is in compressed rows: the entries of row i are numbers starts[i] to starts[i + 1] - 1, each with a value
// and the place of its column. Line p of the dense one, of n elements, belongs to column p.

constexpr int CHAIN = 32;  // products that are added one to another

// The sum over `length` entries of value times PACK elements, the first at `dense` plus the entry's line, of which `count`
// are there. Where lines are ALIGNED, all are, and no thread has to ask.
template <bool ALIGNED>
__device__ __forceinline__ Pack chain(const int* places, const real* values, int length, const real* dense, int n, int count) {
    Pack sum = {};
#pragma unroll 4
    for (int k = 0; k < length; k++) {
        COUNT_OPERATIONS(2 * PACK);
        const real value = load(values + k);
        const long long line = load(places + k);
        const Pack factors = load_pack(dense + line * n, ALIGNED ? PACK : count, ALIGNED);
#pragma unroll
        for (int v = 0; v < PACK; v++) sum.at[v] += value * factors.at[v];
    }
    return sum;
}

// PACK elements, from `unit` on, of which `count` are there, of row `row` of the product.
__device__ __forceinline__ Pack sparse_row(
    const long long* starts, const int* places, const real* values, int row, const real* dense, int n, int unit, int count) {
    const bool aligned = is_aligned(dense, n);
    const long long start = load(starts + row);
    const int entries = static_cast<int>(load(starts + row + 1) - start);
    places += start;
    values += start;
    dense += unit;
    Pack sum = {};
    // A sum for each chain, then their sum: rounding errors grow with the number of chains, not of entries.
    for (int first = 0; first < entries; first += CHAIN) {
        const int length = entries - first < CHAIN ? entries - first : CHAIN;
        const Pack part = aligned ? chain<true>(places + first, values + first, length, dense, n, count)
                                  : chain<false>(places + first, values + first, length, dense, n, count);
#pragma unroll
        for (int v = 0; v < PACK; v++) sum.at[v] += part.at[v];
    }
    return sum;
}
