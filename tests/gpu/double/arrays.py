"""``cupy.ndarray``: an array in a device's memory.

It wraps a NumPy array over that memory, which NumPy cannot reach through it: whatever would read it silently on the
host raises an error, and so does every operation here for an array of the host. Values come from NumPy's own functions;
the launches, copies and allocations that CuPy would need are counted.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from gpu.double import copies
from gpu.double.cuda import Device, Work, current_device, get_current_stream, stream_of, submit
from gpu.double.machine import Access, Memory

__all__ = ["KIND_CUDA", "Capsule", "from_host", "in_layout_of", "launch", "ndarray", "new_memory"]

KIND_CUDA = 2  # the number of CUDA devices in DLPack


class Flags(NamedTuple):
    """How an array lies in memory."""

    c_contiguous: bool
    f_contiguous: bool


class Capsule:
    """What stands for DLPack's capsule; only the double's ``from_dlpack`` reads it."""

    def __init__(self, array: "ndarray") -> None:
        self.array = array


class ndarray:  # noqa: N801
    """ndarray(shape, dtype=float, memptr=None, strides=None, order='C')

    New memory, or a place in memory that is there.
    """

    # NumPy must not compute with it: NumPy's operators leave the work to this class, NumPy's functions refuse.
    __array_ufunc__ = None

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C") -> None:
        shape = tuple(map(operator.index, shape)) if isinstance(shape, Sequence) else (operator.index(shape),)
        dtype = np.dtype(dtype)
        if memptr is None:
            memptr = copies.MemoryPointer(new_memory(math.prod(shape) * dtype.itemsize), 0)
        self._memory: Memory = memptr.mem
        self._values = np.ndarray(shape, dtype, self._memory.bytes, memptr.ptr - self._memory.ptr, strides, order)

    def _view(self, values: np.ndarray) -> "ndarray":
        """Another array over the same memory."""
        view = object.__new__(ndarray)
        view._memory, view._values = self._memory, values
        return view

    def _access(self) -> Access:
        return self._memory.access(self._values)

    # What it is

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._values.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements."""
        return self._values.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._values.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._values.size

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self._values.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._values.nbytes

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one element to the next along each axis."""
        return self._values.strides

    @property
    def flags(self) -> Flags:
        """How it lies in memory."""
        return Flags(self._values.flags.c_contiguous, self._values.flags.f_contiguous)

    @property
    def device(self) -> Device:
        """Where it lives."""
        return Device(self._memory.device.number)

    @property
    def data(self) -> copies.MemoryPointer:
        """The place of its first element."""
        return copies.MemoryPointer(self._memory, self._values.ctypes.data - self._memory.ptr if self.size else 0)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<{self.dtype} array of shape {self.shape} on device {self._memory.device.number}>"

    # From and to the host

    def __array__(self, dtype=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use .get()")

    def get(self, stream=None, order="C", out=None, blocking=True) -> np.ndarray:
        """Copy to the host; `blocking` waits for the copy."""
        stream = get_current_stream() if stream is None else stream
        if out is not None:
            if not isinstance(out, np.ndarray) or out.dtype != self.dtype:
                raise TypeError(f"out: a NumPy array of {self.dtype} is needed")
            if out.shape != self.shape:
                raise ValueError(f"out: shape {out.shape} instead of {self.shape}")
            if not out.flags.forc:
                raise RuntimeError("out: not contiguous")
            both_fortran = out.flags.f_contiguous and self.flags.f_contiguous
            order = "C" if out.flags.c_contiguous and (self.flags.c_contiguous or not both_fortran) else "F"
        elif order == "A":
            order = "F" if self.flags.f_contiguous else "C"
        target = np.empty(self.shape, self.dtype, order) if out is None else out
        source = self
        with self.device:
            if not (self.flags.c_contiguous if order == "C" else self.flags.f_contiguous):
                # The device makes a copy in the other order first.
                with stream:
                    source = self.astype(self.dtype, order)
            if self.size:
                copies.to_host(source._access(), source._values, target, stream, blocking)
        return target

    def set(self, arr, stream=None) -> None:
        """Copy from the host; shape and dtype must be the same."""
        if not isinstance(arr, np.ndarray):
            raise TypeError("arr: only a NumPy array can be set")
        if arr.dtype != self.dtype:
            raise TypeError(f"arr: {arr.dtype} cannot be set to {self.dtype}")
        if arr.shape != self.shape:
            raise ValueError(f"arr: shape {arr.shape} cannot be set to {self.shape}")
        if not self._values.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        # Where the layouts differ, NumPy makes a copy, which is not pinned.
        source = np.ascontiguousarray(arr) if self.flags.c_contiguous else np.asfortranarray(arr)
        stream = get_current_stream() if stream is None else stream
        with self.device:
            copies.to_device(self._access(), self._values, source.reshape(self.shape), stream)

    def item(self):
        """The only element, as a Python number."""
        return self.get().item()

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __reduce__(self):
        return from_host, (self.get(order="A"),)

    def __copy__(self) -> "ndarray":
        return self.copy()

    def __deepcopy__(self, memo) -> "ndarray":
        with self.device:
            return self.copy()

    # To other libraries

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "stream": get_current_stream().ptr or 1,
            "version": 3,
            "strides": None if self.flags.c_contiguous else self.strides,
            "data": (self.data.ptr, False),
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return KIND_CUDA, self._memory.device.number

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None) -> Capsule:
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("the double exports no copies")
        if stream != -1:
            # The consumer's stream comes after the work here; a consumer that names none has the null stream.
            stream_of(stream or 0).wait_event(get_current_stream().record())
        return Capsule(self)

    # Views

    @property
    def T(self) -> "ndarray":
        """The transpose."""
        return self._view(self._values.T)

    def __getitem__(self, slices) -> "ndarray":
        slices = slices if isinstance(slices, tuple) else (slices,)
        for part in slices:
            if isinstance(part, bool | np.bool_ | list | np.ndarray | ndarray):
                raise TypeError(f"the double selects by numbers and slices, not by {type(part).__name__}: use take")
        # With an ellipsis NumPy makes a view of a single element too.
        return self._view(self._values[slices if ... in slices else (*slices, ...)])

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[k] for k in range(len(self)))

    def reshape(self, *shape, order="C", copy=None) -> "ndarray":
        """Another shape; a view where the layout allows it, else a copy."""
        shape = shape[0] if len(shape) == 1 else shape
        if not copy:
            try:
                return self._view(self._values.reshape(shape, order=order, copy=False))
            except ValueError:
                # Either the shape does not fit, which NumPy says again below, or only a copy can have it.
                if copy is not None:
                    raise
        return launch("copy", lambda values: values.reshape(shape, order=order, copy=True), [self])

    def ravel(self, order="C") -> "ndarray":
        """One axis; a view where the layout allows it, else a copy."""
        if order in ("K", "A"):
            order = "F" if self.flags.f_contiguous else "C"
        return self.reshape(-1, order=order)

    def view(self, dtype=None, type=None) -> "ndarray":  # noqa: A002
        """The same memory, perhaps as another type."""
        return self._view(self._values.view() if dtype is None else self._values.view(dtype))

    # Copies, and assignment

    def __setitem__(self, slices, value) -> None:
        target = self[slices]
        if not isinstance(value, ndarray):
            target.fill(value)
        elif value.shape == target.shape and value.strides == target.strides and value.data.ptr == target.data.ptr:
            pass  # x[...] += y assigns its own result
        elif _same_layout(value, target) and target.flags.c_contiguous:
            copies.between((target._access(), target._values), (value._access(), value._values))
        else:
            launch("copy", _identity, [value], target, casting="unsafe")

    def copy(self, order="C") -> "ndarray":
        """A copy on the current device."""
        if self._memory.device is current_device():
            return self.astype(self.dtype, order)
        if not self._values.flags.forc:
            raise NotImplementedError("CuPy cannot copy non-contiguous array between devices.")
        # The copy keeps the layout, whatever order is asked for.
        result = in_layout_of(self._values)
        copies.between((result._access(), result._values), (self._access(), self._values), anywhere=True)
        return result

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True) -> "ndarray":
        """A copy of another type; without `copy` the array itself where it has that type and order."""
        dtype, flags = np.dtype(dtype), self._values.flags
        right_order = {"K": True, "A": flags.forc, "C": flags.c_contiguous, "F": flags.f_contiguous}[order]
        if not copy and dtype == self.dtype and right_order:
            return self
        if casting is not None and not np.can_cast(self.dtype, dtype, casting):
            raise TypeError(f"{self.dtype} cannot be cast to {dtype} by the rule {casting!r}")
        result = in_layout_of(np.empty_like(self._values, dtype, order, subok=False))
        if _same_layout(self, result) and flags.forc:
            copies.between((result._access(), result._values), (self._access(), self._values))
        else:
            launch("copy", _identity, [self], result, casting="unsafe")
        return result

    def fill(self, value) -> None:
        """Set every element to a number."""
        if not isinstance(value, ndarray):
            value = np.asarray(value, self.dtype)
        if value.shape != ():
            raise ValueError(f"non-scalar {type(value).__name__} cannot be used for fill")
        launch("fill", _identity, [value if isinstance(value, ndarray) else value[()]], self, casting="unsafe")

    # Reductions, selection and the product

    def sum(self, axis=None, dtype=None, out=None, keepdims=False) -> "ndarray":
        """Sum along axes."""
        return launch("sum", lambda values: np.sum(values, axis, dtype, keepdims=keepdims), [self], out)

    def max(self, axis=None, out=None, keepdims=False) -> "ndarray":
        """Largest element along axes."""
        return launch("max", lambda values: np.max(values, axis, keepdims=keepdims), [self], out)

    def all(self, axis=None, out=None, keepdims=False) -> "ndarray":
        """Whether all elements are true along axes."""
        return launch("all", lambda values: np.all(values, axis, keepdims=keepdims), [self], out)

    def any(self, axis=None, out=None, keepdims=False) -> "ndarray":
        """Whether any element is true along axes."""
        return launch("any", lambda values: np.any(values, axis, keepdims=keepdims), [self], out)

    def argmax(self, axis=None) -> "ndarray":
        """Place of the largest element."""
        return launch("argmax", lambda values: np.argmax(values, axis), [self])

    def take(self, indices, axis=None, out=None) -> "ndarray":
        """Elements by their places, which wrap around as CuPy's do."""
        indices = indices if isinstance(indices, ndarray) else operator.index(indices)
        return launch("take", lambda values, places: np.take(values, places, axis, mode="wrap"), [self, indices], out)

    def __matmul__(self, other) -> "ndarray":
        return product(self, other)

    def __rmatmul__(self, other) -> "ndarray":
        return product(other, self)


