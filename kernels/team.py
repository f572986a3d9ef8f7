"""A team: threads that run the same compiled program, each on its share of the examples.

Every member has a record, a short array of integers that reaches the verbs with each matrix. What members tell one
another goes through memory that all of them see, between barriers.

A barrier waits a short while for the others by looking again and again, since most waits end within some microseconds;
after a wait that did not, only a moment. Then it sleeps, on Linux; elsewhere it yields the processor. Where another
process holds a core, a waiting thread that stayed awake would keep its own core from the very thread that it waits
for: a sleeping one lets it move there.
"""

import ctypes
import platform
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from accelnn.kernels.calls import pointer_from

__all__ = [
    "BATCH",
    "BEGINS",
    "BLOCK",
    "BUFFER",
    "CAPACITY",
    "COLUMN_SUMS",
    "DISSOLVED",
    "DROPOUT",
    "ENDS",
    "FIRST",
    "GATHER",
    "GRADIENTS",
    "INDEX",
    "INDICES",
    "LATER",
    "MEETING",
    "MEETING_LENGTH",
    "MULTIPLY",
    "RANGES",
    "RECORD_LENGTH",
    "SCRATCH",
    "SIZE",
    "SLEEP",
    "SPARSE_GRADIENT",
    "SPARSE_PRODUCT",
    "STARTS",
    "SUMS",
    "TILES",
    "VALUES",
    "YIELD",
    "meet",
    "share",
    "sleep_address",
    "yield_address",
]

# Places of a member's record.
(
    SIZE,  # members of the team
    INDEX,  # this member's number, from 0
    MEETING,  # address of the barrier
    YIELD,  # address of the function that gives the processor to another thread
    SLEEP,  # address of the function that sleeps until a number changes, or 0
    MULTIPLY,  # address of the matrix product
    COLUMN_SUMS,  # address of the bias gradient's kernel
    SCRATCH,  # address of this member's working memory for products
    SUMS,  # address of one float64 a member
    GRADIENTS,  # address of the addresses of the members' gradients
    TILES,  # 1: the members split dW and keep one gradient; 0: each keeps the gradient of its examples
    BUFFER,  # address of the activations and gradients of a pass
    CAPACITY,  # examples that the buffer has room for
    BLOCK,  # most examples in one pass
    BATCH,  # examples in the whole batch
    FIRST,  # this member's first example within the batch
    GATHER,  # address of memory for a gathered share of X, then of Y, then of w
    LATER,  # 0 in the first pass over a share, which overwrites the gradient; then 1: add to it
    WAITS,  # how often this member waited at a barrier
    SLEPT,  # 1: its last wait was long
    DROPOUT,  # address of dropout's kernel, where a layer has dropout
    SPARSE_PRODUCT,  # addresses of the first layer's kernels for a sparse X
    SPARSE_GRADIENT,
    VALUES,  # addresses of a sparse X's numbers that are not zero, example after example,
    INDICES,  # of the features that they belong to,
    STARTS,  # and of the places where the examples start among them
    BEGINS,  # addresses of where the examples of the batch begin among the numbers,
    ENDS,  # and of where they end; places within the batch count from here
    RANGES,  # address of memory for both, for a gathered share
) = range(29)
RECORD_LENGTH = 32

LOOKS = 1000  # at a barrier, some tens of microseconds, before sleeping
FEW_LOOKS = 20  # where the last wait ended in sleep, but for one in 128

# Places of a barrier, on different cache lines.
ARRIVALS, TURN, DISSOLVED, SLEEPERS, SECONDS, NANOSECONDS = 0, 16, 17, 32, 34, 35
MEETING_LENGTH = 48
LONGEST_SLEEP = 10_000_000  # nanoseconds, after which a sleeper looks for itself
_I64 = ir.IntType(64)


def yield_address() -> int:
    """The operating system's function that yields the processor."""
    if sys.platform == "win32":
        return ctypes.cast(ctypes.windll.kernel32.SwitchToThread, ctypes.c_void_p).value or 0
    return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0


def sleep_address() -> int:
    """The C library's entry to the operating system, where it is Linux on a processor whose call numbers are known."""
    if sys.platform != "linux" or platform.machine() not in _FUTEX:
        return 0
    return ctypes.cast(ctypes.CDLL(None).syscall, ctypes.c_void_p).value or 0


def share(size, members, index):
    """Begin of a member's part of `size` things; index + 1 gives its end."""
    return size * index // members


