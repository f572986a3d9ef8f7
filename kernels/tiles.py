"""Register tiles: the inner loops of a matrix product, and the transposition of a small block, as vector code.

A tile of C stays in vector registers while the contraction runs: at each step one row of B is loaded, and each of a
few elements of A is multiplied into all of it, so that a number loaded is used several times (Goto, van de Geijn 2008,
section 4). LLVM does not find this form in plain loops, so it is written here in LLVM's intermediate representation.

No tile needs a mask. In a tile narrower than its vectors the last two overlap, and one with fewer rows repeats its
last row; since a tile loads everything before it stores anything, what is computed twice is stored twice.
"""

import platform
from functools import cache

import numba
from llvmlite import ir
from numba import types
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

__all__ = ["panel", "tile_rows", "transpose", "vector_length"]

CHAINS = 8  # sums that a processor can add to at the same time: two units that take four cycles each

_I64, _I32 = ir.IntType(64), ir.IntType(32)


@cache
def _features() -> frozenset[str]:
    """What the processor can do that Numba compiles for."""
    text = get_host_cpu_features() if numba.config.CPU_FEATURES is None else numba.config.CPU_FEATURES
    return frozenset(name[1:] for name in text.split(",") if name.startswith("+"))


def vector_length(itemsize: int) -> int:
    """How many elements of `itemsize` bytes a vector register holds."""
    width = 64 if "avx512f" in _features() else 32 if "avx2" in _features() else 16
    return width // itemsize


def tile_rows(vectors: int) -> int:
    """How many rows of that many vectors fit into the registers, with room for a row of B and an element of A."""
    registers = 32 if "avx512f" in _features() or platform.machine() in ("arm64", "aarch64") else 16
    if registers == 32:
        return 8
    return 6 if vectors < 3 else 4


@cache
def panel(rows: int, vectors: int, length: int):
    """An intrinsic that computes a panel of C, up to `vectors * length` columns wide, tile by tile downwards.

    ``panel(A, ra, ca, B, rb, C, rc, D, rd, m, k, last, scale)`` is, in pointers and strides,
    ``C[i, j] = D[i, j] + scale * sum_p A[i, p] B[p, j]`` for m rows and k terms. The first vectors stand side by side,
    and the last starts at column `last`. D may be C, a row to be repeated (stride 0) or null, which counts as zero.
    """

    @intrinsic
    def run(context, A, ra, ca, B, rb, C, rc, D, rd, m, k, last, scale):
        signature = types.void(A, ra, ca, B, rb, C, rc, D, rd, m, k, last, scale)

        def build(context, builder, signature, arguments):
            kind = context.get_value_type(signature.args[-1])
            function = _panel_function(builder.module, kind, context.get_abi_sizeof(kind), rows, vectors, length)
            builder.call(function, arguments)
            return context.get_dummy_value()

        return signature, build

    return run


