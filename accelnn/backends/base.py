"""What a backend is: a few primitives, and a meaning for each verb of the equations.

Three rungs, of which a backend may override any:

1. *Primitives*: allocate, copy in, copy out, synchronise, and how activations, losses and rules are handed to verbs.
2. *Verbs*: the functions of :mod:`accelnn.verbs`, by name. A backend may replace a verb's body, never its signature,
   and adds none.
3. *The page*: `predict` ... `train` of :mod:`accelnn.equations`, bound to those verbs, and perhaps compiled.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np

from accelnn import equations, verbs
from accelnn.activations import ACTIVATIONS
from accelnn.binding import Binding
from accelnn.dropout import Dropout
from accelnn.losses import Loss
from accelnn.optimizers import RULES
from accelnn.parameters import Layout, Workspace

__all__ = ["Backend"]

_ANYWHERE = nullcontext()


class Backend:
    """The contract, with the bodies that suit a library of arrays with views.

    Attributes
    ----------
    name : str
    xp : module
        The array library.
    verbs : dict of str to callable
        Every name in ``accelnn.verbs.__all__``.
    threads : int or None
        Most threads that were asked for.
    page : str
        How the page runs.
    takes_sparse : bool
        Whether X may be a ``scipy.sparse.csc_array``, which `batch`, `linear_activation` and `linear_gradients` then
        have to know.
    predicts_anew : bool
        Whether `predict` returns new memory, rather than a part of the workspace.
    pass_elements : int
        Of the workspace for a pass without training; more examples are taken block by block.
    """

    name = "reference"
    page = "interpreted, one verb after another"
    takes_sparse = predicts_anew = False
    pass_elements = 2**20

    def __init__(self, xp: ModuleType, device: Any = None, overrides: dict[str, Any] | None = None):
        self.xp, self.device = xp, device
        self.threads: int | None = None
        self._array: type | None = None
        self.verbs = {name: getattr(verbs, name) for name in verbs.__all__} | (overrides or {})
        # Rung 3: the page, with the signatures that it has in accelnn.equations.
        self.predict = self.bind(equations.predict)
        self.evaluate = self.bind(equations.evaluate)
        self.loss_and_gradient = self.bind(equations.loss_and_gradient)
        self.train = self.bind(equations.train)

    def bind(self, function: Callable) -> Callable:
        """A function of the page with this backend's verbs."""
        return Binding(self.verbs)(function)

    def rungs(self) -> dict[str, str]:
        """Which rung runs for each part; shown by ``Network.plan()``."""
        own = [name for name, body in self.verbs.items() if body is not getattr(verbs, name)]
        reference = [name for name in self.verbs if name not in own]
        return {
            "page (rung 3)": self.page,
            "own verbs (rung 2)": ", ".join(own) or "none",
            "reference verbs": ", ".join(reference) or "none",
        }

    def __repr__(self) -> str:
        return f"<accelnn backend {self.name!r} on {self.describe()}>"

    def describe(self) -> str:
        """The device in words."""
        return "CPU" if self.device is None else str(self.device)

    # Rung 1: primitives

    def empty(self, shape: int | tuple[int, ...], dtype: str) -> Any:
        """New memory of `shape`, not initialised."""
        return self.xp.empty(shape, dtype=getattr(self.xp, dtype), device=self.device)

    def zeros(self, shape: int | tuple[int, ...], dtype: str) -> Any:
        """New memory of `shape`, all zero."""
        return self.xp.zeros(shape, dtype=getattr(self.xp, dtype), device=self.device)

    def context(self) -> AbstractContextManager[None]:
        """Where everything that is done with this backend's arrays happens: on a GPU, its device and stream."""
        return _ANYWHERE

    def from_host(self, array: np.ndarray, out: Any = None) -> Any:
        """The backend's copy of a NumPy array, with the same memory order (NumPy's own arrays are not copied).

        `out`, an array that an earlier call gave, may receive the values if it has the shape and dtype for them.
        """
        return self.xp.asarray(array, device=self.device)

    def place(self, *arrays: Any) -> tuple[Any, ...]:
        """The arrays of a data set, those of NumPy moved by `from_host`; or all on the host, for a device too small."""
        return tuple(self.from_host(array) if isinstance(array, np.ndarray) else array for array in arrays)

    def columns(self, array: Any, dtype: str) -> Any:
        """One of the backend's own arrays in this dtype, each column contiguous; no copy where none is needed."""
        return self.xp.asarray(array, dtype=getattr(self.xp, dtype))

    def adopt(self, argument: str, array: Any) -> Any:
        """An array that already lives where this backend computes, as one of the backend's own; None for others.

        Raises
        ------
        DataError
            For an array on another device of the same kind; the message names `argument` and the line that moves it.
        """
        return array if self.owns(array) else None

    def to_host(self, array: Any) -> np.ndarray:
        """A NumPy array with the values of a backend's array."""
        return np.asarray(array)

    def owns(self, array: Any) -> bool:
        """Whether `array` already lives where this backend computes."""
        if self._array is None:
            self._array = type(self.empty(0, "float32"))
        return isinstance(array, self._array)

    def synchronize(self) -> None:
        """Wait until all work given to the device is done."""

    def workers(self) -> int:
        """How many threads would share the work now."""
        return 1

    def layout(self, layout: Layout) -> Any:
        """The form in which verbs receive a layout."""
        return layout

    def workspace(self, layout: Layout, capacity: int, dtype: str, steps: int | None = None) -> Any:
        """The form in which verbs receive the memory of one batch of up to `capacity` examples.

        `steps`, where it is known, is the most steps of training that one call will run.
        """
        return Workspace(layout, capacity, lambda length: self.empty(length, dtype))

    def activations(self, names: Sequence[str], dtype: str) -> Any:
        """The form in which verbs receive ``g``, numbered 1..L (place 0 is unused)."""
        return [None, *(ACTIVATIONS[name] for name in names)]

    def loss(self, loss: Loss, dtype: str) -> Any:
        """The form in which verbs receive a loss."""
        return loss

    def dropout(self, drop: Dropout, out: Any = None) -> Any:
        """The form in which verbs receive what decides the masks of dropout.

        `out`, what an earlier call of the same run gave, may receive it: only the number of the first step changes.
        """
        return drop

    def rule(self, name: str, dtype: str) -> Any:
        """The form in which verbs receive an update rule."""
        return RULES[name]

    def coefficients(self, table: np.ndarray, dtype: str, out: Any = None) -> Any:
        """The form in which verbs receive the rows of an optimiser's coefficients; `out` as for `from_host`."""
        return table.tolist()
