"""The matrix product ``C = D + scale * A B``, for the sizes of networks.

Sources: Goto, van de Geijn 2008, *Anatomy of high-performance matrix multiplication* (blocks for each level of cache,
panels of B packed one after the other); Van Zee, van de Geijn 2015 (BLIS) for strides in both directions.

Small operands are read where they lie. Packing pays where B is beyond the second-level cache, where its rows start at
addresses that fall on the same few places of the cache, or where it is transposed, since it must be copied then.
"""

from numba import types

from accelnn.kernels.calls import address, at
from accelnn.kernels.tiles import panel, tile_rows, transpose, vector_length

__all__ = ["multiply", "names", "scratch_length", "signature"]

DEPTH = 512  # terms of the contraction at once: more stream B's panel from further away, fewer fetch C more often
HEIGHT = 264  # rows of A at once: with DEPTH, a block stays in the second-level cache; a multiple of 8 and of 6
WIDTH = 2048  # columns of B packed at once where several blocks of rows use them
IN_PLACE = 2**20  # bytes of B that are read where they lie
ALIASED = 2048  # rows of B at multiples of so many bytes compete for the same sets of the caches
FAR = 4096  # bytes from which on a step along A is a step to another page


def _unbound(*arguments):
    raise NameError("the product runs only compiled, with its free names bound")


# Free names, which differ by precision and processor: see `names`.
LENGTH = ITEMSIZE = ROWS = 1
panel_3 = panel_2 = panel_1 = panel_8_2 = panel_8_1 = panel_4_2 = panel_4_1 = _unbound
panel_2_2 = panel_2_1 = panel_1_1 = _unbound
transpose_block = transpose_4 = _unbound


def names(itemsize):
    """What the free names mean, for elements of that many bytes."""
    length = vector_length(itemsize)
    found = {f"panel_{v}": panel(tile_rows(v), v, length) for v in (1, 2, 3)}
    for short in (8, 4, 2, 1):
        for vectors in (1, 2) if short > 1 else (1,):
            found[f"panel_{short}_{vectors}"] = panel(tile_rows(vectors), vectors, short)
    found |= {"transpose_block": transpose(length), "transpose_4": transpose(4)}
    return found | {"LENGTH": length, "ITEMSIZE": itemsize, "ROWS": tile_rows(2)}


def scratch_length(widest, itemsize):
    """Elements of working memory for products of which no side but the number of examples is longer than `widest`.

    It also serves the bias gradient, with a number and a double for each column.
    """
    columns = min(widest, WIDTH) + 3 * vector_length(itemsize)
    strips = HEIGHT + tile_rows(2) if widest * itemsize >= FAR else 0
    return max(DEPTH * (columns + strips), 4 * widest)


def signature(dtype):
    """The C signature of `multiply`."""
    pointer, integer = types.CPointer(dtype), types.int64
    A, B, C, D = (
        (pointer, integer, integer),
        (pointer, integer, integer),
        (pointer, integer),
        (pointer, integer),
    )
    return types.void(*A, *B, *C, *D, integer, integer, integer, dtype, pointer)


def multiply(A, ra, ca, B, rb, cb, C, rc, D, rd, m, n, k, scale, scratch):
    """``C[i, j] = D[i, j] + scale * sum_p A[i, p] B[p, j]`` for m rows, n columns and k terms.

    A and B have strides along both directions, of which one is 1; C and D have rows. D may be C, a row to be repeated
    (rd = 0), or null. `scratch` is working memory of `scratch_length`.
    """
    if m == 0:
        return
    if n == 1 and ca == 1 and rb == 1 and k >= 2 * LENGTH:
        row_sums(A, ra, B, C, rc, D, rd, m, k, scale)
        return
    aliased = (rb * ITEMSIZE) % ALIASED == 0 and k > 64
    if cb == 1 and (m < 16 or (k * n * ITEMSIZE <= IN_PLACE and not aliased)):
        j = 0
        while j < n:
            width = n - j if n - j <= 3 * LENGTH else 2 * LENGTH
            one_panel(A, ra, ca, at(B, j), rb, at(C, j), rc, at(D, j), rd, m, width, k, scale)
            j += width
        return

    far = ra == 1 and ca * ITEMSIZE >= FAR
    packed = at(scratch, DEPTH * (HEIGHT + ROWS)) if far else scratch
    # Blocks of equal height, so that the last one is no sliver.
    blocks = (m + HEIGHT - 1) // HEIGHT
    height = (m + blocks * ROWS - 1) // (blocks * ROWS) * ROWS
    for p in range(0, k, DEPTH):
        terms = min(DEPTH, k - p)
        begin = 0
        while begin < n:
            # One panel after another if each is used once, else as many as the working memory holds.
            end = begin
            while end < n and (end == begin or (m > HEIGHT and end - begin + 2 * LENGTH <= WIDTH)):
                width = n - end if n - end <= 3 * LENGTH else 2 * LENGTH
                pack(at(B, p * rb + end * cb), rb, cb, width, terms, at(packed, (end - begin) * terms))
                end += width
            for i in range(0, m, height):
                rows = min(height, m - i)
                A_block = at(A, i * ra + p * ca)
                if far:
                    pack_rows(A_block, ca, rows, terms, scratch)
                j = begin
                while j < end:
                    width = n - j if n - j <= 3 * LENGTH else 2 * LENGTH
                    panel_B = at(packed, (j - begin) * terms)
                    C_block = at(C, i * rc + j)
                    D_block, step = (at(D, i * rd + j), rd) if p == 0 else (C_block, rc)
                    if far:
                        for r in range(0, rows, ROWS):
                            count = min(ROWS, rows - r)
                            strip, C_r, D_r = at(scratch, r * terms), at(C_block, r * rc), at(D_block, r * step)
                            one_panel(strip, 1, ROWS, panel_B, width, C_r, rc, D_r, step, count, width, terms, scale)
                    else:
                        one_panel(
                            A_block, ra, ca, panel_B, width, C_block, rc, D_block, step, rows, width, terms, scale
                        )
                    j += width
            begin = end


