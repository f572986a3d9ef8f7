"""Learning-rate schedules against values worked by hand, and the properties that a formula promises."""

import copy
import dataclasses
import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelnn import DataError, UnknownNameError
from accelnn.schedules import (
    SCHEDULES,
    Cosine,
    Exponential,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    Step,
    schedule,
)

nan, inf = float("nan"), float("inf")

ROUNDING = 1e-14  # of a factor up to 1, and of a time divided by a horizon


def factor(of, t, epochs=10, state=()):
    """The factor at one time, as a float."""
    (value,) = of.factors(np.array([t], dtype=np.float64), epochs, state)
    return float(value)


def times(epochs, batches):
    """The time of each step of a run."""
    return np.arange(epochs * batches) / batches


# Schedules of all kinds, for properties.

fraction = st.floats(0.0, 1.0)
positive = st.floats(0.0, 1.0, exclude_min=True)
inside = st.floats(0.0, 1.0, exclude_min=True, exclude_max=True)
horizons = st.integers(1, 60)

steps = st.builds(Step, every=st.integers(1, 20), factor=positive)
exponentials = st.builds(Exponential, factor=positive)
one_cycles = st.builds(OneCycle, peak_at=inside, initial=positive, final=fraction)
plateaus = st.builds(
    ReduceOnPlateau,
    factor=inside,
    patience=st.integers(0, 4),
    threshold=st.sampled_from([0.0, 1e-4, 0.1]),
    cooldown=st.integers(0, 4),
    least=fraction,
)
losses = st.lists(st.floats(-1e3, 1e3), max_size=40)


@st.composite
def cosines(draw, epochs):
    """A warm-up that ends before the horizon."""
    return Cosine(warmup=draw(st.floats(0.0, epochs, exclude_max=True)), final=draw(fraction))


@st.composite
def runs(draw):
    """A schedule of any kind, a horizon, and the times of the run's steps and of some beyond it."""
    epochs, batches = draw(horizons), draw(st.integers(1, 40))
    one = draw(st.one_of(steps, exponentials, cosines(epochs), one_cycles, plateaus))
    return one, epochs, times(epochs + 3, batches)


# Names.


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("step", Step),
        ("exponential", Exponential),
        ("cosine", Cosine),
        ("one_cycle", OneCycle),
        ("plateau", ReduceOnPlateau),
    ],
)
def test_a_name_stands_for_the_defaults(name, kind):
    assert SCHEDULES[name] == kind()
    assert schedule(name) == kind()


def test_the_names_are_complete():
    kinds = {type(one) for one in SCHEDULES.values()}
    ours = {kind for kind in Schedule.__subclasses__() if kind.__module__ == Schedule.__module__}
    assert kinds == ours
    assert len(kinds) == len(SCHEDULES)


def test_an_instance_stands_for_itself():
    one = Cosine(warmup=3)
    assert schedule(one) is one


def test_a_schedule_of_ones_own():
    class Inverse(Schedule):
        def factors(self, t, epochs, state=()):
            return 1.0 / (1.0 + t)

    one = schedule(Inverse())
    assert factor(one, 3.0) == 0.25
    assert one.start == ()
    assert one.after_epoch((), 0.5) == ()


def test_the_base_is_constant():
    np.testing.assert_array_equal(Schedule().factors(times(3, 2), 3), np.ones(6))


def test_an_unknown_name():
    message = "^schedule: 'cosin' is not known; choose from cosine, exponential, one_cycle, plateau, step$"
    with pytest.raises(UnknownNameError, match=message):
        schedule("cosin")


@pytest.mark.parametrize("value", [None, 0.1, Cosine, ["cosine"], lambda step: step])
def test_what_is_no_schedule(value):
    with pytest.raises(DataError, match=r"^schedule: .* is no schedule; give one of cosine, .*Cosine\(warmup=5\)$"):
        schedule(value)


# Step and exponential.


def test_step_by_hand():
    t = np.array([0.0, 0.5, 2.999, 3.0, 5.999, 6.0, 8.5, 9.0])
    np.testing.assert_array_equal(
        Step(every=3, factor=0.5).factors(t, 10), [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125]
    )


