"""Python's values as JSON and arrays, and back, of the same types: what a file can hold besides a network.

Text, whole numbers, finite numbers, true, false, null and lists stand for themselves; an object of one name stands for
what JSON does not know, such as ``{"tuple": [...]}``. Classes go by a table of names; nothing is imported by its name.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from accelnn import schedules
from accelnn.errors import DataError, require_known
from accelnn.losses import LOSSES, Loss
from accelnn.losses import loss as find_loss
from accelnn.storage.fields import field, only

__all__ = ["packed", "unpacked"]

_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_SCALARS = ("bool", *_INTEGERS, "float16", "float32", "float64")
_MOST_BITS = 1024  # of a whole number
_SCHEDULES = {cls.__name__: cls for cls in map(type, schedules.SCHEDULES.values())}
_CODE_POINTS = 0x110000


def packed(value: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """A value as JSON; its arrays go to `tensors`, by names that begin with `name`.

    Parameters
    ----------
    value : object
        None, text, numbers and booleans, Python's and NumPy's; arrays of these; lists, tuples and dicts of what can be
        held; a schedule of :mod:`accelnn.schedules`; a loss of accelnn's.
    name : str
        What an error calls it.
    tensors : dict of str to array

    Raises
    ------
    DataError
        For anything else.
    """
    pack = _PACKERS.get(type(value))
    if pack is None and isinstance(value, np.generic) and value.dtype.name in _SCALARS:
        pack = _pack_scalar  # C has two types for some sizes
    try:
        found = None if pack is None else pack(value, name, tensors)
    except RecursionError:
        found = None
    if found is None and value is not None:
        raise DataError(
            f"{name}: a file cannot hold {_shown(value)}; give text, numbers, or lists, tuples, dicts or arrays of them"
        )
    return found


def unpacked(about: Any, tensors: dict[str, np.ndarray]) -> Any:
    """The value that was packed; its arrays leave `tensors`.

    Raises
    ------
    ValueError, TypeError, KeyError
        Where it is nothing that `packed` gives.
    """
    if type(about) is list:
        return [unpacked(item, tensors) for item in about]
    if type(about) is not dict:
        return about
    ((kind, content),) = about.items() if len(about) == 1 else [("", None)]
    require_known("kind", kind, _UNPACKERS)
    return _UNPACKERS[kind](content, tensors)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else f'{text[:57]}...'} ({type(value).__name__})"


# From a value to JSON; None for what cannot be held.


def _pack_number(value: int, name: str, tensors: dict[str, np.ndarray]) -> Any:
    return value if value.bit_length() <= _MOST_BITS else None


def _pack_float(value: float, name: str, tensors: dict[str, np.ndarray]) -> Any:
    return value if math.isfinite(value) else {"float": str(value)}


def _pack_list(value: list[Any], name: str, tensors: dict[str, np.ndarray]) -> Any:
    if value and all(type(item) is float for item in value):
        tensors[name] = np.array(value)
        return {"floats": name}
    return [packed(item, f"{name}[{k}]", tensors) for k, item in enumerate(value)]


def _pack_tuple(value: tuple[Any, ...], name: str, tensors: dict[str, np.ndarray]) -> Any:
    return {"tuple": [packed(item, f"{name}[{k}]", tensors) for k, item in enumerate(value)]}


def _pack_dict(value: dict[Any, Any], name: str, tensors: dict[str, np.ndarray]) -> Any:
    items = [(packed(key, name, tensors), packed(item, f"{name}[{key!a}]", tensors)) for key, item in value.items()]
    return {"dict": [list(pair) for pair in items]}


def _pack_scalar(value: np.generic, name: str, tensors: dict[str, np.ndarray]) -> Any:
    return {"scalar": {"type": value.dtype.name, "value": packed(value.item(), name, tensors)}}


def _pack_text(value: np.str_, name: str, tensors: dict[str, np.ndarray]) -> Any:
    return {"text": str(value)}


def _pack_array(value: np.ndarray, name: str, tensors: dict[str, np.ndarray]) -> Any:
    if value.dtype.name in _SCALARS:
        tensors[name] = value
        return {"array": name}
    if value.dtype.kind == "U" and value.size:
        # As NumPy has it: each text padded to the length of the longest, four bytes a character.
        native = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
        tensors[name] = native.view(np.uint32).reshape(*value.shape, -1)
        return {"texts": name}
    if value.dtype == object and value.ndim == 1:
        return {"objects": [packed(item, f"{name}[{k}]", tensors) for k, item in enumerate(value)]}
    return None


def _pack_schedule(value: schedules.Schedule, name: str, tensors: dict[str, np.ndarray]) -> Any:
    fields = {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}  # type: ignore[arg-type]
    return {"schedule": {"name": type(value).__name__, "fields": fields}}


def _pack_loss(value: Loss, name: str, tensors: dict[str, np.ndarray]) -> Any:
    if value.custom:
        return None
    return {"loss": {"name": value.name, "output": value.output, "parameters": dict(value.parameters)}}


_Packer = Callable[[Any, str, dict[str, np.ndarray]], Any]
_PACKERS: dict[type, _Packer] = {
    **dict.fromkeys((type(None), bool, str), lambda value, name, tensors: value),
    int: _pack_number,
    float: _pack_float,
    list: _pack_list,
    tuple: _pack_tuple,
    dict: _pack_dict,
    np.str_: _pack_text,
    np.ndarray: _pack_array,
    np.memmap: _pack_array,
    Loss: _pack_loss,
    **dict.fromkeys((np.dtype(name).type for name in _SCALARS), _pack_scalar),
    **dict.fromkeys(_SCHEDULES.values(), _pack_schedule),
}


# And back.


def _unpack_float(content: Any, tensors: dict[str, np.ndarray]) -> float:
    require_known("float", content, ("nan", "inf", "-inf"))
    return float(content)


def _unpack_floats(content: Any, tensors: dict[str, np.ndarray]) -> list[float]:
    array = _taken(content, tensors)
    if array.dtype != np.float64 or array.ndim != 1:
        raise ValueError(f"{content!r} is no list of numbers")
    return array.tolist()


def _items(content: Any, tensors: dict[str, np.ndarray]) -> list[Any]:
    if type(content) is not list:
        raise TypeError("what should be a list is none")
    return [unpacked(item, tensors) for item in content]


def _unpack_dict(content: Any, tensors: dict[str, np.ndarray]) -> dict[Any, Any]:
    pairs = [(key, value) for key, value in _items(content, tensors)]
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a dict has a key twice")
    return found


def _unpack_scalar(content: Any, tensors: dict[str, np.ndarray]) -> np.generic:
    only(content, ("type", "value"), "a number")
    require_known("type", content["type"], _SCALARS)
    dtype, value = np.dtype(content["type"]), unpacked(content["value"], tensors)
    if type(value) is not {"b": bool, "f": float}.get(dtype.kind, int):
        raise TypeError(f"what should be a number of type {dtype} is none")
    return dtype.type(value)


def _unpack_text(content: Any, tensors: dict[str, np.ndarray]) -> np.str_:
    if type(content) is not str:
        raise TypeError("what should be text is none")
    return np.str_(content)


def _unpack_array(content: Any, tensors: dict[str, np.ndarray]) -> np.ndarray:
    array = _taken(content, tensors)
    if array.dtype.name not in _SCALARS:
        raise ValueError(f"{content!r} holds numbers of type {array.dtype}")
    return np.array(array)


def _unpack_texts(content: Any, tensors: dict[str, np.ndarray]) -> np.ndarray:
    points = _taken(content, tensors)
    if points.dtype != np.uint32 or not points.ndim or not points.size or points.max() >= _CODE_POINTS:
        raise ValueError(f"{content!r} is no text")
    return np.array(points).view(f"<U{points.shape[-1]}")[..., 0]


def _unpack_objects(content: Any, tensors: dict[str, np.ndarray]) -> np.ndarray:
    items = _items(content, tensors)
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _unpack_schedule(content: Any, tensors: dict[str, np.ndarray]) -> schedules.Schedule:
    only(content, ("name", "fields"), "a schedule")
    require_known("schedule", content["name"], _SCHEDULES)
    cls, fields = _SCHEDULES[content["name"]], field(content, "fields", dict)
    only(fields, tuple(part.name for part in dataclasses.fields(cls)), "a schedule")
    return cls(**fields)


def _unpack_loss(content: Any, tensors: dict[str, np.ndarray]) -> Loss:
    only(content, ("name", "output", "parameters"), "a loss")
    require_known("loss", content["name"], {name for name, _ in LOSSES})
    parameters = field(content, "parameters", dict)
    found = find_loss(content["name"], field(content, "output", str), **parameters)
    only(parameters, tuple(dict(found.parameters)), "a loss")
    return found


def _taken(name: Any, tensors: dict[str, np.ndarray]) -> np.ndarray:
    if type(name) is not str:
        raise TypeError("what should be the name of an array is none")
    return tensors.pop(name)


_UNPACKERS: Mapping[str, Callable[[Any, dict[str, np.ndarray]], Any]] = {
    "float": _unpack_float,
    "floats": _unpack_floats,
    "tuple": lambda content, tensors: tuple(_items(content, tensors)),
    "dict": _unpack_dict,
    "scalar": _unpack_scalar,
    "text": _unpack_text,
    "array": _unpack_array,
    "texts": _unpack_texts,
    "objects": _unpack_objects,
    "schedule": _unpack_schedule,
    "loss": _unpack_loss,
}
