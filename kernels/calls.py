"""Pointers and calls by address, inside compiled code.

A network's activations, loss and update rule reach the compiled page as addresses of kernels. The page is therefore
compiled once for all of them, a kernel is compiled only when a network asks for it, and neither contains the other
(Numba would otherwise optimise every kernel again for each of its callers: 75 s instead of 4).
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

__all__ = ["address", "as_element", "at", "call", "call_for_sum", "doubles", "null", "pointer", "pointer_from"]


def _by_address(result):
    """An intrinsic that calls the kernel at an address."""

    @intrinsic
    def run(context, address, arguments):
        def build(context, builder, signature, values):
            address, packed = values
            passed = cgutils.unpack_tuple(builder, packed)
            returns = context.get_value_type(result) if result != types.void else ir.VoidType()
            kernel = ir.FunctionType(returns, [value.type for value in passed])
            value = builder.call(builder.inttoptr(address, kernel.as_pointer()), passed)
            return context.get_dummy_value() if result == types.void else value

        return result(address, arguments), build

    return run


call = _by_address(types.void)
call_for_sum = _by_address(types.float64)


@intrinsic
def pointer(context, array):
    """To an array's first element. It does not keep the array alive: Python does, while compiled code runs."""

    def build(context, builder, signature, arguments):
        return make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), build


@intrinsic
def pointer_from(context, address, like):
    """An address as a pointer of the same type as another."""

    def build(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return like(address, like), build


@intrinsic
def address(context, start):
    """A pointer as an integer."""

    def build(context, builder, signature, arguments):
        return builder.ptrtoint(arguments[0], ir.IntType(64))

    return types.int64(start), build


@intrinsic
def doubles(context, address):
    """An address as a pointer to float64."""
    kind = types.CPointer(types.float64)

    def build(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(address), build


@intrinsic
def as_element(context, number, like):
    """A number in the precision that a pointer points to."""

    def build(context, builder, signature, arguments):
        return context.cast(builder, arguments[0], signature.args[0], signature.return_type)

    return like.dtype(number, like), build


@intrinsic
def null(context, like):
    """The null pointer of the same type as another."""

    def build(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return like(like), build


@intrinsic
def at(context, start, offset):
    """A pointer moved by some elements; null stays null."""

    def build(context, builder, signature, arguments):
        start, offset = arguments
        nothing = builder.icmp_unsigned("==", builder.ptrtoint(start, ir.IntType(64)), ir.IntType(64)(0))
        return builder.select(nothing, start, builder.gep(start, [offset]))

    return start(start, types.int64), build
