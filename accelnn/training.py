"""Training: epochs, validation and history around the backend's steps."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from accelnn import checks
from accelnn.callbacks import Callback, Progress
from accelnn.dropout import Dropout
from accelnn.errors import AccelnnError, DataError, DivergenceError
from accelnn.feeding import Feed, InMemory, Part, batch_order, fingerprint
from accelnn.optimizers import Optimizer
from accelnn.parameters import Layout
from accelnn.schedules import Schedule, in_words
from accelnn.schedules import schedule as find_schedule
from accelnn.state import NOTHING, History, OptimizerState
from accelnn.streaming import Stream, StreamFeed

if TYPE_CHECKING:
    from accelnn.network import Examples, Network

__all__ = ["History", "OptimizerState", "Restored", "Settings", "batch_order", "evaluate", "train"]

CALL_SECONDS = 0.1  # length of one call into the backend that is aimed at: progress stays live, Ctrl-C works
GROUP_STEPS = 2**14  # most steps whose coefficients and losses are laid out at once, beyond one epoch
GROUP_ORDER = 2**20  # most places of batch order that are laid out at once, beyond one epoch
SPARE_BYTES = 2**28  # most memory of a finished run that is kept for the next


def evaluate(network: "Network", examples: "Examples") -> float:
    """``J`` over examples that the network has checked, without a penalty, in blocks that fit the workspace."""
    backend, (X, Y, w) = network.backend, examples.arrays
    m, places = X.shape[1], network.layout_for(checks.is_sparse(X))
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


@dataclass(frozen=True)
class Settings:
    """How a run trains, checked; the names are those of :meth:`accelnn.Network.fit`."""

    optimizer: Optimizer
    learning_rate: float | Callable[[np.ndarray], np.ndarray]
    epochs: int
    l2: float
    clip_norm: float
    dropout: list[float]
    schedule: Schedule | None

    def described(self, feed: Feed, validation: "Examples | None", network: "Network") -> dict[str, Any]:
        """See :meth:`accelnn.callbacks.Run.described`."""
        rate, batches = self.learning_rate, feed.batches
        return {
            "optimizer": repr(self.optimizer),
            "learning_rate": "a function" if callable(rate) else rate,
            "l2": self.l2,
            "clip_norm": None if math.isinf(self.clip_norm) else self.clip_norm,
            "dropout": list(self.dropout),
            "schedule": None if self.schedule is None else in_words(self.schedule),
            "examples": batches.examples,
            "batch_size": batches.size,
            "order": batches.order,
            "sample_weight": feed.weighs,
            "data": feed.fingerprint(),
            "validation": None if validation is None else fingerprint(validation.arrays, network.rows_of),
        }


class Restored(NamedTuple):
    """What a training goes on with, beside the network.

    Attributes
    ----------
    done : int
        Epochs that have been done.
    ended : bool
        Whether there is nothing left to do.
    states : list of pairs
        Callbacks, and what each of them goes on from.
    path : path
        The file, for errors.
    """

    done: int = 0
    ended: bool = False
    states: Sequence[tuple[Callback, Mapping[str, Any]]] = ()
    path: str | os.PathLike[str] = ""

    def tell(self) -> None:
        """Let the callbacks go on from their states."""
        from accelnn.storage.fields import readable

        for callback, state in self.states:
            with readable(self.path):
                callback.from_checkpoint(state)


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
    resume: "bool | str | os.PathLike[str]",
    sample_weight: Any,
    dropout: float | Sequence[float],
    schedule: str | Schedule | None,
) -> History:
    """See :meth:`accelnn.Network.fit`."""
    feed = _feed(network, X, Y, sample_weight, batch_size, shuffle)
    held_out = None if validation is None else _held_out(network, validation)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise DataError(f"callbacks: {callback!r} is no accelnn.Callback")
    settings = Settings(
        optimizer if isinstance(optimizer, Optimizer) else Optimizer(optimizer),
        learning_rate if callable(learning_rate) else checks.number("learning_rate", learning_rate, positive=True),
        checks.integer("epochs", epochs, 1),
        checks.number("l2", l2),
        np.inf if clip_norm is None else checks.number("clip_norm", clip_norm, positive=True, finite=False),
        checks.dropout_rates("dropout", dropout, len(network.activations)),
        None if schedule is None else find_schedule(schedule),
    )
    before = _Before(network)
    try:
        restored = _begin(network, settings, feed, held_out, callbacks, resume, before)
        if restored.ended:
            restored.tell()
        else:
            # A fit that begins a new history does not make the network another one.
            losses = network.history.loss[:] or before.losses
            run = _Run(network, feed, settings, held_out, callbacks, restored, losses)
            before.theta = run.memory.before if before.theta is None else before.theta
            with network.backend.context():
                run.run()
            run.memory.spare()
    except AccelnnError:
        before.restore()
        raise
    return network.history.since(before.mark if resume is True else NOTHING)


def _feed(network: "Network", X: Any, Y: Any, sample_weight: Any, batch_size: int | None, shuffle: bool) -> Feed:
    if isinstance(X, Stream):
        if Y is not None or sample_weight is not None:
            raise DataError("Y: a Stream brings its targets and weights with it; leave Y and sample_weight out")
        if batch_size is None:
            raise DataError("batch_size: a Stream is trained on batch by batch; give a number")
        return StreamFeed(X, network, checks.integer("batch_size", batch_size, 1), shuffle)
    if Y is None:
        raise DataError("Y: is missing; only a Stream brings its targets with it")
    examples = network.examples(X, Y, sample_weight)
    X = examples.arrays[0]
    size = X.shape[1] if batch_size is None else min(checks.integer("batch_size", batch_size, 1), X.shape[1])
    sparse = checks.is_sparse(X)
    return InMemory(examples.arrays, examples.penalty_scale, size, shuffle, network.seed, sparse, network.rows_of)


def _held_out(network: "Network", validation: Any) -> "Examples":
    if not isinstance(validation, Sequence) or len(validation) not in (2, 3):
        raise DataError("validation: give a pair (X, Y), or (X, Y, sample_weight)")
    X, Y, sample_weight = (*validation, None)[:3]
    return network.examples(X, Y, sample_weight, ("validation X", "validation Y", "validation sample_weight"))


def _begin(
    network: "Network",
    settings: Settings,
    feed: Feed,
    held_out: "Examples | None",
    callbacks: Sequence[Callback],
    resume: Any,
    before: "_Before",
) -> Restored:
    """Bring the network to where the run begins."""
    if resume is False:
        network.optimizer_state, network.history = None, History()
        return Restored()
    if resume is True:
        state, rule = network.optimizer_state, settings.optimizer.rule.name
        if state is None:
            raise DataError("resume: there is no training to go on with; leave it out for the first fit")
        if state.rule != rule:
            raise DataError(f"resume: the training to go on with used optimizer={state.rule!r}, not {rule!r}")
        return Restored()
    if not isinstance(resume, str | os.PathLike):
        raise DataError(f"resume: {resume!r} is neither True nor False nor the folder of a Checkpoint")
    from accelnn.resuming import restore

    before.keep_theta()
    described = settings.described(feed, held_out, network)
    return restore(resume, network, settings.epochs, settings.schedule, described, callbacks)


class _Before:
    """The network as it was, for a run that fails.

    Attributes
    ----------
    theta : vector or None
        None where the run keeps one.
    mark : tuple
        Where the history stood.
    losses : list of float
        Those of the history.
    """

    def __init__(self, network: "Network"):
        self.network, self.mark = network, network.history.mark()
        self.losses = network.history.loss[:]
        self.theta: Any = None
        self._parts = network.epochs_trained, network.steps_trained, network.optimizer_state, network.history

    def keep_theta(self) -> None:
        """Before something else than a run changes it."""
        self.theta = self.network.theta.copy()

    def restore(self) -> None:
        """Bring everything back."""
        network = self.network
        if self.theta is not None:
            network.theta[...] = self.theta
        network.epochs_trained, network.steps_trained, network.optimizer_state, network.history = self._parts
        network.history.truncate(self.mark)


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
    """One run of training, and its state."""

    def __init__(
        self,
        network: "Network",
        feed: Feed,
        settings: Settings,
        validation: "Examples | None",
        callbacks: Sequence[Callback],
        restored: Restored,
        remembered: Sequence[float],
    ):
        self.remembered = remembered
        self.network, self.feed, self.settings, self.restored = network, feed, settings, restored
        self.validation, self.history = validation, network.history
        self.callbacks: Sequence[Callback] = sorted(callbacks, key=lambda callback: callback.comes_last)
        past = network.optimizer_state
        # Where the latest run stopped within an epoch, this one goes on there, if the batches are the same.
        unfinished = past is not None and past.batches == feed.batches
        self.losses_before = past.losses if past and unfinished else np.empty(0)
        self.skip = len(self.losses_before)
        self.first_step, self.past_epochs = (past.step - self.skip, past.epoch) if past else (0, 0)
        self.first_epoch, self.steps_before = network.epochs_trained, network.steps_trained - self.skip
        self.done, self.epochs = restored.done, settings.epochs - restored.done
        self.epochs_done, self.steps_done = 0, self.skip
        self.unfinished = self.losses_before
        schedule = settings.schedule
        goes_on = past is not None and past.schedule == schedule
        self.schedule_state = past.memory if goes_on and past else schedule.start if schedule else ()
        self.m, size = feed.batches.examples, feed.batches.size
        self.batches = -(-self.m // size)
        self.sizes = np.diff(np.minimum(np.arange(self.batches + 1) * size, self.m))
        # Several epochs form one group unless somebody wants to know of each.
        self.each_epoch = (
            validation is not None
            or bool(self.schedule_state)
            or any(type(c).on_epoch_end is not Callback.on_epoch_end for c in callbacks)
        )
        self.every = [c.every_steps for c in callbacks if c.every_steps]
        self.steps_a_call = 1
        self.stopped = False
        self.seconds_before = self.history.seconds
        # Where the backend computes, and reused from one part to the next.
        self.order: Any = None
        self.coefficients: Any = None
        self.losses: Any = None
        self.drop: Any = None

        backend, rule = network.backend, settings.optimizer.rule
        steps = self.batches if self.each_epoch else None
        layout = network.layout_for(feed.sparse, settings.dropout)
        self.memory = memory = _Memory.take(network, layout, size, steps)
        self.state = backend.empty((len(rule.state), layout.n_parameters), network.dtype)
        self.state[...] = past.vectors if past else 0
        self.arguments = (
            network.theta,
            memory.dtheta,
            self.state,
            backend.layout(layout),
            backend.activations([*network.activations, "identity"], network.dtype),
            backend.loss(network.loss_entry, network.dtype),
            backend.rule(rule.name, network.dtype),
            settings.l2 * feed.penalty_scale,
            settings.clip_norm,
        )

    def run(self) -> None:
        self.start = time.perf_counter()
        self.keep()
        with contextlib.ExitStack() as begun:
            for callback in self.callbacks:
                begun.callback(self.leave, callback)
                callback.on_fit_begin(self.progress())
            self.restored.tell()
            while self.epochs_done < self.epochs and not self.stopped:
                self.run_group()
            xp = self.network.backend.xp
            if not bool(xp.all(xp.isfinite(self.network.theta))):
                self.diverged(self.latest_epoch, self.latest_rate)
            for callback in self.callbacks:
                callback.on_fit_end(self.progress())

    def leave(self, callback: Callback) -> None:
        callback.on_fit_exit(self.progress())

    def keep(self) -> None:
        """Let the network say where the run has come to."""
        network, settings = self.network, self.settings
        self.history.seconds = self.seconds_before + time.perf_counter() - self.start
        network.epochs_trained = self.first_epoch + self.epochs_done
        network.steps_trained = self.steps_before + self.steps_done
        network.optimizer_state = OptimizerState(
            settings.optimizer.rule.name,
            self.first_step + self.steps_done,
            self.state,
            self.past_epochs + self.epochs_done,
            settings.schedule,
            self.schedule_state,
            self.feed.batches,
            self.unfinished,
        )

    def group_size(self) -> int:
        """How many epochs to lay out at once: about one call's worth."""
        if self.each_epoch:
            return 1
        order = self.m if self.feed.batches.order == "shuffled" else 0
        most = min(
            self.feed.epochs_at_once or GROUP_STEPS,
            GROUP_STEPS // self.batches,
            GROUP_ORDER // order if order else GROUP_STEPS,
            self.steps_a_call // self.batches,
        )
        return min(max(most, 1), self.epochs - self.epochs_done)

    def run_group(self) -> None:
        """Train for some epochs, or until the run is stopped."""
        epoch, count, batches = self.epochs_done, self.group_size(), self.batches
        steps = self.first_step + np.arange(epoch * batches, (epoch + count) * batches)
        alpha = self.learning_rates(steps, epoch)
        table = self.settings.optimizer.coefficients(steps + 1, alpha)
        J = np.empty(len(steps))
        skip = self.skip if epoch == 0 else 0
        J[:skip] = self.losses_before[:skip]
        with contextlib.closing(self.feed.parts(self.first_epoch + epoch, count, skip)) as parts:  # type: ignore[type-var]
            for part in parts:
                if part is None:  # it is still being read
                    self.report(ended=False)
                else:
                    self.train_part(part, epoch, alpha, table[part.first : part.first + part.steps], J)
                if self.stopped:
                    return

    def train_part(self, part: Part, epoch: int, alpha: np.ndarray, table: np.ndarray, J: np.ndarray) -> None:
        """The steps of one part of a group that begins with `epoch`, has these learning rates, and fills J."""
        network, backend, batches = self.network, self.network.backend, self.batches
        self.coefficients = backend.coefficients(table, network.dtype, self.coefficients)
        self.order = backend.from_host(part.order, self.order)
        if self.losses is None or self.losses.shape != (part.steps,):
            self.losses = backend.zeros(part.steps, "float64")
        if any(self.settings.dropout):
            first = self.steps_before + epoch * batches + part.first
            self.drop = backend.dropout(Dropout.of(self.settings.dropout, network.seed, first), self.drop)
        tables = self.order, self.feed.batches.size, self.coefficients, self.losses
        done = part.skip
        while done < part.steps and not self.stopped:
            before = epoch * batches + part.first
            last = self.next_stop(before, done, part.steps)
            began = time.perf_counter()
            backend.train(*part.arrays, *self.arguments, self.drop, self.memory.work, *tables, done, last)
            values = backend.to_host(self.losses)[done:last]
            self.pace(last - done, time.perf_counter() - began)
            J[part.first + done : part.first + last] = values
            latest = part.first + last - 1
            self.latest_epoch, self.latest_rate = self.done + epoch + latest // batches + 1, float(alpha[latest])
            if not np.all(np.isfinite(values)):
                s = part.first + done + int(np.argmin(np.isfinite(values)))
                self.diverged(self.done + epoch + s // batches + 1, float(alpha[s]))
            done = last
            self.steps_done = before + last
            self.account(epoch, alpha, J[: part.first + last])
            self.report(ended=part.first + last == len(J))

    def next_stop(self, before: int, done: int, steps: int) -> int:
        """Where the next call ends: after so many steps of the part, before which the run has had others."""
        last, at = done + self.steps_a_call, self.done * self.batches + before
        return min(last, steps, *((at + done) // every * every + every - at for every in self.every))

    def account(self, epoch: int, alpha: np.ndarray, J: np.ndarray) -> None:
        """Write down what the steps of a group have come to so far."""
        batches, history = self.batches, self.history
        had, has = self.epochs_done - epoch, len(J) // batches
        finished = has - had
        if finished:
            losses = J[had * batches : has * batches].reshape(finished, batches)
            history.loss.extend((np.sum(losses * self.sizes, axis=1) / self.m).tolist())
            history.learning_rate.extend(alpha[(had + 1) * batches - 1 : has * batches : batches].tolist())
            history.examples += finished * self.m
            self.epochs_done += finished
            if self.validation is not None:
                history.validation_loss.append(evaluate(self.network, self.validation))
            if self.schedule_state and self.settings.schedule:
                seen = history.loss if self.validation is None else history.validation_loss
                self.schedule_state = self.settings.schedule.after_epoch(self.schedule_state, seen[-1])
        self.unfinished = J[has * batches :]
        self.keep()

    def learning_rates(self, steps: np.ndarray, epoch: int) -> np.ndarray:
        """The answer of the function of steps, checked, times the schedule's; `epoch` is the first step's."""
        rate, schedule = self.settings.learning_rate, self.settings.schedule
        if callable(rate):
            alpha = _rates("learning_rate: the function", rate(steps), steps)
        else:
            alpha = np.full(len(steps), rate)
        if schedule is not None:
            # Whole epochs and a fraction apart: the same numbers wherever a run began.
            number, place = np.divmod(np.arange(len(steps)), self.batches)
            t = (self.past_epochs + epoch + number) + place / self.batches
            factors = schedule.factors(t, self.past_epochs + self.epochs, self.schedule_state)
            alpha = alpha * _rates(f"schedule: {schedule!r}", factors, steps)
        return alpha

    def pace(self, steps: int, seconds: float) -> None:
        """Aim the next call at CALL_SECONDS; grow slowly, since the first call also compiles."""
        fitting = int(steps * CALL_SECONDS / max(seconds, 1e-9))
        self.steps_a_call = max(1, min(fitting, 16 * self.steps_a_call))

    def progress(self) -> Progress:
        history, own = self.history, self.epochs_done > 0
        first = float(np.mean(self.unfinished)) if len(self.unfinished) else math.nan
        return Progress(
            network=self.network,
            epoch=self.done + self.epochs_done,
            epochs=self.settings.epochs,
            step=self.done * self.batches + self.steps_done,
            steps=self.settings.epochs * self.batches,
            examples=self.epochs_done * self.m,
            loss=history.loss[-1] if own else first,
            validation_loss=history.validation_loss[-1] if own and self.validation is not None else None,
            learning_rate=history.learning_rate[-1] if own else math.nan,
            seconds=time.perf_counter() - self.start,
            run=self,
            losses_before=self.remembered,
            resumed=bool(self.restored.path),
        )

    def described(self) -> dict[str, Any]:
        """See :class:`accelnn.callbacks.Run`."""
        return self.settings.described(self.feed, self.validation, self.network)

    def report(self, ended: bool) -> None:
        progress = self.progress()
        for callback in self.callbacks:
            answers = [callback.on_progress(progress), ended and callback.on_epoch_end(progress)]
            self.stopped = self.stopped or any(answers)

    def diverged(self, epoch: int, learning_rate: float) -> None:
        raise DivergenceError(
            f"training diverged in epoch {epoch} with learning rate {learning_rate:g}: the loss or the parameters are "
            "no longer finite; the network is as it was before fit. Use a smaller learning rate, or clip_norm"
        )
