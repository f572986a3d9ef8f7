"""A sparse X on the device: the entries of a batch by example, for the forward product, and by input, for dW.

In both forms each element of the result is a sum over one row's entries, so that neither product needs atomics, and the
order of every sum is fixed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["PLACES", "STARTS", "Rows", "SparseBatch", "on_device"]

STARTS, PLACES = "int64", "int32"  # dtypes of a matrix in compressed rows


@dataclass(frozen=True)
class Rows:
    """A matrix in compressed rows, on the device.

    Attributes
    ----------
    starts : vector of int64
        The entries of row i are numbers ``starts[i]`` to ``starts[i + 1] - 1``.
    places : vector of int32
        Their columns.
    values : vector
    """

    starts: Any
    places: Any
    values: Any


@dataclass(frozen=True)
class SparseBatch:
    """A sparse X of shape (n_0, m), as the page passes it on.

    Attributes
    ----------
    shape : tuple of int
    by_example : Rows
        Of the transpose: a row is an example.
    by_input : Rows or None
        A row is an input. None for a pass without gradients.
    """

    shape: tuple[int, int]
    by_example: Rows
    by_input: Rows | None = None

    def first(self, m: int) -> "SparseBatch":
        """The same memory where it holds only m examples."""
        return replace(self, shape=(self.shape[0], m))


def on_device(X: Any, from_host: Callable[[np.ndarray], Any], gradients: bool) -> SparseBatch:
    """A copy of a ``scipy.sparse.csc_array`` of shape (n_0, m).

    Parameters
    ----------
    X : csc_array
    from_host : callable
        Copies one array.
    gradients : bool
        Whether dW will be asked for.
    """

    def rows(matrix: Any) -> Rows:
        parts = matrix.indptr.astype(STARTS), matrix.indices.astype(PLACES), matrix.data
        return Rows(*map(from_host, parts))

    return SparseBatch(X.shape, rows(X.T), rows(X.tocsr()) if gradients else None)
