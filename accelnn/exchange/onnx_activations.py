"""The activations of :mod:`accelnn.activations` as ONNX operators.

Where onnxruntime has an operator for float32 alone (LeakyRelu, Elu and Softplus, as of 1.32), a float64 network gets
the formula in operators that it has in both.
"""

from collections.abc import Callable

from accelnn.activations import GELU_CUBIC, GELU_SCALE, LEAK, LOG_RATE_LIMIT
from accelnn.exchange.onnx_graph import Graph

__all__ = ["OPERATORS"]


def _leaky_relu(graph: Graph, z: str, name: str) -> str:
    if graph.dtype == "float32":
        return graph.node("LeakyRelu", z, name=name, alpha=LEAK)
    return graph.node("Max", z, graph.node("Mul", z, graph.number(LEAK)), name=name)


def _elu(graph: Graph, z: str, name: str) -> str:
    if graph.dtype == "float32":
        return graph.node("Elu", z, name=name, alpha=1.0)
    # exp(z) - 1 = 2 t / (1 - t) with t = tanh(z / 2), which loses no digits near 0; ONNX has no expm1.
    half = graph.node("Mul", graph.node("Min", z, graph.number(0.0)), graph.number(0.5))
    t = graph.node("Tanh", half)
    negative = graph.node("Div", graph.node("Add", t, t), graph.node("Sub", graph.number(1.0), t))
    return graph.node("Where", graph.node("Greater", z, graph.number(0.0)), z, negative, name=name)


def _gelu(graph: Graph, z: str, name: str) -> str:
    # 0.5 z (1 + tanh(s (z + c z^3))); the operator Gelu came with opset 20.
    cube = graph.node("Mul", graph.node("Mul", z, z), z)
    inner = graph.node("Add", z, graph.node("Mul", cube, graph.number(GELU_CUBIC)))
    t = graph.node("Tanh", graph.node("Mul", inner, graph.number(GELU_SCALE)))
    half = graph.node("Mul", z, graph.number(0.5))
    return graph.node("Mul", half, graph.node("Add", t, graph.number(1.0)), name=name)


def _softplus(graph: Graph, z: str, name: str) -> str:
    if graph.dtype == "float32":
        return graph.node("Softplus", z, name=name)
    # max(z, 0) + log(1 + exp(-|z|)), which cannot overflow.
    e = graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))
    log = graph.node("Log", graph.node("Add", e, graph.number(1.0)))
    return graph.node("Add", graph.node("Max", z, graph.number(0.0)), log, name=name)


def _rate(graph: Graph, z: str, name: str) -> str:
    return graph.node("Exp", graph.node("Min", z, graph.number(LOG_RATE_LIMIT)), name=name)


def _one(operator: str, **attributes: int) -> Callable[[Graph, str, str], str]:
    return lambda graph, z, name: graph.node(operator, z, name=name, **attributes)


# name -> f(graph, z, name of the result), which returns that name, or the one it got.
OPERATORS: dict[str, Callable[[Graph, str, str], str]] = {
    "identity": _one("Identity"),
    "sigmoid": _one("Sigmoid"),
    "tanh": _one("Tanh"),
    "relu": _one("Relu"),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "gelu": _gelu,
    "softplus": _softplus,
    "exp": _rate,
    "softmax": _one("Softmax", axis=1),
}
