"""Training: epochs, batch order, validation and history around the backend's steps."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from accelnn import checks
from accelnn.callbacks import Callback, Progress
from accelnn.dropout import Dropout
from accelnn.errors import AccelnnError, DataError, DivergenceError
from accelnn.optimizers import Optimizer
from accelnn.parameters import Layout
from accelnn.schedules import Schedule
from accelnn.schedules import schedule as find_schedule

if TYPE_CHECKING:
    from accelnn.network import Examples, Network

__all__ = ["History", "OptimizerState", "batch_order", "evaluate", "train"]

CALL_SECONDS = 0.1  # length of one call into the backend that is aimed at: progress stays live, Ctrl-C works
GROUP_STEPS = 2**14  # most steps whose coefficients and losses are laid out at once, beyond one epoch
GROUP_ORDER = 2**20  # most places of batch order that are laid out at once, beyond one epoch
SPARE_BYTES = 2**28  # most memory of a finished run that is kept for the next


@dataclass
class History:
    """What a run of training recorded, epoch by epoch.

    Attributes
    ----------
    loss : list of float
        J, the mean over the epoch's batches of the loss that each started from.
    validation_loss : list of float
        J of the validation set after each epoch; empty without one.
    learning_rate : list of float
        Of the epoch's last step.
    seconds : float
        Length of the run.
    examples : int
        Examples trained on, counted once an epoch.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: float = 0.0
    examples: int = 0


@dataclass
class OptimizerState:
    """Where an optimiser stands after a run, so that the next one can go on as if there had been no end between.

    Attributes
    ----------
    rule : str
        Name of the update rule.
    step : int
        Steps so far.
    vectors : array of shape (number of state vectors, theta's length)
        Where the network's backend computes.
    epoch : int
        Epochs so far, which a schedule counts.
    schedule : Schedule or None
        The one of the latest run.
    memory : tuple of float
        What it remembers.
    """

    rule: str
    step: int
    vectors: Any
    epoch: int = 0
    schedule: Schedule | None = None
    memory: tuple[float, ...] = ()


def batch_order(seed: int, epoch: int, m: int) -> np.ndarray:
    """The order in which epoch number `epoch` of a network's life visits m examples.

    A function of the seed and the epoch alone: the same on every backend, and after a restart.
    """
    return np.random.default_rng([seed, 1, epoch]).permutation(m)


def evaluate(network: "Network", examples: "Examples") -> float:
    """``J`` over examples that the network has checked, without a penalty, in blocks that fit the workspace."""
    backend, (X, Y, w) = network.backend, examples.arrays
    m, places = X.shape[1], network.layout_for(X)
    block = min(m, network.block(places))
    layout, work = backend.layout(places), backend.workspace(places, block, network.dtype)
    g = backend.activations([*network.activations, "identity"], network.dtype)
    loss = backend.loss(network.loss_entry, network.dtype)
    total = 0.0
    for start in range(0, m, block):
        stop = min(start + block, m)
        parts = (array[:, start:stop] for array in (X, Y, w))
        J = backend.evaluate(*parts, network.theta, layout, g, loss, work)
        total += float(J) * (stop - start)
    return total / m


