"""Weights as PyTorch's ``state_dict``, to and fro: plain arrays in a safetensors file, and never a pickle."""

import json
import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import accelnn
from accelnn.errors import DataError, ModelFileError, require_known
from accelnn.exchange.files import Written, content_of
from accelnn.exchange.source import source_of
from accelnn.exchange.torch_modules import is_simple, loading_lines
from accelnn.losses import LOSSES, Loss
from accelnn.losses import loss as find_loss
from accelnn.network import DTYPES, Network
from accelnn.storage import write_atomically
from accelnn.tables.model import TableModel

if TYPE_CHECKING:
    from accelnn.backends.base import Backend

__all__ = ["from_torch", "network_of", "read_tensors", "save_torch", "to_torch"]

# safetensors' names of what becomes floating-point numbers, and PyTorch's; the last two have no room in a network.
_FLOATS = {"F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16"}


def to_torch(model: Any) -> dict[str, np.ndarray]:
    """The weights under the names that PyTorch gives them.

    Parameters
    ----------
    model : Network, TableModel or fitted estimator of accelnn's
        Of a table model, the network alone: its inputs are encoded rows.

    Returns
    -------
    dict of str to array
        ``0.weight`` of shape (n_1, n_0), ``0.bias`` (n_1,), ``2.weight``, ... of
        ``torch.nn.Sequential(Linear, activation, Linear, ...)``.
    """
    arrays = {}
    for k, (weights, bias) in enumerate(source_of(model).layers()):
        arrays[f"{2 * k}.weight"] = np.ascontiguousarray(weights.T)
        arrays[f"{2 * k}.bias"] = np.ascontiguousarray(bias)
    return arrays


def save_torch(model: Any, path: str | os.PathLike[str]) -> Written:
    """Write the weights as a safetensors file that PyTorch loads.

    Its metadata holds the network's settings, a table's schema, an estimator's classes, or the mean and scale of its
    target, and the lines of Python that load it.

    Parameters
    ----------
    model : Network, TableModel or fitted estimator of accelnn's
    path : path

    Returns
    -------
    Written
        With the lines of Python by which PyTorch loads it, and predicts.

    Raises
    ------
    DataError
        For what is no model.
    OutputError
        Where the file cannot be written; an old one is as it was.
    """
    from safetensors.numpy import save

    source = source_of(model)
    network = source.network
    about = {name: getattr(network, name) for name in ("sizes", "activations", "output", "loss", "dtype")}
    about["loss_parameters"] = dict(network.loss_entry.parameters)
    metadata = {
        "format": "pt",
        "written_by": f"accelnn {accelnn.__version__}",
        "network": json.dumps(about),
        "python": loading_lines(source, os.path.basename(os.fspath(path))),
    }
    if isinstance(model, TableModel):
        metadata["table"] = json.dumps(model.description()["table"])
    elif source.classes is not None:
        metadata["classes"] = json.dumps(source.classes.tolist())
    elif source.mean is not None and source.scale is not None:
        metadata["outputs"] = json.dumps({"mean": source.mean.tolist(), "scale": source.scale.tolist()})
    content = save(to_torch(model), metadata=metadata)
    with write_atomically(path) as file:
        file.write(content)
    note = "it is a state_dict, so that it takes rows as they are"
    if source.schema is not None:
        note = f"it is a state_dict, so that it takes the {source.network.sizes[0]:,} encoded inputs; "
        if is_simple(source):
            note += "the lines above standardise a table's columns before"
        else:
            note += "how a table's columns become these says the file's metadata, and an ONNX file does it"
    return Written(loading_lines(source, os.fspath(path)), note)


