"""What every contestant does."""

from typing import Any, Protocol

__all__ = ["Contestant", "Parameters"]

Parameters = tuple[list[Any], list[Any]]  # W and b for l = 1..L, place 0 None: NumPy arrays (n_l, n_{l-1}) and n_l


class Contestant(Protocol):
    """One way to train a problem; data and weights are in its own form after it is made."""

    def reset(self) -> None:
        """Back to the common starting weights and to an update rule without memory."""

    def train(self, epochs: int) -> None:
        """Train from where `reset` left; returns when the last step is done."""

    def parameters(self) -> Parameters:
        """The trained weights."""
