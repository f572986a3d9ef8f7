"""Where the values of a table come from, so that an error can name the file, the column and the line."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Origin", "row_number", "shown"]

LONGEST = 40  # characters of a value, or of a name, in an error


def row_number(row: int) -> str:
    """A row of what has no lines, counted from 0."""
    return f"row {row}"


def shown(value: Any) -> str:
    """A value as an error quotes it, however long it is."""
    text = str(value)
    return repr(text if len(text) <= LONGEST else text[: LONGEST - 3] + "...")


@dataclass(frozen=True)
class Origin:
    """What an error says of where a value stands.

    Attributes
    ----------
    source : str
        The file; empty for arrays of a program.
    place : callable
        ``place(row)`` names a row, as in "line 7".
    """

    source: str = ""
    place: Callable[[int], str] = row_number

    def column(self, name: str) -> str:
        """Such as "t.csv: column 'a'"."""
        return f"{self.source}: column {shown(name)}" if self.source else f"column {shown(name)}"

    def value(self, name: str, row: int) -> str:
        """Such as "t.csv: column 'a', line 7"."""
        return f"{self.column(name)}, {self.place(int(row))}"

    def later(self, rows: int) -> "Origin":
        """That of a part which begins so many rows further on."""
        return Origin(self.source, lambda row: self.place(row + rows)) if rows else self
