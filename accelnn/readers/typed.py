"""Tables whose columns have types: Parquet, and Arrow's file format, which Feather is another name of."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from accelnn.errors import DataError
from accelnn.readers import kinds
from accelnn.readers.footer import Promise, promise_of
from accelnn.readers.guard import guarded, import_polars, panics_unprinted
from accelnn.readers.limits import require_memory
from accelnn.readers.sources import PARQUET

__all__ = ["TypedTable"]

NUMBER_BYTES, TEXT_BYTES = 8, 16  # of a text's place, to which the text itself comes


@dataclass(frozen=True)
class TypedTable:
    """A Parquet or Arrow file, of which the description was read but no values.

    Attributes
    ----------
    path : Path
    """

    path: Path

    @cached_property
    def schema(self) -> Any:
        """Types by name, as polars has them; raises DataError for what is no such file, or has nameless columns."""
        with guarded(self.path, self._kind), panics_unprinted():
            schema = self._scan().collect_schema()
        for place, name in enumerate(schema, 1):
            if not name.strip():
                raise DataError(f"{self.path}: column {place} has no name; name it, or leave it out")
        return schema

    @cached_property
    def promise(self) -> Promise:
        """Rows, and bytes of text, as the file's description has them; nobody knows those of an Arrow file's text."""
        polars = import_polars(self.path)
        found = promise_of(self.path) if self._is_parquet else None
        if found is not None:
            return found
        with guarded(self.path, self._kind), panics_unprinted():
            return Promise(int(self._scan().select(polars.len()).collect().item()), 0)

    @property
    def rows(self) -> int:
        """As the file's description has it."""
        return self.promise.rows

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns, in order."""
        return tuple(self.schema)

    def place(self, row: int) -> str:
        """Such as "row 7"."""
        return f"row {row}"

    def read(self, names: Sequence[str], categorical: Collection[str] = (), exact: str | None = None) -> Any:
        """Some of the columns, in this order.

        Parameters
        ----------
        names : sequence of str
        categorical : collection of str
            Those to take as text.
        exact : str, optional
            Taken for the sake of text tables; what is stored as integers comes back as integers here.

        Returns
        -------
        polars.DataFrame
            Of integers, floats, Boolean and String; missing values are null.

        Raises
        ------
        DataError
        """
        texts = sum(str(self.schema[name]) == "String" for name in names)
        rows = self.promise.rows
        if rows == 0:
            raise DataError(f"{self.path}: has columns but no rows")
        needed = rows * (texts * TEXT_BYTES + (len(names) - texts) * NUMBER_BYTES) + (self.promise.size if texts else 0)
        require_memory(
            f"{self.path}: {rows:,} rows", needed, "save it as NPY, which is read as it is needed, or split it"
        )
        with guarded(self.path, self._kind), panics_unprinted():
            frame = self._scan().select(names).collect()
            if frame.height != rows:
                raise DataError(f"{self.path}: promises {rows:,} rows and holds {frame.height:,}; save it again")
            return kinds.columns_of_types(frame, categorical, self._refuse)

    def read_rows(self, names: Sequence[str], categorical: Collection[str], first: int, end: int) -> Any:
        """Some rows of some of the columns; otherwise as `read`."""
        with guarded(self.path, self._kind), panics_unprinted():
            frame = self._scan().select(names).slice(first, end - first).collect()
            if frame.height != end - first:
                raise DataError(f"{self.path}: promises {self.rows:,} rows and holds others; save it again")

            def refuse(name: str, row: int | None, complaint: str) -> NoReturn:
                self._refuse(name, None if row is None else first + row, complaint)

            return kinds.columns_of_types(frame, categorical, refuse)

    @property
    def _is_parquet(self) -> bool:
        return self.path.suffix.lower() in PARQUET

    @property
    def _kind(self) -> str:
        return "Parquet" if self._is_parquet else "an Arrow file"

    def _scan(self) -> Any:
        polars = import_polars(self.path)
        if self._is_parquet:
            return polars.scan_parquet(self.path, glob=False, hive_partitioning=False)
        # Not every version of polars can be told to take a path as it is.
        source = self.path.read_bytes() if set("*?[") & set(str(self.path)) else self.path
        return polars.scan_ipc(source, hive_partitioning=False)

    def _refuse(self, name: str, row: int | None, complaint: str) -> NoReturn:
        where = "" if row is None else f", {self.place(row)}"
        raise DataError(f"{self.path}: column {name[:40]!r}{where}: {complaint}")
