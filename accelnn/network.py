"""A network: its sizes, activations and loss, its parameters, and the backend that computes with them."""

import contextlib
import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from accelnn import checks
from accelnn.activations import HIDDEN, OUTPUTS, activation
from accelnn.backends import BACKENDS, get_backend, why_auto
from accelnn.errors import BackendUnavailableError, BusyError, DataError, require_known
from accelnn.initializers import initial_parameters
from accelnn.losses import Loss
from accelnn.losses import loss as find_loss
from accelnn.parameters import Layout
from accelnn.state import History, OptimizerState

if TYPE_CHECKING:
    from os import PathLike

    from accelnn.backends.base import Backend
    from accelnn.schedules import Schedule

__all__ = ["DTYPES", "Examples", "Network", "Plan"]

DTYPES = ("float32", "float64")
_OWN = ("W", "b", "_prepared", "_in_training")  # what a copy makes anew


@dataclass(frozen=True)
class Plan:
    """Which implementation runs for each part of a network's work, and why; prints as a table."""

    backend: str
    device: str
    dtype: str
    parts: dict[str, str]

    def __str__(self) -> str:
        rows = {"backend": self.backend, "device": self.device, "dtype": self.dtype, **self.parts}
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {what}" for name, what in rows.items())


class Examples(NamedTuple):
    """Examples that a network has checked.

    Attributes
    ----------
    arrays : tuple
        X, Y and the weights w of shape (1, m), whose mean is 1; of shape (0, m) where all weigh the same.
    penalty_scale : float
        What the weight of the penalty is multiplied by: the number of examples over the sum of the weights given.
    """

    arrays: tuple[Any, Any, Any]
    penalty_scale: float


