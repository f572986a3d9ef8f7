"""L-BFGS over the flat parameter vector, by SciPy."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from accelnn.callbacks import Callback, Progress
from accelnn.errors import DivergenceError
from accelnn.estimators.inputs import Rows
from accelnn.network import Network
from accelnn.training import evaluate

__all__ = ["fit"]


def fit(
    network: Network, rows: Rows, held: Rows | None, settings: Any, callbacks: Sequence[Callback]
) -> tuple[float, str]:
    """Minimise J, the penalty included, over all examples at once.

    Parameters
    ----------
    network : Network
        Receives the result.
    rows : Rows
    held : Rows, optional
        Whose loss the callbacks are told.
    settings : MLPClassifier or MLPRegressor
        For `alpha`, `max_iter`, `max_fun`, `tol` and `verbose`.
    callbacks : sequence of Callback
        An iteration counts as an epoch.

    Returns
    -------
    J : float
    fault : str
        What there is to warn of, or nothing.
    """
    X, Y = network.check(rows.X.T, rows.Y.T)
    validation = None if held is None else network.examples(held.X.T, held.Y.T, held.weights)
    start, iterations, stopped = time.perf_counter(), 0, False

    def progress(loss: float) -> Progress:
        return Progress(
            network=network,
            epoch=iterations,
            epochs=settings.max_iter,
            step=iterations,
            steps=settings.max_iter,
            examples=iterations * X.shape[1],
            loss=loss,
            validation_loss=None if validation is None else evaluate(network, validation),
            learning_rate=np.nan,
            seconds=time.perf_counter() - start,
        )

    def place(theta: np.ndarray) -> None:
        network.theta = theta.astype(network.dtype)

    def loss_and_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        place(theta)
        J, dtheta = network.loss_and_gradient(X, Y, l2=float(settings.alpha), sample_weight=rows.weights)
        return J, network.backend.to_host(dtheta).astype(np.float64)

    def after_iteration(intermediate_result: OptimizeResult) -> None:
        nonlocal iterations, stopped
        iterations += 1
        place(intermediate_result.x)
        now = progress(float(intermediate_result.fun))
        answers = [answer for one in callbacks for answer in (one.on_progress(now), one.on_epoch_end(now))]
        if any(answers):
            stopped = True
            raise StopIteration

    for callback in callbacks:
        callback.on_fit_begin(progress(np.nan))
    result = minimize(
        loss_and_gradient,
        np.array(network.backend.to_host(network.theta), dtype=np.float64),
        method="L-BFGS-B",
        jac=True,
        callback=after_iteration,
        options={"maxfun": settings.max_fun, "maxiter": settings.max_iter, "gtol": settings.tol},
    )
    if not np.isfinite(result.fun) or not np.all(np.isfinite(result.x)):
        raise DivergenceError("X: lbfgs ended where the loss or the weights are not finite; standardise X and y")
    place(result.x)
    network.optimizer_state = None  # it belongs to where the network was
    for callback in callbacks:
        callback.on_fit_end(progress(float(result.fun)))
    fault = f"lbfgs failed to converge after {result.nit} iteration(s) (status={result.status}): {result.message}"
    return float(result.fun), "" if stopped or result.status == 0 else fault