def _panel_function(module, kind, size, rows, vectors, length):
    """The function of the module that does it: one for each shape, however often it is called."""
    name = f"accelnn.panel.{rows}.{vectors}.{length}.{size}"
    if name in module.globals:
        return module.globals[name]
    pointer = kind.as_pointer()
    function = ir.Function(
        module,
        ir.FunctionType(
            ir.VoidType(),
            [pointer, _I64, _I64, pointer, _I64, pointer, _I64, pointer, _I64, _I64, _I64, _I64, kind],
        ),
        name,
    )
    function.linkage = "internal"
    function.attributes.add("noinline")
    A, ra, ca, B, rb, C, rc, D, rd, m, k, last, scale = function.args
    entry, head, body, more, one, half, all_rows, done = map(
        function.append_basic_block, ("entry", "head", "body", "more", "one", "half", "all", "done")
    )
    builder = ir.IRBuilder(entry)
    columns = [_I64(v * length) for v in range(vectors - 1)] + [last]
    tile = _Tile(function, kind, size, length, columns, ra, ca, B, rb, rc, rd, k, scale)
    without = builder.icmp_unsigned("==", builder.ptrtoint(D, _I64), _I64(0))
    builder.branch(head)

    builder.position_at_end(head)
    i = builder.phi(_I64)
    i.add_incoming(_I64(0), entry)
    builder.cbranch(builder.icmp_signed("<", i, m), body, done)

    builder.position_at_end(body)
    left = builder.sub(m, i)
    A_i = builder.gep(A, [builder.mul(i, ra)])
    C_i = builder.gep(C, [builder.mul(i, rc)])
    D_i = builder.select(without, D, builder.gep(D, [builder.mul(i, rd)]))
    builder.cbranch(builder.icmp_signed("<", left, _I64(3)), one, more)
    builder.position_at_end(more)
    builder.cbranch(builder.icmp_signed(">", left, _I64(rows // 2)), all_rows, half)

    for start, height in ((one, 1), (half, max(rows // 2, 3)), (all_rows, rows)):
        builder.position_at_end(start)
        tile.emit(builder, height, left, A_i, C_i, D_i, without)
        i.add_incoming(builder.add(i, _I64(height)), builder.block)
        builder.branch(head)
    builder.position_at_end(done)
    builder.ret_void()
    return function


class _Tile:
    """Emits the code of one tile into a panel's function."""

    def __init__(self, function, kind, size, length, columns, ra, ca, B, rb, rc, rd, k, scale):
        self.function, self.kind, self.size, self.columns = function, kind, size, columns
        self.vector = ir.VectorType(kind, length)
        self.ra, self.ca, self.B, self.rb, self.rc, self.rd, self.k, self.scale = ra, ca, B, rb, rc, rd, k, scale

    def splat(self, builder, number):
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = builder.insert_element(undefined, number, _I32(0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, self.vector.count), None))

    def load(self, builder, pointer):
        return builder.load(builder.bitcast(pointer, self.vector.as_pointer()), align=self.size)

    def store(self, builder, value, pointer):
        builder.store(value, builder.bitcast(pointer, self.vector.as_pointer()), align=self.size)

    def emit(self, builder, height, left, A, C, D, without):
        """`height` rows, of which min(height, left) are different."""
        end = builder.sub(left, _I64(1))
        numbers = [_I64(i) for i in range(height)]
        numbers[1:] = [builder.select(builder.icmp_signed("<", i, end), i, end) for i in numbers[1:]]
        sums = self.contraction(builder, [builder.gep(A, [builder.mul(i, self.ra)]) for i in numbers])

        scale = self.splat(builder, self.scale)
        scaled = [[builder.fmul(x, scale) for x in row] for row in sums]
        before = builder.block
        add, store = self.function.append_basic_block("add"), self.function.append_basic_block("store")
        builder.cbranch(without, store, add)
        builder.position_at_end(add)
        added = []
        for i, row in zip(numbers, scaled, strict=True):
            D_i = builder.gep(D, [builder.mul(i, self.rd)])
            added.append(
                [
                    builder.fadd(x, self.load(builder, builder.gep(D_i, [j])))
                    for x, j in zip(row, self.columns, strict=True)
                ]
            )
        builder.branch(store)
        builder.position_at_end(store)
        results: list[list[ir.Instruction]] = []
        for pair in zip(scaled, added, strict=True):
            results.append([])
            for x, y in zip(*pair, strict=True):
                result = builder.phi(self.vector)
                result.add_incoming(x, before)
                result.add_incoming(y, add)
                results[-1].append(result)
        for i, row in zip(numbers, results, strict=True):
            C_i = builder.gep(C, [builder.mul(i, self.rc)])
            for x, j in zip(row, self.columns, strict=True):
                self.store(builder, x, builder.gep(C_i, [j]))

    def contraction(self, builder, A):
        """``sum_p A[i, p] B[p, j]``, as rows of vectors that stay in registers.

        A small tile adds several terms at once into sums of their own, since one addition must wait for another.
        """
        zero = ir.Constant(self.vector, [0.0] * self.vector.count)
        chains = max(1, CHAINS // (len(A) * len(self.columns)))
        place = [_I64(0), _I64(0), self.B]
        sums = [zero] * (len(A) * len(self.columns) * chains)
        while chains > 1:
            place, sums = self.terms(builder, A, chains, place, sums)
            chains //= 2
            half = len(sums) // 2
            sums = [builder.fadd(x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
        _, sums = self.terms(builder, A, 1, place, sums)
        columns = len(self.columns)
        return [sums[start : start + columns] for start in range(0, len(sums), columns)]

    def terms(self, builder, A, count, place, sums):
        """A loop over `count` terms at once for as long as there are so many; sums for each of them in turn."""
        before = builder.block
        head, body, done = map(self.function.append_basic_block, ("terms.head", "terms.body", "terms.done"))
        last = builder.sub(self.k, _I64(count - 1))
        builder.branch(head)
        builder.position_at_end(head)
        p, at, B_p = now = [builder.phi(value.type) for value in place]
        totals = [builder.phi(self.vector) for _ in sums]
        for phi, value in zip([*now, *totals], [*place, *sums], strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", p, last), body, done)

        builder.position_at_end(body)
        results: list[ir.Instruction] = []
        for _ in range(count):
            row = [self.load(builder, builder.gep(B_p, [j])) for j in self.columns]
            for A_i in A:
                a = self.splat(builder, builder.load(builder.gep(A_i, [at])))
                for b in row:
                    product = builder.fmul(a, b, flags=("contract",))
                    results.append(builder.fadd(product, totals[len(results)], flags=("contract",)))
            at, B_p = builder.add(at, self.ca), builder.gep(B_p, [self.rb])
        for phi, value in zip([*now, *totals], [builder.add(p, _I64(count)), at, B_p, *results], strict=True):
            phi.add_incoming(value, body)
        builder.branch(head)
        builder.position_at_end(done)
        return now, totals


@cache
def transpose(length: int):
    """An intrinsic ``transpose(source, stride, target, target_stride)`` for a block of length x length elements.

    Exchanges ever larger quarters of the block, as vectors (Eklundh 1972).
    """

    @intrinsic
    def run(context, source, stride, target, target_stride):
        signature = types.void(source, stride, target, target_stride)

        def build(context, builder, signature, arguments):
            source, stride, target, target_stride = arguments
            kind = source.type.pointee
            vector, align = ir.VectorType(kind, length), context.get_abi_sizeof(kind)

            def place(start, stride, i):
                return builder.bitcast(builder.gep(start, [builder.mul(stride, _I64(i))]), vector.as_pointer())

            rows = [builder.load(place(source, stride, i), align=align) for i in range(length)]
            step = 1
            while step < length:
                lanes = range(length)
                low = [q if not q & step else length + q - step for q in lanes]
                high = [q + step if not q & step else length + q for q in lanes]
                masks = [ir.Constant(ir.VectorType(_I32, length), mask) for mask in (low, high)]
                for i in lanes:
                    if not i & step:
                        pair = rows[i], rows[i + step]
                        rows[i], rows[i + step] = (builder.shuffle_vector(*pair, mask) for mask in masks)
                step *= 2
            for i, row in enumerate(rows):
                builder.store(row, place(target, target_stride, i), align=align)
            return context.get_dummy_value()

        return signature, build

    return run
