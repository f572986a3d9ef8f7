"""PyTorch, eager: modules, a loss of logits, fused optimisers, data as tensors beforehand."""

from collections.abc import Callable
from typing import Any

from accelnn.benchmark.cases import BETA1, BETA2, EPSILON, Problem
from accelnn.benchmark.contestants.base import Parameters

__all__ = ["Torch", "create"]


def same(function: Callable) -> Callable:
    """Eager: the loss as it is written."""
    return function


class Torch:
    """A `torch.nn.Sequential` and the loop that trains it.

    Parameters
    ----------
    problem : Problem
    threads : int
    prepare : callable
        What the function from a batch to its loss goes through before training.
    """

    def __init__(self, problem: Problem, threads: int, prepare: Callable[[Callable], Callable] = same):
        import torch
        from torch import nn

        torch.set_num_threads(threads)
        self.torch, self.problem = torch, problem
        case = self.case = problem.case
        dtype = getattr(torch, case.dtype)
        hidden = {"identity": nn.Identity, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}[case.activation]
        layers: list[Any] = []
        for n, n_next in zip(case.sizes, case.sizes[1:], strict=False):
            layers += [nn.Linear(n, n_next, dtype=dtype), hidden()]
        self.model = nn.Sequential(*layers[:-1])
        self.linear = layers[::2]
        # Rows are examples here. Slices of a tensor are views, cut once.
        X = torch.tensor(problem.X.T.copy())
        if case.output == "softmax":
            Y = torch.tensor(problem.labels)
        else:
            Y = torch.tensor(problem.Y.T.copy())
        self.batches = list(zip(X.split(case.batch_size), Y.split(case.batch_size), strict=True))
        model, criterion = self.model, self.criterion()
        self.loss = prepare(lambda X, Y: criterion(model(X), Y))

    def criterion(self) -> Callable:
        """The mean over examples of the sum over outputs."""
        from torch import nn

        n_L = self.case.sizes[-1]
        if self.case.loss == "cross_entropy":
            return nn.CrossEntropyLoss()
        if self.case.loss == "binary_cross_entropy":
            mean = nn.BCEWithLogitsLoss()
            return mean if n_L == 1 else lambda Z, Y: n_L * mean(Z, Y)
        square = nn.MSELoss()
        return lambda Z, Y: 0.5 * n_L * square(Z, Y)

    def reset(self) -> None:
        """The weights written in place, so that what was compiled stays valid; a new optimiser."""
        torch, case = self.torch, self.case
        with torch.no_grad():
            for l, layer in enumerate(self.linear, start=1):
                layer.weight.copy_(torch.tensor(self.problem.W[l].copy()))
                layer.bias.copy_(torch.tensor(self.problem.b[l][:, 0].copy()))
        theta = self.model.parameters()
        if case.optimizer == "adam":
            self.optimizer = torch.optim.Adam(
                theta, lr=case.learning_rate, betas=(BETA1, BETA2), eps=EPSILON, fused=True
            )
        else:
            self.optimizer = torch.optim.SGD(theta, lr=case.learning_rate, fused=True)

    def train(self, epochs: int) -> None:
        """The loop of PyTorch's tutorials."""
        optimizer, loss, batches = self.optimizer, self.loss, self.batches
        for _ in range(epochs):
            for X, Y in batches:
                optimizer.zero_grad(set_to_none=True)
                loss(X, Y).backward()
                optimizer.step()

    def parameters(self) -> Parameters:
        """Detached."""
        W = [None, *(layer.weight.detach().numpy() for layer in self.linear)]
        b = [None, *(layer.bias.detach().numpy() for layer in self.linear)]
        return W, b


def create(problem: Problem, threads: int) -> Torch:
    """Eager mode."""
    return Torch(problem, threads)
