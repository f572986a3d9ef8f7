"""CUDA C sources as text, and how a program is put together from them.

A program holds one kernel, the headers that it names and, in front of it, a precision and the formulas that the kernel
calls (an activation, a loss, an update rule), which a caller gives as text. Nothing here needs CUDA.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = [
    "ACROSS",
    "DOWN",
    "DRAWN",
    "KERNELS",
    "LAYER_FIELDS",
    "PRODUCT_THREADS",
    "THREADS",
    "TILE",
    "Kernel",
    "program",
]

# What kernels and those who launch them must agree on; `program` writes these in front of every text.
TILE = 32  # rows and columns of a product's tile
PRODUCT_THREADS = 128  # of a block that computes one
ACROSS, DOWN = 32, 8  # threads of a block along the units, in packs of 16 bytes, and over examples
THREADS = 256  # of every other block, or the most
DRAWN = 16  # numbers that a thread of dropout.cu draws
LAYER_FIELDS = 6  # numbers that all_reduce.cu reads of each layer

_CONSTANTS = {
    "TILE": TILE,
    "PRODUCT_THREADS": PRODUCT_THREADS,
    "ACROSS": ACROSS,
    "DOWN": DOWN,
    "THREADS": THREADS,
    "DRAWN": DRAWN,
    "LAYER_FIELDS": LAYER_FIELDS,
}
_FOLDER = Path(__file__).parent
_LARGEST = {"float": "3.4028234663852886e38f", "double": "1.7976931348623157e308"}
_C_TYPES = {"float32": "float", "float64": "double"}


@dataclass(frozen=True)
class Kernel:
    """One kernel's source.

    Attributes
    ----------
    headers : tuple of str
        Besides common.cuh and formulas.cuh, in order.
    formulas : str or None
        Which of a network's formulas it calls: ``"activation"``, ``"loss"``, ``"rule"``.
    registers : int
        The most for each thread that any variant may take, in float32 and float64.
    """

    headers: tuple[str, ...] = ()
    formulas: str | None = None
    registers: tuple[int, int] = (64, 80)


_PRODUCT = 80, 168  # two products' partial sums, and the next slab on its way

KERNELS = {
    "linear_activation": Kernel(("product",), "activation", _PRODUCT),
    "bias_activation": Kernel((), "activation"),
    "sparse_linear_activation": Kernel(("sparse",), "activation"),
    "softmax": Kernel(("rows",)),
    "loss_gradient": Kernel(("rows",), "loss"),
    "linear_gradients": Kernel(("product",), None, _PRODUCT),
    "sparse_linear_gradients": Kernel(("sparse",)),
    "backpropagate": Kernel(("product",), "activation", _PRODUCT),
    "activation_gradient": Kernel((), "activation"),
    "all_reduce": Kernel(),
    "total_loss": Kernel(("loss",)),
    "update": Kernel(("loss",), "rule"),
    "dropout": Kernel(),
    "gather": Kernel(),
}


def program(name: str, dtype: str, formulas: str = "") -> str:
    """The text of a program.

    Parameters
    ----------
    name : str
        One of `KERNELS`, and the name of the function in it.
    dtype : {"float32", "float64"}
    formulas : str
        Functions in CUDA C, where the kernel calls some.
    """
    real = _C_TYPES[dtype]
    precision = f"typedef {real} real;\nconstexpr real LARGEST = {_LARGEST[real]};\n"
    constants = "".join(f"constexpr int {constant} = {value};\n" for constant, value in _CONSTANTS.items())
    headers = [_source(f"{header}.cuh") for header in ("common", "formulas", *KERNELS[name].headers)]
    return "\n".join([precision + constants, *headers, formulas, _source(f"{name}.cu")])


@cache
def _source(name: str) -> str:
    return f'#line 1 "{name}"\n' + (_FOLDER / name).read_text(encoding="utf-8")
