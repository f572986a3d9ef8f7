"""An elementwise formula as a list of operations: called once with placeholders, it leaves behind what it did to them.

One recording serves every backend that does not run a formula as it stands: it becomes a list of in-place NumPy calls
(:mod:`accelnn.backends.numpy.tape`) or an expression in CUDA C (:mod:`accelnn.backends.cupy.expressions`).
"""

from collections.abc import Callable
from typing import Any

from accelnn.binding import Binding

__all__ = ["Recording", "Value"]


class Value:
    """An input, or the result of an operation on other values and numbers.

    Attributes
    ----------
    operation : str or None
        A name of NumPy's, or ``"where"``; None for an input.
    operands : tuple of Value and float
    boolean : bool
    """

    # Numbers on the left must reach the reflected operators below rather than NumPy's.
    __array_ufunc__ = None

    def __init__(self, recording: "Recording", operation: str | None, operands: tuple = (), boolean: bool = False):
        self.recording, self.operation, self.operands, self.boolean = recording, operation, operands, boolean

    def _apply(self, operation: str, *operands: Any, boolean: bool = False) -> "Value":
        return self.recording.append(operation, operands, boolean)

    def __add__(self, other):
        return self._apply("add", self, other)

    def __radd__(self, other):
        return self._apply("add", other, self)

    def __sub__(self, other):
        return self._apply("subtract", self, other)

    def __rsub__(self, other):
        return self._apply("subtract", other, self)

    def __mul__(self, other):
        return self._apply("multiply", self, other)

    def __rmul__(self, other):
        return self._apply("multiply", other, self)

    def __truediv__(self, other):
        return self._apply("divide", self, other)

    def __rtruediv__(self, other):
        return self._apply("divide", other, self)

    def __pow__(self, exponent):
        if exponent not in (1, 2, 3, 4):
            raise TypeError(f"a power of {exponent!r} is no formula; write products, or exp and log1p")
        return self if exponent == 1 else self ** (exponent - 1) * self

    def __neg__(self):
        return self._apply("negative", self)

    def __abs__(self):
        return self._apply("absolute", self)

    def __lt__(self, other):
        return self._apply("less", self, other, boolean=True)

    def __le__(self, other):
        return self._apply("less_equal", self, other, boolean=True)

    def __gt__(self, other):
        return self._apply("greater", self, other, boolean=True)

    def __ge__(self, other):
        return self._apply("greater_equal", self, other, boolean=True)

    def __eq__(self, other):
        return self._apply("equal", self, other, boolean=True)

    def __ne__(self, other):
        return self._apply("not_equal", self, other, boolean=True)

    __hash__ = object.__hash__

    def __bool__(self):
        raise TypeError("a formula may not branch on a value; write where(condition, x, y)")


class Recording:
    """What some formulas do to the same inputs.

    Parameters
    ----------
    *formulas : callable
        Each takes the inputs and returns one value or a tuple of values.
    inputs : int

    Attributes
    ----------
    inputs, operations, results : list of Value
        `operations` in the order in which they happened, each distinct one once.
    """

    def __init__(self, *formulas: Callable, inputs: int):
        self.operations: list[Value] = []
        self._known: dict[tuple, Value] = {}
        self.inputs = [Value(self, None) for _ in range(inputs)]
        self.results: list[Any] = []
        for formula in formulas:
            value = _RECORDED(formula)(*self.inputs)
            self.results.extend(value if isinstance(value, tuple) else (value,))

    def key(self) -> tuple[Any, ...]:
        """What the formulas do, without what they are called: equal for equal formulas."""
        numbers = {id(value): ("value", k) for k, value in enumerate([*self.inputs, *self.operations])}

        def word(operand: Any) -> Any:
            return numbers[id(operand)] if isinstance(operand, Value) else ("number", repr(float(operand)))

        steps = ((value.operation, *map(word, value.operands)) for value in self.operations)
        return (*steps, *map(word, self.results))

    def append(self, operation: str, operands: tuple, boolean: bool = False) -> Value:
        """The result of one more operation, or of the same one before."""
        key = (operation, *(("value", id(x)) if isinstance(x, Value) else ("number", repr(x)) for x in operands))
        if key not in self._known:
            self._known[key] = value = Value(self, operation, operands, boolean)
            self.operations.append(value)
        return self._known[key]


def _recorded(name: str) -> Callable:
    def function(*operands):
        recording = next(x.recording for x in operands if isinstance(x, Value))
        return recording.append(name, operands)

    return function


_RECORDED = Binding(
    {name: _recorded(name) for name in ("exp", "expm1", "log1p", "maximum", "minimum", "sign", "sqrt", "tanh", "where")}
)