def from_torch(
    weights: str | os.PathLike[str] | Mapping[str, Any],
    activations: str | Sequence[str] | None = None,
    output: str | None = None,
    loss: str | Loss | None = None,
    *,
    layers: Sequence[str] | None = None,
    dtype: str | None = None,
    backend: "str | Backend" = "auto",
) -> Network:
    """A network with the weights of a PyTorch model that is a chain of Linear layers.

    Parameters
    ----------
    weights : path, or mapping of str to array
        A safetensors file, or what ``state_dict()`` gave. Each layer is ``NAME.weight`` of shape (units, inputs) and,
        unless it was made without one, ``NAME.bias``. A bias that is not there is zero.
    activations, output, loss
        What a state_dict does not hold; as of :class:`accelnn.Network`. They may be left out for a file that
        :func:`save_torch` wrote, whose metadata names them.
    layers : sequence of str, optional
        The layers' names in their order. By default, by the one number in which the names differ, as in ``0.weight``
        and ``2.weight``, or ``fc1.weight`` and ``fc2.weight``.
    dtype : {"float32", "float64"}, optional
        To convert to; by default that of the weights. Weights of float16 or bfloat16 need it.
    backend : {"auto", "numpy", "numba", "cupy"} or Backend

    Returns
    -------
    Network
        The weights alone: of a regressor whose target was standardised, it predicts the standardised target.
        :func:`import_torch` takes the mean and scale of the file's metadata, too.

    Raises
    ------
    ModelFileError
        For a file that is no safetensors file.
    DataError
        Naming the array that is no part of a Linear layer, has a wrong shape or dtype, or holds NaN or infinity; for
        activations that nobody names.
    """
    metadata: dict[str, str] = {}
    if isinstance(weights, Mapping):
        name, tensors = "state_dict", {str(key): value for key, value in weights.items()}
    else:
        name = os.fspath(weights)
        metadata, tensors = read_tensors(weights)
    return network_of(name, metadata, tensors, activations, output, loss, layers=layers, dtype=dtype, backend=backend)


def network_of(
    name: str,
    metadata: Mapping[str, str],
    tensors: Mapping[str, Any],
    activations: str | Sequence[str] | None = None,
    output: str | None = None,
    loss: str | Loss | None = None,
    *,
    layers: Sequence[str] | None = None,
    dtype: str | None = None,
    backend: "str | Backend" = "auto",
) -> Network:
    """The same of what `read_tensors` gave; the name is that of errors."""
    if dtype is not None:
        require_known("dtype", dtype, DTYPES)
    if activations is None and output is None:
        activations, output, loss = _settings(name, metadata, loss)
    if activations is None or output is None:
        raise DataError(
            f"{name}: does not say which functions follow the layers; name the activation of the hidden layers (relu, "
            "tanh, ...) and the output (identity, sigmoid, softmax or exp)"
        )
    found = _order(name, tensors, layers)
    arrays = {key: _array(f"{name}: {key!r}", value, dtype) for key, value in tensors.items()}
    chain = _chain(name, found, arrays)
    kinds = {array.dtype.name for pair in chain for array in pair}
    if dtype is None and len(kinds) > 1:
        raise DataError(f"{name}: mixes {' and '.join(sorted(kinds))}; choose a dtype to convert to")
    sizes = [chain[0][0].shape[1], *(W.shape[0] for W, _ in chain)]
    network = Network(sizes, activations, output, loss, dtype=dtype or kinds.pop(), backend=backend)
    network.theta = np.concatenate([part for W, b in chain for part in (W.T.ravel(), b)]).astype(network.dtype)
    return network


@dataclass(frozen=True)
class _Stored:
    """An array of a file, as its bytes."""

    kind: str
    shape: tuple[int, ...]
    data: bytes


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The metadata of a safetensors file, and its arrays for `from_torch`.

    Raises
    ------
    ModelFileError
    DataError
        For a file of accelnn's own.
    """
    from safetensors import SafetensorError, deserialize

    content = content_of(path)
    try:
        found = deserialize(content)
        (length,) = struct.unpack_from("<Q", content)
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, OverflowError, MemoryError, RecursionError) as problem:
        raise ModelFileError(
            f"{path}: is no safetensors file ({problem}); in PyTorch, write one with "
            "safetensors.torch.save_file(model.state_dict(), name)"
        ) from None
    if "accelnn" in metadata:
        raise DataError(f"{path}: is a file of accelnn's own, which reads it without an import")
    arrays = {name: _Stored(about["dtype"], tuple(about["shape"]), bytes(about["data"])) for name, about in found}
    return metadata, dict(sorted(arrays.items()))  # whose order changes from one reading to the next


def _settings(name: str, metadata: Mapping[str, str], loss: str | Loss | None) -> tuple[Any, Any, Any]:
    """Activations, output and loss, where accelnn wrote them into the file."""
    if "network" not in metadata:
        return None, None, loss
    try:
        about = json.loads(metadata["network"])
        if loss is None and (about["loss"], about["output"]) in LOSSES:  # one's own cannot be in a file
            loss = find_loss(about["loss"], about["output"], **about["loss_parameters"])
        return about["activations"], about["output"], loss
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise ModelFileError(f"{name}: its metadata describe no network of accelnn's ({problem})") from None


def _array(what: str, value: Any, dtype: str | None) -> np.ndarray:
    """What a file, or PyTorch, holds as an array of float32 or float64."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    kind = value.kind if isinstance(value, _Stored) else str(getattr(value, "dtype", None)).removeprefix("torch.")
    kind = _FLOATS.get(kind, kind)
    if kind not in _FLOATS.values():
        raise DataError(f"{what} holds {kind} numbers; give float32 or float64")
    if kind not in DTYPES and dtype is None:
        raise DataError(f"{what} holds {kind} numbers; choose the dtype float32 or float64 to convert to")
    if isinstance(value, _Stored):
        raw = np.frombuffer(value.data, dtype="<u2" if kind == "bfloat16" else np.dtype(kind).newbyteorder("<"))
        if kind == "bfloat16":  # the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        value = raw.reshape(value.shape)
    elif kind == "bfloat16":
        value = value.float() if hasattr(value, "float") else value.astype(np.float32)
    array = np.asarray(value)
    return array.astype(np.float32 if kind not in DTYPES else kind)


