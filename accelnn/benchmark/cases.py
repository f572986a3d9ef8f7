"""What is trained: networks with their data, the same for every contestant."""

from dataclasses import dataclass, replace
from typing import Any

from accelnn.errors import require_known

__all__ = [
    "ACTIVATIONS",
    "CASES",
    "LOSSES",
    "OPTIMIZERS",
    "Case",
    "Problem",
    "default_learning_rate",
    "find_cases",
    "problem",
    "variant",
]

# What every contestant knows; the loss goes with the output.
ACTIVATIONS = ("identity", "relu", "sigmoid", "tanh")
LOSSES = {"identity": "squared_error", "sigmoid": "binary_cross_entropy", "softmax": "cross_entropy"}
OPTIMIZERS = ("sgd", "adam")
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, at every contestant

SEED = 0


@dataclass(frozen=True)
class Case:
    """One network and how it is trained.

    Attributes
    ----------
    name : str
    sizes : tuple of int
        Units ``n_0 .. n_L``.
    activation, output, loss, optimizer : str
        The hidden layers' activation, layer L's, and the names of loss and update rule.
    learning_rate : float
    batch_size : int
        Examples a step; the batches are consecutive, in the same order in every epoch.
    examples : int
    dtype : str
        ``"float32"`` or ``"float64"``.
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    output: str
    loss: str
    optimizer: str
    learning_rate: float
    batch_size: int
    examples: int
    dtype: str = "float32"

    @property
    def steps(self) -> int:
        """Steps an epoch; the last may see fewer examples."""
        return -(-self.examples // self.batch_size)

    def describe(self) -> str:
        """One line for a heading."""
        batch = "full batch" if self.batch_size == self.examples else f"batch {self.batch_size:,}"
        return (
            f"{'-'.join(map(str, self.sizes))}, {self.activation}, {self.output}, {self.loss}, {self.optimizer} "
            f"{self.learning_rate:g}, {batch} of {self.examples:,} examples, {self.dtype}"
        )


@dataclass
class Problem:
    """A case with its data and starting weights, in the case's dtype.

    Attributes
    ----------
    case : Case
    X : array of shape (n_0, m)
        Examples are columns, each of them contiguous.
    Y : array of shape (n_L, m)
        Targets; one-hot columns for classes.
    labels : array of int64, shape (m,), or None
        Class numbers, where the output is a softmax.
    W, b : lists of arrays of shape (n_l, n_{l-1}) and (n_l, 1)
        The common start, for l = 1..L; place 0 is None.
    """

    case: Case
    X: Any
    Y: Any
    labels: Any
    W: list[Any]
    b: list[Any]

    def batches(self) -> list[slice]:
        """The examples of each step of an epoch."""
        case = self.case
        starts = range(0, case.examples, case.batch_size)
        return [slice(start, min(start + case.batch_size, case.examples)) for start in starts]


def problem(case: Case) -> Problem:
    """Draw data and weights from one seed: normal inputs, random labels, He or Glorot weights, zero biases.

    Random labels can be learnt by heart alone, so the loss keeps moving for as long as a comparison lasts.
    """
    # Imported when called: a process that times its own imports has read this module before.
    import numpy as np

    from accelnn.initializers import initial_parameters
    from accelnn.parameters import Layout

    rng = np.random.default_rng(SEED)
    n_0, n_L, m = case.sizes[0], case.sizes[-1], case.examples
    X = rng.normal(size=(m, n_0)).astype(case.dtype).T
    labels = None
    if case.output == "softmax":
        # Every class occurs, so that a library which counts the classes finds n_L of them.
        labels = rng.permutation(np.arange(m) % n_L)
        rows = np.eye(n_L, dtype=case.dtype)[labels]
    elif case.output == "sigmoid":
        rows = rng.integers(2, size=(m, n_L)).astype(case.dtype)
    else:
        rows = rng.normal(size=(m, n_L)).astype(case.dtype)

    layout = Layout(case.sizes, [False] * (len(case.sizes) - 1))
    hidden = [case.activation] * (len(case.sizes) - 2)
    theta = initial_parameters(layout, [*hidden, case.output], "auto", SEED).astype(case.dtype)
    W, b = layout.parameters(theta)
    return Problem(case, X, rows.T, labels, W, b)


def _case(sizes: str, activation: str, output: str, batch_size: int, examples: int, rates: dict[str, float]) -> None:
    for optimizer, learning_rate in rates.items():
        name = sizes if optimizer == "sgd" else f"{sizes}-{optimizer}"
        units = tuple(map(int, sizes.split("-")))
        CASES[name] = Case(
            name, units, activation, output, LOSSES[output], optimizer, learning_rate, batch_size, examples
        )


CASES: dict[str, Case] = {}
# From call overhead alone, over small and middling products, to products alone.
_case("2-4-1", "tanh", "sigmoid", 400, 400, {"sgd": 2.0, "adam": 2e-2})
_case("20-64-64-1", "relu", "sigmoid", 32, 3200, {"sgd": 0.05, "adam": 1e-3})
_case("64-100-10", "relu", "softmax", 200, 2000, {"sgd": 0.1, "adam": 1e-3})
_case("784-256-128-10", "relu", "softmax", 128, 2560, {"sgd": 0.02, "adam": 1e-4})
_case("784-1024-1024-10", "relu", "softmax", 256, 2560, {"sgd": 0.02, "adam": 1e-4})
_case("2048-2048-2048-10", "relu", "softmax", 1024, 2048, {"sgd": 0.005, "adam": 1e-4})
_case("4-32-16-4", "tanh", "identity", 10_000, 10_000, {"sgd": 0.05, "adam": 1e-3})


def find_cases(names: list[str]) -> list[Case]:
    """The standard cases of these names; ``"all"`` is all of them.

    Raises
    ------
    UnknownNameError
        Naming the option.
    """
    for name in names:
        require_known("--case", name, ("all", *CASES))
    chosen = list(CASES) if "all" in names else list(dict.fromkeys(names))
    return [CASES[name] for name in chosen]


def default_learning_rate(optimizer: str, n_0: int) -> float:
    """For a network that is no standard case: smaller where many inputs make the loss steeper."""
    rate = 1e-3 * min(1.0, 100 / n_0) ** 0.5 if optimizer == "adam" else 0.1 * min(1.0, 20 / n_0) ** 0.5
    return float(f"{rate:.1g}")


def variant(case: Case, **changes: Any) -> Case:
    """The case with some of its settings replaced, checked together, under a name that says so."""
    changes = {key: value for key, value in changes.items() if value is not None}
    if "optimizer" in changes and changes["optimizer"] != case.optimizer:
        changes.setdefault("learning_rate", default_learning_rate(changes["optimizer"], case.sizes[0]))
    if "output" in changes:
        changes["loss"] = LOSSES[changes["output"]]
    return replace(case, **changes)
