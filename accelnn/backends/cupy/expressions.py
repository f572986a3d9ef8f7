"""Formulas as functions in CUDA C: what a kernel's text calls where it says `activation`, `loss_value` or `rule`.

The formulas of :mod:`accelnn.activations`, :mod:`accelnn.losses` and :mod:`accelnn.optimizers` are recorded and written
down as assignments, one an operation, in the kernel's own precision. So a new entry in one of those tables needs no
line of C.
"""

import inspect
from collections.abc import Callable
from functools import lru_cache

from accelnn.activations import Activation
from accelnn.backends.recording import Recording, Value
from accelnn.losses import Loss
from accelnn.optimizers import Rule

__all__ = ["activation_text", "loss_text", "rule_text"]

_OPERATORS = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "negative": "-{}",
    "absolute": "fabs({})",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
    "equal": "{} == {}",
    "not_equal": "{} != {}",
    "greater": "{} > {}",
    "greater_equal": "{} >= {}",
    "where": "{} ? {} : {}",
}
_FUNCTIONS = ("exp", "expm1", "log1p", "maximum", "minimum", "sign", "sqrt", "tanh")


def activation_text(entry: Activation) -> str:
    """``activation(z)``, and ``activation_backward(da, z, a)`` with what it reads."""
    function, backward = entry.function, entry.backward
    text = "" if entry.columnwise else _function("activation", function, ("z",))
    if backward is None:
        return text
    names = ("da", "z", "a")
    recording = Recording(backward, inputs=len(names))
    read = {id(x) for value in recording.operations for x in value.operands}
    _, reads_z, reads_a = (str(id(value) in read).lower() for value in recording.inputs)
    reads = f"constexpr bool BACKWARD_READS_Z = {reads_z}, BACKWARD_READS_A = {reads_a};\n"
    return text + reads + _function("activation_backward", backward, names)


@lru_cache(maxsize=64)  # a bound, since formulas may come from outside
def loss_text(entry: Loss) -> str:
    """``loss_value(z, y)`` and ``loss_slope(z, y)``; of a columnwise loss, whose formula is the kernel's, its name."""
    if entry.columnwise:
        return "#define COLUMNWISE\n"
    return _function("loss_value", entry.value, ("z", "y")) + _function("loss_slope", entry.gradient, ("z", "y"))


def rule_text(entry: Rule) -> str:
    """``rule(theta, d, state, stride, c)``, which changes theta and its state in memory; the vectors of the state lie
    `stride` apart.
    """
    count = len(inspect.signature(entry.update).parameters) - 2 - len(entry.state)
    state = [f"state{k}" for k in range(len(entry.state))]
    names = ["theta", "d", *state, *(f"c[{k}]" for k in range(count))]
    lines, results = _assignments(entry.update, names)
    reads = [f"const real {name} = load(states + {k} * stride);" for k, name in enumerate(state)]
    writes = [f"store(states + {k} * stride, {result});" for k, result in enumerate(results[1:])]
    body = ["const real theta = load(place);", *reads, *lines, f"store(place, {results[0]});", *writes]
    head = "__device__ __forceinline__ void rule(real* place, real d, real* states, long long stride, const real* c)"
    return f"constexpr int COEFFICIENTS = {count};\n{_braced(head, body)}"


def _function(name: str, formula: Callable, parameters: tuple[str, ...]) -> str:
    lines, (result,) = _assignments(formula, parameters)
    arguments = ", ".join(f"real {parameter}" for parameter in parameters)
    head = f"__device__ __forceinline__ real {name}({arguments})"
    return _braced(head, [*lines, f"return {result};"])


def _braced(head: str, body: list[str]) -> str:
    return head + " {\n" + "".join(f"    {line}\n" for line in body) + "}\n\n"


def _assignments(formula: Callable, names: list[str] | tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The recorded operations as lines, and the names of the results."""
    recording = Recording(formula, inputs=len(names))
    written = {id(value): name for value, name in zip(recording.inputs, names, strict=True)}

    def word(operand: "Value | float") -> str:
        return written[id(operand)] if isinstance(operand, Value) else f"real({float(operand)!r})"

    lines = []
    for number, value in enumerate(recording.operations):
        written[id(value)] = name = f"x{number}"
        operands = [word(operand) for operand in value.operands]
        if value.operation in _FUNCTIONS:
            expression = f"{value.operation}({', '.join(operands)})"
        else:
            expression = _OPERATORS[str(value.operation)].format(*operands)
        lines.append(f"const {'bool' if value.boolean else 'real'} {name} = {expression};")
    return lines, [word(result) for result in recording.results]