def meet(member):
    """Wait until every member is here. What each wrote before, all can read after.

    False: the team was dissolved, because one of its threads could not start.
    """
    size = member[SIZE]
    if size == 1:
        return True
    place = pointer_from(member[MEETING], member)
    turn = _look(place, TURN)
    if _add(place, ARRIVALS, 1) == size - 1:
        _announce(place, ARRIVALS, 0)
        _add(place, TURN, 1)
        if _look(place, SLEEPERS) != 0:
            _wake(member[SLEEP], place)
        return True
    looks = 0
    member[WAITS] += 1
    most = LOOKS if member[SLEPT] == 0 or member[WAITS] % 128 == 0 else FEW_LOOKS
    while _look(place, TURN) == turn:
        if _look(place, DISSOLVED) != 0:
            return False
        looks += 1
        if looks < most:
            _pause()
        elif member[SLEEP] != 0:
            _add(place, SLEEPERS, 1)
            _sleep(member[SLEEP], place, turn)
            _add(place, SLEEPERS, -1)
        else:
            _yield_processor(member[YIELD])
    member[SLEPT] = int(looks >= most)
    return True


# Linux's call "futex" (man 2 futex), by processor; and what it is asked to do, for threads of one process.
_FUTEX = {"x86_64": 202, "aarch64": 98}
_WAIT, _WAKE = 128, 129


def _system_call(builder, address, numbers):
    function = ir.FunctionType(_I64, [_I64] * len(numbers))
    builder.call(builder.inttoptr(address, function.as_pointer()), numbers)


@intrinsic
def _sleep(context, address, place, turn):
    """Sleep unless the meeting is over, until it is, or for LONGEST_SLEEP."""

    def build(context, builder, signature, arguments):
        address, place, turn = arguments
        watched = builder.ptrtoint(builder.gep(place, [_I64(TURN)]), _I64)
        longest = builder.ptrtoint(builder.gep(place, [_I64(SECONDS)]), _I64)
        number = _I64(_FUTEX.get(platform.machine(), 0))
        _system_call(builder, address, [number, watched, _I64(_WAIT), turn, longest, _I64(0), _I64(0)])
        return context.get_dummy_value()

    return types.void(address, place, turn), build


@intrinsic
def _wake(context, address, place):
    """Wake all that sleep."""

    def build(context, builder, signature, arguments):
        address, place = arguments
        watched = builder.ptrtoint(builder.gep(place, [_I64(TURN)]), _I64)
        number = _I64(_FUTEX.get(platform.machine(), 0))
        _system_call(builder, address, [number, watched, _I64(_WAKE), _I64(2**31 - 1), _I64(0), _I64(0), _I64(0)])
        return context.get_dummy_value()

    return types.void(address, place), build


@intrinsic
def _add(context, place, index, number):
    """Add to an integer that all members see; what it was before."""

    def build(context, builder, signature, arguments):
        place, index, number = arguments
        return builder.atomic_rmw("add", builder.gep(place, [index]), number, "seq_cst")

    return types.int64(place, types.int64, types.int64), build


@intrinsic
def _look(context, place, index):
    """Read an integer, and be sure to see all that was written before it."""

    def build(context, builder, signature, arguments):
        return builder.load_atomic(builder.gep(arguments[0], [arguments[1]]), "seq_cst", 8)

    return types.int64(place, types.int64), build


@intrinsic
def _announce(context, place, index, value):
    """Write an integer after all that was written before it."""

    def build(context, builder, signature, arguments):
        place, index, value = arguments
        builder.store_atomic(value, builder.gep(place, [index]), "release", 8)
        return context.get_dummy_value()

    return types.void(place, types.int64, types.int64), build


# The instruction for a waiting loop, by processor.
_X86, _ARM = ("llvm.x86.sse2.pause", ()), ("llvm.aarch64.hint", (1,))
_PAUSES = {"x86_64": _X86, "AMD64": _X86, "aarch64": _ARM, "arm64": _ARM}


@intrinsic
def _pause(context):
    """Tell the processor that this is a waiting loop."""

    def build(context, builder, signature, arguments):
        name, numbers = _PAUSES.get(platform.machine(), (None, ()))
        if name is not None:
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)] * len(numbers))
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [ir.IntType(32)(number) for number in numbers])
        return context.get_dummy_value()

    return types.void(), build


@intrinsic
def _yield_processor(context, address):
    """Call the operating system's function."""

    def build(context, builder, signature, arguments):
        function = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(arguments[0], function.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), build
