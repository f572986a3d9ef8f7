"""Networks as PyTorch's modules: names of parameters, and the lines of Python that load them.

Nothing here needs PyTorch. ``torch.nn.Sequential(Linear, activation, Linear, ...)`` numbers its modules from 0 and
calls their parameters ``0.weight``, ``0.bias``, ``2.weight``, ...; the weight of a Linear has the shape (units, inputs)
(PyTorch's documentation, "torch.nn.Linear" and "torch.nn.Sequential").
"""

import json
from typing import Any

from accelnn.exchange.files import quoted
from accelnn.exchange.source import Source
from accelnn.network import Network
from accelnn.tables.schema import Numeric

__all__ = ["MODULES", "is_simple", "loading_lines"]

# PyTorch's own defaults differ: its gelu is the exact form, and its softplus is a straight line beyond 20.
MODULES = {
    "identity": "Identity()",
    "sigmoid": "Sigmoid()",
    "tanh": "Tanh()",
    "relu": "ReLU()",
    "leaky_relu": "LeakyReLU(0.01)",
    "elu": "ELU()",
    "gelu": 'GELU(approximate="tanh")',
    "softplus": "Softplus(threshold=40)",
    "softmax": "Softmax(dim=1)",
}


def loading_lines(source: Source, file: str) -> str:
    """Python that makes the module ``model`` and loads its weights; and, where rows need more than that, ``predict``.

    Parameters
    ----------
    source : Source
    file : str
        The file's name, as it stands in the lines.
    """
    network, simple = source.network, is_simple(source)
    lines = ["import json", ""] if simple else []
    lines += ["import torch", *(["from safetensors import safe_open"] if simple else [])]
    lines += ["from safetensors.torch import load_file", "from torch import nn", ""]
    lines += ["model = nn.Sequential(", *_modules(network), ")"]
    if network.dtype == "float64":
        lines.append("model.double()")
    lines += [f"model.load_state_dict(load_file({quoted(file)}))", "model.eval()"]
    if simple:
        lines += [
            f'columns = json.loads(safe_open({quoted(file)}, "pt").metadata()["table"])["schema"]',
            'mean = torch.tensor([column["mean"] for column in columns], dtype=torch.float64)',
            'scale = torch.tensor([column["scale"] for column in columns], dtype=torch.float64)',
        ]
    single = network.dtype == "float32"
    result = f"model({'((X - mean) / scale).float()' if single else '(X - mean) / scale'})" if simple else "model(X)"
    if network.output == "exp":
        result = f"torch.exp({result}.clamp(max=60))"
    if source.scale is not None and source.mean is not None:
        result = f"{result}{'.double()' if single else ''} * {_numbers(source.scale)} + {_numbers(source.mean)}"
    if result != "model(X)":
        what = "rows of doubles, in the order of columns" if simple else "encoded rows" if source.schema else "rows"
        lines += ["", "", f"def predict(X):  # {what}", "    with torch.no_grad():", f"        return {result}"]
    return "\n".join(lines) + "\n"


def is_simple(source: Source) -> bool:
    """Whether a table's columns need nothing but standardising."""
    return source.schema is not None and all(
        isinstance(column, Numeric) and column.median is None and column.width == 1 for column in source.schema.columns
    )


def _modules(network: Network) -> list[str]:
    lines = []
    names = [*network.activations, network.output]
    for n_prev, n, name in zip(network.sizes, network.sizes[1:], names, strict=False):
        lines.append(f"    nn.Linear({n_prev}, {n}),")
        # The last one is left out where it does nothing, and exp, which is no module, stands in `predict`.
        if len(lines) < len(names) or name in ("sigmoid", "softmax"):
            lines[-1] += f" nn.{MODULES[name]},"
    return lines


def _numbers(values: Any) -> str:
    """One number, or a tensor of several."""
    if len(values) == 1:
        return repr(float(values[0]))
    return f"torch.tensor({json.dumps([float(value) for value in values])}, dtype=torch.float64)"
