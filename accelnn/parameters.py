"""Where everything lies: the flat parameter vector, its views, and one batch's workspace.

Parameters: ``theta = [W[1], b[1], W[2], b[2], ...]``, one vector, and ``dtheta`` in the same order. ``W[l]`` of shape
``(n_l, n_{l-1})`` is a Fortran-ordered view, so that its memory is ``(n_{l-1}, n_l)`` row by row (scikit-learn's
``coefs_``). Activations: ``A[l]`` of shape ``(n_l, m)`` is a Fortran-ordered view, so that each example is contiguous.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace

__all__ = ["Layout", "Workspace"]


class Layout:
    """Offsets of a network's arrays in flat memory.

    Parameters
    ----------
    sizes : sequence of int
        ``n_0 .. n_L``.
    keeps_z : sequence of bool
        For l = 1..L, whether ``Z[l]`` is kept beside ``A[l]`` (otherwise they share memory).
    drops : sequence of bool, optional
        For l = 1..L, whether ``D[l]``, what dropout leaves of ``A[l]``, has memory of its own; by default nowhere.
    gathers : bool
        Whether a batch of X may be gathered into the workspace (a sparse one never is).

    Attributes
    ----------
    sizes : tuple of int
    n_parameters : int
        Length of theta.
    n_work : int
        Length of the workspace for one example.
    table : array of int64, shape (8, L + 1)
        Rows: units ``n_l``; inputs ``n_{l-1}``; offset of ``W[l]``; of ``b[l]``; and, to be multiplied by the
        workspace's capacity in examples, of ``A[l]``, ``Z[l]``, ``D[l]`` and ``dZ[l]``. Column 0 has no layer; the
        places of ``A[0]``, ``dZ[0]`` and ``D[0]`` hold the offsets of a gathered batch of X, of Y and of w.
    """

    def __init__(self, sizes: Sequence[int], keeps_z: Sequence[bool], drops: Sequence[bool] = (), gathers: bool = True):
        self.sizes = tuple(sizes)
        L = len(self.sizes) - 1
        self.gathers = gathers
        self.table = np.zeros((8, L + 1), dtype=np.int64)
        units, inputs, W_at, b_at, A_at, Z_at, D_at, dZ_at = self.table
        units[:] = self.sizes
        inputs[1:] = self.sizes[:-1]
        at = 0
        for l in range(1, L + 1):
            W_at[l] = at
            b_at[l] = at + units[l] * inputs[l]
            at = int(b_at[l] + units[l])
        self.n_parameters = at
        at = int(units[0]) if gathers else 0
        for l in range(1, L + 1):
            A_at[l] = Z_at[l] = D_at[l] = at
            at += int(units[l])
            if keeps_z[l - 1]:
                Z_at[l] = at
                at += int(units[l])
            if drops and drops[l - 1]:
                D_at[l] = at
                at += int(units[l])
            dZ_at[l] = at
            at += int(units[l])
        dZ_at[0] = at
        D_at[0] = at + int(units[L])
        self.n_work = int(D_at[0]) + 1

    def parameters(self, theta: Any) -> tuple[list[Any], list[Any]]:
        """``W`` and ``b``: views of a vector in theta's order, numbered 1..L (place 0 is None)."""
        units, inputs, W_at, b_at = self.table[:4].tolist()
        W, b = [None], [None]
        for l in range(1, len(units)):
            W.append(_columns(theta, W_at[l], units[l], inputs[l]))
            b.append(_columns(theta, b_at[l], units[l], 1))
        return W, b


class Workspace:
    """The arrays of one batch, as views of one flat buffer.

    Parameters
    ----------
    layout : Layout
    capacity : int
        The largest number of examples.
    empty : callable
        ``empty(length)``, a new vector of the network's dtype.
    """

    def __init__(self, layout: Layout, capacity: int, empty: Callable[[int], Any]):
        self.layout, self.capacity = layout, capacity
        self.buffer = empty(layout.n_work * capacity)
        self._views: dict[int, tuple[list[Any], list[Any], list[Any], list[Any], tuple[Any, Any, Any]]] = {}

    def views(self, m: int) -> tuple[list[Any], list[Any], list[Any], list[Any], tuple[Any, Any, Any]]:
        """``A``, ``Z``, ``D`` and ``dZ`` for m examples, numbered 1..L, and room for a gathered batch of X, Y and w."""
        if m not in self._views:
            units, _, _, _, A_at, Z_at, D_at, dZ_at = self.layout.table.tolist()

            def view(at: int, n: int) -> Any:
                return _columns(self.buffer, at * self.capacity, n, m)

            layers = range(1, len(units))
            A = [None, *(view(A_at[l], units[l]) for l in layers)]
            Z = [None, *(view(Z_at[l], units[l]) if Z_at[l] != A_at[l] else A[l] for l in layers)]
            D = [None, *(view(D_at[l], units[l]) if D_at[l] != A_at[l] else A[l] for l in layers)]
            dZ = [None, *(view(dZ_at[l], units[l]) for l in layers)]
            X_batch = view(A_at[0], units[0]) if self.layout.gathers else None
            self._views[m] = A, Z, D, dZ, (X_batch, view(dZ_at[0], units[-1]), view(D_at[0], 1))
        return self._views[m]


def _columns(vector: Any, at: int, rows: int, columns: int) -> Any:
    """A (rows, columns) view whose columns are contiguous."""
    part = vector[at : at + rows * columns]
    if hasattr(part, "reshape"):
        return part.reshape(columns, rows).T
    return array_namespace(part).reshape(part, (columns, rows)).T