def train(
    network: "Network",
    X: Any,
    Y: Any,
    *,
    optimizer: str | Optimizer,
    learning_rate: float | Callable[[np.ndarray], np.ndarray],
    epochs: int,
    batch_size: int | None,
    shuffle: bool,
    validation: tuple[Any, ...] | None,
    l2: float,
    clip_norm: float | None,
    callbacks: Sequence[Callback],
    resume: bool,
    sample_weight: Any,
    dropout: float | Sequence[float],
    schedule: str | Schedule | None,
) -> History:
    """See :meth:`accelnn.Network.fit`."""
    examples = network.examples(X, Y, sample_weight)
    held_out = None
    if validation is not None:
        if not isinstance(validation, Sequence) or len(validation) not in (2, 3):
            raise DataError("validation: give a pair (X, Y), or (X, Y, sample_weight)")
        X, Y, sample_weight = (*validation, None)[:3]
        names = "validation X", "validation Y", "validation sample_weight"
        held_out = network.examples(X, Y, sample_weight, names)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise DataError(f"callbacks: {callback!r} is no accelnn.Callback")
    epochs = checks.integer("epochs", epochs, 1)
    m = examples.arrays[0].shape[1]
    batch_size = m if batch_size is None else min(checks.integer("batch_size", batch_size, 1), m)
    optimizer = optimizer if isinstance(optimizer, Optimizer) else Optimizer(optimizer)
    if resume:
        _require_state(network, optimizer)
    run = _Run(
        network,
        examples,
        optimizer,
        learning_rate if callable(learning_rate) else checks.number("learning_rate", learning_rate, positive=True),
        epochs,
        batch_size,
        shuffle and batch_size < m,
        held_out,
        checks.number("l2", l2) * examples.penalty_scale,
        np.inf if clip_norm is None else checks.number("clip_norm", clip_norm, positive=True, finite=False),
        callbacks,
        resume,
        checks.dropout_rates("dropout", dropout, len(network.activations)),
        None if schedule is None else find_schedule(schedule),
    )
    try:
        with network.backend.context():
            history = run.run()
    except AccelnnError:
        network.theta[...] = run.memory.before
        network.epochs_trained = run.first_epoch
        raise
    except BaseException:  # Ctrl-C, or an error of a callback's: what was trained stays
        run.keep()
        raise
    run.keep()
    run.memory.spare()
    return history


def _require_state(network: "Network", optimizer: Optimizer) -> None:
    state = network.optimizer_state
    if state is None:
        raise DataError("resume: there is no training to go on with; leave it out for the first fit")
    if state.rule != optimizer.rule.name:
        raise DataError(
            f"resume: the training to go on with used optimizer={state.rule!r}, not {optimizer.rule.name!r}"
        )


class _Memory:
    """What a run needs besides the network and the data.

    The latest run's is kept for another of the same kind: memory that comes anew from the operating system can cost
    more time than a short run. A backend on a device has a pool of its own.
    """

    _spare: ClassVar[list["_Memory"]] = []  # one, or none

    def __init__(
        self,
        network: "Network",
        layout: Layout,
        batch_size: int,
        steps: int | None,
        key: tuple[Any, ...],
    ):
        backend, n, dtype = network.backend, layout.n_parameters, network.dtype
        self.key = key
        self.before = backend.empty(n, dtype)
        self.dtheta = backend.zeros(n, dtype)
        self.work = backend.workspace(layout, batch_size, dtype, steps)
        size = np.dtype(dtype).itemsize * (2 * n + layout.n_work * batch_size)
        self.worth_keeping = size <= SPARE_BYTES and isinstance(self.before, np.ndarray)

    @classmethod
    def take(cls, network: "Network", layout: Layout, batch_size: int, steps: int | None) -> "_Memory":
        """Theta as it is now, and the rest as it may be."""
        backend = network.backend
        places = layout.table.tobytes(), layout.gathers
        key = (backend, backend.workers(), *places, network.dtype, batch_size, steps)
        try:
            memory = cls._spare.pop()
        except IndexError:
            memory = None
        if memory is None or memory.key != key:
            memory = cls(network, layout, batch_size, steps, key)
        memory.before[...] = network.theta
        return memory

    def spare(self) -> None:
        """Keep it for the next run."""
        self._spare[:] = [self] if self.worth_keeping else []


def _rates(what: str, answer: Any, steps: np.ndarray) -> np.ndarray:
    """What somebody's function has answered, if it is one number of 0 or more for each step."""
    try:
        rates = np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError):
        rates = np.empty(0)
    if rates.shape != steps.shape or not np.all(np.isfinite(rates)) or np.any(rates < 0):
        raise DataError(
            f"{what} must give an array with a finite number of 0 or more for each of the {len(steps)} steps that it "
            f"is asked for, {steps[0]} to {steps[-1]}"
        )
    return rates


