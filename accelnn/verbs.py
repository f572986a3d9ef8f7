"""The verbs of the equations: what each one means, in the terms of the array API standard.

These bodies are the specification. They run on any library that follows the standard and allows assignment into a
view; a backend replaces the ones it can do better (see :mod:`accelnn.backends.base`) and is compared with these.
`out`, where given, receives the result; callers always use the returned value.

Sources: the equations of a feed-forward network as in Goodfellow, Bengio, Courville, *Deep Learning*, algorithms
6.3 and 6.4, averaged over a batch.
"""

import math

from array_api_compat import array_namespace, device

from accelnn.elementary import maximum, sqrt

__all__ = [
    "activations",
    "all_reduce",
    "backpropagate",
    "batch",
    "clip_gradient",
    "dropout",
    "linear_activation",
    "linear_gradients",
    "loss_gradient",
    "parameters",
    "penalty",
    "update",
]


def parameters(theta, layout):
    """Views of a flat vector as layers.

    Parameters
    ----------
    theta : vector of length layout.n_parameters
    layout : Layout

    Returns
    -------
    W, b : sequences numbered 1..L
        ``W[l]`` of shape (n_l, n_{l-1}) and ``b[l]`` of shape (n_l, 1).
    """
    return layout.parameters(theta)


def activations(work, X):
    """The arrays of one pass over a batch.

    Parameters
    ----------
    work : Workspace
    X : array of shape (n_0, m)

    Returns
    -------
    A, Z, D, dZ : sequences
        ``D[0]`` is X; ``A[l]``, ``Z[l]``, ``D[l]`` and ``dZ[l]`` of shape (n_l, m) are memory for the layers
        l = 1..L. D[l] is A[l] in a layer without dropout.
    """
    A, Z, D, dZ, _ = work.views(X.shape[1])
    return A, Z, [X, *D[1:]], dZ


def batch(X, Y, w, order, start, stop, work):
    """Some examples, in a given order.

    Parameters
    ----------
    X, Y : arrays of shape (n_0, m) and (n_L, m)
    w : array of shape (1, m), or (0, m) where all examples weigh the same
    order : vector of indices of length m, or of length 0 for the order of the data
    start, stop : int
    work : Workspace

    Returns
    -------
    X, Y, w : arrays of stop - start columns
    """
    if order.shape[0] == 0:
        return X[:, start:stop], Y[:, start:stop], w[:, start:stop]
    xp = array_namespace(order)
    chosen = order[start:stop]
    return xp.take(X, chosen, axis=1), xp.take(Y, chosen, axis=1), xp.take(w, chosen, axis=1)


def linear_activation(W, b, A_prev, g, out=None):
    """``Z = W A_prev + b`` and ``A = g(Z)``.

    Parameters
    ----------
    W : array of shape (n, n_prev)
    b : array of shape (n, 1)
    A_prev : array of shape (n_prev, m)
    g : Activation
    out : pair of arrays of shape (n, m), optional
        For Z and A, in this order. They may be the same array, which then holds A.

    Returns
    -------
    Z, A : arrays of shape (n, m)
    """
    Z = W @ A_prev + b
    return _stored((Z, g.function(Z)), out)


def dropout(A, drop, l, s, out=None):
    """``A * M``: M is 0 with the layer's rate, else ``1 / (1 - rate)`` (Srivastava et al. 2014, section 10).

    The mask is a function of the layer and the step: the same call over dA is the backward pass.

    Parameters
    ----------
    A : array of shape (n_l, m)
    drop : Dropout or None
        None drops nothing.
    l : int
        The layer.
    s : int
        The step, counted as in `train`.
    out : array of shape (n_l, m), optional
    """
    if drop is None or drop.thresholds[l] == 0:
        return A
    xp = array_namespace(A)
    M = xp.asarray(drop.mask(l, s, A.shape), dtype=A.dtype, device=device(A))
    return _stored((A * M,), None if out is None else (out,))[0]


