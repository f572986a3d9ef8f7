"""The functions of ``cupy`` that the backend may use; each refuses an array of the host."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gpu.double import copies, machine
from gpu.double.arrays import KIND_CUDA, Capsule, from_host, in_layout_of, launch, ndarray, new_memory, product
from gpu.double.cuda import Device, current_device, get_current_stream, stream_of

__all__ = [
    "abs",
    "all",
    "any",
    "argmax",
    "array",
    "asarray",
    "ascontiguousarray",
    "asfortranarray",
    "asnumpy",
    "astype",
    "concatenate",
    "empty",
    "empty_like",
    "from_dlpack",
    "full",
    "isfinite",
    "isnan",
    "log",
    "matmul",
    "max",
    "may_share_memory",
    "ones",
    "reshape",
    "sqrt",
    "stack",
    "sum",
    "take",
    "where",
    "zeros",
    "zeros_like",
]


def _of_device(what: str, a: Any) -> ndarray:
    if not isinstance(a, ndarray):
        raise TypeError(f"{what}: Unsupported type {type(a)}; pass an array of the device")
    return a


# ----------------------------------------------------------------------------------------------------------------------
# New arrays
# ----------------------------------------------------------------------------------------------------------------------


def empty(shape, dtype=float, order="C") -> ndarray:
    """Poisoned memory."""
    return ndarray(shape, dtype, order=order)


def full(shape, fill_value, dtype=None, order="C") -> ndarray:
    """New memory with one number everywhere."""
    result = ndarray(shape, np.asarray(fill_value).dtype if dtype is None else dtype, order=order)
    result.fill(fill_value)
    return result


def zeros(shape, dtype=float, order="C") -> ndarray:
    """New memory, all 0."""
    return full(shape, 0, dtype, order)


def ones(shape, dtype=float, order="C") -> ndarray:
    """New memory, all 1."""
    return full(shape, 1, dtype, order)


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None) -> ndarray:
    """Poisoned memory in the form of an array."""
    values = _of_device("empty_like", prototype)._values
    return in_layout_of(np.empty_like(values, dtype, order, subok=False, shape=shape))


def zeros_like(a, dtype=None, order="K", subok=None, shape=None) -> ndarray:
    """New memory in the form of an array, all 0."""
    result = empty_like(a, dtype, order, subok, shape)
    result.fill(0)
    return result


# ----------------------------------------------------------------------------------------------------------------------
# From elsewhere, and back
# ----------------------------------------------------------------------------------------------------------------------


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False) -> ndarray:
    """A copy on the current device of anything that can be one; with copy=None only where one is needed."""
    if subok or ndmin:
        raise NotImplementedError("the double has neither subok nor ndmin")
    if hasattr(obj, "__cuda_array_interface__") and not isinstance(obj, ndarray):
        obj = _from_interface(obj)
    if isinstance(obj, ndarray):
        source = obj
        if source._memory.device is not current_device():
            if copy is False:
                raise ValueError("the array lives on another device, and only a copy can leave it")
            source, copy = source.copy(order), None
        result = source.astype(source.dtype if dtype is None else dtype, order, copy=bool(copy))
        if copy is False and result is not obj:
            raise ValueError("a copy is needed")
        return result
    if copy is False:
        raise ValueError("what is on the host can only be copied")
    # An array of a device within a list refuses to become NumPy's here.
    result = from_host(np.asarray(obj, dtype), order)
    if blocking:
        get_current_stream().synchronize()
    return result


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False) -> ndarray:
    """The array itself where it is one already, else a copy on the current device."""
    return array(a, dtype, copy, order or "K", blocking=blocking)


def ascontiguousarray(a, dtype=None) -> ndarray:
    """In C's order, of at least one axis."""
    result = _of_device("ascontiguousarray", a).astype(a.dtype if dtype is None else dtype, "C", copy=False)
    return result if result.ndim else result.reshape(1)


def asfortranarray(a, dtype=None) -> ndarray:
    """In Fortran's order, of at least one axis."""
    result = _of_device("asfortranarray", a).astype(a.dtype if dtype is None else dtype, "F", copy=False)
    return result if result.ndim else result.reshape(1)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True) -> np.ndarray:
    """A copy on the host."""
    if hasattr(a, "__cuda_array_interface__") and not isinstance(a, ndarray):
        a = _from_interface(a)
    if isinstance(a, ndarray):
        return a.get(stream, order, out, blocking)
    host = np.asarray(a, order=order)
    if out is None:
        return host
    out[...] = host
    return out