def row_sums(A, ra, B, C, rc, D, rd, m, k, scale):
    """The product for one column, as sums along the rows of A."""
    nothing = address(D) == 0
    for i in range(m):
        total = 0.0
        for p in range(k):
            total += A[i * ra + p] * B[p]
        C[i * rc] = scale * total + (0.0 if nothing else D[i * rd])


def one_panel(A, ra, ca, B, rb, C, rc, D, rd, m, n, k, scale):
    """The product for up to ``3 * LENGTH`` columns."""
    if n > 2 * LENGTH:
        panel_3(A, ra, ca, B, rb, C, rc, D, rd, m, k, n - LENGTH, scale)
    elif n > LENGTH:
        panel_2(A, ra, ca, B, rb, C, rc, D, rd, m, k, n - LENGTH, scale)
    elif n == LENGTH:
        panel_1(A, ra, ca, B, rb, C, rc, D, rd, m, k, 0, scale)
    elif n > 8:
        panel_8_2(A, ra, ca, B, rb, C, rc, D, rd, m, k, n - 8, scale)
    elif n == 8:
        panel_8_1(A, ra, ca, B, rb, C, rc, D, rd, m, k, 0, scale)
    elif n > 4:
        panel_4_2(A, ra, ca, B, rb, C, rc, D, rd, m, k, n - 4, scale)
    elif n == 4:
        panel_4_1(A, ra, ca, B, rb, C, rc, D, rd, m, k, 0, scale)
    elif n == 3:
        panel_2_2(A, ra, ca, B, rb, C, rc, D, rd, m, k, 1, scale)
    elif n == 2:
        panel_2_1(A, ra, ca, B, rb, C, rc, D, rd, m, k, 0, scale)
    else:
        panel_1_1(A, ra, ca, B, rb, C, rc, D, rd, m, k, 0, scale)


def pack(B, rb, cb, width, terms, packed):
    """Rows of `width` elements, one directly after the other."""
    if cb != 1:
        pack_transposed(B, cb, width, terms, packed)
    elif width == 2 * LENGTH:
        for p in range(terms):
            for j in range(2 * LENGTH):
                packed[p * 2 * LENGTH + j] = B[p * rb + j]
    else:
        for p in range(terms):
            for j in range(width):
                packed[p * width + j] = B[p * rb + j]


def pack_transposed(B, cb, width, terms, packed):
    """The same where the columns of B are contiguous. At the edges the blocks overlap."""
    least = min(width, terms)
    size = LENGTH if least >= LENGTH else (4 if least >= 4 else 1)
    j = 0
    while j < width:
        j = min(j, width - size)
        p = 0
        while p < terms:
            p = min(p, terms - size)
            source, target = at(B, j * cb + p), at(packed, p * width + j)
            if size == LENGTH:
                transpose_block(source, cb, target, width)
            elif size == 4:
                transpose_4(source, cb, target, width)
            else:
                target[0] = source[0]
            p += size
        j += size


def pack_rows(A, ca, rows, terms, packed):
    """Strips of ROWS rows of an A whose columns are contiguous, so that a tile reads along memory."""
    i = 0
    while i + ROWS <= rows:
        for p in range(terms):
            for r in range(ROWS):
                packed[i * terms + p * ROWS + r] = A[p * ca + i + r]
        i += ROWS
    for p in range(terms):
        for r in range(rows - i):
            packed[i * terms + p * ROWS + r] = A[p * ca + i + r]