def loss_gradient(Z, Y, w, loss, out=None):
    """``J = 1/m sum_i w_i loss_i`` and ``dZ[L]``, both from the logits.

    Parameters
    ----------
    Z, Y : arrays of shape (n_L, m)
    w : array of shape (1, m), or (0, m) for weights of 1
    loss : Loss
    out : array of shape (n_L, m), optional

    Returns
    -------
    J : number
    dZ : array of shape (n_L, m)
        The gradient of each example's own loss; the mean over examples is taken by `linear_gradients`.
    """
    values, dZ = loss.value(Z, Y), loss.gradient(Z, Y)
    if w.shape[0] > 0:
        values, dZ = values * w[0, :], dZ * w
    J = array_namespace(values).sum(values) / Z.shape[1]
    return J, *_stored((dZ,), None if out is None else (out,))


def linear_gradients(dZ, A_prev, W, l2, out=None):
    """``dW = 1/m (dZ A_prev^T + l2 W)`` and ``db = 1/m sum_i dZ(i)``.

    Parameters
    ----------
    dZ : array of shape (n, m)
    A_prev : array of shape (n_prev, m)
    W : array of shape (n, n_prev)
    l2 : float
    out : pair of arrays of shape (n, n_prev) and (n, 1), optional

    Returns
    -------
    dW, db : arrays of shape (n, n_prev) and (n, 1)
    """
    m = dZ.shape[1]
    xp = array_namespace(dZ)
    return _stored(((dZ @ A_prev.T + l2 * W) / m, xp.sum(dZ, axis=1, keepdims=True) / m), out)


def backpropagate(W, dZ, Z_prev, A_prev, g, out=None):
    """``dZ_prev = W^T dZ * g'``, the gradient before the activation of the layer below.

    Parameters
    ----------
    W : array of shape (n, n_prev)
    dZ : array of shape (n, m)
    Z_prev, A_prev : arrays of shape (n_prev, m)
        One array may stand for both unless ``g.keeps_z``.
    g : Activation
        The activation of the layer below.
    out : array of shape (n_prev, m), optional

    Returns
    -------
    array of shape (n_prev, m)
    """
    return _stored((g.backward(W.T @ dZ, Z_prev, A_prev),), None if out is None else (out,))[0]


def penalty(W, l2, X):
    """``l2 / (2 m) sum_l |W[l]|^2``, what the L2 penalty adds to J.

    Parameters
    ----------
    W : sequence of arrays, numbered 1..L
    l2 : float
    X : array of shape (n_0, m)
    """
    if l2 == 0.0:
        return 0.0
    return l2 / (2 * X.shape[1]) * sum(array_namespace(w).sum(w * w) for w in W[1:])


def all_reduce(dtheta, out=None):
    """The sum of dtheta over all members that work on the batch, each on a share of its examples.

    Here one member has the whole batch, and its gradient is the sum.

    Parameters
    ----------
    dtheta : vector
    out : vector, optional
    """
    return dtheta


def clip_gradient(dtheta, limit, out=None):
    """``dtheta * min(1, limit / |dtheta|)`` (Pascanu, Mikolov, Bengio 2013, algorithm 1).

    Parameters
    ----------
    dtheta : vector
    limit : float
        Largest Euclidean norm; infinity leaves the gradient as it is.
    out : vector, optional
    """
    if math.isinf(limit):
        return dtheta
    xp = array_namespace(dtheta)
    d = xp.astype(dtheta, xp.float64)
    factor = xp.astype(limit / maximum(sqrt(xp.sum(d * d)), limit), dtheta.dtype)
    return _stored((dtheta * factor,), None if out is None else (out,))[0]


def update(theta, dtheta, state, rule, coefficients, out=None):
    """One step of an update rule over the flat vector.

    Parameters
    ----------
    theta, dtheta : vectors
    state : array of shape (number of state vectors, len(theta))
    rule : Rule
    coefficients : sequence of float
    out : pair of theta and state, optional

    Returns
    -------
    theta, state
    """
    new = rule.update(theta, dtheta, *(state[k, :] for k in range(state.shape[0])), *coefficients)
    new = new if isinstance(new, tuple) else (new,)
    if out is None:
        xp = array_namespace(theta)
        return new[0], xp.stack(new[1:]) if len(new) > 1 else state
    out[0][...] = new[0]
    for k, vector in enumerate(new[1:]):
        out[1][k, :] = vector
    return out


def _stored(values, out):
    """Write the values into `out`, where there is one, and return what holds them."""
    if out is None:
        return values
    for place, value in zip(out, values, strict=True):
        place[...] = value
    return out
