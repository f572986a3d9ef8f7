"""``cupy.RawModule``, whose kernels run in the emulator, ``cupy.cuda.nvrtc`` and ``cupy.cublas.gemm``."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from gpu.double.arrays import launch, ndarray
from gpu.double.cuda import Work, get_current_stream, submit
from gpu.double.machine import Access
from gpu.emulator import Kernel, Program

__all__ = ["RawKernel", "RawModule", "gemm", "getVersion"]

program = cache(Program)  # one library a text, however many modules are made of it


def getVersion() -> tuple[int, int]:
    """The version of NVRTC that the emulator stands for."""
    return 13, 0


class RawModule:
    """RawModule(code=None, *, options=(), backend='nvrtc')

    A program text, compiled at its first launch.
    """

    def __init__(self, code: str | None = None, *, options: tuple[str, ...] = (), backend: str = "nvrtc") -> None:
        if not isinstance(code, str):
            raise TypeError("code: a program text is needed")
        if not isinstance(options, tuple):
            raise TypeError("options: a tuple is needed")
        if backend != "nvrtc":
            raise NotImplementedError("backend: the double stands for NVRTC alone")
        unknown = [option for option in options if option.startswith(("-D", "--define", "-I", "--include", "-U"))]
        if unknown:
            raise ValueError(
                f"options: the emulator compiles the text alone, so {unknown} would be lost; write it there"
            )
        self.code, self.options, self.backend = code, options, backend

    def get_function(self, name: str) -> "RawKernel":
        """A kernel by its name."""
        return RawKernel(self, name)


class RawKernel:
    """A kernel of a module."""

    def __init__(self, module: RawModule, name: str) -> None:
        self._module, self.name = module, name

    def __call__(self, grid: tuple, block: tuple, args: Sequence[Any], *, shared_mem: int = 0) -> None:
        """Launch on the current stream."""
        if not (isinstance(grid, tuple) and isinstance(block, tuple)):
            raise TypeError(f"kernel {self.name}: grid and block must be tuples")
        if shared_mem:
            raise NotImplementedError(f"kernel {self.name}: the emulator has no shared memory but the kernel's own")
        kernels = program(self._module.code).kernels
        if self.name not in kernels:
            raise RuntimeError(f"CUDA_ERROR_NOT_FOUND: the text has no kernel {self.name}, but {', '.join(kernels)}")
        kernel = kernels[self.name]
        passed, reads, writes = self._arguments(kernel, args)
        submit(Work(self.name, "launches", lambda: kernel.launch(grid, block, passed), reads, writes))

    def _arguments(self, kernel: Kernel, args: Sequence[Any]) -> tuple[list[Any], list[Access], list[Access]]:
        """What the emulator receives, and the memory that the kernel reads and may write."""
        if len(args) != len(kernel.parameters):
            raise TypeError(f"kernel {self.name} takes {len(kernel.parameters)} arguments, got {len(args)}")
        passed: list[Any] = []
        reads: list[Access] = []
        writes: list[Access] = []
        for place, (parameter, value) in enumerate(zip(kernel.parameters, args, strict=True)):
            if isinstance(value, ndarray):
                (reads if parameter.startswith("const ") else writes).append(value._access())
                passed.append(value._values)
            elif isinstance(value, np.uintp) and value == 0 and parameter.endswith("*"):
                passed.append(None)  # a null pointer; None itself would have CuPy pass nothing at all
            elif isinstance(value, bool) or not isinstance(value, int | float | np.generic):
                raise TypeError(
                    f"kernel {self.name}, parameter {place} ({parameter}): pass an array of the device or a NumPy "
                    f"scalar, not {type(value).__name__}"
                )
            elif isinstance(value, np.generic):
                passed.append(value)
            else:
                # CuPy passes a bare number as eight bytes, whatever the parameter is.
                passed.append(np.int64(value) if isinstance(value, int) else np.float64(value))
        return passed, reads, writes


def gemm(transa, transb, a, b, out=None, alpha=1.0, beta=0.0) -> ndarray:
    """``out = alpha op(a) @ op(b) + beta out`` by cuBLAS."""
    for name, operand in {"a": a, "b": b, "out": a if out is None else out}.items():
        if not isinstance(operand, ndarray):
            raise TypeError(f"gemm: {name} must be an array of the device, not {type(operand)}")
    if isinstance(alpha, ndarray) or isinstance(beta, ndarray):
        raise NotImplementedError("gemm: the double takes alpha and beta from the host")
    assert a.ndim == b.ndim == 2
    assert a.dtype == b.dtype
    if a.dtype.char not in "fd":
        raise TypeError("invalid dtype")
    turn_a, turn_b = _transposed(transa), _transposed(transb)
    m, k = a.shape[::-1] if turn_a else a.shape
    k_of_b, n = b.shape[::-1] if turn_b else b.shape
    assert k_of_b == k
    if 0 in (m, k, n):
        raise RuntimeError("CUBLAS_STATUS_INVALID_VALUE: cuBLAS multiplies no empty matrices")
    if get_current_stream().is_capturing():
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    if out is None:
        out, beta = ndarray((m, n), a.dtype, order="F"), 0.0
    assert out.shape == (m, n)
    assert out.dtype == a.dtype
    target = out
    if not all(any(array.flags) for array in (a, b, out)):
        # CuPy copies what is not contiguous, and the result if it is not in Fortran's order.
        a, b = (array if any(array.flags) else array.copy(order="F") for array in (a, b))
        target = out if out.flags.f_contiguous else out.copy(order="F")

    def product(left, right, old=None):
        result = alpha * ((left.T if turn_a else left) @ (right.T if turn_b else right))
        return result if old is None else result + beta * old

    # With beta = 0 cuBLAS does not read the result's old values, which may be NaN.
    launch("gemm", product, [a, b, target] if beta else [a, b], target)
    if target is not out:
        out[...] = target
    return out


def _transposed(trans: Any) -> bool:
    if trans not in ("N", "T", "H", 0, 1, 2):
        raise TypeError(f"invalid trans (actual: {trans})")
    return trans not in ("N", 0)
