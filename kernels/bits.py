"""What is done with the bits of numbers. Free of branches and of calls, so that loops vectorise."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["multiply_by_mask", "power_of_two", "significand", "whole_product"]

# For each type: its integer, the bits of its fraction, of 1.0, of sqrt(1/2), and of 2^fraction.
_FORMATS = {
    types.float32: (ir.IntType(32), 23, 0x3F800000, 0x3F3504F3, 0x4B000000),
    types.float64: (ir.IntType(64), 52, 0x3FF0000000000000, 0x3FE6A09E667F3BCD, 0x4330000000000000),
}


@intrinsic
def power_of_two(context, shifted):
    """``2^n``, given ``n + 1.5 * 2^f`` for a fraction of f bits, whose last bits are n."""
    integer, fraction, one, _, _ = _FORMATS[shifted]

    def build(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], integer)
        bits = builder.add(builder.shl(bits, integer(fraction)), integer(one))
        return builder.bitcast(bits, context.get_value_type(shifted))

    return shifted(shifted), build


@intrinsic
def significand(context, u):
    """``k, f`` with ``u = 2^k f`` and f from sqrt(1/2) to sqrt(2), for a positive normal u."""
    integer, fraction, one, root, unit = _FORMATS[u]

    def build(context, builder, signature, arguments):
        kind = context.get_value_type(u)
        bits = builder.add(builder.bitcast(arguments[0], integer), integer(one - root))
        # An integer below 2^fraction becomes a float without a conversion instruction, which AVX2 lacks for 64 bits.
        raised = builder.or_(builder.lshr(bits, integer(fraction)), integer(unit))
        exponent = builder.fsub(builder.bitcast(raised, kind), kind(2.0**fraction + (one >> fraction)))
        rest = builder.add(builder.and_(bits, integer((1 << fraction) - 1)), integer(root))
        return cgutils.pack_array(builder, [exponent, builder.bitcast(rest, kind)])

    return types.UniTuple(u, 2)(u), build


@intrinsic
def whole_product(context, x, y):
    """``high, low`` with ``x y = 2^64 high + low``, for 64-bit numbers without a sign."""

    def build(context, builder, signature, arguments):
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        parts = [builder.lshr(product, wide(64)), product]
        return cgutils.pack_array(builder, [builder.trunc(part, ir.IntType(64)) for part in parts])

    return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), build


@intrinsic
def multiply_by_mask(context, x, y, words, threshold, factor):
    """``y[k] = x[k] * factor`` where number k of 16 in these words is not below the threshold, else ``x[k] * 0``.

    `words` are four numbers of 64 bits, of which each holds four of 16, the lowest bits first.
    """

    def build(context, builder, signature, arguments):
        x, y, words, threshold, factor = arguments
        kind, number, count = context.get_value_type(signature.args[4]), ir.IntType(16), 16
        align = context.get_abi_sizeof(kind)

        def spread(value):
            undefined = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
            lane = builder.insert_element(undefined, value, ir.IntType(32)(0))
            return builder.shuffle_vector(lane, undefined, ir.Constant(ir.VectorType(ir.IntType(32), count), None))

        def place(start):
            return builder.bitcast(start, ir.VectorType(kind, count).as_pointer())

        packed = ir.Constant(ir.VectorType(ir.IntType(64), 4), ir.Undefined)
        for i, word in enumerate(cgutils.unpack_tuple(builder, words)):
            packed = builder.insert_element(packed, word, ir.IntType(32)(i))
        numbers = builder.bitcast(packed, ir.VectorType(number, count))
        stays = builder.icmp_unsigned(">=", numbers, spread(builder.trunc(threshold, number)))
        mask = builder.select(stays, spread(factor), ir.Constant(ir.VectorType(kind, count), [0.0] * count))
        builder.store(builder.fmul(builder.load(place(x), align=align), mask), place(y), align=align)
        return context.get_dummy_value()

    return types.void(x, y, types.UniTuple(types.uint64, 4), types.int64, x.dtype), build