def _binary(name: str, function: Callable) -> None:
    """The methods of a binary operator."""

    def forward(self, other):
        return launch(name, function, [self, other])

    def reflected(self, other):
        return launch(name, function, [other, self])

    def in_place(self, other):
        return launch(name, function, [self, other], self)

    setattr(ndarray, f"__{name}__", forward)
    setattr(ndarray, f"__r{name}__", reflected)
    setattr(ndarray, f"__i{name}__", in_place)


def _comparison(name: str, function: Callable) -> None:
    setattr(ndarray, f"__{name}__", lambda self, other: launch(name, function, [self, other]))


def _unary(name: str, function: Callable) -> None:
    setattr(ndarray, f"__{name}__", lambda self: launch(name, function, [self]))


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    _binary(_name, getattr(operator, f"__{_name}__"))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _comparison(_name, getattr(operator, _name))
for _name in ("neg", "pos", "abs", "invert"):
    _unary(_name, getattr(operator, _name))
ndarray.__hash__ = None  # type: ignore[assignment]  # an array whose == gives an array has no hash


# ----------------------------------------------------------------------------------------------------------------------
# How an operation runs
# ----------------------------------------------------------------------------------------------------------------------


def new_memory(size: int) -> Memory:
    """Memory of the current device."""
    if get_current_stream().is_capturing():
        raise RuntimeError("an allocation: not allowed while the stream is captured into a graph")
    return Memory(size, current_device())


