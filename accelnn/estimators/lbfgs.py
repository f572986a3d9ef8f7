"""L-BFGS over the flat parameter vector, by SciPy."""

from typing import Any

import numpy as np
from scipy.optimize import minimize

from accelnn.errors import DivergenceError
from accelnn.network import Network

__all__ = ["fit"]


def fit(network: Network, X: Any, Y: Any, settings: Any) -> tuple[int, float, str]:
    """Minimise J, the penalty included, over all examples at once.

    Parameters
    ----------
    network : Network
        Receives the result.
    X, Y : arrays of shape (n_0, m) and (n_L, m)
    settings : MLPClassifier or MLPRegressor
        For `alpha`, `max_iter`, `max_fun`, `tol` and `verbose`.

    Returns
    -------
    iterations : int
    J : float
    fault : str
        What there is to warn of, or nothing.
    """
    X, Y = network.check(X, Y)

    def loss_and_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        network.theta = theta.astype(network.dtype)
        J, dtheta = network.loss_and_gradient(X, Y, l2=float(settings.alpha))
        return J, network.backend.to_host(dtheta).astype(np.float64)

    result = minimize(
        loss_and_gradient,
        np.array(network.backend.to_host(network.theta), dtype=np.float64),
        method="L-BFGS-B",
        jac=True,
        options={"maxfun": settings.max_fun, "maxiter": settings.max_iter, "gtol": settings.tol},
    )
    if not np.isfinite(result.fun) or not np.all(np.isfinite(result.x)):
        raise DivergenceError("X: lbfgs ended where the loss or the weights are not finite; standardise X and y")
    network.theta = result.x.astype(network.dtype)
    network.optimizer_state = None  # it belongs to where the network was
    if settings.verbose:
        print(f"lbfgs: {result.nit} iterations, loss = {result.fun:.8f}, {result.message}")
    fault = f"lbfgs failed to converge after {result.nit} iteration(s) (status={result.status}): {result.message}"
    return min(int(result.nit), settings.max_iter), float(result.fun), fault if result.status != 0 else ""
