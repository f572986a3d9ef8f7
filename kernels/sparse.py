"""The first layer's products for a sparse X: what is zero costs nothing.

Example i has the numbers ``values[begins[i]:ends[i]]``, in the features that `indices` says. Each of them multiplies a
row of W's memory, which is contiguous.
"""

from accelnn.kernels.calls import as_element

__all__ = ["gradient", "product"]


def product(values, indices, begins, ends, W, b, Z, m, n):
    """``Z[i, :] = b + sum_j x[i, j] W[j, :]`` for m examples and n units."""
    for i in range(m):
        row = i * n
        for c in range(n):
            Z[row + c] = b[c]
        # Four at once, so that Z is fetched and stored a quarter as often.
        left = (ends[i] - begins[i]) % 4
        for p in range(begins[i], begins[i] + left):
            x, at_W = values[p], indices[p] * n
            for c in range(n):
                Z[row + c] += x * W[at_W + c]
        for p in range(begins[i] + left, ends[i], 4):
            x_0, x_1, x_2, x_3 = values[p], values[p + 1], values[p + 2], values[p + 3]
            at_0, at_1, at_2, at_3 = indices[p] * n, indices[p + 1] * n, indices[p + 2] * n, indices[p + 3] * n
            for c in range(n):
                Z[row + c] += (x_0 * W[at_0 + c] + x_1 * W[at_1 + c]) + (x_2 * W[at_2 + c] + x_3 * W[at_3 + c])


def gradient(values, indices, begins, ends, dZ, dW, m, n, inputs, left, right, scale, add):
    """``dW[j, :] = scale * sum_i x[i, j] dZ[i, :]`` for the units ``left .. right - 1`` of n.

    `add`: on top of what dW holds.
    """
    factor = as_element(scale, dW)
    if not add:
        for j in range(inputs):
            for c in range(j * n + left, j * n + right):
                dW[c] = 0.0
    for i in range(m):
        row = i * n
        for p in range(begins[i], ends[i]):
            x, at_W = factor * values[p], indices[p] * n
            for c in range(left, right):
                dW[at_W + c] += x * dZ[row + c]
