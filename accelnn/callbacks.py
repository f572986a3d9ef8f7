"""What may watch a training run."""

from dataclasses import dataclass

__all__ = ["Callback", "Progress"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes
    ----------
    epoch, epochs : int
        Epochs finished, and to do in all.
    step, steps : int
        Batches finished, and to do in all.
    examples : int
        Examples that have been trained on, counted once an epoch.
    loss : float
        J, the mean over the latest epoch that is finished (over its first batches, before one is).
    validation_loss : float or None
        After the latest finished epoch.
    seconds : float
        Since the start of the run, compilation included.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    examples: int
    loss: float
    validation_loss: float | None
    seconds: float


class Callback:
    """Base of callbacks: override what you need. A method that returns True ends the run after it."""

    def on_progress(self, progress: Progress) -> bool | None:
        """After each call into the backend, which runs a fraction of a second: many steps, or many epochs."""

    def on_epoch_end(self, progress: Progress) -> bool | None:
        """After each epoch."""
