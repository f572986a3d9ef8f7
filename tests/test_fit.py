"""Training: descent, runs and their history, batch order, learning rates, callbacks and divergence."""

import warnings

import numpy as np
import pytest
from conftest import assert_same, data, host, make, make_targets, recording
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accelnn import Callback, DivergenceError, Network, Optimizer
from accelnn.activations import HIDDEN
from accelnn.losses import LOSSES
from accelnn.training import batch_order

# Descent.


@st.composite
def trainable(draw):
    loss, output = draw(st.sampled_from(list(LOSSES)))
    depth = draw(st.integers(1, 4))
    least = 2 if output == "softmax" else 1
    return {
        "sizes": [*(draw(st.integers(1, 12)) for _ in range(depth)), draw(st.integers(least, 12))],
        "activations": [draw(st.sampled_from(HIDDEN)) for _ in range(depth - 1)],
        "output": output,
        "loss": loss,
        "seed": draw(st.integers(0, 2**16)),
    }


def test_the_loss_falls_after_one_step_of_descent(backend):
    @settings(max_examples=60)
    @given(trainable(), st.integers(1, 20), st.sampled_from([0.0, 0.1]))
    def holds(options, m, l2):
        net = Network(**options, dtype="float64", backend=backend)
        rng = np.random.default_rng(options["seed"])
        # A unit whose inputs are all dead has Z = b; biases of 0 would put it on a rectifier's corner.
        net.theta = host(net.theta) + rng.normal(0.0, 0.1, size=net.theta.shape)
        X = rng.uniform(-1.0, 1.0, size=(options["sizes"][0], m))
        Y = make_targets(LOSSES[options["loss"], options["output"]].targets, options["sizes"][-1], m, rng)
        if options["loss"] == "absolute_error":
            # A step may cross a corner only where it is close to one.
            assume(np.min(np.abs(net.predict(X) - Y)) > 1e-2)
        before, dtheta = net.loss_and_gradient(X, Y, l2=l2)
        slope = float(dtheta @ dtheta)
        assume(slope > 1e-6)
        # A step of length 1e-6 at most: curvature changes the loss by far less than the slope does.
        rate = 1e-6 / max(1.0, np.sqrt(slope))
        history = net.fit(X, Y, optimizer="sgd", learning_rate=rate, epochs=1, l2=l2)
        after, _ = net.loss_and_gradient(X, Y, l2=l2)
        assert history.loss == pytest.approx([before], rel=1e-12)
        assert after < before
        assert before - after == pytest.approx(rate * slope, rel=1e-2)

    holds()


@pytest.mark.parametrize("activation", ["sigmoid", "softplus", "tanh"])
def test_zero_weights_keep_the_units_of_a_layer_equal(activation, backend):
    with pytest.warns(UserWarning, match="init='zeros'.*one unit wide"):
        net = make(backend, (3, 6, 5, 2), activation, init="zeros")
    np.testing.assert_array_equal(host(net.theta), 0.0)
    X, Y = data()
    net.fit(X, Y, optimizer="momentum", learning_rate=0.5, epochs=200)
    assert np.any(host(net.theta) != 0.0)
    if activation != "tanh":  # tanh(0) = 0 lets nothing but the last bias move
        assert np.max(np.abs(host(net.W[1]))) > 1e-6
    for l in (1, 2):
        spread = max(np.max(np.ptp(host(part[l]), axis=0)) for part in (net.W, net.b))
        assert spread <= 1e-12 * np.max(np.abs(host(net.theta)))


def test_zero_weights_without_a_hidden_layer_are_fine(backend):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = make(backend, (3, 1), init="zeros")
    X, _ = data()
    history = net.fit(X, X[0] > 0.0, learning_rate=1.0, epochs=200)
    assert history.loss[-1] < 0.3 < history.loss[0]


def test_the_warning_points_at_the_caller():
    with pytest.warns(UserWarning, match="zeros") as caught:
        Network([3, 8, 2], init="zeros", backend="numpy")
    assert caught[0].filename == __file__


