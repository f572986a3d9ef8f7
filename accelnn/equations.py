"""The propagation equations of an L-layer network.

Layers are numbered l = 1..L; ``A[0] = X`` has the examples as its columns. Each line below is one equation, written in
the verbs of :mod:`accelnn.verbs`. Unbound, the page runs as the specification, on the arrays of any library that
follows the array API standard; bound to a backend's verbs (:mod:`accelnn.binding`) the same lines run in place on
NumPy, on a GPU, or compiled to machine code.

A two-layer network (tanh, then sigmoid) and an L-layer network (ReLU ..., then sigmoid) differ in g alone.
"""

from accelnn.verbs import (
    activations,
    all_reduce,
    backpropagate,
    batch,
    clip_gradient,
    linear_activation,
    linear_gradients,
    loss_gradient,
    parameters,
    penalty,
    update,
)

__all__ = ["backward", "evaluate", "forward", "loss_and_gradient", "predict", "train"]


def forward(W, b, g, A, Z):
    """From ``A[0]`` to ``A[L]``."""
    for l in range(1, len(W)):
        # Z[l] = W[l] A[l-1] + b[l]        A[l] = g_l(Z[l])
        Z[l], A[l] = linear_activation(W[l], b[l], A[l - 1], g[l], out=(Z[l], A[l]))


def backward(W, dW, db, g, A, Z, dZ, l2):
    """From ``dZ[L]`` to all dW and db."""
    for l in range(len(W) - 1, 0, -1):
        # dW[l] = 1/m (dZ[l] A[l-1]ᵀ + λ W[l])        db[l] = 1/m Σ_i dZ[l](i)
        dW[l], db[l] = linear_gradients(dZ[l], A[l - 1], W[l], l2, out=(dW[l], db[l]))
        if l > 1:
            # dZ[l-1] = W[l]ᵀ dZ[l] ∘ g'_{l-1}(Z[l-1])
            dZ[l - 1] = backpropagate(W[l], dZ[l], Z[l - 1], A[l - 1], g[l - 1], out=dZ[l - 1])


def predict(X, theta, layout, g, work):
    """``A[L]``, with g_L the output activation."""
    W, b = parameters(theta, layout)
    A, Z, _ = activations(work, X)
    forward(W, b, g, A, Z)
    return A[len(W) - 1]


def evaluate(X, Y, theta, layout, g, loss, work):
    """``J``, and nothing else. Here, and in training, g_L is the identity: the loss reads the logits Z[L]."""
    W, b = parameters(theta, layout)
    A, Z, dZ = activations(work, X)
    L = len(W) - 1
    forward(W, b, g, A, Z)
    J, dZ[L] = loss_gradient(Z[L], Y, loss, out=dZ[L])
    return J


def loss_and_gradient(X, Y, theta, dtheta, layout, g, loss, l2, work):
    """``J``, and dθ in place."""
    W, b = parameters(theta, layout)
    dW, db = parameters(dtheta, layout)
    A, Z, dZ = activations(work, X)
    L = len(W) - 1
    forward(W, b, g, A, Z)
    J, dZ[L] = loss_gradient(Z[L], Y, loss, out=dZ[L])
    backward(W, dW, db, g, A, Z, dZ, l2)
    return J + penalty(W, l2, X)


def train(
    X, Y, theta, dtheta, state, layout, g, loss, rule, l2, clip_norm, work, order, size, coefficients, losses, s, end
):
    """Steps ``s .. end - 1``: ``θ := θ - α dθ`` (or another rule) on one batch of `size` examples after another.

    ``order[e]`` is the order of the examples in epoch e, empty for the order of the data; ``coefficients[s]`` belongs
    to step s, and ``losses[s]`` receives the J that it started from.
    """
    m = X.shape[1]
    batches = (m + size - 1) // size
    while s < end:
        start = (s % batches) * size
        X_s, Y_s = batch(X, Y, order[s // batches, :], start, min(start + size, m), work)
        losses[s] = loss_and_gradient(X_s, Y_s, theta, dtheta, layout, g, loss, l2, work)
        dtheta = all_reduce(dtheta, out=dtheta)
        dtheta = clip_gradient(dtheta, clip_norm, out=dtheta)
        theta, state = update(theta, dtheta, state, rule, coefficients[s], out=(theta, state))
        s += 1
