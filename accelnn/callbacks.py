"""What may watch a training run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from accelnn.network import Network

__all__ = ["Callback", "Progress", "Run"]


class Run(Protocol):
    """What a checkpoint needs to know of a run, beside the network.

    Attributes
    ----------
    callbacks : sequence of Callback
    """

    callbacks: "Sequence[Callback]"

    def described(self) -> dict[str, Any]:
        """What has to be the same where another process goes on, as JSON holds it: settings, and a look at the data."""
        ...


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes
    ----------
    network : Network
        The one in training. Its `optimizer_state` and `history` are those of this moment, too.
    epoch, epochs : int
        Epochs finished, and to do in all.
    step, steps : int
        Batches finished, and to do in all.
    examples : int
        Examples that have been trained on, counted once an epoch.
    loss : float
        J, the mean over the latest epoch that is finished (over its first batches, before one is; NaN before those).
    validation_loss : float or None
        After the latest finished epoch.
    learning_rate : float
        Of the latest finished epoch's last step; NaN before one is.
    seconds : float
        Since the start of the run, compilation included.
    run : Run or None
        None for a training that no checkpoint can go on with (lbfgs).
    losses_before : sequence of float
        J of the network's latest epochs before this run, as far as it remembers them.
    resumed : bool
        Whether the run goes on from a checkpoint.
    """

    network: "Network"
    epoch: int
    epochs: int
    step: int
    steps: int
    examples: int
    loss: float
    validation_loss: float | None
    learning_rate: float
    seconds: float
    run: Run | None = field(default=None, repr=False, compare=False)
    losses_before: Sequence[float] = field(default=(), repr=False, compare=False)
    resumed: bool = False


class Callback:
    """Base of callbacks: override what you need. Where progress or the end of an epoch returns True, the run ends.

    Attributes
    ----------
    every_steps : int or None
        `on_progress` is called after each so many steps, whatever else it is called after; None for no such wish.
    comes_last : bool
        Whether it is told of everything after the callbacks that are not.
    """

    every_steps: int | None = None
    comes_last = False

    @property
    def itself(self) -> "Callback":
        """The callback; of one that only hands on what it is told, the one that it tells."""
        return self

    def on_fit_begin(self, progress: Progress) -> None:
        """Before the first step."""

    def on_progress(self, progress: Progress) -> bool | None:
        """After each call into the backend, which runs a fraction of a second: many steps, or many epochs."""

    def on_epoch_end(self, progress: Progress) -> bool | None:
        """After each epoch."""

    def on_fit_end(self, progress: Progress) -> None:
        """After the last step of a run that ended without an error."""

    def on_fit_exit(self, progress: Progress) -> None:
        """When `fit` is left, with an error or without."""

    def to_checkpoint(self) -> Mapping[str, Any]:
        """What a checkpoint keeps of this callback, by name: text, whole numbers, booleans, None and NumPy arrays.

        What is called ``settings``, a text, has to be the same where another process goes on.
        """
        return {}

    def from_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_checkpoint` gave in another process; called after `on_fit_begin`."""
