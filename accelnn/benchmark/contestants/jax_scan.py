"""JAX: a whole epoch as one compiled function, `jax.lax.scan` over its batches."""

from typing import Any

from accelnn.benchmark.cases import Problem
from accelnn.benchmark.contestants.jax_step import JaxStep

__all__ = ["JaxScan", "create"]


class JaxScan(JaxStep):
    """A Python loop over epochs."""

    def build(self, loss: Any) -> None:
        """Stack the full batches; a smaller last batch is one step more."""
        jax, rule, case = self.jax, self.rule, self.problem.case
        full = case.examples // case.batch_size
        cut = full * case.batch_size
        stacked = [a[:cut].reshape(full, case.batch_size, *a.shape[1:]) for a in (self.X, self.Y)]
        rest = [(self.X[cut:], self.Y[cut:])] if cut < case.examples else []
        self.data = jax.device_put((*stacked, rest))

        def step(carry: Any, batch: Any) -> Any:
            theta, state = carry
            J, gradient = jax.value_and_grad(loss)(theta, *batch)
            updates, state = rule.update(gradient, state, theta)
            return (jax.tree.map(lambda p, u: p + u, theta, updates), state), J

        def epoch(carry: Any, X: Any, Y: Any, rest: Any) -> Any:
            carry, losses = jax.lax.scan(step, carry, (X, Y))
            for batch in rest:
                carry, _ = step(carry, batch)
            return carry, losses

        self.epoch = jax.jit(epoch, donate_argnums=0)

    def train(self, epochs: int) -> None:
        """One call an epoch."""
        carry = self.theta, self.state
        for _ in range(epochs):
            carry, _ = self.epoch(carry, *self.data)
        self.theta, self.state = self.jax.block_until_ready(carry)


def create(problem: Problem, threads: int) -> JaxScan:
    """One call an epoch."""
    return JaxScan(problem)
