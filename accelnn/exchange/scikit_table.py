"""What stands between a table and a network as scikit-learn's transformers, fitted by hand.

Each is fitted on one or two made-up rows, so that this version of scikit-learn sets what it keeps, and then given the
statistics of the schema, so that it computes what accelnn does.
"""

import math
from typing import Any

import numpy as np

from accelnn.errors import DataError
from accelnn.tables.schema import Categorical, Numeric, Schema

__all__ = ["pipeline_of"]


def pipeline_of(schema: Schema, estimator: Any) -> Any:
    """A fitted pipeline from a table's columns to what the estimator predicts.

    Parameters
    ----------
    schema : Schema
    estimator : MLPClassifier or MLPRegressor of scikit-learn's
        Its first layer takes the inputs in the schema's order; the rows of its weights are reordered, in place, to
        that of the transformers.

    Returns
    -------
    Pipeline
        Of a StandardScaler, where every column is a number that is never missing: it takes an array, or a table with
        the columns in this order. Else of a ColumnTransformer, which takes a table and finds its columns by name.

    Raises
    ------
    DataError
        Where a table is needed, and neither pandas nor polars is there.
    """
    from sklearn.pipeline import Pipeline

    columns = schema.columns
    plain = [column for column in columns if isinstance(column, Numeric) and column.median is None]
    if len(plain) == len(columns):
        scaler = _scaler(plain)
        if schema.names != tuple(f"x{k}" for k in range(len(columns))):  # an array's columns have no names
            scaler.feature_names_in_ = np.array(schema.names, dtype=object)
        return Pipeline([("scale", scaler), ("network", estimator)])
    starts = dict(zip(schema.names, np.cumsum([0, *(column.width for column in columns)]).tolist(), strict=False))
    filled = [column for column in columns if isinstance(column, Numeric) and column.median is not None]
    parts: list[tuple[str, Any, list[str]]] = []
    order: list[int] = []  # which of the network's inputs each of the transformers' outputs is
    if plain:
        parts.append(("numbers", _scaler(plain), [column.name for column in plain]))
        order += [starts[column.name] for column in plain]
    if filled:
        parts.append(("filled", _imputer(filled), [column.name for column in filled]))
        order += [starts[column.name] for column in filled]
        order += [starts[column.name] + 1 for column in filled if column.indicator]
    for k, column in enumerate(columns):
        if isinstance(column, Categorical):
            parts.append((f"categories_{k}", _one_hot(column), [column.name]))
            first = starts[column.name]
            order += range(first, first + len(column.categories))
            order += [first + len(column.categories)] * (2 * column.indicator)
    estimator.coefs_[0] = estimator.coefs_[0][order]
    estimator._best_coefs, estimator.n_features_in_ = list(estimator.coefs_), len(order)
    return Pipeline([("encode", _together(schema, parts)), ("network", estimator)])


def _scaler(columns: list[Numeric], more: int = 0) -> Any:
    """To mean 0 and deviation 1; `more` columns behind them stay as they are."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(np.zeros((1, len(columns) + more)))
    scaler.mean_ = np.array([column.mean for column in columns] + [0.0] * more)
    scaler.scale_ = np.array([column.scale for column in columns] + [1.0] * more)
    scaler.var_ = scaler.scale_**2
    return scaler


def _imputer(columns: list[Numeric]) -> Any:
    """Medians for what is missing; the indicators, which are not scaled, follow all of the columns."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline

    medians = [0.0 if column.median is None else column.median for column in columns]
    rows = np.array([medians, [math.nan if column.indicator else 0.0 for column in columns]])
    imputer = SimpleImputer(strategy="median", add_indicator=True).fit(rows)
    imputer.statistics_ = np.array(medians)
    return Pipeline([("fill", imputer), ("scale", _scaler(columns, sum(column.indicator for column in columns)))])


def _one_hot(column: Categorical) -> Any:
    """Zeros for another category. Of what is missing, tables have two forms, each a category of its own."""
    from sklearn.preprocessing import OneHotEncoder

    categories = np.array([*column.categories, *([None, math.nan] if column.indicator else [])], dtype=object)
    encoder = OneHotEncoder(categories=[categories], handle_unknown="ignore", sparse_output=False)
    return encoder.fit(np.array([[""]], dtype=object))


def _together(schema: Schema, parts: list[tuple[str, Any, list[str]]]) -> Any:
    """All transformers side by side."""
    from sklearn.compose import ColumnTransformer

    # The fit copies the transformers and fits the copies, whose outputs must be as wide as those of what they are
    # replaced with: a missing value gives an indicator.
    rows = {}
    for column in schema.columns:
        number = isinstance(column, Numeric)
        rows[column.name] = [0.0, math.nan if column.indicator else 1.0] if number else ["", ""]
    together = ColumnTransformer(parts, verbose_feature_names_out=False).fit(_frame(rows))
    fitted = {}
    for name, transformer, names in parts:
        fitted[name] = transformer
        first = transformer[0] if hasattr(transformer, "steps") else transformer
        first.feature_names_in_ = np.array(names, dtype=object)
    together.transformers_ = [
        (name, fitted.get(name, transformer), names) for name, transformer, names in together.transformers_
    ]
    return together


def _frame(columns: dict[str, Any]) -> Any:
    try:
        import pandas
    except ImportError:
        try:
            import polars
        except ImportError:
            raise DataError(
                "model: its pipeline takes tables, and neither pandas nor polars is installed; run: pip install "
                '"accelnn[tables]"'
            ) from None
        return polars.DataFrame(columns)
    return pandas.DataFrame(columns)
