"""A model in one file: safetensors, with its description as JSON in the header.

safetensors stores plain arrays and text, so reading a file can run no code. It does not notice a flipped bit; the
description therefore holds a SHA-256 over itself and the tensors, and everything is checked before a network is built.
"""

import hashlib
import itertools
import json
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import accelnn
from accelnn.errors import AccelnnError, DataError, ModelFileError
from accelnn.losses import loss as find_loss
from accelnn.network import Network

if TYPE_CHECKING:
    from accelnn.backends.base import Backend

__all__ = ["FORMAT", "load_model", "load_network", "save_model", "save_network"]

FORMAT = 1
_KEY = "accelnn"
_HEADER_LIMIT = 2**24  # bytes of description; a table of ten thousand feature names needs less than one


def save_network(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a network; :func:`load_network` reads it back, bit for bit."""
    save_model(network, path, {}, {})


def save_model(
    network: Network, path: str | os.PathLike[str], description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> None:
    """Write a network with what belongs to it.

    The file is written beside its final place, flushed to disk and renamed, so that a failure leaves the old one.

    Parameters
    ----------
    network : Network
    path : path
    description : mapping
        Anything that JSON holds.
    tensors : mapping of str to array
        For instance the statistics that standardise the features.

    Raises
    ------
    DataError
        Where the file cannot be written.
    """
    from safetensors.numpy import save

    if network.loss_entry.custom:
        raise DataError(
            f"{path}: the loss {network.loss!r} is a function of your own, which a model file cannot hold; copy theta "
            "to a network with a loss of accelnn's, which predicts the same"
        )
    arrays = {"theta": network.backend.to_host(network.theta), **tensors}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {
        "format": FORMAT,
        "version": accelnn.__version__,
        "network": {
            "sizes": network.sizes,
            "activations": network.activations,
            "output": network.output,
            "loss": network.loss,
            **({"loss_parameters": dict(parameters)} if (parameters := network.loss_entry.parameters) else {}),
            "init": network.init,
            "seed": network.seed,
            "dtype": network.dtype,
        },
        "epochs_trained": network.epochs_trained,
        "steps_trained": network.steps_trained,
        "description": dict(description),
    }
    metadata["sha256"] = _digest(arrays, metadata)
    content = save(arrays, metadata={_KEY: json.dumps(metadata)})
    target = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                umask = os.umask(0)
                os.umask(umask)
                os.chmod(temporary, 0o666 & ~umask)  # as any new file; mkstemp's own mode hides it from others
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as problem:
        raise DataError(f"{target}: cannot be written ({problem.strerror})") from None


def load_network(path: str | os.PathLike[str], backend: "str | Backend" = "auto") -> Network:
    """Read the network of a model file.

    Raises
    ------
    ModelFileError
        For a file that is damaged, of another kind or of a newer format.
    """
    return load_model(path, backend)[0]


def load_model(
    path: str | os.PathLike[str], backend: "str | Backend" = "auto"
) -> tuple[Network, dict[str, Any], dict[str, np.ndarray]]:
    """Read a network, its description and the tensors that belong to it.

    Raises
    ------
    ModelFileError
        For a file that is damaged, of another kind or of a newer format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = Path(path).read_bytes()
    except OSError as problem:
        raise ModelFileError(f"{path}: cannot be read ({problem.strerror})") from None
    metadata = _metadata(path, content)
    if metadata.get("format") != FORMAT:
        raise ModelFileError(
            f"{path}: format {metadata.get('format')!r} is not known to accelnn {accelnn.__version__}, which reads "
            f"format {FORMAT}; install a newer accelnn"
        )
    try:
        arrays = load(content)
        digest = _digest(arrays, metadata)
        settings, theta = metadata["network"], arrays.pop("theta")
        # Before anything is allocated: do the sizes belong to these parameters?
        sizes = [int(n) for n in settings["sizes"]]
        if len(sizes) > len(theta) + 1 or min(sizes) < 1 or theta.dtype.name != settings["dtype"]:
            raise ModelFileError(f"{path}: its sizes or its dtype do not fit its parameters")
        if sum(n * (n_prev + 1) for n_prev, n in itertools.pairwise(sizes)) != len(theta):
            raise ModelFileError(f"{path}: its sizes do not fit its {len(theta)} parameters")
        own = find_loss(settings["loss"], settings["output"], **settings.pop("loss_parameters", {}))
        network = Network(**{**settings, "init": "auto", "loss": own}, backend=backend)
        network.init, network.epochs_trained = str(settings["init"]), int(metadata["epochs_trained"])
        network.steps_trained = int(metadata.get("steps_trained", 0))
        if metadata["sha256"] != digest:
            raise ModelFileError(f"{path}: is damaged (its checksum does not match its contents)")
        network.theta = theta
        return network, dict(metadata["description"]), arrays
    except ModelFileError:
        raise
    except (SafetensorError, AccelnnError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as problem:
        if isinstance(problem, accelnn.BackendUnavailableError):
            raise
        raise ModelFileError(f"{path}: is no accelnn model ({problem})") from None


def _metadata(path: Any, content: bytes) -> dict[str, Any]:
    """The description in the header: eight bytes of length, then JSON (the safetensors format)."""
    try:
        (length,) = struct.unpack_from("<Q", content)
        if length > min(_HEADER_LIMIT, len(content) - 8):
            raise ValueError("the header is longer than the file")
        metadata = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_KEY])
        if not isinstance(metadata, dict):
            raise TypeError("the description is no object")
        return metadata
    except (struct.error, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise ModelFileError(f"{path}: is no accelnn model ({problem})") from None


def _digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    about = {name: value for name, value in metadata.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape} ".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
