"""Sparse tables as svmlight and libsvm have them: a line a row, the target and then ``index:value`` pairs.

scikit-learn reads them. Indices begin at 1 and increase along a line. Files whose indices begin at 0 are about as
common and cannot be told apart for certain, and a guess that differs between training and prediction would shift every
column; so an index of 0 is refused.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accelnn.errors import DataError
from accelnn.readers.limits import ARRAY_COLUMNS, ROW_BYTES, require_memory
from accelnn.readers.sources import reason
from accelnn.tables.origin import shown

__all__ = ["SparseTable"]

EXPANSION = 6  # bytes of memory for one of the file; a pair of few characters becomes an index and a float64


@dataclass(frozen=True)
class SparseTable:
    """A svmlight file.

    Attributes
    ----------
    path : Path
    """

    path: Path

    def place(self, row: int) -> str:
        """Where an editor shows a row, which is found by reading the file again."""
        for number, (line, _) in enumerate(self._rows()):
            if number == row:
                return f"line {line}"
        return f"row {row}"

    def read(self, columns: int | None = None) -> tuple[Any, np.ndarray]:
        """X and y.

        Parameters
        ----------
        columns : int, optional
            How many there are; by default, as many as the highest index says. A higher index is refused.

        Returns
        -------
        X : scipy.sparse.csr_array of float64, shape (m, n)
            NaN stands for a missing value.
        y : array of float64, shape (m,)

        Raises
        ------
        DataError
            With the line, for what is no such file, an index that is no whole number from 1 to `ARRAY_COLUMNS`, indices
            that do not increase, infinite values.
        """
        from scipy.sparse import csr_array
        from sklearn.datasets import load_svmlight_file

        require_memory(f"{self.path}:", EXPANSION * self.path.stat().st_size, "split it")
        self._require_lines()
        try:
            with self.path.open("rb") as file:
                X, y = load_svmlight_file(file, zero_based=False, n_features=columns)
        except (ValueError, OverflowError, OSError, MemoryError) as problem:
            self._refuse_first(columns)
            raise DataError(f"{self.path}: cannot be read as svmlight ({reason(problem)})") from None
        if X.shape[1] > ARRAY_COLUMNS or not np.isfinite(X.data).all():
            self._refuse_first(columns)
        if X.shape[0] == 0:
            raise DataError(f"{self.path}: has no rows")
        if X.nnz == 0 and columns is None:
            raise DataError(f"{self.path}: has no values beside the target; write pairs such as 1:0.5")
        narrow = np.int32 if X.nnz < 2**31 else np.int64
        return csr_array((X.data, X.indices.astype(narrow), X.indptr.astype(narrow)), shape=X.shape), y

    def _rows(self) -> Iterator[tuple[int, list[bytes]]]:
        """Line and parts of each row; what follows a # is a comment, and a line without parts is no row."""
        with self.path.open("rb") as file:
            for line, text in enumerate(file, 1):
                if parts := text.split(b"#", 1)[0].split():
                    yield line, parts

    def _require_lines(self) -> None:
        """Refuse a line without end, which would be taken into memory many times over."""
        line, length = 1, 0
        with self.path.open("rb") as file:
            while piece := file.read(2**22):
                first, last = piece.find(b"\n"), piece.rfind(b"\n")
                if length + (len(piece) if first < 0 else first) > ROW_BYTES:
                    raise DataError(
                        f"{self.path}: line {line}: is longer than {ROW_BYTES:,} bytes, the most that is read"
                    )
                line += piece.count(b"\n")
                length = length + len(piece) if first < 0 else len(piece) - last - 1

    def _refuse_first(self, columns: int | None) -> None:
        """Find the first line that cannot be used, which scikit-learn does not name."""
        for line, parts in self._rows():
            if complaint := _complaint(parts, columns):
                raise DataError(f"{self.path}: line {line}: {complaint}")


def _complaint(parts: list[bytes], columns: int | None) -> str | None:
    """What is wrong with a row, if anything is."""
    if _number(parts[0]) is None:
        hint = "; the file begins with a byte order mark: save it without" if parts[0][:1] == b"\xef" else ""
        return f"the target {_text(parts[0])} is no number{hint}"
    last = 0
    for pair in parts[1:]:
        index, colon, value = pair.partition(b":")
        if not colon:
            return f"{_text(pair)} is no pair such as 3:0.5"
        if index == b"qid":
            continue
        try:
            number = int(index)
        except ValueError:
            return f"index {_text(index)} is no whole number"
        if number == 0:
            return "index 0; indices begin at 1 (sklearn.datasets.dump_svmlight_file writes so with zero_based=False)"
        if number < 0:
            return f"index {_text(index)} is negative; indices begin at 1"
        if columns is not None and number > columns:
            return f"index {_text(index)} is beyond the {columns:,} columns that the model was trained on"
        if number > ARRAY_COLUMNS:
            return f"index {_text(index)} is beyond {ARRAY_COLUMNS:,}, the most columns that are read; number them anew"
        if number == last:
            return f"index {number} occurs twice"
        if number < last:
            return f"index {number} follows {last}; indices increase along a line"
        last = number
        read = _number(value)
        if read is None:
            return f"the value {_text(value)} of index {number} is no number"
        if math.isinf(read):
            return f"column 'x{number - 1}' (index {number}): the value is infinite; mend it, or leave it out"
    return None


def _number(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(part: bytes) -> str:
    return shown(part.decode("utf-8", "backslashreplace"))
