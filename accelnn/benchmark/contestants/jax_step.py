"""JAX: one compiled function a step, with Optax's update rule; weights and moments are given up for reuse."""

from typing import Any

from accelnn.benchmark.cases import BETA1, BETA2, EPSILON, Case, Problem
from accelnn.benchmark.contestants.base import Parameters

__all__ = ["JaxStep", "create", "loss_function", "optimizer"]


def loss_function(case: Case) -> Any:
    """``loss(theta, X, Y)`` with examples as rows: the mean over examples of the sum over outputs."""
    import jax
    import jax.numpy as jnp
    import optax

    g = {"identity": lambda Z: Z, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh}[case.activation]

    def loss(theta: Any, X: Any, Y: Any) -> Any:
        A = X
        for W, b in theta[:-1]:
            A = g(A @ W + b)
        W, b = theta[-1]
        Z = A @ W + b
        if case.loss == "cross_entropy":
            return optax.softmax_cross_entropy_with_integer_labels(Z, Y).mean()
        each = optax.sigmoid_binary_cross_entropy if case.loss == "binary_cross_entropy" else optax.l2_loss
        return each(Z, Y).sum(axis=1).mean()

    return loss


def optimizer(case: Case) -> Any:
    """Optax's rule with the common hyperparameters."""
    import optax

    if case.optimizer == "adam":
        return optax.adam(case.learning_rate, b1=BETA1, b2=BETA2, eps=EPSILON)
    return optax.sgd(case.learning_rate)


class JaxStep:
    """A Python loop over batches that lie on the device already."""

    def __init__(self, problem: Problem):
        import jax

        # Double precision is an option of the whole process.
        jax.config.update("jax_enable_x64", problem.case.dtype == "float64")
        self.jax, self.problem = jax, problem
        self.rule = optimizer(problem.case)
        self.X = problem.X.T.copy()
        self.Y = problem.labels if problem.case.output == "softmax" else problem.Y.T.copy()
        self.build(loss_function(problem.case))

    def build(self, loss: Any) -> None:
        """Place the batches and compile the step."""
        jax, rule = self.jax, self.rule
        self.batches = [(jax.device_put(self.X[b]), jax.device_put(self.Y[b])) for b in self.problem.batches()]

        def step(theta: Any, state: Any, X: Any, Y: Any) -> Any:
            J, gradient = jax.value_and_grad(loss)(theta, X, Y)
            updates, state = rule.update(gradient, state, theta)
            return jax.tree.map(lambda p, u: p + u, theta, updates), state, J

        self.step = jax.jit(step, donate_argnums=(0, 1))

    def reset(self) -> None:
        """New arrays each time, since the old ones were given up."""
        W, b = self.problem.W, self.problem.b
        self.theta = [(self.jax.numpy.array(W[l].T), self.jax.numpy.array(b[l][:, 0])) for l in range(1, len(W))]
        self.state = self.rule.init(self.theta)
        self.jax.block_until_ready((self.theta, self.state))

    def train(self, epochs: int) -> None:
        """Steps are queued; the end is waited for."""
        theta, state, step, batches = self.theta, self.state, self.step, self.batches
        for _ in range(epochs):
            for X, Y in batches:
                theta, state, _ = step(theta, state, X, Y)
        self.theta, self.state = self.jax.block_until_ready((theta, state))

    def parameters(self) -> Parameters:
        """On the host, as (n_l, n_{l-1})."""
        import numpy as np

        return [None, *(np.asarray(W).T for W, _ in self.theta)], [None, *(np.asarray(b) for _, b in self.theta)]


def create(problem: Problem, threads: int) -> JaxStep:
    """One call a step."""
    return JaxStep(problem)