def test_a_linear_problem_is_solved(backend):
    """Least squares by gradient descent ends at the normal equations' solution."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4, 200))
    Y = rng.normal(size=(3, 4)) @ X + rng.normal(size=(3, 1)) + 0.1 * rng.normal(size=(3, 200))
    net = make(backend, (4, 3), output="identity")
    net.fit(X, Y, learning_rate=0.5, epochs=500)
    ones = np.vstack([X, np.ones((1, 200))])
    exact = np.linalg.lstsq(ones.T, Y.T, rcond=None)[0].T
    np.testing.assert_allclose(np.hstack([host(net.W[1]), host(net.b[1])]), exact, rtol=1e-8, atol=1e-10)


# Runs.


def test_the_same_seed_gives_the_same_run(backend):
    X, Y = data()
    options = {"optimizer": "adam", "learning_rate": 0.01, "epochs": 7, "batch_size": 8, "validation": (X, Y)}
    nets = [make(backend, seed=seed) for seed in (4, 4, 5)]
    histories = [net.fit(X, Y, **options) for net in nets]
    np.testing.assert_array_equal(host(nets[0].theta), host(nets[1].theta))
    assert histories[0].loss == histories[1].loss
    assert histories[0].validation_loss == histories[1].validation_loss
    assert not np.array_equal(host(nets[0].theta), host(nets[2].theta))


def test_history(backend):
    X, Y = data()
    X_held, Y_held = data(20, seed=1)
    net = make(backend)
    history = net.fit(X, Y, epochs=6, batch_size=16, validation=(X_held, Y_held), learning_rate=0.2)
    assert len(history.loss) == len(history.validation_loss) == len(history.learning_rate) == 6
    assert history.learning_rate == [0.2] * 6
    assert history.examples == 6 * 50
    assert history.seconds > 0.0
    assert all(type(J) is float for J in (*history.loss, *history.validation_loss))
    assert history.validation_loss[-1] == pytest.approx(net.loss_and_gradient(X_held, Y_held)[0], rel=1e-12)
    assert net.epochs_trained == 6
    assert make(backend).fit(X, Y, epochs=2).validation_loss == []


def test_an_epochs_loss_is_the_mean_over_its_examples(backend):
    """Batches of 16, 16 and 3 count by their size; the loss is the one that each step started from."""
    X, Y = data(35)
    net, twin = make(backend), make(backend)
    history = net.fit(X, Y, epochs=1, batch_size=16, shuffle=False, learning_rate=0.3, l2=0.1)
    total = 0.0
    for start, stop in ((0, 16), (16, 32), (32, 35)):
        J, dtheta = twin.loss_and_gradient(X[:, start:stop], Y[:, start:stop], l2=0.1)
        twin.theta[...] -= 0.3 * dtheta
        total += J * (stop - start)
    assert history.loss == pytest.approx([total / 35], rel=1e-12)
    assert_same(host(net.theta), host(twin.theta), "float64", "theta")


def test_validation_does_not_change_the_run(backend):
    X, Y = data()
    with_, without = make(backend), make(backend)
    options = {"epochs": 5, "batch_size": 8, "optimizer": "adam"}
    first = with_.fit(X, Y, validation=data(9, seed=3), **options)
    second = without.fit(X, Y, **options)
    assert first.loss == second.loss
    np.testing.assert_array_equal(host(with_.theta), host(without.theta))


def test_a_batch_beyond_the_data_is_the_full_batch(backend):
    X, Y = data()
    nets = [make(backend) for _ in range(3)]
    for net, size in zip(nets, (None, 50, 1000), strict=True):
        net.fit(X, Y, epochs=3, batch_size=size)
    np.testing.assert_array_equal(host(nets[0].theta), host(nets[1].theta))
    np.testing.assert_array_equal(host(nets[0].theta), host(nets[2].theta))


# Batch order.


def test_batch_order_is_a_function_of_seed_and_epoch():
    orders = {(seed, epoch): batch_order(seed, epoch, 40) for seed in (0, 1) for epoch in range(4)}
    for order in orders.values():
        np.testing.assert_array_equal(np.sort(order), np.arange(40))
    assert len({tuple(order) for order in orders.values()}) == 8
    np.testing.assert_array_equal(batch_order(1, 3, 40), orders[1, 3])


def test_five_epochs_and_five_are_ten(backend):
    """The orders go on where they ended; without state in the rule, so does everything."""
    X, Y = data()
    spy, in_two = recording(backend)
    net = make(spy, seed=3)
    options = {"optimizer": "sgd", "learning_rate": 0.05, "batch_size": 8}
    first = net.fit(X, Y, epochs=5, **options)
    second = net.fit(X, Y, epochs=5, **options)
    spy, in_one = recording(backend)
    other = make(spy, seed=3)
    whole = other.fit(X, Y, epochs=10, **options)
    np.testing.assert_array_equal(in_two, in_one)
    np.testing.assert_array_equal(in_one, [batch_order(3, epoch, 50) for epoch in range(10)])
    np.testing.assert_array_equal(host(net.theta), host(other.theta))
    assert first.loss + second.loss == whole.loss
    assert net.epochs_trained == other.epochs_trained == 10


def test_without_shuffling_the_data_keep_their_order(backend):
    X, Y = data()
    spy, orders = recording(backend)
    make(spy).fit(X, Y, epochs=2, batch_size=8, shuffle=False)
    assert [len(order) for order in orders] == [0, 0]


def test_every_example_is_visited(backend):
    """One epoch of batches of one example, with a rate so small that theta hardly moves: the sum of all gradients."""
    X, Y = data(31)
    net = make(backend)
    start, rate = host(net.theta), 1e-9
    _, dtheta = net.loss_and_gradient(X, Y)
    net.fit(X, Y, epochs=1, batch_size=1, learning_rate=rate)
    np.testing.assert_allclose((start - host(net.theta)) / rate, 31 * host(dtheta), rtol=1e-4, atol=1e-5)


# Learning rates.


def test_a_schedule_is_asked_for_every_step_once(backend):
    X, Y = data()
    asked = []

    def schedule(step):
        assert isinstance(step, np.ndarray)
        asked.extend(step.tolist())
        return 0.1 / (1.0 + step)

    history = make(backend).fit(X, Y, learning_rate=schedule, epochs=6, batch_size=20)
    assert asked == list(range(18))
    assert history.learning_rate == pytest.approx([0.1 / (3 * e + 3) for e in range(6)])


def test_a_schedule_acts_at_its_step(backend):
    """A rate of 0 from step 4 on leaves theta as four steps made it."""
    X, Y = data()
    net, other = make(backend), make(backend)
    net.fit(X, Y, learning_rate=lambda step: np.where(step < 4, 0.1, 0.0), epochs=9)
    other.fit(X, Y, learning_rate=0.1, epochs=4)
    np.testing.assert_array_equal(host(net.theta), host(other.theta))


def test_a_constant_schedule_is_a_number(backend):
    X, Y = data()
    nets = [make(backend) for _ in range(2)]
    for net, rate in zip(nets, (0.03, lambda step: np.full(step.shape, 0.03)), strict=True):
        net.fit(X, Y, optimizer="adamw", learning_rate=rate, epochs=5, batch_size=16)
    np.testing.assert_array_equal(host(nets[0].theta), host(nets[1].theta))


def test_an_optimizer_object_is_a_name_with_settings(backend):
    X, Y = data()
    nets = [make(backend) for _ in range(3)]
    for net, rule in zip(nets, ("adam", Optimizer("adam"), Optimizer("adam", beta1=0.5)), strict=True):
        net.fit(X, Y, optimizer=rule, epochs=3, learning_rate=0.01)
    np.testing.assert_array_equal(host(nets[0].theta), host(nets[1].theta))
    assert not np.array_equal(host(nets[0].theta), host(nets[2].theta))
    assert repr(Optimizer("momentum", momentum=0.5)) == "Optimizer('momentum', momentum=0.5)"


def test_clipping_bounds_the_step(backend):
    X, Y = data()
    net = make(backend)
    start = host(net.theta)
    net.fit(X, Y, learning_rate=1.0, epochs=1, clip_norm=1e-3)
    assert np.linalg.norm(host(net.theta) - start) == pytest.approx(1e-3, rel=1e-9)
    free, loose = make(backend), make(backend)
    free.fit(X, Y, epochs=3)
    loose.fit(X, Y, epochs=3, clip_norm=1e6)
    np.testing.assert_array_equal(host(free.theta), host(loose.theta))


# Callbacks.


class Stop(Callback):
    def __init__(self, after):
        self.after, self.seen = after, []

    def on_epoch_end(self, progress):
        self.seen.append(progress)
        return progress.epoch >= self.after


class Watch(Callback):
    def __init__(self, answer=None):
        self.answer, self.seen = answer, []

    def on_progress(self, progress):
        self.seen.append(progress)
        return self.answer


def test_a_callback_ends_the_run(backend):
    X, Y = data()
    stopped, short = make(backend), make(backend)
    stop = Stop(3)
    history = stopped.fit(X, Y, epochs=50, batch_size=16, callbacks=[stop])
    expected = short.fit(X, Y, epochs=3, batch_size=16)
    assert history.loss == expected.loss
    assert history.examples == 150
    assert stopped.epochs_trained == 3
    np.testing.assert_array_equal(host(stopped.theta), host(short.theta))
    assert [p.epoch for p in stop.seen] == [1, 2, 3]
    assert [p.loss for p in stop.seen] == history.loss
    assert [p.step for p in stop.seen] == [4, 8, 12]
    assert {(p.epochs, p.steps) for p in stop.seen} == {(50, 200)}
    assert [p.examples for p in stop.seen] == [50, 100, 150]


def test_epoch_callbacks_see_the_validation_loss(backend):
    stop = Stop(99)
    history = make(backend).fit(*data(), epochs=4, validation=data(9, seed=1), callbacks=[stop])
    assert [p.validation_loss for p in stop.seen] == history.validation_loss
    assert len(stop.seen) == 4


def test_progress_goes_forward_to_the_end(backend):
    watch = Watch()
    make(backend).fit(*data(), epochs=40, batch_size=5, callbacks=[watch])
    steps = [p.step for p in watch.seen]
    assert steps == sorted(set(steps))
    last = watch.seen[-1]
    assert (last.epoch, last.epochs, last.step, last.steps) == (40, 40, 400, 400)
    assert last.validation_loss is None
    seconds = [p.seconds for p in watch.seen]
    assert seconds == sorted(seconds)


def test_watching_does_not_change_the_run(backend):
    X, Y = data()
    nets = [make(backend) for _ in range(3)]
    runs = ([], [Watch()], [Watch(), Stop(99)])
    histories = [net.fit(X, Y, epochs=9, batch_size=8, callbacks=c) for net, c in zip(nets, runs, strict=True)]
    for net, history in zip(nets[1:], histories[1:], strict=True):
        np.testing.assert_array_equal(host(net.theta), host(nets[0].theta))
        assert history.loss == histories[0].loss


def test_progress_may_end_the_run_within_an_epoch(backend):
    """The first call is one step: no epoch is finished, and theta has moved by that step."""
    X, Y = data()
    net, watch = make(backend), Watch(answer=True)
    start = host(net.theta)
    history = net.fit(X, Y, epochs=5, batch_size=10, callbacks=[watch])
    assert [p.step for p in watch.seen] == [1]
    assert history.loss == []
    assert history.examples == 0
    assert net.epochs_trained == 0
    assert not np.array_equal(host(net.theta), start)


def test_an_epoch_that_ends_the_run_is_an_epoch_all_the_same(backend):
    """on_progress says stop at the end of epoch 1; on_epoch_end still hears of that epoch."""

    class Both(Watch):
        ended = 0

        def on_epoch_end(self, progress):
            self.ended += 1

    both = Both(answer=True)
    history = make(backend).fit(*data(), epochs=5, callbacks=[both])
    assert len(history.loss) == 1
    assert both.ended == 1


# Divergence.


@pytest.mark.parametrize("batch_size", [None, 10])
def test_divergence_names_epoch_and_rate_and_puts_theta_back(batch_size, backend):
    X, Y = data()
    net = make(backend, output="identity")
    net.fit(X, Y, epochs=2)
    start = host(net.theta)
    before = []

    class Losses(Callback):
        def on_epoch_end(self, progress):
            before.append(progress.loss)

    with pytest.raises(DivergenceError) as caught:
        net.fit(X * 1e3, Y, learning_rate=7.5, epochs=500, batch_size=batch_size, callbacks=[Losses()])
    assert np.all(np.isfinite(before))
    assert f"epoch {len(before) + 1} " in str(caught.value)
    assert "learning rate 7.5" in str(caught.value)
    assert isinstance(caught.value, ArithmeticError)
    np.testing.assert_array_equal(host(net.theta), start)
    assert net.epochs_trained == 2
    # And the network is usable.
    assert np.all(np.isfinite(net.fit(X, Y, epochs=2).loss))


def test_divergence_is_the_same_without_callbacks(backend):
    X, Y = data()
    messages = []
    for callbacks in ([], [Stop(10**6)]):
        net = make(backend, output="identity")
        with pytest.raises(DivergenceError) as caught:
            net.fit(X * 1e3, Y, learning_rate=7.5, epochs=500, callbacks=callbacks)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_divergence_in_the_very_last_step(backend):
    """The last loss is finite, theta is not."""
    X, Y = data()
    net = make(backend, output="identity")
    start = host(net.theta)
    with pytest.raises(DivergenceError, match=r"epoch 1 with learning rate 1e\+308"):
        net.fit(X * 1e3, Y * 1e3, learning_rate=1e308, epochs=1)
    np.testing.assert_array_equal(host(net.theta), start)


def test_divergence_in_a_run_that_a_callback_ends_within_its_first_epoch(backend):
    X, Y = data()
    net = make(backend, output="identity")
    start = host(net.theta)
    with pytest.raises(DivergenceError, match="epoch 1 "):
        net.fit(X * 1e3, Y * 1e3, learning_rate=1e308, epochs=5, batch_size=10, callbacks=[Watch(answer=True)])
    np.testing.assert_array_equal(host(net.theta), start)
