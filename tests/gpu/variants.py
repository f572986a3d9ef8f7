"""Every program that the cupy backend can ask for: each kernel in each precision with each formula that it may call."""

from collections.abc import Iterator
from dataclasses import dataclass

from accelnn.activations import ACTIVATIONS
from accelnn.backends.cupy.expressions import activation_text, loss_text, rule_text
from accelnn.kernels.cuda import KERNELS, program
from accelnn.losses import LOSSES
from accelnn.optimizers import RULES

__all__ = ["Variant", "variants"]

DTYPES = ("float32", "float64")
BACKWARD = ("backpropagate", "activation_gradient")


@dataclass(frozen=True)
class Variant:
    """A kernel in one precision with one formula ("" where it calls none)."""

    kernel: str
    formula: str
    dtype: str
    text: str

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kernel, self.formula, self.dtype)))


def variants() -> Iterator[Variant]:
    """All of them."""
    for kernel, entry in KERNELS.items():
        for dtype in DTYPES:
            for formula, text in _formulas(kernel, entry.formulas):
                yield Variant(kernel, formula, dtype, program(kernel, dtype, text))


def _formulas(kernel: str, kind: str | None) -> Iterator[tuple[str, str]]:
    if kind is None:
        yield "", ""
    elif kind == "activation":
        for activation in ACTIVATIONS.values():
            if not activation.columnwise and (activation.backward or kernel not in BACKWARD):
                yield activation.name, activation_text(activation)
    elif kind == "loss":
        for (name, output), loss in LOSSES.items():
            yield f"{name} of {output}", loss_text(loss)
    else:
        for rule in RULES.values():
            yield rule.name, rule_text(rule)
