"""What a network needs to know of a table: its columns, and how each becomes numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from accelnn.tables import encoding, learning
from accelnn.tables.columns import Categorical, Numeric, Standardizer, column_from_json, column_to_json
from accelnn.tables.encoding import Encoded, Tally
from accelnn.tables.origin import Origin, row_number

__all__ = ["Categorical", "Encoded", "Numeric", "Schema", "Standardizer", "Tally"]


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in the order in which the network takes them.

    A column of numbers becomes one input of mean 0 and deviation 1 over the training rows; a boolean counts as 0 or 1;
    a text column becomes one input for each of its categories. What is sparse has to stay so: its columns keep their
    zeros and are divided by the root of their mean square, so that an input's mean square is 1, as it is for the
    others. A column in which values were missing has one more input, which says where.

    Attributes
    ----------
    columns : tuple of Numeric or Categorical
        An array without names has ``x0``, ``x1``, ... of `Numeric`.

    Examples
    --------
    From a table to a network, and the same for new rows:

    >>> import polars
    >>> table = polars.DataFrame({"age": [31, 52, None, 47], "city": ["Ulm", "Bonn", "Ulm", "Ulm"]})
    >>> schema = Schema.of(table, missing="impute")
    >>> schema.inputs
    ('age', 'age is missing', 'city=Bonn', 'city=Ulm')
    >>> X = schema.encode(table).X  # (m, width): examples are rows, as accelnn.MLPClassifier takes them
    >>> X[:, 2:].tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    >>> from accelnn import Network
    >>> net = Network([schema.width, 8, 1], backend="numpy")
    >>> history = net.fit(X.T, [0, 1, 0, 1], epochs=3)  # examples are columns, as in the equations
    >>> new = schema.encode(polars.DataFrame({"city": ["Kiel"], "age": [40]}))
    >>> new.X.shape, new.tally.unknown["city"]
    ((1, 4), 1)
    """

    columns: tuple[Numeric | Categorical, ...]

    @classmethod
    def of(
        cls,
        X: Any,
        names: Sequence[str] | None = None,
        rows: np.ndarray | None = None,
        *,
        missing: str = "refuse",
        source: str = "",
        place: Callable[[int], str] = row_number,
    ) -> "Schema":
        """Learn from the rows that a network is to be trained on.

        Parameters
        ----------
        X : array or sparse array of shape (m, n), or polars.DataFrame
            Numbers; a frame may hold booleans and text too. NaN and null are missing values. A memory map is read in
            blocks and never copied as a whole; ``missing="impute"`` needs memory for one column of it. Of a table that
            stays on the disk (see `lazy` of :func:`accelnn.tables.load_table`), one column is in memory at a time.
        names : sequence of str, optional
            Of the columns; by default a frame's own, or ``x0``, ``x1``, ... Those of a frame may be some of its own.
        rows : array of int, optional
            The training part; by default all rows.
        missing : {"refuse", "impute"}
            What to do about missing values. ``"impute"`` puts the median of the training part in the place of a number,
            and all zeros in that of a category; an indicator is added to each column that has missing values in the
            training part.
        source : str
            The file, for errors.
        place : callable
            ``place(row)`` names a row of X for errors.

        Raises
        ------
        DataError
            For a missing value that is refused, a column without any value, values that are too large or infinite, a
            text column with more than 1000 categories, or a kind of column that is not known. The message names the
            column, the place and the remedy.
        """
        return cls(learning.learned(X, names, rows, missing, Origin(source, place)))

    def encode(
        self,
        X: Any,
        *,
        strict: bool = False,
        dtype: Any = np.float64,
        source: str = "",
        place: Callable[[int], str] = row_number,
    ) -> Encoded:
        """Rows of a table as a network takes them.

        A row becomes the same to the last bit, whichever rows stand beside it.

        Parameters
        ----------
        X : array or sparse array of shape (m, n), or polars.DataFrame
            An array has the columns in the schema's order; a frame in any order, and others are ignored.
        strict : bool
            Whether a category that training did not see is an error; otherwise it becomes zeros, and is counted.
        dtype : {"float64", "float32"}
            Of the result. The statistics are applied in double precision.
        source, place
            As for `of`.

        Returns
        -------
        Encoded
            With an array of shape (m, width) in C order. A sparse X gives a ``scipy.sparse.csr_array`` where every
            column keeps its zeros, as those learned from a sparse X do, and a dense array otherwise.

        Raises
        ------
        DataError
            For columns that are not those of the schema, a missing value in a column that refuses it, an infinite or
            far too large value, or (if `strict`) an unknown category. The message names the column and the place.
        """
        return encoding.encoded(self._plan, X, strict, np.dtype(dtype), Origin(source, place))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def width(self) -> int:
        """Inputs of the network: those of the first column, then of the second, an indicator last of its column."""
        return sum(column.width for column in self.columns)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What each input of the network is."""
        named: list[str] = []
        for column in self.columns:
            if isinstance(column, Numeric):
                named.append(column.name)
            else:
                named += [f"{column.name}={category}" for category in column.categories]
            named += [f"{column.name} is missing"] * column.indicator
        return tuple(named)

    def to_json(self) -> list[dict[str, Any]]:
        """As what JSON holds; `from_json` reads it back, bit for bit."""
        return [column_to_json(column) for column in self.columns]

    @classmethod
    def from_json(cls, columns: Sequence[Mapping[str, Any]]) -> "Schema":
        """What `to_json` gave.

        Raises
        ------
        TypeError, ValueError, KeyError
            Where it is nothing of the kind.
        """
        if not isinstance(columns, list) or not columns:
            raise TypeError("there is no list of columns")
        schema = cls(tuple(map(column_from_json, columns)))
        if len(set(schema.names)) < len(columns):
            raise ValueError("two columns have the same name")
        return schema

    @cached_property
    def _plan(self) -> encoding.Plan:
        return encoding.Plan.of(self.columns)
