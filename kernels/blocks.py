"""Views of flat memory by layer number, inside compiled code.

The page writes ``W[l]`` and ``A[l - 1]``. In compiled code W is a :class:`BlocksType`: a flat vector and a table of
offsets, whose ``W[l]`` is a view made on the spot. So one compilation serves every depth and every width, where a
tuple of arrays would compile anew for each.
"""

import operator

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, make_attribute_wrapper, models, overload, register_model
from numba.np.arrayobj import make_array, populate_array

__all__ = ["BlocksType", "layer_blocks", "matrix_at"]


class BlocksType(types.Type):
    """A flat vector seen as a sequence of Fortran-ordered matrices numbered 0..L.

    Matrix l has ``rows[l]`` rows and ``columns[l] if width == 0 else width`` columns and starts at ``at[l] * scale``.
    Number 0 is an array of its own, `first`.
    """

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Blocks({dtype})")

    @property
    def fields(self):
        """Names and types of the parts."""
        integers = types.Array(types.int64, 1, "C")
        return [
            ("data", types.Array(self.dtype, 1, "C")),
            ("at", integers),
            ("rows", integers),
            ("columns", integers),
            ("scale", types.int64),
            ("width", types.int64),
            ("first", types.Array(self.dtype, 2, "F")),
        ]


@register_model(BlocksType)
class _BlocksModel(models.StructModel):
    def __init__(self, manager, blocks):
        super().__init__(manager, blocks, blocks.fields)


for _field in ("data", "at", "rows", "columns", "scale", "width", "first"):
    make_attribute_wrapper(BlocksType, _field, _field)


@intrinsic
def layer_blocks(context, data, at, rows, columns, scale, width, first):
    """Build the sequence from its parts."""
    blocks = BlocksType(data.dtype)
    signature = blocks(*(kind for _, kind in blocks.fields))

    def build(context, builder, signature, arguments):
        value = cgutils.create_struct_proxy(blocks)(context, builder)
        for (name, kind), argument in zip(blocks.fields, arguments, strict=True):
            context.nrt.incref(builder, kind, argument)
            setattr(value, name, argument)
        return value._getvalue()

    return signature, build


@intrinsic
def matrix_at(context, data, at, rows, columns):
    """The Fortran-ordered (rows, columns) matrix that starts at ``data[at]``.

    It does not keep `data` alive, which saves two atomic counts for each view: Python holds every flat vector for as
    long as compiled code runs.
    """
    matrix = types.Array(data.dtype, 2, "F")
    signature = matrix(data, types.int64, types.int64, types.int64)

    def build(context, builder, signature, arguments):
        vector, at, rows, columns = arguments
        source = make_array(signature.args[0])(context, builder, vector)
        size = context.get_abi_sizeof(context.get_data_type(signature.return_type.dtype))
        itemsize = context.get_constant(types.intp, size)
        result = make_array(signature.return_type)(context, builder)
        populate_array(
            result,
            data=builder.gep(source.data, [at]),
            shape=cgutils.pack_array(builder, [rows, columns]),
            strides=cgutils.pack_array(builder, [itemsize, builder.mul(rows, itemsize)]),
            itemsize=itemsize,
            meminfo=None,
        )
        return result._getvalue()

    return signature, build


@overload(len)
def _len(blocks):
    if isinstance(blocks, BlocksType):
        return lambda blocks: blocks.rows.shape[0]
    return None


@overload(operator.getitem)
def _getitem(blocks, l):
    if isinstance(blocks, BlocksType):

        def view(blocks, l):
            if l == 0:
                return blocks.first
            columns = blocks.columns[l] if blocks.width == 0 else blocks.width
            return matrix_at(blocks.data, blocks.at[l] * blocks.scale, blocks.rows[l], columns)

        return view
    return None


@overload(operator.setitem)
def _setitem(blocks, l, value):
    if isinstance(blocks, BlocksType):

        def store(blocks, l, value):
            # A verb that was given `out=blocks[l]` has stored its result already.
            place = blocks[l]
            if place.ctypes.data != value.ctypes.data:
                for j in range(place.shape[1]):
                    for i in range(place.shape[0]):
                        place[i, j] = value[i, j]

        return store
    return None
