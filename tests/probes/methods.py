"""Every public method of a network, and what else one does with it."""

import copy
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import host
from probes.common import M, by_name, data, make, missing, used

from accelnn import DivergenceError, Network


def arrays(pairs):
    """The gradients or parameters of all layers, one after another."""
    return [host(array) for pair in pairs for array in pair]


def theta(net):
    """Read and assigned, from the host and from the backend's own memory."""
    values = np.linspace(-1.0, 1.0, len(host(net.theta)))
    net.theta = values
    first = host(net.theta)
    net.theta = net.backend.from_host(values.astype(net.dtype)[::-1].copy())
    return [first, host(net.theta), *used(net)]


def plan(net):
    shown = net.plan()
    assert shown.backend == f"{net.backend.name}, as asked for"
    assert shown.dtype == net.dtype
    assert all(shown.parts.values())
    return []


def load(net, writer=None, reader=None):
    """A file of one backend, read by one; by default both are the network's own."""
    writer, reader = writer or net.backend, reader or by_name(net.backend)
    original = make(writer, dtype=net.dtype)
    original.fit(*data(net), epochs=1, batch_size=8)
    with tempfile.TemporaryDirectory() as folder:
        original.save(Path(folder, "network"))
        return used(Network.load(Path(folder, "network"), reader))


def save(net):
    """What is written has the parameters, which the reference's reader finds."""
    with tempfile.TemporaryDirectory() as folder:
        net.save(Path(folder, "network"))
        return [host(Network.load(Path(folder, "network"), "numpy").theta)]


def gradient(net):
    J, dtheta = net.loss_and_gradient(*data(net), l2=0.1)
    return [J, host(dtheta)]


def block(net):
    """Each backend has its own."""
    assert net.block(net.layout) >= 1
    return []


def layout(net):
    """The network's own unless a layer drops units."""
    assert net.layout_for(False) is net.layout
    return [net.layout_for(False, [0.5, 0.0]).table]


PUBLIC = {
    "theta": theta,
    "block": block,
    "views": lambda net: arrays(net.views(net.loss_and_gradient(*data(net))[1])[1:]),
    "predict": lambda net: [host(net.predict(data(net)[0]))],
    "loss_and_gradient": gradient,
    "fit": used,
    "check": lambda net: arrays([net.check(*data(net))]),
    "examples": lambda net: arrays([net.examples(*data(net), sample_weight=np.arange(M)).arrays]),
    "rows_of": lambda net: [net.rows_of(net.check(*data(net))[0], np.array([3, 0, 3]))],
    "layout_for": layout,
    "layer_output": lambda net: [host(net.layer_output(data(net)[0], l)) for l in (1, 2)],
    "plan": plan,
    "save": save,
    "load": load,
}


def copied(make_copy):
    """A copy trains on its own, and on a backend of the same name."""

    def use(net):
        if net.backend.name == "reference":  # which has no name to be found by
            return [host(net.theta), *used(net)]
        net = make(by_name(net.backend), dtype=net.dtype)
        twin = make_copy(net)
        assert twin.backend.name == net.backend.name
        results = used(twin)
        return [host(net.theta), *results]

    return use


def diverged(net):
    """The network is as it was, and can be used."""
    net = make(net.backend, output="identity", dtype=net.dtype)
    with pytest.raises(DivergenceError), np.errstate(all="ignore"):
        net.fit(*data(net), learning_rate=1e30, epochs=20, batch_size=8)
    return used(net)


def written(net):
    """W and b are views of theta: the network uses what is written to them."""
    net.W[1][...] = 0.25
    net.b[2][...] = -0.5
    return used(net)


def repeated(net):
    """Two networks that are alike end with the same bits."""
    first, second = used(net), used(make(net.backend, dtype=net.dtype))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    return first


OTHER = {
    "writing to W and b": written,
    "training on": lambda net: [*used(net), *used(net)],
    "the same bits again": repeated,
    "a diverged run undone": diverged,
    "pickle": copied(lambda net: pickle.loads(pickle.dumps(net))),
    "copy.deepcopy": copied(copy.deepcopy),
    "a file written on numpy": lambda net: load(net, writer="numpy"),
    "a file for numpy": lambda net: load(net, reader="numpy"),
}


def on_new_network(use):
    return lambda backend, dtype: use(make(backend, dtype=dtype))


METHODS = {
    name: on_new_network(PUBLIC[name]) if name in PUBLIC else missing(f"Network.{name}")
    for name in vars(Network)
    if not name.startswith("_")
}
OTHERS = {name: on_new_network(use) for name, use in OTHER.items()}
