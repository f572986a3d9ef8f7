"""PyTorch with `torch.compile`: forward and backward pass as compiled code; needs a C++ compiler."""

from collections.abc import Callable

from accelnn.benchmark.cases import Problem
from accelnn.benchmark.contestants.pytorch import Torch

__all__ = ["create"]


def compiled(function: Callable) -> Callable:
    """Model and loss as one graph, so that the compiler may fuse across them."""
    import torch

    return torch.compile(function)


def create(problem: Problem, threads: int) -> Torch:
    """The eager contestant's loop around a compiled loss."""
    return Torch(problem, threads, compiled)
