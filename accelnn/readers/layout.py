"""How a text table is laid out: its encoding, its quotes, its rows, and the number of fields in each.

A parser of text forgives: it fills short rows, guesses what a stray quote means, and knows no line numbers afterwards.
So the file is looked through once before it is parsed, a block of whole rows at a time and without a loop over rows,
and what a parser would have to guess is refused with its line. What passes is a table as RFC 4180 has it: each row has
as many fields as the header, a field that holds a separator, a quote or a line break stands in double quotes, and
quotes within it are doubled. Rows end with a line feed, which a carriage return may precede.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np

from accelnn.errors import DataError
from accelnn.readers.limits import FIELD_BYTES, ROW_BYTES, TEXT_COLUMNS
from accelnn.readers.sources import reason

__all__ = ["Layout", "line_of", "look_through"]

CHUNK = 2**22  # bytes that are looked at in one go

_MARK = b"\xef\xbb\xbf"  # the byte order mark of UTF-8
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")  # those of UTF-16; UTF-32's begins with the first
_QUOTE, _FEED, _RETURN = 34, 10, 13
_OTHERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class Layout:
    """What is known of a text table before it is parsed.

    Attributes
    ----------
    names : tuple of str
        The header.
    rows : int
        Below the header; blank lines are none.
    blank : array of int64
        The places of blank lines among rows and blank lines, counted from 0 below the header.
    """

    names: tuple[str, ...]
    rows: int
    blank: np.ndarray


@dataclass(frozen=True)
class _Block:
    """Some whole rows of a file.

    Attributes
    ----------
    path : Path
    text : bytes
        Ends with a line feed outside quotes.
    line : int
        In which it begins, counted from 1.
    separator : int
    """

    path: Path
    text: bytes
    line: int
    separator: int

    @cached_property
    def codes(self) -> np.ndarray:
        return np.frombuffer(self.text, np.uint8)

    @cached_property
    def quotes(self) -> np.ndarray:
        return _positions(self.text, self.codes, _QUOTE)

    @cached_property
    def ends(self) -> np.ndarray:
        """Where the rows' line feeds are."""
        return _outside(np.flatnonzero(self.codes == _FEED), self.quotes)

    @cached_property
    def starts(self) -> np.ndarray:
        return np.concatenate([[0], self.ends[:-1] + 1])

    @cached_property
    def separators(self) -> np.ndarray:
        return _outside(np.flatnonzero(self.codes == self.separator), self.quotes)

    @cached_property
    def fields(self) -> np.ndarray:
        """How many each row has."""
        return np.diff(np.searchsorted(self.separators, self.ends), prepend=0) + 1

    @cached_property
    def blank(self) -> np.ndarray:
        """Whether a row is an empty line."""
        length = self.ends - self.starts
        return (length == 0) | ((length == 1) & (self.codes[self.starts] == _RETURN))

    @property
    def whole_rows(self) -> int:
        """Bytes up to the end of the last row that ends in the block."""
        if len(self.quotes):
            return int(self.ends[-1]) + 1 if len(self.ends) else 0
        return self.text.rfind(b"\n") + 1

    @property
    def lines(self) -> int:
        return self.text.count(b"\n") if len(self.quotes) else len(self.ends)

    def line_at(self, position: int) -> int:
        return self.line + self.text.count(b"\n", 0, position)

    def refuse(self, position: int, complaint: str) -> NoReturn:
        raise DataError(f"{self.path}: line {self.line_at(int(position))}: {complaint}")


def look_through(path: Path, separator: str) -> Layout:
    """Read a text table's header and see that every row fits it.

    Parameters
    ----------
    path : Path
    separator : str
        One ASCII character.

    Raises
    ------
    DataError
        With the line, for what is no UTF-8, holds a NUL, has rows of different lengths or quotes that do not match,
        for a field of more than `FIELD_BYTES` or a row of more than `ROW_BYTES`, more than `TEXT_COLUMNS` columns, a
        column without a name or with another's, and a table without rows.
    """
    names: tuple[str, ...] = ()
    seen, blank = 0, []
    for block in _blocks(path, separator):
        first = 0
        if not names:
            names, first = _header(block), 1
        _require_width(block, len(names), first)
        _require_short_fields(block)
        if block.blank.any():
            blank.append(np.flatnonzero(block.blank[first:]) + seen)
        seen += len(block.ends) - first
    blanks = np.concatenate(blank) if blank else np.empty(0, np.int64)
    if seen == len(blanks):
        raise DataError(f"{path}: has a header but no rows")
    return Layout(names, seen - len(blanks), blanks)