def in_layout_of(template: np.ndarray) -> ndarray:
    """New memory with the shape, type and strides of a NumPy array."""
    return ndarray(template.shape, template.dtype, strides=template.strides if template.size else None)


def from_host(host: np.ndarray, order: Any = "K") -> ndarray:
    """A copy of a NumPy array."""
    if host.dtype.kind not in "biuf":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    if order in ("K", "A"):
        order = "F" if host.flags.fnc else "C"
    result = ndarray(host.shape, host.dtype, order=order)
    if host.ndim == 0:
        result.fill(host)
    elif host.size:
        copies.to_device(result._access(), result._values, np.asarray(host, order=order), None)
    return result


def launch(
    what: str, function: Callable, inputs: Sequence[Any], out: ndarray | None = None, casting: Any = "same_kind"
) -> ndarray:
    """Launch a function of NumPy's on arrays of the device and numbers, into `out` or new memory."""
    values: list[Any] = []
    reads: list[Access] = []
    for value in inputs:
        if isinstance(value, ndarray):
            values.append(value._values)
            reads.append(value._access())
        elif isinstance(value, bool | int | float | np.generic):
            values.append(value)
        else:
            raise TypeError(f"{what}: Unsupported type {type(value)}; pass arrays of the device, or numbers")

    if out is not None and not isinstance(out, ndarray):
        raise TypeError(f"{what}: out must be an array of the device, not {type(out)}")
    with np.errstate(all="ignore"):  # a device gives no warnings
        if out is None:
            result = np.asarray(function(*values))
            out = in_layout_of(result)
            values, function = [result], _identity
    target = out._values

    def run() -> None:
        with np.errstate(all="ignore"):
            np.copyto(target, function(*values), casting=casting)

    submit(Work(what, "launches", run, reads, [out._access()]))
    return out


def product(x1: Any, x2: Any, out: ndarray | None = None) -> ndarray:
    """Matrix product, which CuPy leaves to cuBLAS."""
    if get_current_stream().is_capturing():
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    return launch("matmul", np.matmul, [x1, x2], out)


def _identity(values: np.ndarray) -> np.ndarray:
    return values


def _same_layout(one: ndarray, other: ndarray) -> bool:
    """Whether a copy of the bytes copies the elements."""
    return (one.dtype, one.shape, one.strides) == (other.dtype, other.shape, other.strides)
