"""Columns that stay on the disk, of which rows are read as they are asked for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from accelnn.readers.typed import TypedTable

__all__ = ["LazyColumns"]


class LazyColumns:
    """Some columns of a Parquet or Arrow file, indexed as a polars.DataFrame is: by a name, or by row numbers.

    Parameters
    ----------
    table : TypedTable
    names : sequence of str
    categorical : collection of str
        Those to take as text.
    """

    def __init__(self, table: "TypedTable", names: Sequence[str], categorical: frozenset[str]):
        self.table, self.columns, self.categorical = table, list(names), categorical

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.table.rows, len(self.columns)

    def __len__(self) -> int:
        return self.table.rows

    def __getitem__(self, chosen: Any) -> Any:
        """A whole column (polars.Series), or all columns of some rows (polars.DataFrame), read as one range."""
        if isinstance(chosen, str):
            return self.table.read([chosen], self.categorical)[chosen]
        rows = np.arange(len(self))[chosen] if isinstance(chosen, slice) else np.asarray(chosen)
        if not len(rows):
            return self.table.read_rows(self.columns, self.categorical, 0, 0)
        first, last = int(rows.min()), int(rows.max())
        found = self.table.read_rows(self.columns, self.categorical, first, last + 1)
        return found if last - first + 1 == len(rows) and np.all(np.diff(rows) == 1) else found[rows - first]
