"""Powers of two, by the bits of a floating-point number. Free of branches and of calls, so that loops vectorise."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["power_of_two", "significand"]

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