def _chain(name: str, layers: Sequence[str], arrays: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight (units, inputs) and bias (units,) of each layer, in order and fitting."""
    chain: list[tuple[np.ndarray, np.ndarray]] = []
    for layer in layers:
        weight, bias = _key(layer, "weight"), _key(layer, "bias")
        W = arrays[weight]
        if W.ndim != 2 or 0 in W.shape:
            raise DataError(f"{name}: {weight!r} of shape {W.shape} is no weight of a Linear layer")
        b = arrays[bias] if bias in arrays else np.zeros(len(W), dtype=W.dtype)
        if b.shape != (len(W),):
            raise DataError(f"{name}: {bias!r} has shape {b.shape}, expected {(len(W),)} beside a weight of {W.shape}")
        if chain and len(chain[-1][0]) != W.shape[1]:
            raise DataError(
                f"{name}: {weight!r} takes {W.shape[1]} inputs, but the layer before it has {len(chain[-1][0])} units; "
                "give the layers' names in their order"
            )
        for key, array in ((weight, W), (bias, b)):
            if not np.isfinite(array).all():
                raise DataError(f"{name}: {key!r} holds NaN or infinity")
        chain.append((W, b))
    return chain


def _order(name: str, tensors: Mapping[str, Any], layers: Sequence[str] | None) -> list[str]:
    """The layers' names in their order; every array belongs to one."""
    parts = {key: key.rpartition(".") for key in tensors}
    found = [layer for layer, _, part in parts.values() if part == "weight"]
    for key, (layer, _, part) in parts.items():
        if part not in ("weight", "bias") or layer not in found:
            raise DataError(f"{name}: {key!r} belongs to no Linear layer, and a network here has no other kind")
    if not found:
        raise DataError(f"{name}: holds no weights (there is no array NAME.weight)")
    if layers is not None:
        if sorted(layers) != sorted(found):
            raise DataError(f"{name}: layers: {_listed(layers)} are not its layers, which are {_listed(sorted(found))}")
        return list(layers)
    if len(found) == 1:
        return found
    # Sorting 'input', 'hidden', 'output' by name would make another network of them, which may well fit.
    split = {layer: re.split(r"([0-9]+)", layer) for layer in found}
    shortest = min(map(len, split.values()))
    places = [k for k in range(shortest) if len({pieces[k] for pieces in split.values()}) > 1]
    numbers = {layer: pieces[places[0]].lstrip("0") if places else "" for layer, pieces in split.items()}
    if (
        any(len(pieces) != shortest for pieces in split.values())
        or len(places) != 1
        or places[0] % 2 == 0  # the pieces are text, number, text, ...
        or len(set(numbers.values())) < len(found)
    ):
        raise DataError(
            f"{name}: the order of its layers, {_listed(sorted(found))}, is not known, since their names do not differ "
            "in one number alone; give the names in their order, as layers"
        )
    return sorted(found, key=lambda layer: (len(numbers[layer]), numbers[layer]))


def _key(layer: str, part: str) -> str:
    return f"{layer}.{part}" if layer else part


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:8]))
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
