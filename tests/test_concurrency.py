"""Several threads and one model: predictions are those of one thread, and only one call trains at a time."""

import copy
import importlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import HAS_GPU, data, host, make
from scipy import sparse
from sklearn.base import clone

from accelnn import BusyError, Callback, DataError, Network
from accelnn.estimators import MLPClassifier, MLPRegressor

THREADS = 8


@pytest.fixture(autouse=True)
def threads_that_take_turns_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(work, threads=THREADS):
    """What ``work(number)`` gives in each of several threads that start together."""
    barrier = threading.Barrier(threads)

    def begin(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begin, range(threads)))


def times(backend, count):
    """The kernels of the device double run in an emulator."""
    return count // 50 if backend.name == "cupy" else count


# Predictions.


def assert_each_as_alone(calls, times):
    """Each thread makes the calls in an order of its own; every answer is the serial one, to the last bit."""
    expected = [host(call()) for call in calls]

    def work(number):
        for k in np.random.default_rng(number).integers(len(calls), size=times):
            if not np.array_equal(host(calls[k]()), expected[k]):
                return f"call {k} of thread {number} is another"
        return None

    assert [fault for fault in at_once(work) if fault] == []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions(named_backend, dtype):
    """8 threads, 1,000 predictions each, of several numbers of examples at once."""
    net = make(named_backend, dtype=dtype)
    net.fit(*data(), epochs=3)
    X = data(m=700, seed=1)[0]
    calls = [lambda m=m: net.predict(X[:, :m]) for m in (1, 2, 5, 33, 700)]
    assert_each_as_alone(calls, times(named_backend, 1000))


def test_predictions_of_every_kind(named_backend):
    """Of sparse arrays, of a hidden layer, and gradients, which share what a network keeps between calls."""
    net = make(named_backend, (3, 8, 5, 2))
    X, Y = data(m=40)
    few = sparse.csc_array(np.where(X > 0.5, X, 0.0))
    calls = [
        lambda: net.predict(X),
        lambda: net.predict(X[:, :7]),
        lambda: net.layer_output(X, 1),
        lambda: net.layer_output(X[:, :7], 2),
        lambda: net.loss_and_gradient(X, Y)[1],
        lambda: net.loss_and_gradient(X[:, :7], Y[:, :7], l2=0.1)[0],
    ]
    if named_backend.takes_sparse:
        calls += [lambda: net.predict(few), lambda: net.predict(few[:, :7])]
    assert_each_as_alone(calls, times(named_backend, 500))


def test_predictions_of_teams(teams):
    """Each call with threads of its own."""
    net = make("numba", threads=3)
    X = data(m=600)[0]
    assert_each_as_alone([lambda m=m: net.predict(X[:, :m]) for m in (50, 300, 600)], 60)


@pytest.mark.parametrize("calibration", [None, "sigmoid"])
def test_predictions_of_a_classifier(named_backend, calibration):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 4)), np.array(["a", "b", "c"])[rng.integers(3, size=90)]
    model = MLPClassifier(hidden_layer_sizes=(6,), max_iter=5, early_stopping=True, calibration=calibration)
    model.set_params(backend=named_backend.name, random_state=0)
    with pytest.warns(match="not enough to converge"):
        model.fit(X, y)
    calls = [lambda m=m: model.predict_proba(X[:m]) for m in (1, 20, 90)]
    calls += [lambda: model.predict(X) == "a", lambda: model.transform(X[:30])]
    assert_each_as_alone(calls, times(named_backend, 250))


def test_predictions_while_another_network_trains(named_backend):
    net, other, alone = make(named_backend), make(named_backend, seed=1), make(named_backend, seed=1)
    X, Y = data()
    expected, epochs = host(net.predict(X)), times(named_backend, 500)
    alone.fit(X, Y, epochs=epochs, batch_size=20)

    def work(number):
        if number == 0:
            other.fit(X, Y, epochs=epochs, batch_size=20)
            return True
        return all(np.array_equal(host(net.predict(X)), expected) for _ in range(times(named_backend, 500)))

    assert all(at_once(work))
    np.testing.assert_array_equal(host(other.theta), host(alone.theta))