def line_of(path: Path, separator: str, row: int) -> int | None:
    """The line, counted from 1 as an editor does, in which a row begins; None where the file has no such row.

    Parameters
    ----------
    path : Path
    separator : str
    row : int
        Counted from 0 below the header, blank lines left out.
    """
    left = row + 1  # the header counts here
    for block in _blocks(path, separator):
        starts = block.starts[~block.blank]
        if left < len(starts):
            return block.line_at(int(starts[left]))
        left -= len(starts)
    return None


def _blocks(path: Path, separator: str) -> Iterator[_Block]:
    """The file as blocks of whole rows, each of which is sound text with sound quotes."""
    code, line, rest, at_start = ord(separator), 1, b"", True
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                if at_start:
                    _require_narrow(path, chunk)
                    chunk, at_start = chunk.removeprefix(_MARK), False
                window = _Block(path, rest + chunk, line, code)
                if b"\0" in window.text:
                    window.refuse(window.text.index(b"\0"), "holds a NUL byte; export the table as UTF-8 text again")
                _require_quoting(window, at_end=False)
                length = window.whole_rows
                rest = window.text[length:]
                if length:
                    block = _Block(path, window.text[:length], line, code)
                    _require_text(block)
                    yield block
                    line += block.lines
                if len(rest) > ROW_BYTES:
                    _refuse_endless(path, rest, line)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({reason(problem)})") from None
    if rest:
        last = _Block(path, rest + b"\n", line, code)
        _require_text(last)
        _require_quoting(last, at_end=True)
        if rest.endswith(b"\r"):
            _refuse_return(last, len(rest) - 1)
        yield last


def _outside(positions: np.ndarray, quotes: np.ndarray) -> np.ndarray:
    """Those before which an even number of quotes stands."""
    return positions[np.searchsorted(quotes, positions) % 2 == 0] if len(quotes) else positions


def _positions(text: bytes, codes: np.ndarray, code: int) -> np.ndarray:
    """Of a character that is often nowhere, which takes no time to find."""
    return np.flatnonzero(codes == code) if code in text else np.empty(0, np.int64)


def _require_narrow(path: Path, start: bytes) -> None:
    """Refuse UTF-16 and UTF-32, whose halves would look like rows of control characters."""
    sample = start[:1024]
    if start.startswith(_WIDE_MARKS) or max(sample[::2].count(0), sample[1::2].count(0)) > len(sample) // 4:
        raise DataError(f"{path}: line 1: is UTF-16 or UTF-32; save it as UTF-8")


def _require_text(block: _Block) -> None:
    if not block.text.isascii():
        try:
            block.text.decode("utf-8")
        except UnicodeDecodeError as problem:
            value = f"byte 0x{block.text[problem.start]:02x}"
            block.refuse(problem.start, f"{value} is no UTF-8; save the file as UTF-8")


def _require_quoting(block: _Block, at_end: bool) -> None:
    """A quote opens a field, closes one, or is one of two within a quoted field; carriage returns precede line feeds.

    The first quote that is none of these is found where it stands, since those before it were sound.
    """
    quotes, codes = block.quotes, block.codes
    if len(quotes):
        opening, closing = quotes[::2], quotes[1::2]
        before = codes[opening - 1]  # of the first byte it is the last one, which is not looked at
        sound = (opening == 0) | (before == block.separator) | (before == _FEED) | (before == _QUOTE)
        after = codes[np.minimum(closing + 1, len(codes) - 1)]
        closed = (after == block.separator) | (after == _FEED) | (after == _RETURN) | (after == _QUOTE)
        closed |= closing == len(codes) - 1  # what follows is not there yet
        wrong = np.concatenate([opening[~sound], closing[~closed]])
        if len(wrong):
            block.refuse(
                wrong.min(),
                'a quote stands within a field; put the whole field in quotes and double those within ("5"" pipe")',
            )
        if at_end and len(quotes) % 2:
            block.refuse(quotes[-1], "a quote is opened and never closed; close it")
    returns = _outside(_positions(block.text, codes, _RETURN), quotes)
    returns = returns[returns < len(codes) - 1]
    lone = returns[codes[returns + 1] != _FEED]
    if len(lone):
        _refuse_return(block, lone[0])


