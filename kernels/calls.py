"""Calls by address, inside compiled code.

A network's activations, loss and update rule reach the compiled page as addresses of kernels. The page is therefore
compiled once for all of them, a kernel is compiled only when a network asks for it, and neither contains the other
(Numba would otherwise optimise every kernel again for each of its callers: 75 s instead of 4).
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

__all__ = ["call", "call_for_sum"]


def _by_address(result):
    """An intrinsic that calls the kernel at an address; arrays are passed as pointers to their first element."""

    @intrinsic
    def run(context, address, arguments):
        def build(context, builder, signature, values):
            address, packed = values
            passed = []
            for kind, value in zip(signature.args[1], cgutils.unpack_tuple(builder, packed), strict=True):
                passed.append(
                    make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                )
            returns = context.get_value_type(result) if result != types.void else ir.VoidType()
            kernel = ir.FunctionType(returns, [value.type for value in passed])
            value = builder.call(builder.inttoptr(address, kernel.as_pointer()), passed)
            return context.get_dummy_value() if result == types.void else value

        return result(address, arguments), build

    return run


call = _by_address(types.void)
call_for_sum = _by_address(types.float64)