def test_exponential_by_hand():
    t = np.array([0.0, 0.25, 0.75, 1.0, 1.75, 2.0, 3.0])
    np.testing.assert_array_equal(Exponential(factor=0.5).factors(t, 10), [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.125])


@pytest.mark.parametrize("every", [1, 3, 7, 10])
def test_the_rate_falls_at_the_border_of_an_epoch(every):
    """The first step of epoch k has the new rate and the step before it the old one, for any number of batches."""
    of = Step(every=every, factor=0.5)
    for batches in [*range(1, 400), 6_007, 46_875, 1_000_003]:
        k = np.arange(1, 50) * every
        first = k * batches
        np.testing.assert_array_equal(of.factors(first / batches, 50), 0.5 ** (k // every))
        np.testing.assert_array_equal(of.factors((first - 1) / batches, 50), 0.5 ** (k // every - 1))


@pytest.mark.parametrize("every", [*range(1, 50), 1000])
def test_a_time_one_bit_below_a_border_has_the_old_rate(every):
    """The division by `every` must not round it up to the border."""
    k = np.arange(1, 500)
    border, of = k.astype(np.float64) * every, Step(every=every, factor=0.5)
    np.testing.assert_array_equal(of.factors(border, 500), 0.5**k)
    np.testing.assert_array_equal(of.factors(np.nextafter(border, 0.0), 500), 0.5 ** (k - 1))


@given(steps, horizons, st.integers(1, 40))
def test_step_counts_as_a_loop_does(of, epochs, batches):
    expected, rate = [], 0
    for step in range(epochs * batches):
        if step and step % (of.every * batches) == 0:
            rate += 1
        expected.append(rate)
    np.testing.assert_array_equal(
        of.factors(times(epochs, batches), epochs), np.power(of.factor, np.array(expected, dtype=np.float64))
    )


@given(positive, horizons)
def test_exponential_is_a_step_of_every_epoch(value, epochs):
    t = times(epochs, 7)
    np.testing.assert_array_equal(Exponential(value).factors(t, epochs), Step(1, value).factors(t, epochs))


@given(st.one_of(steps, exponentials), horizons)
def test_step_and_exponential_have_no_horizon(of, epochs):
    """A run that goes on is one run, whatever epochs each of its parts was given."""
    t = times(2 * epochs, 5)
    np.testing.assert_array_equal(of.factors(t, epochs), of.factors(t, 2 * epochs))


def test_a_vanishing_factor_underflows_silently():
    assert factor(Step(every=1, factor=1e-300), 5.0) == 0.0


# Cosine.

HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("of", "t", "expected"),
    [
        (Cosine(), 0.0, 1.0),
        (Cosine(), 2.5, (1 + HALF) / 2),
        (Cosine(), 10 / 3, 0.75),
        (Cosine(), 5.0, 0.5),
        (Cosine(), 20 / 3, 0.25),
        (Cosine(), 7.5, (1 - HALF) / 2),
        (Cosine(final=0.2), 0.0, 1.0),
        (Cosine(final=0.2), 10 / 3, 0.8),
        (Cosine(final=0.2), 5.0, 0.6),
        (Cosine(warmup=4), 0.0, 0.01),
        (Cosine(warmup=4), 1.0, 0.2575),
        (Cosine(warmup=4), 2.0, 0.505),
        (Cosine(warmup=4), 6.0, 0.75),
        (Cosine(warmup=4), 7.0, 0.5),
        (Cosine(warmup=4, final=0.5), 8.0, 0.625),
        (Cosine(warmup=0.5), 0.25, 0.505),
        (Cosine(epochs=20), 5.0, (1 + HALF) / 2),
        (Cosine(epochs=20, warmup=5), 12.5, 0.5),
        (Cosine(epochs=5), 2.5, 0.5),
    ],
)
def test_cosine_by_hand(of, t, expected):
    assert factor(of, t) == pytest.approx(expected, abs=ROUNDING)


@pytest.mark.parametrize("final", [0.0, 1e-3, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0, 3.0, 9.9])
def test_cosine_meets_its_ends_exactly(warmup, final):
    of = Cosine(warmup=warmup, final=final)
    assert factor(of, warmup) == 1.0
    for t in (10.0, 10.1, 11.0, 1e6):
        assert factor(of, t) == final


@given(st.floats(1e-6, 59.0))
def test_warmup_is_a_straight_rise_from_above_zero(warmup):
    x = np.linspace(0.0, 1.0, 101)
    np.testing.assert_allclose(Cosine(warmup=warmup).factors(x * warmup, 60), 0.01 + 0.99 * x, rtol=0, atol=ROUNDING)


@given(st.data(), horizons)
def test_cosine_falls_after_the_warmup(data, epochs):
    of = data.draw(cosines(epochs))
    values = of.factors(np.linspace(of.warmup, epochs, 500), epochs)
    assert np.all(np.diff(values) <= ROUNDING)


def assert_no_jump(of, epochs, t, slope):
    """Neighbours differ by no more than the steepest slope allows."""
    jumps = np.abs(np.diff(of.factors(t, epochs)))
    assert np.all(jumps <= slope * np.diff(t) + ROUNDING)


@given(st.data(), horizons, st.integers(1, 40))
def test_cosine_has_no_jump(data, epochs, batches):
    warmup, final = data.draw(st.just(0.0) | st.floats(0.01, epochs - 0.5)), data.draw(fraction)
    of = Cosine(warmup=warmup, final=final)
    slope = max(0.99 / warmup if warmup else 0.0, math.pi / 2 * (1 - final) / (epochs - warmup))
    assert_no_jump(of, epochs, times(epochs + 2, batches), slope)


def test_warmup_in_whole_epochs_spans_them():
    """Five epochs of four steps: a straight rise whose next step would be 1."""
    values = Cosine(warmup=5).factors(times(5, 4), 10)
    np.testing.assert_allclose(np.diff(values), 0.99 / 20, rtol=1e-12)
    assert values[-1] + 0.99 / 20 == pytest.approx(1.0)


# One cycle.


@pytest.mark.parametrize(
    ("of", "t", "expected"),
    [
        (OneCycle(), 0.0, 1 / 25),
        (OneCycle(), 1.0, 0.28),
        (OneCycle(), 1.5, 0.52),
        (OneCycle(), 2.0, 0.76),
        (OneCycle(), 3.0, 1.0),
        (OneCycle(), 3 + 7 / 3, 0.75 + 0.25 / 25 / 1e4),
        (OneCycle(), 6.5, 0.5 + 0.5 / 25 / 1e4),
        (OneCycle(), 3 + 14 / 3, 0.25 + 0.75 / 25 / 1e4),
        (OneCycle(), 10.0, 1 / 25 / 1e4),
        (OneCycle(peak_at=0.5, initial=0.5, final=0.2), 2.5, 0.75),
        (OneCycle(peak_at=0.5, initial=0.5, final=0.2), 5.0, 1.0),
        (OneCycle(peak_at=0.5, initial=0.5, final=0.2), 7.5, 0.6),
        (OneCycle(epochs=20), 3.0, 0.52),
        (OneCycle(epochs=20), 6.0, 1.0),
        (OneCycle(epochs=20), 13.0, 0.5 + 0.5 / 25 / 1e4),
    ],
)
def test_one_cycle_by_hand(of, t, expected):
    assert factor(of, t) == pytest.approx(expected, abs=ROUNDING)


@given(one_cycles, horizons)
def test_one_cycle_meets_its_ends_exactly(of, epochs):
    assert factor(of, 0.0, epochs) == of.initial
    for t in (epochs, epochs + 0.1, 2 * epochs, 1e6):
        assert factor(of, t, epochs) == of.final


@given(st.floats(0.01, 0.99), positive, fraction, horizons)
def test_one_cycle_rises_then_falls(peak_at, initial, final, epochs):
    of, peak = OneCycle(peak_at=peak_at, initial=initial, final=final), peak_at * epochs
    rise, fall = of.factors(np.linspace(0, peak, 300), epochs), of.factors(np.linspace(peak, epochs, 300), epochs)
    assert np.all(np.diff(rise) >= -ROUNDING)
    assert np.all(np.diff(fall) <= ROUNDING)
    assert rise[-1] == pytest.approx(1.0)


@given(st.floats(0.1, 0.9), positive, fraction, horizons, st.integers(1, 40))
def test_one_cycle_has_no_jump(peak_at, initial, final, epochs, batches):
    of = OneCycle(peak_at=peak_at, initial=initial, final=final)
    slope = math.pi / 2 / epochs * max((1 - initial) / peak_at, (1 - final) / (1 - peak_at))
    assert_no_jump(of, epochs, times(epochs + 2, batches), slope)


# The horizon.


@pytest.mark.parametrize("kind", [Cosine, OneCycle])
def test_two_runs_of_five_are_one_of_ten(kind):
    t = times(10, 7)
    parts = [kind(epochs=10).factors(part, 5) for part in (t[:35], t[35:])]
    np.testing.assert_array_equal(np.concatenate(parts), kind().factors(t, 10))


@given(st.data(), horizons)
def test_beyond_the_horizon_the_final_value_holds(data, epochs):
    of = data.draw(st.one_of(cosines(epochs), one_cycles))
    np.testing.assert_array_equal(of.factors(np.linspace(epochs, 3 * epochs, 50), epochs), of.final)


# Plateau.


def walk(of, losses):
    """The factor during each epoch, and during the one after the last."""
    state, seen = of.start, [factor(of, 0.0, state=of.start)]
    for loss in losses:
        state = of.after_epoch(state, loss)
        seen.append(factor(of, 0.0, state=state))
    return seen


@pytest.mark.parametrize(
    ("of", "losses", "expected"),
    [
        # Without patience the first epoch that does not improve reduces.
        (ReduceOnPlateau(0.5, patience=0), [2.0, 1.0, 1.0, 0.5, 0.7, 0.6], [1, 1, 1, 0.5, 0.5, 0.25, 0.125]),
        # Two epochs without improvement are borne, the third reduces; then the count begins again.
        (
            ReduceOnPlateau(0.5, patience=2),
            [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25],
        ),
        # An improvement in time sets the count back.
        (ReduceOnPlateau(0.5, patience=1), [1.0, 1.0, 0.5, 0.5, 0.5], [1, 1, 1, 1, 1, 0.5]),
        # 0.95 is no improvement of a tenth on 1, and does not become the best; 0.89 is one on 1.
        (ReduceOnPlateau(0.5, patience=1, threshold=0.1), [1.0, 0.95, 0.89, 0.85], [1, 1, 1, 1, 1]),
        (ReduceOnPlateau(0.5, patience=1, threshold=0.1), [1.0, 0.95, 0.91], [1, 1, 1, 0.5]),
        # The two epochs after a reduction are not counted.
        (
            ReduceOnPlateau(0.5, patience=0, cooldown=2),
            [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25],
        ),
        # But a better loss during them is the new best.
        (
            ReduceOnPlateau(0.5, patience=0, cooldown=2),
            [1.0, 1.0, 0.5, 1.0, 0.8],
            [1, 1, 0.5, 0.5, 0.5, 0.25],
        ),
        (ReduceOnPlateau(0.5, patience=0, least=0.3), [1.0, 1.0, 1.0, 1.0], [1, 1, 0.5, 0.3, 0.3]),
        # Below zero a loss improves by growing more negative, here by a tenth of its size.
        (ReduceOnPlateau(0.5, patience=0, threshold=0.1), [-1.0, -0.95], [1, 1, 0.5]),
        (ReduceOnPlateau(0.5, patience=0, threshold=0.1), [-1.0, -1.05], [1, 1, 0.5]),
        (ReduceOnPlateau(0.5, patience=0, threshold=0.1), [-1.0, -1.2, -1.4], [1, 1, 1, 1]),
        # Across zero, and from zero, any step down improves.
        (ReduceOnPlateau(0.5, patience=0, threshold=0.1), [1.0, 0.0, -1e-9, -1.0], [1, 1, 1, 1, 1]),
        (ReduceOnPlateau(0.5, patience=0), [0.0, 0.0], [1, 1, 0.5]),
        # What is no number does not improve.
        (ReduceOnPlateau(0.5, patience=0), [1.0, nan, 0.5, inf], [1, 1, 0.5, 0.5, 0.25]),
    ],
)
def test_plateau_by_hand(of, losses, expected):
    assert walk(of, losses) == expected


def test_the_state_of_a_plateau():
    of = ReduceOnPlateau(0.5, patience=1, cooldown=3)
    states = list(itertools.accumulate([2.0, 3.0, 3.0, 1.0, 4.0], of.after_epoch, initial=of.start))
    assert states == [
        (1.0, inf, 0.0, 0.0),
        (1.0, 2.0, 0.0, 0.0),
        (1.0, 2.0, 1.0, 0.0),
        (0.5, 2.0, 0.0, 3.0),
        (0.5, 1.0, 0.0, 2.0),
        (0.5, 1.0, 0.0, 1.0),
    ]


def test_a_plateaus_state_is_plain_floats():
    """So that it can be stored, whatever number type the loss and the settings come in."""
    of = ReduceOnPlateau(factor=np.float32(0.5), patience=np.int64(0), cooldown=np.int64(2), least=np.float32(0.25))
    state = of.start
    for loss in np.array([1.0, 2.0, 3.0], dtype=np.float32):
        state = of.after_epoch(state, loss)
        assert [type(number) for number in state] == [float] * 4
    assert state == (0.5, 1.0, 0.0, 1.0)


def test_without_a_state_a_plateau_stands_at_its_start():
    of = ReduceOnPlateau()
    np.testing.assert_array_equal(of.factors(times(2, 3), 2), np.ones(6))
    assert of.after_epoch((), 0.5) == of.after_epoch(of.start, 0.5)


@given(plateaus, losses)
def test_a_plateau_falls_from_one_to_its_least(of, losses):
    seen = walk(of, losses)
    assert seen[0] == 1.0
    assert all(after <= before for before, after in itertools.pairwise(seen))
    assert min(seen) >= of.least


@given(plateaus, losses, st.integers(0, 40))
def test_a_plateau_goes_on_from_its_state(of, losses, at):
    """Stopped, stored and taken up again, it ends where it would have without."""
    state = of.start
    for loss in losses[:at]:
        state = of.after_epoch(state, loss)
    state, other = pickle.loads(pickle.dumps(state)), copy.deepcopy(of)
    for loss in losses[at:]:
        state = other.after_epoch(state, loss)
    straight = of.start
    for loss in losses:
        straight = of.after_epoch(straight, loss)
    assert state == straight


@given(plateaus, st.floats(-1e3, 1e3), st.integers(1, 30))
def test_the_same_loss_again_is_no_improvement(of, loss, epochs):
    state = of.start
    for _ in range(epochs):
        state = of.after_epoch(state, loss)
    reductions = (epochs - 1 + of.cooldown) // (of.patience + 1 + of.cooldown)
    expected = 1.0
    for _ in range(reductions):
        expected = max(expected * of.factor, of.least)
    assert state[:2] == (expected, loss)


# All of them.


@given(runs())
def test_factors_are_between_zero_and_one(run):
    of, epochs, t = run
    values = of.factors(t, epochs)
    assert values.shape == t.shape
    assert values.dtype == np.float64
    assert np.all((values >= 0.0) & (values <= 1.0))


@given(runs(), st.data())
def test_grouping_the_steps_changes_nothing(run, data):
    """The same bits, whether the steps are asked for at once, in parts or one by one; and t is left as it was."""
    of, epochs, t = run
    before = t.copy()
    whole = of.factors(t, epochs)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(t)), max_size=6)))
    parts = [of.factors(part, epochs) for part in np.split(t, cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    places = data.draw(st.lists(st.integers(0, len(t) - 1), min_size=1, max_size=20))
    np.testing.assert_array_equal([factor(of, t[i], epochs) for i in places], whole[places])
    np.testing.assert_array_equal(t, before)


@given(runs(), st.floats(-1e3, 1e3))
def test_only_a_plateau_has_a_state(run, loss):
    of, _, _ = run
    if isinstance(of, ReduceOnPlateau):
        assert len(of.after_epoch(of.start, loss)) == len(of.start) == 4
    else:
        assert of.start == of.after_epoch(of.start, loss) == ()


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_a_value(name):
    of = SCHEDULES[name]
    assert copy.deepcopy(of) == pickle.loads(pickle.dumps(of)) == of
    assert eval(repr(of)) == of
    assert hash(copy.copy(of)) == hash(of)
    with pytest.raises(dataclasses.FrozenInstanceError):
        of.factor = 0.5


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_settings_are_plain_numbers(name):
    """Whatever number type they come in, as from a grid of NumPy numbers."""
    of = SCHEDULES[name]
    given = {f.name: getattr(of, f.name) for f in dataclasses.fields(of)}
    wrapped = {key: None if value is None else np.array(value)[()] for key, value in given.items()}
    settings = dataclasses.asdict(type(of)(**wrapped))
    assert settings == given
    assert {type(value) for value in settings.values()} <= {int, float, type(None)}


# Settings that cannot be used.

NO_NUMBER = ("fast", None, nan, True, 0.5j, [0.5])
NO_WHOLE_NUMBER = ("ten", nan, inf, True, 2.5, 2.0, [2], -1)
ABOVE_ZERO_TO_ONE = (0, 0.0, -0.5, 1.5, math.nextafter(1.0, 2.0), inf, 10**400)
ZERO_TO_ONE = (-0.5, -5e-324, 1.5, inf, 10**400)

BAD = [
    (Step, "every", (*NO_WHOLE_NUMBER, 0, None), "a whole number of at least 1"),
    (Step, "factor", (*NO_NUMBER, *ABOVE_ZERO_TO_ONE), "a number above 0 and up to 1"),
    (Exponential, "factor", (*NO_NUMBER, *ABOVE_ZERO_TO_ONE), "a number above 0 and up to 1"),
    (Cosine, "warmup", (*NO_NUMBER, -1, -0.5, inf, 10**400), "a finite number from 0 on"),
    (Cosine, "final", (*NO_NUMBER, *ZERO_TO_ONE), "a number from 0 to 1"),
    (Cosine, "epochs", (*NO_WHOLE_NUMBER, 0), "a whole number of at least 1"),
    (OneCycle, "peak_at", (*NO_NUMBER, *ABOVE_ZERO_TO_ONE, 1), "a number above 0 and below 1"),
    (OneCycle, "initial", (*NO_NUMBER, *ABOVE_ZERO_TO_ONE), "a number above 0 and up to 1"),
    (OneCycle, "final", (*NO_NUMBER, *ZERO_TO_ONE), "a number from 0 to 1"),
    (OneCycle, "epochs", (*NO_WHOLE_NUMBER, 0), "a whole number of at least 1"),
    (ReduceOnPlateau, "factor", (*NO_NUMBER, *ABOVE_ZERO_TO_ONE, 1.0), "a number above 0 and below 1"),
    (ReduceOnPlateau, "patience", (*NO_WHOLE_NUMBER, None), "a whole number of at least 0"),
    (ReduceOnPlateau, "threshold", (*NO_NUMBER, *ZERO_TO_ONE, 1.0), "a number from 0 on and below 1"),
    (ReduceOnPlateau, "cooldown", (*NO_WHOLE_NUMBER, None), "a whole number of at least 0"),
    (ReduceOnPlateau, "least", (*NO_NUMBER, *ZERO_TO_ONE), "a number from 0 to 1"),
]


@pytest.mark.parametrize(("kind", "argument", "values", "remedy"), BAD, ids=[f"{b[0].__name__} {b[1]}" for b in BAD])
def test_bad_settings(kind, argument, values, remedy):
    """The error names the schedule, the argument, the value and the remedy."""
    for value in values:
        with pytest.raises(DataError) as caught:
            kind(**{argument: value})
        assert str(caught.value) == f"{kind.__name__}: {argument}={value!r} is out of range; give {remedy}"


def test_every_setting_is_refused_something():
    settings = {(type(of), field.name) for of in SCHEDULES.values() for field in dataclasses.fields(of)}
    assert settings == {(kind, argument) for kind, argument, _, _ in BAD}


def test_a_warmup_as_long_as_the_run():
    with pytest.raises(DataError, match=r"^Cosine: warmup=5 does not end before the horizon of 5 epoch\(s\); give a"):
        Cosine(warmup=5).factors(times(5, 2), 5)
    with pytest.raises(DataError, match=r"^Cosine: warmup=7.5 does not end before the horizon of 7 epoch\(s\); give a"):
        Cosine(warmup=7.5, epochs=7)
    assert factor(Cosine(warmup=5, epochs=20), 0.0, epochs=1) == 0.01
