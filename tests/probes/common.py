"""A small network, data for it, and everything that it gives."""

import warnings

import numpy as np
from conftest import host, make_targets

from accelnn import Network

M = 20


def make(backend, **options):
    return Network(**{"sizes": (3, 4, 2), "activations": "tanh", "backend": backend, **options})


def data(net):
    """Examples that the network's loss accepts."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1.0, 1.0, size=(net.sizes[0], M))
    return X, make_targets(net.loss_entry.targets, net.sizes[-1], M, rng)


def used(net, **options):
    """What a network gives before training, in training and after it, with these arguments of `fit`."""
    fit = {**dict(zip("XY", data(net), strict=True)), "learning_rate": 0.05, "epochs": 2, "batch_size": 8, **options}
    J, dtheta = net.loss_and_gradient(fit["X"], fit["Y"])
    before = host(net.predict(fit["X"]))
    history = net.fit(**fit)
    recorded = history.loss, history.validation_loss, history.learning_rate, history.examples
    return [before, J, host(dtheta), *recorded, net.epochs_trained, host(net.theta), host(net.predict(fit["X"]))]


def by_name(backend):
    """A backend as a person names it; the reference has no name to be found by."""
    return backend if backend.name == "reference" else backend.name


def missing(what):
    """The probe of something that has none, so that its cell stays empty and its test fails."""

    def probe(backend, dtype):
        raise NotImplementedError(f"tests/probes does not try {what}")

    return probe


def quietly(probe):
    """Without the warning that a network of zeros gives."""

    def quiet(backend, dtype):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return probe(backend, dtype)

    return quiet
