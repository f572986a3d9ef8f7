"""What stands between a table and a network as ONNX operators: one input for each column."""

import math
from collections.abc import Sequence

import numpy as np

from accelnn.exchange.onnx_graph import Graph
from accelnn.tables.schema import Categorical, Numeric, Schema

__all__ = ["encoded", "missing_text"]


def encoded(graph: Graph, schema: Schema) -> str:
    """Append the operators that make a network's inputs of a table's columns.

    A column of numbers (or of booleans, as 0 and 1) is an input of doubles of shape (N, 1), NaN where the value is
    missing; one of categories is an input of texts of shape (N, 1), `missing_text` where the value is missing. Inputs
    bear the columns' names. Standardising is done in double precision, as accelnn does, and then rounded to the graph's
    dtype.

    Parameters
    ----------
    graph : Graph
    schema : Schema

    Returns
    -------
    str
        The name of an array of shape (N, width) in the graph's dtype.
    """
    names = [_input(graph, column) for column in schema.columns]
    parts: list[str] = []
    order: list[int] = []  # which of the network's inputs each number in the parts is
    starts = np.cumsum([0, *(column.width for column in schema.columns)]).tolist()
    numeric = [k for k, column in enumerate(schema.columns) if isinstance(column, Numeric)]
    if numeric:
        columns = [column for column in schema.columns if isinstance(column, Numeric)]
        parts += _numbers(graph, [names[k] for k in numeric], columns)
        order += [starts[k] for k in numeric]
        order += [starts[k] + 1 for k in numeric if schema.columns[k].indicator]
    for k, column in enumerate(schema.columns):
        if isinstance(column, Categorical):
            parts += _categories(graph, names[k], column)
            order += range(starts[k], starts[k] + column.width)
    at = np.argsort(order)
    together = _joined(graph, parts, "inputs")
    if np.array_equal(at, np.arange(len(at))):
        return together
    return graph.node("Gather", together, graph.constant("order", at.astype(np.int64)), name="ordered", axis=1)


def _input(graph: Graph, column: Numeric | Categorical) -> str:
    return graph.input(column.name, "float64" if isinstance(column, Numeric) else "string", 1)


def _numbers(graph: Graph, names: Sequence[str], columns: Sequence[Numeric]) -> list[str]:
    """All columns of numbers at once: standardised values (N, n), and what says where a value was missing."""
    values, parts = _joined(graph, names, "numbers"), []
    if any(column.median is not None for column in columns):
        missing = graph.node("IsNaN", values, name="missing")
        # Without a median a missing value stays NaN, and so does the prediction.
        medians = [math.nan if column.median is None else column.median for column in columns]
        values = graph.node("Where", missing, graph.constant("median", np.array([medians])), values, name="imputed")
        if flagged := [k for k, column in enumerate(columns) if column.indicator]:
            which = graph.constant("flagged", np.array(flagged, dtype=np.int64))
            parts.append(graph.cast(graph.node("Gather", missing, which, axis=1), graph.dtype, "indicators"))
    centred = graph.node("Sub", values, graph.constant("mean", np.array([[column.mean for column in columns]])))
    scale = graph.constant("scale", np.array([[column.scale for column in columns]]))
    return [graph.cast(graph.node("Div", centred, scale), graph.dtype, "standardised"), *parts]


def _categories(graph: Graph, name: str, column: Categorical) -> list[str]:
    """One-hot: zeros for what is missing or unknown."""
    wanted = [*column.categories, *([missing_text(column)] if column.indicator else [])]
    texts = graph.constant(f"{name}: categories", np.array([wanted], dtype=object))
    equal = graph.node("Equal", name, texts)
    return [graph.cast(equal, graph.dtype, f"{name}: one-hot")]


def missing_text(column: Categorical) -> str:
    """What stands for a missing value, since ONNX has none of texts: nothing, unless that is a category."""
    return "" if "" not in column.categories else max(column.categories) + "?"


def _joined(graph: Graph, parts: Sequence[str], name: str) -> str:
    return parts[0] if len(parts) == 1 else graph.node("Concat", *parts, name=name, axis=1)