@pytest.mark.gpu
@pytest.mark.skipif(HAS_GPU, reason="needs the device double's second device")
def test_threads_on_several_gpus_keep_their_own(cupy_by_name):
    """Whichever of them leaves the backend first."""
    from gpu import double

    entered, leave = threading.Event(), threading.Event()

    def other():
        with cupy.cuda.Device(1):
            with backend.context():
                entered.set()
                assert leave.wait(60)
            return cupy.cuda.Device().id

    with double.configured(devices=2), ThreadPoolExecutor(1) as pool:
        cupy = importlib.import_module("cupy")
        backend = importlib.import_module("accelnn.backends.cupy").CupyBackend(0)
        try:
            with backend.context():
                waiting = pool.submit(other)
                assert entered.wait(60)
            assert cupy.cuda.Device().id == 0
        finally:
            leave.set()
        assert waiting.result() == 1


# Training.


class Held(Callback):
    """A run that waits within its epoch number 2 until it is let go."""

    def __init__(self):
        self.within, self.go = threading.Event(), threading.Event()

    def on_epoch_end(self, progress):
        if progress.epoch == 2:
            self.within.set()
            assert self.go.wait(60)


def while_held(training, action):
    """Run `action` while ``training(callback)`` is within its second epoch, in another thread."""
    held = Held()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(training, held)
        try:
            assert held.within.wait(60)
            action()
        finally:
            held.go.set()
        return other.result()


WAIT = (
    r"^fit: this network is being trained already, in another thread or by .*; wait for its end, or train a copy \(copy"
)


def test_a_network_is_trained_by_one_thread_at_a_time(named_backend):
    """The other is told what to do, and changes nothing; afterwards the network trains again."""
    (X, Y), (other_X, other_Y) = data(), data(seed=5)
    net, alone = make(named_backend), make(named_backend)

    def refused():
        with pytest.raises(BusyError, match=WAIT):
            net.fit(other_X, other_Y, epochs=3, optimizer="adam")

    history = while_held(lambda held: net.fit(X, Y, epochs=5, batch_size=20, callbacks=[held]), refused)
    expected = alone.fit(X, Y, epochs=5, batch_size=20, callbacks=[Callback()])
    assert history.loss == expected.loss
    for network in (net, alone):
        network.fit(X, Y, epochs=2, batch_size=20, resume=True)
    np.testing.assert_array_equal(host(net.theta), host(alone.theta))
    assert net.epochs_trained == alone.epochs_trained == 7
    assert isinstance(BusyError(), RuntimeError)


def test_many_threads_that_train_one_network(named_backend):
    """So many as found it free have trained it, one after the other."""
    X, Y = data()
    net, alone = make(named_backend), make(named_backend)

    def work(number):
        try:
            return net.fit(X, Y, epochs=times(named_backend, 150), batch_size=20).loss[-1]
        except BusyError:
            return None

    losses = {loss for loss in at_once(work) if loss is not None}
    assert losses == {alone.fit(X, Y, epochs=times(named_backend, 150), batch_size=20).loss[-1] for _ in losses}
    np.testing.assert_array_equal(host(net.theta), host(alone.theta))


class Within(Callback):
    """Something done once, after the first epoch."""

    def __init__(self, action):
        self.action = action

    def on_epoch_end(self, progress):
        if progress.epoch == 1:
            self.action(progress.network)


def test_a_callback_cannot_train_its_own_network(named_backend):
    """Where it takes the error, training goes on; else the network is as it was before, and can be trained."""
    X, Y = data()

    def takes(network):
        with pytest.raises(BusyError, match=WAIT):
            network.fit(X, Y, epochs=1)

    net, alone = make(named_backend), make(named_backend)
    net.fit(X, Y, epochs=3, callbacks=[Within(takes)])
    alone.fit(X, Y, epochs=3)
    np.testing.assert_array_equal(host(net.theta), host(alone.theta))
    with pytest.raises(BusyError, match=WAIT):
        net.fit(X, Y, epochs=3, callbacks=[Within(lambda network: network.fit(X, Y, epochs=1))])
    np.testing.assert_array_equal(host(net.theta), host(alone.theta))
    assert net.epochs_trained == 3
    for network in (net, alone):
        network.fit(X, Y, epochs=2)
    np.testing.assert_array_equal(host(net.theta), host(alone.theta))


def test_a_callback_can_train_a_copy_and_predict(named_backend):
    X, Y = data()
    found = []

    def action(network):
        twin = copy.deepcopy(network)
        found.append(host(network.predict(X)))
        twin.fit(X, Y, epochs=2)
        found.append(host(twin.theta))

    net, alone = make(named_backend), make(named_backend)
    net.fit(X, Y, epochs=3, callbacks=[Within(action)])
    alone.fit(X, Y, epochs=1)
    np.testing.assert_array_equal(found[0], host(alone.predict(X)))
    alone.fit(X, Y, epochs=2)
    np.testing.assert_array_equal(found[1], host(alone.theta))
    np.testing.assert_array_equal(host(net.theta), host(alone.theta))


