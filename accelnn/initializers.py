"""Random starting weights, drawn on the host so that every backend starts from the same numbers."""

import warnings
from collections.abc import Sequence

import numpy as np

from accelnn.errors import require_known
from accelnn.parameters import Layout

__all__ = ["INITIALIZERS", "initial_parameters"]

INITIALIZERS = ("auto", "he", "glorot", "zeros")
_RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "softplus")


def initial_parameters(layout: Layout, activations: Sequence[str], init: str, seed: int) -> np.ndarray:
    """Draw theta: normal weights, zero biases.

    Parameters
    ----------
    layout : Layout
    activations : sequence of str
        Name of g_l for l = 1..L.
    init : str
        ``"he"``: variance ``2 / n_{l-1}`` (He et al. 2015, equation 10). ``"glorot"``: variance
        ``2 / (n_{l-1} + n_l)`` (Glorot, Bengio 2010, equation 16). ``"auto"``: He for the rectifiers, Glorot for
        the rest. ``"zeros"``: all zero, with a warning.
    seed : int

    Returns
    -------
    array of float64, shape (layout.n_parameters,)

    Warns
    -----
    UserWarning
        For ``"zeros"``: every unit of a layer receives the same update for ever, so the layer stays one unit wide.
    """
    require_known("init", init, INITIALIZERS)
    theta = np.zeros(layout.n_parameters)
    if init == "zeros":
        if len(layout.sizes) > 2:
            warnings.warn(
                "init='zeros': all units of a hidden layer start equal and receive equal updates, so each layer stays "
                "one unit wide however long it trains; use init='auto' to learn",
                stacklevel=3,
            )
        return theta
    rng = np.random.default_rng([seed, 0])
    W, _ = layout.parameters(theta)
    for l in range(1, len(layout.sizes)):
        n_in, n_out = layout.sizes[l - 1], layout.sizes[l]
        he = init == "he" or (init == "auto" and activations[l - 1] in _RECTIFIERS)
        variance = 2.0 / n_in if he else 2.0 / (n_in + n_out)
        W[l][...] = rng.normal(0.0, variance**0.5, size=(n_out, n_in))
    return theta
