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
    dropout,
    linear_activation,
    linear_gradients,
    loss_gradient,
    parameters,
    penalty,
    update,
)

__all__ = ["backward", "evaluate", "forward", "loss_and_gradient", "predict", "train"]


def forward(W, b, g, A, Z, D, drop, s):
    """From ``D[0] = X`` to ``A[L]``. Without dropout, D[l] is A[l]."""
    for l in range(1, len(W)):
        # Z[l] = W[l] D[l-1] + b[l]        A[l] = g_l(Z[l])        D[l] = A[l] ∘ M[l]
        Z[l], A[l] = linear_activation(W[l], b[l], D[l - 1], g[l], out=(Z[l], A[l]))
        D[l] = dropout(A[l], drop, l, s, out=D[l])


def backward(W, dW, db, g, A, Z, D, dZ, l2, drop, s):
    """From ``dZ[L]`` to all dW and db."""
    for l in range(len(W) - 1, 0, -1):
        # dW[l] = 1/m (dZ[l] D[l-1]ᵀ + λ W[l])        db[l] = 1/m Σ_i dZ[l](i)
        dW[l], db[l] = linear_gradients(dZ[l], D[l - 1], W[l], l2, out=(dW[l], db[l]))
        if l > 1:
            # dZ[l-1] = W[l]ᵀ dZ[l] ∘ g'_{l-1}(Z[l-1]) ∘ M[l-1]
            dZ[l - 1] = backpropagate(W[l], dZ[l], Z[l - 1], A[l - 1], g[l - 1], out=dZ[l - 1])
            dZ[l - 1] = dropout(dZ[l - 1], drop, l - 1, s, out=dZ[l - 1])


def predict(X, theta, layout, g, work):
    """``A[L]``, with g_L the output activation."""
    W, b = parameters(theta, layout)
    A, Z, D, _ = activations(work, X)
    forward(W, b, g, A, Z, D, None, 0)
    return A[len(W) - 1]


def evaluate(X, Y, w, theta, layout, g, loss, work):
    """``J``, and nothing else. Here, and in training, g_L is the identity: the loss reads the logits Z[L]."""
    W, b = parameters(theta, layout)
    A, Z, D, dZ = activations(work, X)
    L = len(W) - 1
    forward(W, b, g, A, Z, D, None, 0)
    J, dZ[L] = loss_gradient(Z[L], Y, w, loss, out=dZ[L])
    return J


def loss_and_gradient(X, Y, w, theta, dtheta, layout, g, loss, l2, drop, s, work):
    """``J``, and dθ in place. The examples have weights w of mean 1; `drop` and s choose the masks M of dropout."""
    W, b = parameters(theta, layout)
    dW, db = parameters(dtheta, layout)
    A, Z, D, dZ = activations(work, X)
    L = len(W) - 1
    forward(W, b, g, A, Z, D, drop, s)
    # J = 1/m Σ_i w_i loss(z_i, y_i)        dZ[L] = w ∘ (A[L] - Y), for the matched outputs
    J, dZ[L] = loss_gradient(Z[L], Y, w, loss, out=dZ[L])
    backward(W, dW, db, g, A, Z, D, dZ, l2, drop, s)
    return J + penalty(W, l2, X)


def train(
    X,
    Y,
    w,
    theta,
    dtheta,
    state,
    layout,
    g,
    loss,
    rule,
    l2,
    clip_norm,
    drop,
    work,
    order,
    size,
    coefficients,
    losses,
    s,
    end,
):
    """Steps ``s .. end - 1``: ``θ := θ - α dθ`` (or another rule) on one batch of `size` examples after another.

    ``order[e]`` is the order of the examples in epoch e, empty for the order of the data; ``coefficients[s]`` belongs
    to step s, and ``losses[s]`` receives the J that it started from.
    """
    m = X.shape[1]
    batches = (m + size - 1) // size
    while s < end:
        start = (s % batches) * size
        X_s, Y_s, w_s = batch(X, Y, w, order[s // batches, :], start, min(start + size, m), work)
        losses[s] = loss_and_gradient(X_s, Y_s, w_s, theta, dtheta, layout, g, loss, l2, drop, s, work)
        dtheta = all_reduce(dtheta, out=dtheta)
        dtheta = clip_gradient(dtheta, clip_norm, out=dtheta)
        theta, state = update(theta, dtheta, state, rule, coefficients[s], out=(theta, state))
        s += 1
