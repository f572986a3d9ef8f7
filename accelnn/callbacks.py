"""What may watch a training run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelnn.network import Network

__all__ = ["Callback", "Progress"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes
    ----------
    network : Network
        The one in training.
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


class Callback:
    """Base of callbacks: override what you need. Where progress or the end of an epoch returns True, the run ends."""

    def on_fit_begin(self, progress: Progress) -> None:
        """Before the first step."""

    def on_progress(self, progress: Progress) -> bool | None:
        """After each call into the backend, which runs a fraction of a second: many steps, or many epochs."""

    def on_epoch_end(self, progress: Progress) -> bool | None:
        """After each epoch."""

    def on_fit_end(self, progress: Progress) -> None:
        """After the last step of a run that ended without an error."""