class Network:
    """A multilayer perceptron in the orientation of the equations: examples are columns.

    Parameters
    ----------
    sizes : sequence of int
        Units ``n_0 .. n_L``: inputs, hidden layers, outputs.
    activations : str or sequence of str
        One name for all hidden layers, or one a hidden layer: identity, sigmoid, tanh, relu, leaky_relu, elu, gelu,
        softplus.
    output : str
        Activation of layer L: identity, sigmoid, softmax or exp.
    loss : str or Loss, optional
        binary_cross_entropy, cross_entropy, squared_error, absolute_error, huber, quantile or poisson; by default the
        one that matches `output`. See :func:`accelnn.losses.loss` for the parameters of some, and
        :func:`accelnn.custom_loss` for one's own.
    init : str
        Starting weights: auto, he, glorot or zeros (see :func:`accelnn.initializers.initial_parameters`).
    seed : int
        Fixes the starting weights and the order of the batches, alike on every backend.
    dtype : {"float32", "float64"} or NumPy dtype
        Precision of parameters and of all computation.
    backend : {"auto", "numpy", "numba", "cupy"} or Backend
    threads : int, optional
        Most threads of the numba backend; by default what the environment and the machine allow (see
        :func:`accelnn.threads.thread_count`).
    device : int, optional
        The GPU of the cupy backend, counted from 0; by default CuPy's current one.

    Attributes
    ----------
    theta : vector
        All parameters: ``[W[1], b[1], W[2], b[2], ...]``.
    W, b : lists
        ``W[l]`` of shape (n_l, n_{l-1}) and ``b[l]`` of shape (n_l, 1) are views of theta, numbered 1..L; place 0 is
        None.
    epochs_trained, steps_trained : int
        Epochs and steps so far, over all calls of `fit`.
    loss_entry : Loss
    optimizer_state : OptimizerState or None
        Where the latest call of `fit` left its optimiser; the next one goes on from there with ``resume=True``.
    history : History
        Of the latest training, calls of `fit` that went on with it included.

    Raises
    ------
    DataError
        For sizes, names or a dtype that cannot be used; the message lists what can.
    BackendUnavailableError
        For a backend that cannot run here.

    Examples
    --------
    >>> net = Network([2, 4, 1], activations="tanh", output="sigmoid", backend="numpy")
    >>> net.W[1].shape
    (4, 2)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activations: str | Sequence[str] = "relu",
        output: str = "sigmoid",
        loss: str | Loss | None = None,
        init: str = "auto",
        seed: int = 0,
        dtype: Any = "float32",
        backend: "str | Backend" = "auto",
        threads: int | None = None,
        device: int | None = None,
    ):
        self.sizes = checks.layer_sizes(sizes)
        hidden = checks.names("activations", activations, len(self.sizes) - 2)
        entries = [activation("activations", name, HIDDEN) for name in hidden]
        activation("output", output, OUTPUTS)
        self.activations, self.output = tuple(hidden), output
        self.loss_entry = find_loss(loss, output)
        self.loss = self.loss_entry.name
        if output == "softmax" and self.sizes[-1] == 1:
            raise DataError("output: softmax over one unit is always 1; use output='sigmoid' for two classes")
        self.seed = checks.integer("seed", seed, 0)
        self.dtype = dtype if isinstance(dtype, str) else getattr(dtype, "name", getattr(dtype, "__name__", dtype))
        require_known("dtype", self.dtype, DTYPES)
        self.init = init
        self._chosen = why_auto() if backend == "auto" else None
        self.backend = get_backend(backend, threads, device)
        self._keeps_z = [*(entry.keeps_z for entry in entries), False]
        self.layout = Layout(self.sizes, self._keeps_z)
        theta = initial_parameters(self.layout, [*hidden, output], init, self.seed)
        self._theta = self.backend.from_host(theta.astype(self.dtype))
        self.W, self.b = self.layout.parameters(self._theta)
        self.epochs_trained = self.steps_trained = 0
        self.optimizer_state: OptimizerState | None = None
        self.history = History()
        self._in_training = threading.Lock()
        self._prepared: dict[tuple[int, int, bool], tuple[int, tuple[Any, ...]]] = {}

    def __repr__(self) -> str:
        names = self.activations[0] if len(set(self.activations)) == 1 else list(self.activations)
        return (
            f"Network({list(self.sizes)}, activations={names!r}, output={self.output!r}, loss={self.loss!r}, "
            f"dtype={self.dtype!r}, backend={self.backend.name!r})"
        )

    @property
    def theta(self) -> Any:
        """All parameters; assigning writes into the vector, so that W and b stay views of it."""
        return self._theta

    @theta.setter
    def theta(self, values: Any) -> None:
        with self.backend.context():
            adopted = self.backend.adopt("theta", values)
            values = self.backend.from_host(np.asarray(values)) if adopted is None else adopted
            if values.shape != self._theta.shape:
                raise DataError(f"theta: has shape {tuple(values.shape)}, expected {tuple(self._theta.shape)}")
            self._theta[...] = values

    def __getstate__(self) -> dict[str, Any]:
        # A backend goes by its name, and theta through the host; the views are made anew, so that a copy's W and b
        # belong to its own theta.
        state = {name: value for name, value in self.__dict__.items() if name not in _OWN}
        if self.backend.name in BACKENDS:
            state["backend"] = self.backend.name, self.backend.threads, self.backend.device
            state["_theta"] = np.array(self.backend.to_host(self._theta))
            if self.optimizer_state is not None:
                vectors = np.array(self.backend.to_host(self.optimizer_state.vectors))
                state["optimizer_state"] = replace(self.optimizer_state, vectors=vectors)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _prepared={}, _in_training=threading.Lock())
        if isinstance(self.backend, tuple):
            try:
                self.backend = get_backend(*self.backend)
            except (BackendUnavailableError, DataError) as problem:  # no such backend here, or no such GPU
                self.backend = get_backend("auto")
                warnings.warn(
                    f"the network was made elsewhere and goes on with {self.backend.name}: {problem}", stacklevel=2
                )
            # A copy where it is read-only: joblib maps files into memory.
            self._theta = self.backend.from_host(np.require(self._theta, requirements="W"))
            if self.optimizer_state is not None:
                vectors = self.backend.from_host(np.require(self.optimizer_state.vectors, requirements="W"))
                self.optimizer_state = replace(self.optimizer_state, vectors=vectors)
        self.W, self.b = self.layout.parameters(self._theta)

    def block(self, layout: Layout) -> int:
        """Examples that a pass without training handles at once, so that its workspace stays small."""
        return max(256, self.backend.pass_elements // layout.n_work)

    def views(self, vector: Any) -> list[Any]:
        """A vector in theta's order, layer by layer.

        Parameters
        ----------
        vector : vector of theta's length
            For instance a gradient.

        Returns
        -------
        list of pairs
            ``views(dtheta)[l]`` is ``dW, db`` of layer l = 1..L, as views; place 0 is None.
        """
        if vector.shape != self.theta.shape:
            raise DataError(f"vector: has shape {tuple(vector.shape)}, expected {tuple(self.theta.shape)}")
        W, b = self.layout.parameters(vector)
        return [None, *zip(W[1:], b[1:], strict=True)]

    def predict(self, X: Any) -> Any:
        """``A[L]``.

        Parameters
        ----------
        X : array of shape (n_0, m)
            Examples are columns; an array of examples as rows enters as ``X.T``. One of scipy.sparse stays sparse.

        Returns
        -------
        array of shape (n_L, m)
            Where X is: NumPy for NumPy, CuPy for CuPy.

        Raises
        ------
        DataError
            For a wrong shape, NaN, infinity, or an array on another device.
        """
        return self._output_of(X, len(self.sizes) - 1)

    def layer_output(self, X: Any, l: int) -> Any:
        """``A[l]``, what the first layers make of the examples.

        Parameters
        ----------
        X : array of shape (n_0, m)
            As for `predict`.
        l : int
            The layer, from 1 to L.

        Returns
        -------
        array of shape (n_l, m)
            Where X is.

        Raises
        ------
        DataError
            As for `predict`, and for a layer that there is not.
        """
        L = len(self.sizes) - 1
        if checks.integer("l", l, 1) > L:
            raise DataError(f"l: {l} is no layer; give a number from 1 to {L}")
        return self._output_of(X, l)

    def _output_of(self, X: Any, l: int) -> Any:
        backend = self.backend
        with backend.context():
            adopted = None if type(X) is np.ndarray else backend.adopt("X", X)
            X = checks.matrix("X", X if adopted is None else adopted, self.sizes[0], self.dtype, backend)
            if not backend.owns(X):
                (X,) = backend.place(X)
            m = X.shape[1]
            # One prediction's workspace is kept for the next; a thread takes it away while it uses it.
            key = l, m, checks.is_sparse(X)
            prepared = self._prepared.pop(key, None) or self._prepare(X, l)
            block, arguments = prepared
            if block == m and backend.predicts_anew:
                A = backend.predict(X, *arguments)
            else:
                A = backend.empty((m, self.sizes[l]), self.dtype).T
                for start in range(0, m, block):
                    stop = min(start + block, m)
                    A[:, start:stop] = backend.predict(X[:, start:stop], *arguments)
            self._prepared = {key: prepared}
            return backend.to_host(A) if adopted is None else A

    def _prepare(self, X: Any, l: int) -> tuple[int, tuple[Any, ...]]:
        """How many examples to take at once, and what a backend needs besides them to compute A[l]."""
        backend, layout = self.backend, self.layout_for(checks.is_sparse(X))
        if l < len(self.sizes) - 1:
            layout = Layout(self.sizes[: l + 1], self._keeps_z[:l], gathers=layout.gathers)
        block = min(X.shape[1], self.block(layout))
        return block, (
            self._theta[: layout.n_parameters],
            backend.layout(layout),
            backend.activations([*self.activations, self.output][:l], self.dtype),
            backend.workspace(layout, block, self.dtype),
        )

    def loss_and_gradient(self, X: Any, Y: Any, l2: float = 0.0, sample_weight: Any = None) -> tuple[float, Any]:
        """``J`` and its gradient with respect to theta, over all examples at once.

        Parameters
        ----------
        X : array of shape (n_0, m)
        Y : array of shape (n_L, m), or a vector of m class numbers for cross-entropy, or of m numbers for one output
        l2 : float
            Weight of the penalty ``l2 / (2 m) sum_l |W[l]|^2``.
        sample_weight : vector of length m, optional
            Weights of the examples; see `fit`.

        Returns
        -------
        J : float
        dtheta : vector in theta's order; see `views`
        """
        backend = self.backend
        with backend.context():
            examples = self.examples(X, Y, sample_weight)
            X = examples.arrays[0]
            layout = self.layout_for(checks.is_sparse(X))
            dtheta = backend.empty(layout.n_parameters, self.dtype)
            J = backend.loss_and_gradient(
                *examples.arrays,
                self.theta,
                dtheta,
                backend.layout(layout),
                backend.activations([*self.activations, "identity"], self.dtype),
                backend.loss(self.loss_entry, self.dtype),
                checks.number("l2", l2) * examples.penalty_scale,
                None,
                0,
                backend.workspace(layout, X.shape[1], self.dtype),
            )
            return float(J), dtheta

    def fit(
        self,
        X: Any,
        Y: Any = None,
        optimizer: Any = "sgd",
        learning_rate: Any = 0.1,
        epochs: int = 100,
        batch_size: int | None = None,
        shuffle: bool = True,
        validation: tuple[Any, ...] | None = None,
        l2: float = 0.0,
        clip_norm: float | None = None,
        callbacks: Sequence[Any] = (),
        resume: "bool | str | PathLike[str]" = False,
        sample_weight: Any = None,
        dropout: float | Sequence[float] = 0.0,
        schedule: "str | Schedule | None" = None,
    ) -> "History":
        """Train: one update of theta for each batch.

        Parameters
        ----------
        X : array of shape (n_0, m), or Stream
            One of scipy.sparse stays sparse: the first layer multiplies what is not zero. A :class:`accelnn.Stream`
            is read part by part and never all in memory; it brings Y and weights with it.
        Y : array of shape (n_L, m), or a vector of m class numbers for cross-entropy, or of m numbers for one output
        optimizer : str or Optimizer
            sgd, momentum, nesterov, rmsprop, adam or adamw; ``Optimizer("adam", beta1=0.95)`` for other
            hyperparameters.
        learning_rate : float or callable
            A number, or a function of an array of step numbers 0, 1, ... that gives an array of learning rates.
        epochs : int
        batch_size : int, optional
            None is full-batch gradient descent. The last batch of an epoch may be smaller.
        shuffle : bool
            Whether each epoch visits the examples in a new order (no difference for a full batch).
        validation : pair of X and Y, or X, Y and sample_weight, optional
            Their loss is computed after each epoch.
        l2 : float
            Weight of the penalty ``l2 / (2 m) sum_l |W[l]|^2``, m being the batch's number of examples.
        clip_norm : float, optional
            Largest Euclidean norm of a step's gradient.
        callbacks : sequence of Callback
        resume : bool or path
            True goes on from where the latest call of `fit` left its optimiser, of the same rule: two calls of 5 epochs
            then give the same theta as one of 10. Step numbers, which a schedule and the bias correction of Adam
            receive, go on too. A run that was stopped within an epoch goes on there, if its batches are the same, and
            that epoch counts as one. Otherwise every call starts an optimiser without memory.

            The folder of a :class:`accelnn.Checkpoint`, or one of its files, goes on from there to `epochs` in all, as
            if that run had not been interrupted; from the beginning, where the folder holds none yet.
        sample_weight : vector of length m, optional
            Weights of the examples, from 0 on. Only their ratios count, but in the penalty: J is
            ``sum_i w_i loss_i / sum_i w_i + l2 / (2 sum_i w_i) sum_l |W[l]|^2`` over all examples, so that a weight of
            k equals the example k times; an example of weight 0 is left out. A batch of m of the N examples has
            ``N / (m sum_i w_i) (sum of its w_i loss_i + l2 / 2 sum_l |W[l]|^2)``.
        dropout : float or sequence of float
            The share of its units that each hidden layer leaves out of a step, in one number or one a hidden layer;
            the others are scaled up (Srivastava et al. 2014). Rates are rounded to multiples of ``2**-16``.
        schedule : str or Schedule, optional
            What the learning rate is multiplied by in the course of the run: step, exponential, cosine, one_cycle,
            plateau, or a Schedule of :mod:`accelnn.schedules`.

        Returns
        -------
        History
            Of this call; from a checkpoint, of the whole training.

        Raises
        ------
        DataError
            For anything that cannot be used; the network is as it was.
        BusyError
            Where another call is training this network.
        ModelFileError
            For a checkpoint that is damaged.
        DivergenceError
            Where the loss or theta stops being finite; theta is as it was before the call.

        Notes
        -----
        The working memory of the latest run, up to 256 MiB on a CPU, is kept for the next one of the same kind.
        """
        from accelnn.training import train

        with self._trained_alone(), self.backend.context():
            return train(
                self,
                X,
                Y,
                optimizer=optimizer,
                learning_rate=learning_rate,
                epochs=epochs,
                batch_size=batch_size,
                shuffle=shuffle,
                validation=validation,
                l2=l2,
                clip_norm=clip_norm,
                callbacks=callbacks,
                resume=resume,
                sample_weight=sample_weight,
                dropout=dropout,
                schedule=schedule,
            )

    @contextlib.contextmanager
    def _trained_alone(self) -> Iterator[None]:
        """Within, no other call can train this network."""
        if not self._in_training.acquire(blocking=False):
            raise BusyError(
                "fit: this network is being trained already, in another thread or by the call that runs this callback; "
                "wait for its end, or train a copy (copy.deepcopy)"
            )
        try:
            yield
        finally:
            self._in_training.release()

    def check(self, X: Any, Y: Any, names: tuple[str, str] = ("X", "Y")) -> tuple[Any, Any]:
        """X and Y as the backend takes them; see `loss_and_gradient` for what they may be.

        Raises
        ------
        DataError
            Naming the argument and the first bad position.
        """
        with self.backend.context():
            X = checks.matrix(names[0], X, self.sizes[0], self.dtype, self.backend)
            Y = checks.targets(names[1], Y, X.shape[1], self.loss_entry, self.sizes[-1], self.dtype, self.backend)
            return self.backend.place(X, Y)

    def examples(
        self,
        X: Any,
        Y: Any,
        sample_weight: Any = None,
        names: tuple[str, str, str] = ("X", "Y", "sample_weight"),
    ) -> Examples:
        """The same with weights, as training takes them; see `fit` for what they may be.

        Raises
        ------
        DataError
            Naming the argument and the first bad position.
        """
        with self.backend.context():
            X, Y = self.check(X, Y, names[:2])
            if sample_weight is None:
                return Examples((X, Y, self.backend.empty((X.shape[1], 0), self.dtype).T), 1.0)
            given = checks.weights(names[2], sample_weight, X.shape[1], self.backend)
            if not given.all():
                # Not only their gradient would be multiplied by 0, but perhaps an infinity, too.
                (kept,) = np.nonzero(given)
                X, Y, given = self._columns(X, kept), self._columns(Y, kept), given[kept]
            scale = len(given) / math.fsum(given)  # rounded once, so that their order does not matter
            w = (given * scale).astype(self.dtype)[None, :]
            return Examples((X, Y, self.backend.from_host(w) if self.backend.owns(X) else w), scale)

    def _columns(self, array: Any, examples: np.ndarray) -> Any:
        """Some columns of an array of the host or of the backend, each contiguous."""
        if checks.is_sparse(array):
            return array[:, examples]
        if isinstance(array, np.ndarray):
            return array.T[examples].T
        return self.backend.xp.take(array.T, self.backend.from_host(examples), axis=0).T

    def rows_of(self, array: Any, examples: np.ndarray) -> np.ndarray:
        """Some examples of an array of the host or of the backend, as rows on the host."""
        columns = self._columns(array, examples)
        return columns.toarray().T if checks.is_sparse(columns) else checks.on_host(columns, self.backend).T

    def layout_for(self, sparse: bool, dropout: Sequence[float] = ()) -> Layout:
        """Where a pass over an X that is or is not sparse finds its arrays, in training with these rates of dropout."""
        gathers = not sparse
        if gathers and not any(dropout):
            return self.layout
        return Layout(self.sizes, self._keeps_z, [rate > 0 for rate in dropout], gathers)

    def plan(self) -> Plan:
        """Which rung runs for each part, and why."""
        name = (
            f"{self.backend.name}, chosen by auto because {self._chosen}"
            if self._chosen
            else f"{self.backend.name}, as asked for"
        )
        return Plan(name, self.backend.describe(), self.dtype, self.backend.rungs())

    def save(self, path: "str | PathLike[str]") -> None:
        """Write the network to one file, from which `load` makes the same again, bit for bit.

        The file (safetensors) holds the settings, theta, the history and which versions wrote it; no code, and reading
        it runs none. It is sealed with a checksum of all of its bytes. The same network gives the same bytes. Where the
        optimiser stands is not in it: see :class:`accelnn.Checkpoint`.

        Parameters
        ----------
        path : path
            A file that is there is replaced, at once and as a whole; where a link points at it, the link stays.

        Raises
        ------
        DataError
            For a network whose loss is one's own, which a file cannot hold.
        OutputError
            Where the file cannot be written; an old one is as it was.
        """
        from accelnn.storage import save_network

        save_network(self, path)

    @classmethod
    def load(cls, path: "str | PathLike[str]", backend: "str | Backend" = "auto") -> "Network":
        """Read the network of a file: of `save`, of a table's model, of an estimator or of a checkpoint.

        Parameters
        ----------
        path : path
        backend : {"auto", "numpy", "numba", "cupy"} or Backend

        Raises
        ------
        ModelFileError
            For a file that is damaged, or holds no network.
        """
        from accelnn.storage import load_network

        return load_network(path, backend)
