"""Matrices in flat memory, inside compiled code.

The page writes ``W[l]`` and ``A[l - 1]``. In compiled code W is a :class:`BlocksType`, a pointer and a table of
offsets, whose ``W[l]`` is a :class:`MatrixType` made on the spot: a pointer, a shape, and the record of the member of
the team that works on it (see :mod:`accelnn.kernels.team`). So one compilation serves every depth and every width,
where a tuple of arrays would compile anew for each; and nothing is counted or allocated, since Python holds all memory
for as long as compiled code runs.
"""

import operator

from numba import types
from numba.core import cgutils
from numba.extending import (
    intrinsic,
    make_attribute_wrapper,
    models,
    overload,
    overload_attribute,
    register_model,
)

from accelnn.kernels.calls import at

__all__ = ["BlocksType", "MatrixType", "blocks", "matrix"]

RECORD = types.CPointer(types.int64)


class MatrixType(types.Type):
    """A matrix whose columns are contiguous: element (i, j) is number ``i + j * rows``.

    Where columns are examples, `first` is the place of the first one within the batch.
    """

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Matrix({dtype})")

    @property
    def fields(self):
        """Names and types of the parts."""
        numbers = dict.fromkeys(("rows", "columns"), types.int64)
        return {"data": types.CPointer(self.dtype), **numbers, "member": RECORD, "first": types.int64}


class BlocksType(types.Type):
    """Matrices numbered ``0 .. count - 1`` in flat memory.

    Matrix l has ``rows[l]`` rows and ``columns[l] if width < 0 else width`` columns. It starts at
    ``at[l] * scale + rows[l] * skip``. Number 0 is a matrix of its own, `zeroth`, whose member and first column are
    those of the others too.
    """

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Blocks({dtype})")

    @property
    def fields(self):
        """Names and types of the parts."""
        numbers = dict.fromkeys(("count", "scale", "width", "skip"), types.int64)
        tables = dict.fromkeys(("at", "rows", "columns"), types.CPointer(types.int64))
        return {"data": types.CPointer(self.dtype), **tables, **numbers, "zeroth": MatrixType(self.dtype)}


for _kind in (MatrixType, BlocksType):

    @register_model(_kind)
    class _Model(models.StructModel):
        def __init__(self, manager, kind):
            super().__init__(manager, kind, list(kind.fields.items()))

    for _field in _kind(types.float32).fields:
        make_attribute_wrapper(_kind, _field, _field)


def _struct(context, kind):
    """A lowering that puts the arguments together as the parts of a structure."""

    def build(context, builder, signature, arguments):
        value = cgutils.create_struct_proxy(kind)(context, builder)
        for name, argument in zip(kind.fields, arguments, strict=True):
            setattr(value, name, argument)
        return value._getvalue()

    return kind(*kind.fields.values()), build


@intrinsic
def matrix(context, data, rows, columns, member, first):
    """Build a matrix from its parts."""
    return _struct(context, MatrixType(data.dtype))


@intrinsic
def blocks(context, data, at, rows, columns, count, scale, width, skip, zeroth):
    """Build a sequence of matrices from its parts."""
    return _struct(context, BlocksType(data.dtype))


@overload_attribute(MatrixType, "shape")
def _shape(matrix):
    return lambda matrix: (matrix.rows, matrix.columns)


@overload(len)
def _len(blocks):
    if isinstance(blocks, BlocksType):
        return lambda blocks: blocks.count
    return None


@overload(operator.getitem)
def _getitem(blocks, l):
    if isinstance(blocks, BlocksType):

        def one(blocks, l):
            if l == 0:
                return blocks.zeroth
            rows = blocks.rows[l]
            columns = blocks.columns[l] if blocks.width < 0 else blocks.width
            start = at(blocks.data, blocks.at[l] * blocks.scale + rows * blocks.skip)
            return matrix(start, rows, columns, blocks.zeroth.member, blocks.zeroth.first)

        return one
    return None


@overload(operator.setitem)
def _setitem(blocks, l, value):
    if isinstance(blocks, BlocksType):
        # The page gives every verb `out=blocks[l]`, and a compiled verb has stored its result there already.
        return lambda blocks, l, value: None
    return None
