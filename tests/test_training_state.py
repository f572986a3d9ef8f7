"""What a run leaves behind, and what comes to the door in an odd form."""

import numpy as np
import pytest
from conftest import FACTORIES, assert_same, data, host, make
from scipy import sparse

from accelnn import Callback, DataError
from accelnn.schedules import ReduceOnPlateau, Schedule


class InterruptAt(Callback):
    def __init__(self, epoch, problem=KeyboardInterrupt):
        self.epoch, self.problem = epoch, problem

    def on_epoch_end(self, progress):
        if progress.epoch == self.epoch:
            raise self.problem


@pytest.mark.parametrize("problem", [KeyboardInterrupt, ValueError])
def test_an_interrupted_run_goes_on_as_if_it_had_ended_there(backend, problem):
    X, Y = data()
    options = {"optimizer": "adam", "learning_rate": 0.01, "batch_size": 8, "dropout": 0.5}
    net, twin = make(backend), make(backend)
    with pytest.raises(problem):
        net.fit(X, Y, epochs=9, callbacks=[InterruptAt(3, problem)], **options)
    twin.fit(X, Y, epochs=3, callbacks=[InterruptAt(None)], **options)
    assert (net.epochs_trained, net.steps_trained) == (3, 21) == (twin.epochs_trained, twin.steps_trained)
    for each in (net, twin):
        each.fit(X, Y, epochs=2, resume=True, **options)
    np.testing.assert_array_equal(host(net.theta), host(twin.theta))


def test_a_state_that_somebody_holds_stays_as_it_is(backend):
    X, Y = data()
    net = make(backend)
    net.fit(X, Y, optimizer="adam", epochs=2)
    saved = net.optimizer_state
    kept = host(saved.vectors)
    for _ in range(3):
        net.fit(X, Y, optimizer="adam", epochs=2, resume=True)
    np.testing.assert_array_equal(host(saved.vectors), kept)


class Halving(Schedule):
    """Remembers how many epochs there were."""

    start = (0.0,)

    def factors(self, t, epochs, state=()):
        assert len(state) == 1
        return np.full(len(t), 0.5 ** state[0])

    def after_epoch(self, state, loss):
        return (state[0] + 1.0,)


def test_a_schedule_remembers_its_own_and_no_others():
    X, Y = data()
    net, halving = make("numpy"), Halving()
    net.fit(X, Y, epochs=3, schedule=ReduceOnPlateau())
    assert net.fit(X, Y, epochs=2, schedule=halving, resume=True).learning_rate == [0.1, 0.05]
    assert net.fit(X, Y, epochs=2, schedule=halving, resume=True).learning_rate == [0.025, 0.0125]
    assert net.fit(X, Y, epochs=1, schedule=Halving(), resume=True).learning_rate == [0.1]


class Wrong(Schedule):
    def __init__(self, answer):
        self.answer = answer

    def factors(self, t, epochs, state=()):
        return self.answer(t)


@pytest.mark.parametrize(
    "answer", [lambda t: -np.ones(len(t)), lambda t: np.full(len(t), np.nan), lambda t: np.ones(len(t) + 1), str]
)
def test_a_schedules_answer_is_looked_at(answer):
    net = make("numpy")
    before = host(net.theta)
    with pytest.raises(DataError, match=r"schedule: .* must give an array with a finite number of 0 or more"):
        net.fit(*data(), schedule=Wrong(answer))
    np.testing.assert_array_equal(net.theta, before)


# Weights.


def test_an_example_of_weight_0_is_left_out_whatever_it_holds(backend):
    """Its loss may be infinite, in the network's precision."""
    X, Y = data()
    w = np.ones(50)
    w[[0, 7]] = 0.0
    huge = X.copy()
    huge[:, [0, 7]] = 1e30
    net, twin = (make(backend, activations="relu", dtype="float32") for _ in range(2))
    kept = w > 0
    history = net.fit(huge, Y, epochs=2, batch_size=8, sample_weight=w)
    assert history.loss == twin.fit(X[:, kept], Y[:, kept], epochs=2, batch_size=8, sample_weight=w[kept]).loss
    np.testing.assert_array_equal(host(net.theta), host(twin.theta))


def test_only_the_ratios_of_weights_count(backend):
    X, Y = data()
    w = np.arange(1.0, 51.0)
    expected = make(backend).loss_and_gradient(X, Y, sample_weight=w)[0]
    for factor in (1e-200, 1e200):
        assert_same(make(backend).loss_and_gradient(X, Y, sample_weight=factor * w)[0], expected, "float64", "J")
    for bad, text in ((np.full(50, 1e308), "sum to inf"), (np.full(50, 1e-312), "sum to 5e-311")):
        with pytest.raises(DataError, match=f"sample_weight: the weights {text}; divide them by the largest"):
            make(backend).loss_and_gradient(X, Y, sample_weight=bad)


# Sparse arrays that are not what they say.


def broken(indices, indptr=(0, 1, 1, 1)):
    array = sparse.csc_array((4, 3))
    array.data, array.indices, array.indptr = np.ones(len(indices)), np.array(indices), np.array(indptr)
    return array


@pytest.mark.parametrize("array", [broken([10**6]), broken([7]), broken([-5]), broken([0, 1], (0, 2, 1, 2))])
def test_a_sparse_array_with_places_outside_is_refused(array, backend):
    net = make(backend, (4, 3, 2))
    for use in (net.predict, lambda X: net.fit(X, np.full((2, 3), 0.5))):
        with pytest.raises(DataError, match="X: is no valid sparse array"):
            use(array)


def test_what_may_not_be_sparse_says_so(backend):
    X, Y = data()
    for arguments, text in (
        ((X, sparse.csr_array(Y)), "Y: is sparse; targets are small"),
        ((X, Y, sparse.coo_array(np.ones((1, 50)))), "sample_weight: is sparse; give one weight"),
    ):
        with pytest.raises(DataError, match=text):
            make(backend).examples(*arguments)
    with pytest.raises(DataError, match="X: is sparse, which backend='reference' cannot read"):
        make(FACTORIES["reference"]()).predict(sparse.csc_array(X))


def test_rates_of_dropout_in_other_forms():
    X, Y = data()
    for rate in (np.array(0.25), np.float32(0.25), [0.25], np.array([0.25])):
        net, twin = make("numpy"), make("numpy")
        net.fit(X, Y, epochs=2, dropout=rate)
        twin.fit(X, Y, epochs=2, dropout=0.25)
        np.testing.assert_array_equal(net.theta, twin.theta)
    make("numpy", (3, 2)).fit(X, Y, epochs=1, dropout=[])