def _refuse_return(block: _Block, position: int) -> NoReturn:
    block.refuse(position, "a carriage return stands without a line feed; save the file with line feeds")


def _refuse_endless(path: Path, text: bytes, line: int) -> NoReturn:
    hint = "; is a quote opened and never closed?" if b'"' in text else ""
    raise DataError(f"{path}: line {line}: the row is longer than {ROW_BYTES:,} bytes, the most that is read{hint}")


def _header(block: _Block) -> tuple[str, ...]:
    if block.blank[0]:
        block.refuse(0, "is blank; let the first line name the columns")
    if block.fields[0] > TEXT_COLUMNS:
        raise DataError(
            f"{block.path}: line 1: has {block.fields[0]:,} columns, and a text table may have {TEXT_COLUMNS:,}; "
            "save it as NPY, or as svmlight where most values are zero"
        )
    _require_short_fields(block)
    text = block.text[: block.ends[0]].decode("utf-8")
    try:
        (names,) = csv.reader(io.StringIO(text, newline=""), delimiter=chr(block.separator))
    except (csv.Error, ValueError) as problem:
        raise DataError(f"{block.path}: line 1: cannot be read as names of columns ({problem})") from None
    _require_separator(block, names)
    seen: set[str] = set()
    for place, name in enumerate(names, 1):
        if not name.strip():
            block.refuse(
                0, f"column {place} has no name; name it, or leave it out (in pandas, to_csv(index=False) does)"
            )
        if name in seen:
            block.refuse(0, f"column {name[:40]!r} occurs twice; rename one")
        seen.add(name)
    return tuple(names)


def _require_separator(block: _Block, names: list[str]) -> None:
    """Refuse a header of one name that holds another usual separator."""
    if len(names) > 1 or block.text.startswith(b'"'):
        return
    for other, word in _OTHERS.items():
        if ord(other) != block.separator and other in names[0]:
            body = block.text[block.ends[0] + 1 :].split(b"\n", 1)[0].decode("utf-8")
            commas = " (and write decimal points, not commas)" if other != "," and _decimal_comma(body, other) else ""
            remedy = "name it .tsv" if other == "\t" else "name it .csv" if other == "," else "save it with commas"
            block.refuse(
                0, f"the fields are separated by {word}, not by {_OTHERS[chr(block.separator)]}; {remedy}{commas}"
            )


def _decimal_comma(line: str, separator: str) -> bool:
    return any(part.strip().replace(",", "", 1).isdecimal() and "," in part for part in line.split(separator))


def _require_width(block: _Block, width: int, first: int) -> None:
    wrong = (block.fields != width) & ~block.blank
    wrong[:first] = False
    if wrong.any():
        row = int(np.argmax(wrong))
        found = int(block.fields[row])
        block.refuse(
            block.starts[row],
            f"has {found} field{'s' if found != 1 else ''}, and the header has {width}; put a field that holds a "
            "separator in quotes, and leave an empty field where a value is missing",
        )


def _require_short_fields(block: _Block) -> None:
    if (block.ends - block.starts).max() <= FIELD_BYTES:
        return
    marks = np.sort(np.concatenate([block.separators, block.ends]))
    lengths = np.diff(marks, prepend=-1) - 1
    longest = int(np.argmax(lengths))
    if lengths[longest] > FIELD_BYTES:
        start = int(marks[longest]) - int(lengths[longest])
        block.refuse(
            start,
            f"a field has {int(lengths[longest]):,} bytes, and {FIELD_BYTES:,} is the most that is read; shorten it, "
            "or leave the column out of the file",
        )
