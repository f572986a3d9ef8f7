"""A model as an ONNX graph, which any program with an ONNX runtime can run."""

import json
import os
from typing import Any

import numpy as np

from accelnn.exchange.files import TEXT, Written, quoted
from accelnn.exchange.onnx_activations import OPERATORS
from accelnn.exchange.onnx_graph import Graph
from accelnn.exchange.onnx_table import encoded, missing_text
from accelnn.exchange.source import Source, source_of
from accelnn.storage import write_atomically
from accelnn.tables.schema import Categorical

__all__ = ["save_onnx", "to_onnx"]


def to_onnx(model: Any) -> Any:
    """A model as an ONNX graph, its preprocessing included, checked by ONNX's own checker.

    Parameters
    ----------
    model : Network, TableModel or fitted estimator of accelnn's

    Returns
    -------
    onnx.ModelProto
        Of opset 19. Examples are rows, and there may be any number N of them.

        A network has the input ``X`` (N, n_0) and the output ``A`` (N, n_L), in its dtype.

        A table model has an input for each column, of shape (N, 1) and with the column's name: doubles for numbers and
        booleans, NaN where missing; texts for categories, empty where missing (where the empty text is a category,
        another text is, which the metadata names). Nothing is refused: a missing number that accelnn refuses makes NaN
        of the outputs, a missing category zeros.

        A classifier has the outputs ``label`` (N,) and ``probabilities`` (N, classes), in its dtype; a regressor
        ``value`` (N, targets), doubles in the target's units. An output whose name a column has gets another ending.

    Raises
    ------
    DataError
        For what is no model, more than 2 GiB of parameters, or where the package onnx is missing.
    """
    source = source_of(model)
    network, schema = source.network, source.schema
    graph = Graph(network.dtype, () if schema is None else schema.names)
    inputs = graph.input("X", network.dtype, network.sizes[0]) if schema is None else encoded(graph, schema)
    A = _layers(graph, source, inputs)
    if source.classes is not None:
        _labelled(graph, A, network.sizes[-1], source.classes)
    elif schema is not None or source.scale is not None:
        _in_units(graph, A, source)
    else:
        graph.output(A, network.dtype, network.sizes[-1])
    about = {name: getattr(network, name) for name in ("sizes", "activations", "output", "loss", "dtype")}
    properties = {"accelnn.network": json.dumps(about)}
    if schema is not None:
        properties["accelnn.schema"] = json.dumps(schema.to_json())
        properties["accelnn.target"] = source.target
        missing = {c.name: missing_text(c) for c in schema.columns if isinstance(c, Categorical)}
        properties["accelnn.missing"] = json.dumps(missing)
    return graph.model(properties, f"A multilayer perceptron, {'-'.join(map(str, network.sizes))}")


def save_onnx(model: Any, path: str | os.PathLike[str]) -> Written:
    """Write what :func:`to_onnx` gives, whole or not at all.

    Parameters
    ----------
    model : Network, TableModel or fitted estimator of accelnn's
    path : path

    Returns
    -------
    Written
        With the lines of Python by which onnxruntime predicts.

    Raises
    ------
    DataError
        As `to_onnx`.
    OutputError
        Where the file cannot be written; an old one is as it was.
    """
    source, made = source_of(model), to_onnx(model)
    content = made.SerializeToString()
    with write_atomically(path) as file:
        file.write(content)
    outputs = [output.name for output in made.graph.output]
    lines = ["import onnxruntime", "", f"session = onnxruntime.InferenceSession({quoted(path)})"]
    if source.schema is None:
        feed, inputs = '{"X": X}', f"one input X of shape (N, {source.network.sizes[0]}), {source.network.dtype}"
    else:
        feed, inputs = "columns", f"an input for each of {len(source.schema.columns):,} columns"
        column = "table[i.name].to_numpy().astype(float)[:, None]"
        if any(isinstance(c, Categorical) for c in source.schema.columns):
            lines, column = _reading_texts(lines), "column(i)"
        lines += [
            "# table: a data frame of pandas or polars",
            f"columns = {{i.name: {column} for i in session.get_inputs()}}",
        ]
    lines.append(f"{', '.join(outputs)}{',' if len(outputs) == 1 else ''} = session.run(None, {feed})")
    return Written("\n".join(lines) + "\n", f"it has {inputs}, and gives {' and '.join(outputs)}")


def _reading_texts(lines: list[str]) -> list[str]:
    """The same with a function ``column`` for what is text to the graph, of whatever kind it is in a table."""
    return [
        "import json",
        "",
        "import numpy as np",
        *lines,
        'missing = json.loads(session.get_modelmeta().custom_metadata_map["accelnn.missing"])',
        "",
        *TEXT,
        "",
        "",
        "def column(i):",
        '    if i.type == "tensor(double)":',
        "        return table[i.name].to_numpy().astype(float)[:, None]",
        "    texts = [text(v, missing[i.name]) for v in table[i.name].to_list()]",
        "    return np.array(texts, dtype=object)[:, None]",
        "",
        "",
    ]


def _layers(graph: Graph, source: Source, A: str) -> str:
    names = [*source.network.activations, source.network.output]
    for l, ((weights, bias), name) in enumerate(zip(source.layers(), names, strict=True), start=1):
        W, b = graph.constant(f"W[{l}]", weights), graph.constant(f"b[{l}]", bias)
        Z = graph.node("Gemm", A, W, b, name=f"Z[{l}]")
        A = OPERATORS[name](graph, Z, "A" if l == len(names) else f"A[{l}]")
    return A


def _labelled(graph: Graph, A: str, units: int, classes: np.ndarray) -> None:
    """The outputs of a classifier."""
    kind = "string" if classes.dtype.kind in "UO" else "float64" if classes.dtype.kind == "f" else "int64"
    if units == 1:  # the probability of the second of two classes
        first = graph.node("Sub", graph.number(1.0), A)
        probabilities = graph.node("Concat", first, A, name="probabilities", axis=1)
    else:
        probabilities = graph.node("Identity", A, name="probabilities")
    best = graph.node("ArgMax", probabilities, axis=1, keepdims=0)
    named = graph.constant("classes", classes if kind == "string" else classes.astype(kind))
    graph.output(graph.node("Gather", named, best, name="label", axis=0), kind, None)
    graph.output(probabilities, graph.dtype, len(classes))


def _in_units(graph: Graph, A: str, source: Source) -> None:
    """The outputs of a regressor."""
    A = graph.cast(A, "float64")
    if source.mean is None or source.scale is None:
        value = graph.node("Identity", A, name="value")
    else:
        scaled = graph.node("Mul", A, graph.constant("target scale", source.scale))
        value = graph.node("Add", scaled, graph.constant("target mean", source.mean), name="value")
    graph.output(value, "float64", source.network.sizes[-1])
