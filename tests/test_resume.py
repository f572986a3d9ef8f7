"""Training that goes on where it ended: two calls of 5 epochs are one of 10, to the last bit."""

import copy
import pickle

import numpy as np
import pytest
from conftest import data, host, make

from accelnn import Callback, DataError, DivergenceError
from accelnn.optimizers import RULES

OPTIONS = {"batch_size": 7, "learning_rate": 0.01}


def trained(backend, *calls, activations="tanh", output="sigmoid", **options):
    net = make(backend, activations=activations, output=output)
    X, Y = data()
    for epochs, resume in calls:
        net.fit(X, Y, epochs=epochs, resume=resume, **OPTIONS | options)
    return net


@pytest.mark.parametrize("optimizer", list(RULES))
def test_five_and_five_epochs_are_ten(any_backend, optimizer):
    once = trained(any_backend, (10, False), optimizer=optimizer)
    twice = trained(any_backend, (5, False), (5, True), optimizer=optimizer)
    np.testing.assert_array_equal(host(twice.theta), host(once.theta))
    assert twice.optimizer_state.step == once.optimizer_state.step == twice.epochs_trained * -(-50 // 7)
    np.testing.assert_array_equal(host(twice.optimizer_state.vectors), host(once.optimizer_state.vectors))
    if RULES[optimizer].state:
        forgetful = trained(any_backend, (5, False), (5, False), optimizer=optimizer)
        assert np.any(host(forgetful.theta) != host(once.theta))


def test_a_schedule_goes_on(any_backend):
    schedule = {"learning_rate": lambda step: 0.1 / (1.0 + step)}
    once, twice = (trained(any_backend, *calls, **schedule) for calls in ([(6, False)], [(1, False), (5, True)]))
    np.testing.assert_array_equal(host(twice.theta), host(once.theta))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_goes_on_by_itself(named_backend, duplicate):
    once = trained(named_backend, (10, False), optimizer="adam")
    net = trained(named_backend, (5, False), optimizer="adam")
    other = duplicate(net)
    X, Y = data()
    for one in (net, other):
        one.fit(X, Y, epochs=5, resume=True, optimizer="adam", **OPTIONS)
        np.testing.assert_array_equal(host(one.theta), host(once.theta))


def test_a_run_of_another_network_in_between(any_backend):
    """Working memory goes from run to run; a network's state does not."""
    once = trained(any_backend, (10, False), optimizer="adam")
    net = trained(any_backend, (5, False), optimizer="adam")
    trained(any_backend, (3, False), optimizer="adam")
    X, Y = data()
    net.fit(X, Y, epochs=5, resume=True, optimizer="adam", **OPTIONS)
    np.testing.assert_array_equal(host(net.theta), host(once.theta))


def test_a_run_that_was_stopped_goes_on(any_backend):
    class Stop(Callback):
        def on_epoch_end(self, progress):
            return progress.epoch == 4

    once = trained(any_backend, (9, False), optimizer="momentum")
    net = make(any_backend)
    X, Y = data()
    net.fit(X, Y, epochs=50, optimizer="momentum", callbacks=[Stop()], **OPTIONS)
    net.fit(X, Y, epochs=5, optimizer="momentum", resume=True, **OPTIONS)
    np.testing.assert_array_equal(host(net.theta), host(once.theta))


def test_a_failed_run_changes_no_state(backend):
    linear = {"activations": "identity", "output": "identity", "optimizer": "momentum"}
    net = trained(backend, (5, False), **linear)
    X, Y = data()
    with pytest.raises(DivergenceError):
        net.fit(X, Y, epochs=5, resume=True, optimizer="momentum", batch_size=7, learning_rate=1e200)
    net.fit(X, Y, epochs=5, resume=True, optimizer="momentum", **OPTIONS)
    once = trained(backend, (10, False), **linear)
    np.testing.assert_array_equal(host(net.theta), host(once.theta))


def test_what_cannot_go_on(any_backend):
    net = make(any_backend)
    X, Y = data()
    with pytest.raises(DataError, match="resume: there is no training to go on with"):
        net.fit(X, Y, resume=True)
    net.fit(X, Y, epochs=1, optimizer="adam")
    with pytest.raises(DataError, match="resume: the training to go on with used optimizer='adam', not 'sgd'"):
        net.fit(X, Y, resume=True)