@pytest.mark.parametrize("error", [DataError, ValueError, KeyboardInterrupt])
def test_a_network_is_free_after_an_error(error):
    def fail(network):
        raise error("x")

    net = make("numpy")
    with pytest.raises(error):
        net.fit(*data(), epochs=3, callbacks=[Within(fail)])
    net.fit(*data(), epochs=3)
    with pytest.raises(DataError):
        net.fit(*data(), epochs=-1)
    net.fit(*data(), epochs=3)


def test_networks_train_side_by_side(named_backend):
    """Each as if it were alone, though they share a backend."""
    X, Y = data()
    epochs = times(named_backend, 300)
    options = [{"optimizer": rule, "batch_size": size} for rule in ("sgd", "adam") for size in (20, 50)]

    def trained(number):
        net = make(named_backend, (3, 6 + number % 3, 2), seed=number)
        net.fit(X, Y, epochs=epochs, **options[number % 4])
        return host(net.theta)

    for found, expected in zip(at_once(trained), map(trained, range(THREADS)), strict=True):
        np.testing.assert_array_equal(found, expected)


# Estimators.

ESTIMATOR = WAIT.replace("network is being trained", "estimator is being fitted")
ESTIMATOR = ESTIMATOR.replace(r"train a copy \(copy", r"fit a copy \(sklearn\.base\.clone")


def regressor(backend, callbacks=(), **options):
    settings = {"hidden_layer_sizes": (5,), "max_iter": 5, "tol": 0.0, "random_state": 0, "n_iter_no_change": 100}
    return MLPRegressor(**settings | options, backend=backend.name, callbacks=list(callbacks))


def rows(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(60, 3)), rng.normal(size=60)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("solver", "method"), [("adam", "fit"), ("adam", "partial_fit"), ("lbfgs", "fit")])
def test_an_estimator_is_fitted_by_one_thread_at_a_time(named_backend, solver, method):
    model = regressor(named_backend, solver=solver)

    def training(held):
        model.callbacks = [held]
        return model.fit(*rows())

    def refused():
        with pytest.raises(BusyError, match=ESTIMATOR):
            getattr(model, method)(*rows(1))

    while_held(training, refused)
    expected = regressor(named_backend, solver=solver).fit(*rows())
    assert model.loss_curve_ == expected.loss_curve_
    np.testing.assert_array_equal(model.predict(rows()[0]), expected.predict(rows()[0]))
    for again in (model, expected):
        again.callbacks = None
        again.fit(*rows(1))
    assert model.loss_curve_ == expected.loss_curve_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_callback_cannot_fit_its_own_estimator(named_backend):
    """A clone it can."""
    clones = []

    def action(network):
        with pytest.raises(BusyError, match=ESTIMATOR):
            model.fit(*rows(1))
        with pytest.raises(BusyError, match=WAIT):
            model.network_.fit(*data())
        twin = clone(model).set_params(callbacks=None)
        clones.append(twin.fit(*rows()).loss_curve_)

    model = regressor(named_backend, [Within(action)])
    model.fit(*rows())
    expected = regressor(named_backend).fit(*rows())
    assert model.loss_curve_ == expected.loss_curve_ == clones[0]
    failing = regressor(named_backend, [Within(lambda network: failing.fit(*rows(1)))])
    with pytest.raises(BusyError, match=ESTIMATOR):
        failing.fit(*rows())
    assert not hasattr(failing, "network_")
    assert failing.set_params(callbacks=None).fit(*rows()).loss_curve_ == expected.loss_curve_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators_are_fitted_side_by_side(named_backend):
    def fitted(number):
        return regressor(named_backend, random_state=number, early_stopping=number % 2 == 1).fit(*rows()).loss_curve_

    assert at_once(fitted) == list(map(fitted, range(THREADS)))


def test_a_network_that_was_copied_in_training_is_free():
    """What a process or a copy takes over does not know of the thread that trains."""
    twins = []
    net = make("numpy")
    net.fit(*data(), epochs=2, callbacks=[Within(lambda network: twins.append(copy.deepcopy(network)))])
    twins[0].fit(*data(), epochs=1)
    assert isinstance(twins[0], Network)
    assert twins[0].epochs_trained == 2
    np.testing.assert_array_equal(twins[0].theta, net.theta)