class _Run:
    """One run of training: its arguments, checked, and its state."""

    def __init__(
        self,
        network: "Network",
        examples: "Examples",
        optimizer: Optimizer,
        learning_rate: float | Callable[[np.ndarray], np.ndarray],
        epochs: int,
        batch_size: int,
        shuffle: bool,
        validation: "Examples | None",
        l2: float,
        clip_norm: float,
        callbacks: Sequence[Callback],
        resume: bool,
        dropout: list[float],
        schedule: Schedule | None,
    ):
        self.network, self.optimizer = network, optimizer
        past = network.optimizer_state if resume else None
        self.first_step, self.past_epochs = (past.step, past.epoch) if past else (0, 0)
        self.steps_done = 0
        self.rate = learning_rate if callable(learning_rate) else lambda step: np.full(len(step), learning_rate)
        self.schedule = schedule
        goes_on = past is not None and past.schedule == schedule
        self.schedule_state = past.memory if goes_on and past else schedule.start if schedule else ()
        self.dropout_rates = dropout
        self.drop: Any = None
        self.epochs, self.batch_size, self.shuffle, self.validation = epochs, batch_size, shuffle, validation
        self.callbacks, self.history = callbacks, History()
        self.first_epoch = network.epochs_trained
        X = examples.arrays[0]
        self.m = X.shape[1]
        self.batches = -(-self.m // batch_size)
        self.sizes = np.diff(np.minimum(np.arange(self.batches + 1) * batch_size, self.m))
        # Several epochs form one group unless somebody wants to know of each.
        self.each_epoch = (
            validation is not None
            or bool(self.schedule_state)
            or any(type(c).on_epoch_end is not Callback.on_epoch_end for c in callbacks)
        )
        self.steps_a_call = 1
        self.stopped = False
        # Where the backend computes, and reused from one group of epochs to the next.
        self.order: Any = None
        self.coefficients: Any = None
        self.losses: Any = None

        backend = network.backend
        steps = self.batches if self.each_epoch else None
        layout, states = network.layout_for(X, dropout), len(optimizer.rule.state)
        self.memory = memory = _Memory.take(network, layout, batch_size, steps)
        self.state = backend.empty((states, layout.n_parameters), network.dtype)
        self.state[...] = past.vectors if past else 0
        self.arguments = (
            *examples.arrays,
            network.theta,
            memory.dtheta,
            self.state,
            backend.layout(layout),
            backend.activations([*network.activations, "identity"], network.dtype),
            backend.loss(network.loss_entry, network.dtype),
            backend.rule(optimizer.rule.name, network.dtype),
            l2,
            clip_norm,
        )

    def run(self) -> History:
        self.start = time.perf_counter()
        for callback in self.callbacks:
            callback.on_fit_begin(self.progress(0, 0))
        epoch = 0
        while epoch < self.epochs and not self.stopped:
            epoch += self.run_group(epoch, self.group_size(epoch))
        self.history.seconds = time.perf_counter() - self.start
        xp = self.network.backend.xp
        if not bool(xp.all(xp.isfinite(self.network.theta))):
            self.diverged(self.latest_epoch, self.latest_rate)
        for callback in self.callbacks:
            callback.on_fit_end(self.progress(self.steps_done // self.batches, self.steps_done))
        return self.history

    def keep(self) -> None:
        """Leave the network where the run has come to."""
        self.network.steps_trained += self.steps_done
        self.network.optimizer_state = OptimizerState(
            self.optimizer.rule.name,
            self.first_step + self.steps_done,
            self.state,
            self.past_epochs + self.steps_done // self.batches,
            self.schedule,
            self.schedule_state,
        )

    def group_size(self, epoch: int) -> int:
        """How many epochs to lay out at once: about one call's worth."""
        if self.each_epoch:
            return 1
        order = self.m if self.shuffle else 0
        most = min(
            GROUP_STEPS // self.batches,
            GROUP_ORDER // order if order else GROUP_STEPS,
            self.steps_a_call // self.batches,
        )
        return min(max(most, 1), self.epochs - epoch)

    def run_group(self, epoch: int, count: int) -> int:
        """Train for `count` epochs from number `epoch` of this run on; returns the number of epochs finished."""
        network, backend, batches = self.network, self.network.backend, self.batches
        steps = self.first_step + np.arange(epoch * batches, (epoch + count) * batches)
        alpha = self.learning_rates(steps, epoch)
        table = self.optimizer.coefficients(steps + 1, alpha)
        self.coefficients = backend.coefficients(table, network.dtype, self.coefficients)
        if self.shuffle:
            order = np.stack([batch_order(network.seed, self.first_epoch + epoch + e, self.m) for e in range(count)])
        else:
            order = np.empty((count, 0), dtype=np.int64)
        self.order = backend.from_host(order, self.order)
        if self.losses is None or self.losses.shape != (len(steps),):
            self.losses = backend.zeros(len(steps), "float64")

        if any(self.dropout_rates):
            masks = Dropout.of(self.dropout_rates, network.seed, network.steps_trained + epoch * batches)
            self.drop = backend.dropout(masks, self.drop)

        done = 0
        while done < len(steps) and not self.stopped:
            last = min(done + self.steps_a_call, len(steps))
            began = time.perf_counter()
            tables = self.order, self.batch_size, self.coefficients, self.losses
            backend.train(*self.arguments, self.drop, self.memory.work, *tables, done, last)
            values = backend.to_host(self.losses)[:last]
            self.pace(last - done, time.perf_counter() - began)
            self.steps_done = epoch * batches + last
            done, self.latest_epoch, self.latest_rate = last, epoch + (last - 1) // batches + 1, float(alpha[last - 1])
            if not np.all(np.isfinite(values)):
                s = int(np.argmin(np.isfinite(values)))
                self.diverged(epoch + s // batches + 1, float(alpha[s]))
            if done < len(steps):
                self.report(epoch + done // batches, epoch * batches + done, values)
        finished = done // batches
        J = values[: finished * batches].reshape(finished, batches)
        self.history.loss.extend((np.sum(J * self.sizes, axis=1) / self.m).tolist())
        self.history.learning_rate.extend(alpha[batches - 1 : finished * batches : batches].tolist())
        self.history.examples += finished * self.m
        network.epochs_trained += finished
        if self.validation is not None and finished:
            self.history.validation_loss.append(evaluate(network, self.validation))
        if self.schedule_state and self.schedule and finished:
            losses = self.history.loss if self.validation is None else self.history.validation_loss
            self.schedule_state = self.schedule.after_epoch(self.schedule_state, losses[-1])
        if done == finished * batches:
            self.report(epoch + finished, epoch * batches + done, values, ended=True)
        return count

    def learning_rates(self, steps: np.ndarray, epoch: int) -> np.ndarray:
        """The answer of the function of steps, checked, times the schedule's; `epoch` is the first step's."""
        alpha = _rates("learning_rate: the function", self.rate(steps), steps)
        if self.schedule is not None:
            # Whole epochs and a fraction apart: the same numbers wherever a run began.
            number, place = np.divmod(np.arange(len(steps)), self.batches)
            t = (self.past_epochs + epoch + number) + place / self.batches
            factors = self.schedule.factors(t, self.past_epochs + self.epochs, self.schedule_state)
            alpha = alpha * _rates(f"schedule: {self.schedule!r}", factors, steps)
        return alpha

    def pace(self, steps: int, seconds: float) -> None:
        """Aim the next call at CALL_SECONDS; grow slowly, since the first call also compiles."""
        fitting = int(steps * CALL_SECONDS / max(seconds, 1e-9))
        self.steps_a_call = max(1, min(fitting, 16 * self.steps_a_call))

    def progress(self, epoch: int, step: int, values: Any = ()) -> Progress:
        history = self.history
        return Progress(
            network=self.network,
            epoch=epoch,
            epochs=self.epochs,
            step=step,
            steps=self.epochs * self.batches,
            examples=(step // self.batches) * self.m,
            loss=history.loss[-1] if history.loss else float(np.mean(values)) if len(values) else math.nan,
            validation_loss=history.validation_loss[-1] if history.validation_loss else None,
            learning_rate=history.learning_rate[-1] if history.learning_rate else math.nan,
            seconds=time.perf_counter() - self.start,
        )

    def report(self, epoch: int, step: int, values: np.ndarray, ended: bool = False) -> None:
        progress = self.progress(epoch, step, values)
        for callback in self.callbacks:
            answers = [callback.on_progress(progress), ended and callback.on_epoch_end(progress)]
            self.stopped = self.stopped or any(answers)

    def diverged(self, epoch: int, learning_rate: float) -> None:
        raise DivergenceError(
            f"training diverged in epoch {epoch} with learning rate {learning_rate:g}: the loss or the parameters are "
            "no longer finite; the network is as it was before fit. Use a smaller learning rate, or clip_norm"
        )