def _from_interface(producer: Any) -> ndarray:
    """The memory that ``__cuda_array_interface__`` describes; the host waits for the stream that it names."""
    description = producer.__cuda_array_interface__
    pointer, _ = description["data"]
    memory = machine.find_memory(pointer) if pointer else new_memory(0)
    if description.get("stream") is not None:
        stream_of(description["stream"]).synchronize()
    place = copies.MemoryPointer(memory, pointer - memory.ptr)
    return ndarray(description["shape"], np.dtype(description["typestr"]), place, description.get("strides"))


def from_dlpack(array, *, device=None, copy=None) -> ndarray:
    """The memory that another library's array shares."""
    if device is not None or copy:
        raise NotImplementedError("the double's from_dlpack has neither device nor copy")
    kind, number = array.__dlpack_device__()
    if kind != KIND_CUDA:
        raise TypeError("CPU arrays cannot be directly imported to CuPy. Use cupy.array(numpy.from_dlpack(input))")
    with Device(number):
        capsule = array.__dlpack__(stream=get_current_stream().ptr or 1, max_version=(1, 0), copy=copy)
    if not isinstance(capsule, Capsule):
        raise TypeError("the double's from_dlpack reads only what the double's __dlpack__ hands out")
    return capsule.array._view(capsule.array._values)


# ----------------------------------------------------------------------------------------------------------------------
# Computations
# ----------------------------------------------------------------------------------------------------------------------


class Ufunc:
    """A function of each element; `types` are those of CuPy's that the double vouches for."""

    def __init__(self, name: str, function: np.ufunc, types: Sequence[str]) -> None:
        self.name, self.nin, self.nout, self.types = f"cupy_{name}", 1, 1, list(types)
        self._function = function

    def __call__(self, x, /, out=None) -> ndarray:
        return launch(self.name, self._function, [_of_device(self.name, x)], out)


abs = Ufunc("absolute", np.absolute, ["i->i", "l->l", "f->f", "d->d"])  # noqa: A001
isfinite = Ufunc("isfinite", np.isfinite, ["f->?", "d->?"])
isnan = Ufunc("isnan", np.isnan, ["f->?", "d->?"])
log = Ufunc("log", np.log, ["f->f", "d->d"])
sqrt = Ufunc("sqrt", np.sqrt, ["f->f", "d->d"])


def all(a, axis=None, out=None, keepdims=False) -> ndarray:  # noqa: A001
    """Whether all elements are true along axes."""
    return _of_device("all", a).all(axis, out, keepdims)


def any(a, axis=None, out=None, keepdims=False) -> ndarray:  # noqa: A001
    """Whether any element is true along axes."""
    return _of_device("any", a).any(axis, out, keepdims)


def sum(a, axis=None, dtype=None, out=None, keepdims=False) -> ndarray:  # noqa: A001
    """Sum along axes."""
    return _of_device("sum", a).sum(axis, dtype, out, keepdims)


def max(a, axis=None, out=None, keepdims=False) -> ndarray:  # noqa: A001
    """Largest element along axes."""
    return _of_device("max", a).max(axis, out, keepdims)


def argmax(a, axis=None) -> ndarray:
    """Place of the largest element."""
    return _of_device("argmax", a).argmax(axis)


def take(a, indices, axis=None, out=None) -> ndarray:
    """Elements by their places, which wrap around as CuPy's do."""
    return _of_device("take", a).take(indices, axis, out)


def reshape(a, newshape, order="C", *, copy=None) -> ndarray:
    """Another shape; a view where the layout allows it, else a copy."""
    return _of_device("reshape", a).reshape(newshape, order=order, copy=copy)


def astype(x, dtype, /, *, copy=True) -> ndarray:
    """A copy of another type."""
    return _of_device("astype", x).astype(dtype, copy=copy)


def stack(tup, axis=0, out=None) -> ndarray:
    """Arrays along a new axis."""
    arrays = [_of_device("stack", a) for a in tup]
    return launch("stack", lambda *values: np.stack(values, axis), arrays, out)


def concatenate(tup, axis=0, out=None) -> ndarray:
    """Arrays along an axis that they have."""
    arrays = [_of_device("concatenate", a) for a in tup]
    return launch("concatenate", lambda *values: np.concatenate(values, axis), arrays, out)


def where(condition, x=None, y=None) -> ndarray:
    """Elements of x where the condition is true, else of y."""
    if x is None or y is None:
        raise NotImplementedError("the double's where has three arguments")
    return launch("where", np.where, [_of_device("where", condition), x, y])


def matmul(x1, x2, /, *, out=None) -> ndarray:
    """Matrix product."""
    return product(_of_device("matmul", x1), _of_device("matmul", x2), out)


def may_share_memory(a, b, max_work=None) -> bool:
    """Whether two arrays could have bytes in common."""
    first, second = (_of_device("may_share_memory", x)._values for x in (a, b))
    return np.may_share_memory(first, second)
