"""A network as a description and arrays, and back; and the files that hold one."""

import itertools
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn.backends import get_backend
from accelnn.errors import DataError, require_known
from accelnn.initializers import INITIALIZERS
from accelnn.losses import loss as find_loss
from accelnn.network import Network
from accelnn.storage import container
from accelnn.storage.fields import count, field, listed, only, readable
from accelnn.storage.training_state import described_history, rebuilt_history

if TYPE_CHECKING:
    from accelnn.backends.base import Backend

__all__ = ["described", "load_model", "load_network", "rebuilt", "save_model", "save_network"]

MODEL = "model"
_SETTINGS = ("sizes", "activations", "output", "loss", "loss_parameters", "init", "seed", "dtype")


def save_network(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a network; :func:`load_network` reads it back, bit for bit."""
    save_model(network, path, {}, {})


def save_model(
    network: Network, path: str | os.PathLike[str], description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> None:
    """Write a network with what belongs to it.

    Parameters
    ----------
    network : Network
    path : path
    description : mapping
        Anything that JSON holds: for instance what stands between a table and the network.
    tensors : mapping of str to array

    Raises
    ------
    DataError
        For a network whose loss is a function of the user's own.
    OutputError
        Where the file cannot be written; an old one is as it was.
    """
    about, arrays = described(network)
    container.write(path, MODEL, {**arrays, **tensors}, {**about, "description": dict(description)})


def load_network(path: str | os.PathLike[str], backend: "str | Backend" = "auto") -> Network:
    """Read the network of any file of accelnn's: of a network, of a table's model, of an estimator or of a training.

    Raises
    ------
    ModelFileError
        For a file that is damaged, of another kind or of another format.
    """
    about, tensors = container.read(path)
    if about["kind"] != "estimator":
        with readable(path):
            field(about, "description", dict)
    return rebuilt(path, about, tensors, backend)


def load_model(
    path: str | os.PathLike[str], backend: "str | Backend" = "auto"
) -> tuple[Network, dict[str, Any], dict[str, np.ndarray]]:
    """Read a network, its description and the tensors that belong to it, of a model or of a checkpoint.

    Raises
    ------
    ModelFileError
        For a file that is damaged, of another kind or of another format.
    """
    about, tensors = container.read(path, (MODEL, "checkpoint"))
    network = rebuilt(path, about, tensors, backend)
    with readable(path):
        return network, field(about, "description", dict), tensors


def described(network: Network) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What :func:`rebuilt` makes the same network of.

    Raises
    ------
    DataError
        For a network whose loss is a function of the user's own.
    """
    loss = network.loss_entry
    if loss.custom:
        raise DataError(
            f"loss: {network.loss!r} is a function of your own, which a file cannot hold; copy theta to a network with "
            "a loss of accelnn's, which predicts the same"
        )
    settings = {
        "sizes": network.sizes,
        "activations": network.activations,
        "output": network.output,
        "loss": network.loss,
        "loss_parameters": dict(loss.parameters),
        "init": network.init,
        "seed": network.seed,
        "dtype": network.dtype,
    }
    history, curves = described_history(network.history)
    about = {
        "network": settings,
        "epochs_trained": network.epochs_trained,
        "steps_trained": network.steps_trained,
        "history": history,
    }
    return about, {"theta": network.backend.to_host(network.theta), **curves}


def rebuilt(
    path: str | os.PathLike[str],
    about: Mapping[str, Any],
    tensors: dict[str, np.ndarray],
    backend: "str | Backend" = "auto",
) -> Network:
    """The network that was described; its arrays leave `tensors`.

    Raises
    ------
    ModelFileError
        Where the description fits no network. It is compared with the arrays before memory is taken for it.
    DataError, BackendUnavailableError
        For a backend that cannot be used.
    """
    get_backend(backend)
    with readable(path):
        settings, theta = field(about, "network", dict), tensors.pop("theta")
        only(settings, _SETTINGS, "its network")
        sizes, dtype = listed(settings, "sizes", int), field(settings, "dtype", str)
        if theta.ndim != 1 or theta.dtype.name != dtype:
            raise ValueError(f"its parameters are no vector of {dtype}")
        if len(sizes) < 2 or min(sizes) < 1 or _parameters(sizes) != len(theta):
            raise ValueError(f"its sizes do not fit its {len(theta):,} parameters")
        if not np.isfinite(theta).all():
            raise ValueError("its parameters hold NaN or infinity")
        init, output = field(settings, "init", str), field(settings, "output", str)
        given = field(settings, "loss_parameters", dict)
        require_known("init", init, INITIALIZERS)
        loss = find_loss(field(settings, "loss", str), output, **{name: field(given, name, float) for name in given})
        only(given, tuple(dict(loss.parameters)), "its loss")
        network = Network(
            sizes,
            listed(settings, "activations", str),
            output,
            loss,
            seed=field(settings, "seed", int),
            dtype=dtype,
            backend=backend,
        )
        network.init = init
        network.epochs_trained, network.steps_trained = count(about, "epochs_trained"), count(about, "steps_trained")
        network.history = rebuilt_history(path, field(about, "history", dict), tensors)
        network.theta = theta
        return network


def _parameters(sizes: list[int]) -> int:
    """How many a network of these sizes has."""
    return sum(n * (n_prev + 1) for n_prev, n in itertools.pairwise(sizes))
