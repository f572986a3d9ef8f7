// One tile of a matrix product, C(i, j) = sum over p of A(i, p) B(p, j), by one block.
//
// TILE, the rows and columns of C, and PRODUCT_THREADS, the block, are set in __init__.py. The operands pass through shared memory in slabs of DEPTH values of p. While a slab is multiplied, the next one is
// already on its way from global memory into registers. Each thread adds up a rectangle of ROWS x COLUMNS elements.

constexpr int DEPTH = 32;
constexpr int ROWS = 4, COLUMNS = 2;
constexpr int ALONG = TILE / COLUMNS;                         // threads along a row of the tile
constexpr int PACKS = TILE * DEPTH / PACK / PRODUCT_THREADS;  // of an operand's slab, for each thread
static_assert(ALONG * (TILE / ROWS) == PRODUCT_THREADS, "the threads' rectangles make up the tile");

struct Tiles {
    // One pack more than needed: lines then start at different banks, and still at a multiple of 16 bytes.
    alignas(16) real A[DEPTH][TILE + PACK];
    alignas(16) real B[DEPTH][TILE + PACK];
};

// An operand in memory, as `lines` lines of `length` elements. Either its lines are numbered by p and hold the elements
// of one p (of all i, or of all j), or, ALONG_P, a line belongs to one i (or j) and runs along p.
// ONES adds a column of ones behind each line (for a bias: the last row of A^T in a product A^T dZ).
template <bool ALONG_P, bool ONES = false>
struct Operand {
    const real* data;
    int lines, length;
    bool aligned;
    Pack packs[PACKS];

    __device__ Operand(const real* data, int lines, int length)
        : data(data), lines(lines), length(length), aligned(is_aligned(data, length)) {}

    // Read this thread's part of the slab for rows (or columns) from `outer` on and p from `p` to `p_end`.
    __device__ __forceinline__ void fetch(int outer, int p, int p_end) {
        const int first_line = ALONG_P ? outer : p, line_end = ALONG_P ? lines : p_end;
        const int first = ALONG_P ? p : outer, end = ALONG_P ? p_end : length;
#pragma unroll
        for (int part = 0; part < PACKS; part++) {
            const int number = part * PRODUCT_THREADS + threadIdx.x;
            const int line = first_line + number / (TILE / PACK);
            const int at = first + number % (TILE / PACK) * PACK;
            const int count = line < line_end ? end - at : 0;
            packs[part] = load_pack(data + static_cast<long long>(line) * length + at, count, aligned);
            if (ONES && line < line_end) {
#pragma unroll
                for (int v = 0; v < PACK; v++)
                    if (at + v == length) packs[part].at[v] = 1;
            }
        }
    }

    // Write it into shared memory, where p numbers the lines.
    __device__ __forceinline__ void stash(real (*slab)[TILE + PACK]) const {
#pragma unroll
        for (int part = 0; part < PACKS; part++) {
            const int number = part * PRODUCT_THREADS + threadIdx.x;
            const int line = number / (TILE / PACK), at = number % (TILE / PACK) * PACK;
            if (ALONG_P) {
#pragma unroll
                for (int v = 0; v < PACK; v++) slab[at + v][line] = packs[part].at[v];
            } else {
                *reinterpret_cast<Pack*>(&slab[line][at]) = packs[part];
            }
        }
    }
};

// The first row and column, within the tile, of the calling thread's rectangle.
__device__ __forceinline__ int own_row() { return threadIdx.x / ALONG * ROWS; }

__device__ __forceinline__ int own_column() { return threadIdx.x % ALONG * COLUMNS; }

// C(i + r, j + c) for the calling thread's rectangle, summed over p from `p` to `p_end`. Every thread of the block calls.
template <class A, class B>
__device__ __forceinline__ void multiply(Tiles& tiles, A a, B b, int i, int j, int p, int p_end, real (&C)[ROWS][COLUMNS]) {
    const int row = own_row(), column = own_column();
    a.fetch(i, p, p_end);
    b.fetch(j, p, p_end);
    for (; p < p_end; p += DEPTH) {
        __syncthreads();  // the slab before is no longer read
        a.stash(tiles.A);
        b.stash(tiles.B);
        __syncthreads();
        if (p + DEPTH < p_end) {
            a.fetch(i, p + DEPTH, p_end);
            b.fetch(j, p + DEPTH, p_end);
        }
        // A sum for each slab, then their sum: rounding errors grow with the number of slabs, not of terms.
        real part[ROWS][COLUMNS] = {};
        const int depth = p_end - p < DEPTH ? p_end - p : DEPTH;
#pragma unroll 8
        for (int q = 0; q < depth; q++) {
            COUNT_OPERATIONS(2 * ROWS * COLUMNS);
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int c = 0; c < COLUMNS; c++) part[r][c] += tiles.A[q][row + r] * tiles.B[q][column + c];
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) C[r][c] += part[r][c];
    }
}
