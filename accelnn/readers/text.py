"""Tables of text: CSV, with commas, and TSV, with tabs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

from accelnn.errors import DataError
from accelnn.readers import kinds
from accelnn.readers.guard import guarded, import_polars
from accelnn.readers.layout import Layout, line_of, look_through
from accelnn.readers.limits import require_memory

__all__ = ["TextTable"]

CELL_BYTES = 24  # a cell's place among the texts (16) and its number (8); what the texts hold comes on top


@dataclass(frozen=True)
class TextTable:
    """A CSV or TSV file, looked through but not parsed yet.

    Attributes
    ----------
    path : Path
        Fields are separated by tabs in a .tsv file and by commas in any other.
    """

    path: Path

    @property
    def separator(self) -> str:
        """Between fields."""
        return "\t" if self.path.suffix.lower() == ".tsv" else ","

    @cached_property
    def layout(self) -> Layout:
        """Names and rows; raises DataError for what is no table."""
        return look_through(self.path, self.separator)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns, in order."""
        return self.layout.names

    def place(self, row: int) -> str:
        """Where an editor shows a row, which is found by looking through the file again."""
        line = line_of(self.path, self.separator, row)
        return f"row {row}" if line is None else f"line {line}"

    def read(self, names: Sequence[str], categorical: Collection[str] = (), exact: str | None = None) -> Any:
        """Some of the columns, in this order.

        Parameters
        ----------
        names : sequence of str
        categorical : collection of str
            Those to take as text.
        exact : str, optional
            One whose whole numbers are kept as integers, so that those of more than 15 digits stay apart.

        Returns
        -------
        polars.DataFrame
            Of Float64, Boolean and String; missing values are null.

        Raises
        ------
        DataError
        """
        polars = import_polars(self.path)
        texts = self._texts(names)
        with guarded(self.path, "a table"):
            numbers = texts.select(polars.all().cast(polars.Float64, strict=False).fill_nan(None))
            lost = numbers.null_count().row(0)
            absent = texts.null_count().row(0)
            # Most columns are numbers throughout, or empty here and there, and need not be looked at one by one.
            columns = [
                kinds.column_of_texts(texts[name], name in categorical, partial(self._refuse, name))
                if name in categorical or lost[k] > absent[k]
                else numbers[name]
                for k, name in enumerate(names)
            ]
            frame = polars.DataFrame(columns)
            if exact is not None and frame[exact].dtype == polars.Float64:
                whole = texts[exact].str.strip_chars().cast(polars.Int64, strict=False)
                if whole.null_count() == frame[exact].null_count():
                    frame = frame.with_columns(whole.alias(exact))
            return frame

    def _texts(self, names: Sequence[str]) -> Any:
        layout, path = self.layout, self.path
        needed = (layout.rows + len(layout.blank)) * len(names) * CELL_BYTES + path.stat().st_size
        require_memory(f"{path}:", needed, "save it as NPY, which is read as it is needed, or split it")
        polars, wanted = import_polars(path), set(names)
        places = [place for place, name in enumerate(layout.names) if name in wanted]
        with guarded(path, "a table"):
            # Every column as text: polars would have to guess types from the first rows, or infer them slowly.
            frame = polars.read_csv(
                path,
                separator=self.separator,
                infer_schema=False,
                columns=places,
                glob=False,
            )
            frame.columns = [layout.names[place] for place in places]  # polars leaves the quotes in some
            frame = frame.select(names)
            if len(layout.blank):
                frame = frame.with_row_index("").filter(~polars.col("").is_in(layout.blank)).drop("")
        if frame.height != layout.rows:
            raise DataError(f"{path}: polars finds {frame.height:,} rows where there are {layout.rows:,}; save it anew")
        return frame

    def _refuse(self, name: str, row: int | None, complaint: str) -> NoReturn:
        where = "" if row is None else f", {self.place(row)}"
        raise DataError(f"{self.path}: column {name[:40]!r}{where}: {complaint}")
