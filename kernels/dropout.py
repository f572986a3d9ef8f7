"""Dropout over one batch: a stream of random numbers of 16 bits, of which each element of the batch has its own.

Source: Salmon, Moraes, Dror, Shaw 2011, *Parallel random numbers: as easy as 1, 2, 3* (Philox4x64, table 2). Any block
of the stream is a function of its number alone, so that each member of a team computes those that it needs.
"""

import numpy as np

from accelnn.kernels.bits import multiply_by_mask, whole_product
from accelnn.kernels.calls import as_element, at

__all__ = ["LEVELS", "drop", "philox"]

LEVELS = 2**16  # values that a number of the stream may have
COUNT = 16  # numbers in a block
ROUNDS = 10
MULTIPLIERS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
WEYL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)  # what the key grows by in each round


def philox(block, layer, step, key):
    """The four words of a block, as NumPy's ``Philox(key=key, counter=[0, layer, step, 0])`` gives them in turn."""
    # NumPy counts on before it computes a block.
    x0, x1, x2, x3 = np.uint64(block) + np.uint64(1), np.uint64(layer), np.uint64(step), np.uint64(0)
    k0, k1 = np.uint64(key), np.uint64(0)
    for _ in range(ROUNDS):
        high_0, low_0 = whole_product(MULTIPLIERS[0], x0)
        high_1, low_1 = whole_product(MULTIPLIERS[1], x2)
        x0, x1, x2, x3 = high_1 ^ x1 ^ k0, low_1, high_0 ^ x3 ^ k1, low_0
        k0, k1 = k0 + WEYL[0], k1 + WEYL[1]
    return x0, x1, x2, x3


def drop(A, D, part, size, number, layer, step, key, threshold):
    """``D = A * M`` for `size` elements, the first of which has that number in the layer's batch; D may be A.

    `part` is working memory for 16 elements.
    """
    factor = as_element(LEVELS / (LEVELS - threshold), A)
    for block in range(number // COUNT, (number + size + COUNT - 1) // COUNT):
        words = philox(block, layer, step, key)
        start = block * COUNT - number
        if start >= 0 and start + COUNT <= size:
            multiply_by_mask(at(A, start), at(D, start), words, threshold, factor)
        else:
            first, last = max(start, 0), min(start + COUNT, size)
            for k in range(first, last):
                part[k - start] = A[k]
            multiply_by_mask(part, part, words, threshold, factor)
            for k in range(first, last):
                D[k] = part[k - start]
