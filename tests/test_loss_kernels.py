"""Losses with numbers or functions of a person's own: each has the kernel that belongs to it, on the disk or not."""

import numpy as np
import pytest
from conftest import FACTORIES, assert_same, data, host, make

from accelnn import DataError
from accelnn.backends.numba import backend as numba_backend
from accelnn.customloss import custom_loss
from accelnn.elementary import exp, log1p, tanh
from accelnn.kernels import jit
from accelnn.losses import loss


def log_cosh(z, y):
    r = z - y
    return abs(r) + log1p(exp(-2.0 * abs(r)))


def log_cosh_gradient(z, y):
    return tanh(z - y)


def scaled(factor):
    """A pair of functions that have the same names whatever the factor is."""

    def value(z, y):
        return factor * 0.5 * (z - y) * (z - y)

    def gradient(z, y):
        return factor * (z - y)

    return custom_loss(value, gradient)


def results(backend, entry):
    net = make(backend, output=entry.output, loss=entry)
    X, Y = data()
    history = net.fit(X, Y, epochs=3, batch_size=16, learning_rate=0.05, sample_weight=np.arange(50.0))
    J, dtheta = net.loss_and_gradient(X, Y)
    return host(net.theta), history.loss, J, host(dtheta)


def assert_as_the_reference(backend, entry):
    for one, other in zip(results(backend, entry), results(FACTORIES["reference"](), entry), strict=True):
        assert_same(one, other, "float64", str(entry))


@pytest.mark.parametrize("output", ["identity", "sigmoid"])
def test_a_parameter_is_part_of_the_loss(output, backend):
    for name, key, numbers in (("huber", "delta", (0.05, 0.3, 1.0)), ("quantile", "level", (0.1, 0.5, 0.85))):
        entries = [loss(name, output, **{key: number}) for number in numbers]
        for entry in entries:
            assert_as_the_reference(backend, entry)
        values = [float(results(backend, entry)[2]) for entry in entries]
        assert len(set(values)) == len(values)


def test_a_loss_of_ones_own(backend):
    assert_as_the_reference(backend, custom_loss(log_cosh, log_cosh_gradient))


def test_functions_of_the_same_name_are_told_apart(backend):
    J = [float(results(backend, scaled(factor))[2]) for factor in (1.0, 3.0)]
    assert J[0] != J[1]
    for factor in (1.0, 3.0):
        assert_as_the_reference(backend, scaled(factor))


def test_the_same_functions_are_compiled_once():
    backend, count = FACTORIES["numba"](), len(jit._kernels)
    first, again = (backend.loss(custom_loss(log_cosh, log_cosh_gradient, name=n), "float64") for n in ("a", "b"))
    assert first == again
    assert len(jit._kernels) <= count + 1


def test_a_function_of_ones_own_is_not_kept_on_the_disk(tmp_path, monkeypatch):
    """It could be edited, and the disk would not know; a loss of ours is kept, with its numbers in the name."""
    monkeypatch.setattr(jit, "cache_folder", lambda: tmp_path)
    backend = FACTORIES["numba"]()
    for cached in (numba_backend._lose_kernel, numba_backend._kernel):
        cached.cache_clear()
    backend.loss(scaled(2.0), "float64")
    assert not list(tmp_path.rglob("*"))
    backend.loss(loss("huber", "identity", delta=0.75), "float64")
    assert {"delta=0.75" in path.name for path in tmp_path.rglob("*") if path.is_file()} == {True}


def test_a_function_that_cannot_be_compiled_is_named():
    """One that reads a dictionary passes for a formula of NumPy's."""
    numbers = {"factor": 2.0}
    value, gradient = (
        (lambda z, y: numbers["factor"] * (z - y) * (z - y)),
        (lambda z, y: numbers["factor"] * 2.0 * (z - y)),
    )
    net = make("numba", output="identity", loss=custom_loss(value, gradient, name="mine"))
    with pytest.raises(DataError, match=r"^loss: 'mine' cannot be compiled \(.*dict.*\); write it with numbers"):
        net.fit(*data(), epochs=1)
