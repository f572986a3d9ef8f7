"""Every parameter of a function, by values that are not its default and must make a difference."""

import inspect

import numpy as np
from conftest import host
from probes.common import M, by_name, data, make, missing, used

from accelnn import Callback, Network, Optimizer
from accelnn.customloss import custom_loss
from accelnn.losses import loss
from accelnn.schedules import Cosine, ReduceOnPlateau, Step

rng = np.random.default_rng(1)
X, X2 = rng.uniform(-1.0, 1.0, size=(2, 3, M))
Y, Y2 = rng.uniform(0.0, 1.0, size=(2, 2, M))
WEIGHTS = rng.integers(0, 4, size=M)
# Every kind, by name where its default changes something within three epochs.
SCHEDULES = [
    *("exponential", "cosine", "one_cycle"),
    *(Step(every=1), Cosine(warmup=1, epochs=9), ReduceOnPlateau(patience=0, threshold=0.99)),
]


def bounded(z, y):
    """The square of a residual over one and the same (Geman, McClure 1985)."""
    r = z - y
    return r * r / (1.0 + r * r)


def bounded_gradient(z, y):
    r = z - y
    return 2.0 * r / ((1.0 + r * r) * (1.0 + r * r))


class StopAfterOneEpoch(Callback):
    def on_epoch_end(self, progress):
        return True


class StopAfterOneCall(Callback):
    def on_progress(self, progress):
        return True


VALUES = {
    Network.__init__: {
        "sizes": [(3, 5, 6, 2), np.array([3, 2])],
        "activations": ["gelu", ["relu"]],
        "output": ["identity"],
        "loss": ["huber", loss("quantile", "sigmoid", level=0.9), custom_loss(bounded, bounded_gradient, "sigmoid")],
        "init": ["he"],
        "seed": [7],
        "dtype": ["float64", np.dtype("float64"), np.float64],
    },
    Network.loss_and_gradient: {"X": [X], "Y": [Y], "l2": [0.3], "sample_weight": [WEIGHTS]},
    Network.fit: {
        "X": [X],
        "Y": [Y],
        "optimizer": ["adam", Optimizer("momentum", momentum=0.5)],
        "learning_rate": [0.02, lambda step: 0.1 / (1 + step)],
        "epochs": [3],
        "batch_size": [None, 5],
        "shuffle": [False],
        "validation": [(X2, Y2), (X2, Y2, WEIGHTS)],
        "l2": [0.3],
        "clip_norm": [0.01],
        "callbacks": [[StopAfterOneEpoch()], [StopAfterOneCall()]],
        "sample_weight": [WEIGHTS],
        "dropout": [0.5, [0.25]],
    },
}


def results(function, backend, fixed, option):
    """What a function gives with an option, on a network with the options of `fixed`."""
    if function is Network.__init__:
        return used(make(backend, **fixed, **option))
    net = make(backend, **fixed)
    if function is Network.fit:
        return used(net, **option)
    J, dtheta = net.loss_and_gradient(**{**dict(zip("XY", data(net), strict=True)), **option})
    return [J, host(dtheta)]


def with_values(function, parameter):
    """The probe of a parameter that changes the numbers."""

    def probe(backend, dtype):
        fixed = {} if parameter == "dtype" else {"dtype": dtype}
        plain, everything = results(function, backend, fixed, {}), []
        for value in VALUES[function][parameter]:
            found = results(function, backend, fixed, {parameter: value})
            alike = all(np.array_equal(one, other) for one, other in zip(found, plain, strict=True))
            assert not alike, f"{parameter}={value!r} makes no difference"
            everything += found
        return everything

    return probe


# The parameters that say where to compute change no number.


def on_named_backend(backend, dtype):
    net = make(by_name(backend), dtype=dtype)
    assert net.backend.name == backend.name
    return used(net)


UNUSED = {"numpy": "the environment says how many NumPy takes", "cupy": "a GPU needs none"}


def with_threads(backend, dtype):
    net = make(by_name(backend), dtype=dtype, threads=2)
    if backend.name != "reference" and net.backend.threads is None:
        return f"accepted, not used: {UNUSED[backend.name]}"
    return used(net)


def on_device(backend, dtype):
    option = {} if backend.name == "reference" else {"device": 0}
    net = make(by_name(backend), dtype=dtype, **option)
    assert net.backend.device == option.get("device")
    return used(net)


def resumed(backend, dtype):
    """A second training that goes on from a first one, which its state makes another than one that does not."""
    found = []
    for resume in (True, False):
        net = make(backend, dtype=dtype)
        used(net, optimizer="momentum")
        found.append(used(net, optimizer="momentum", resume=resume))
    assert np.any(found[0][-2] != found[1][-2])
    return found[0]


def scheduled(backend, dtype):
    """Three epochs: the first that a plateau's schedule can slow down is the third."""
    plain, found = used(make(backend, dtype=dtype), epochs=3), []
    for schedule in SCHEDULES:
        changed = used(make(backend, dtype=dtype), epochs=3, schedule=schedule)
        assert np.any(changed[-2] != plain[-2]), f"schedule={schedule!r} makes no difference"
        found += changed
    return found


PLACES = {"backend": on_named_backend, "threads": with_threads, "device": on_device}


def every_parameter(function):
    """A probe for each name in the signature."""
    known = {name: with_values(function, name) for name in VALUES[function]}
    if function is Network.__init__:
        known |= PLACES
    if function is Network.fit:
        known |= {"resume": resumed, "schedule": scheduled}
    names = list(inspect.signature(function).parameters)[1:]  # without self
    return {name: known.get(name) or missing(f"{name} of {function.__qualname__}") for name in names}
