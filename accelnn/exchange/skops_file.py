"""Estimators of scikit-learn's in skops files, which hold no code: what is not known to be harmless is refused."""

import io
import json
import os
import warnings
import zipfile
from typing import Any

from accelnn.errors import DataError, ModelFileError
from accelnn.exchange.files import TEXT, Written, content_of, quoted
from accelnn.exchange.scikit import to_sklearn
from accelnn.storage import write_atomically

__all__ = ["load_skops", "save_skops"]

# Beside what skops itself trusts, the kind of an array's numbers, and the moments that fit leaves in every multilayer
# perceptron: numbers and arrays.
TRUSTED = [
    "numpy.dtype",
    *(f"sklearn.neural_network._stochastic_optimizers.{name}" for name in ("AdamOptimizer", "SGDOptimizer")),
]
MOST_UNPACKED = 64  # times the size of the file; weights hardly shrink, so that only a trap exceeds it
ALWAYS_UNPACKED = 2**26  # bytes that any file may unpack to


def save_skops(model: Any, path: str | os.PathLike[str]) -> Written:
    """Write a model as scikit-learn's estimator, whole or not at all.

    Parameters
    ----------
    model : Network, TableModel or fitted estimator of accelnn's
    path : path

    Returns
    -------
    Written
        With the lines of Python by which skops loads it.

    Raises
    ------
    DataError
        Where scikit-learn has no such network, or the package skops is missing.
    OutputError
    """
    skops = _skops()
    estimator = to_sklearn(model)
    content = skops.dumps(estimator)
    with write_atomically(path) as file:
        file.write(content)
    trusted = skops.get_untrusted_types(data=content)
    known = f", trusted={json.dumps(trusted)}" if trusted else ""
    lines = ["import skops.io", "", f"model = skops.io.load({quoted(path)}{known})"]
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    kind = type(last).__name__
    what = f"a pipeline with an {kind}, which takes a table's columns" if last is not estimator else f"an {kind}"
    # scikit-learn's encoder compares, and nothing that skops trusts makes text of a number.
    if hasattr(estimator, "steps") and any(
        _is_one_hot(part) for _, part, _ in getattr(estimator[0], "transformers", ())
    ):
        lines += _LINES_OF_TEXTS
        what += "; categories that are no text there, as numbers and booleans are not, go through texts(table) above"
    return Written("\n".join(lines) + "\n", f"it holds {what}")


_LINES_OF_TEXTS = [
    "",
    *TEXT,
    "",
    "",
    "def texts(table):  # a data frame of pandas or polars whose categories are text, as the model knows them",
    '    encoders = [found for found in model[0].transformers_ if type(found[1]).__name__ == "OneHotEncoder"]',
    "    names = {name for _, _, columns in encoders for name in columns}",
    "    columns = {name: table[name] for name in table.columns}",
    "    columns |= {name: [text(v, None) for v in table[name].to_list()] for name in names}",
    "    return type(table)(columns)",
    "",
    "",
    "# model.predict(texts(table))",
]


def _is_one_hot(transformer: Any) -> bool:
    return type(transformer).__name__ == "OneHotEncoder"


def load_skops(path: str | os.PathLike[str]) -> Any:
    """Read an estimator; nothing of the file is run.

    Raises
    ------
    ModelFileError
        For a file that is damaged, of another kind, or that holds a type which neither skops trusts nor scikit-learn's
        multilayer perceptrons need.
    DataError
        Where the package skops is missing.
    """
    skops = _skops()
    from skops.io.exceptions import UntrustedTypesFoundException

    content = content_of(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > max(ALWAYS_UNPACKED, MOST_UNPACKED * len(content)):
            raise ModelFileError(f"{path}: would unpack to {unpacked:,} bytes, which no model of its size does")
        with warnings.catch_warnings():
            # Of another version of scikit-learn, which matters to its methods and not to the weights.
            warnings.simplefilter("ignore")
            return skops.loads(content, trusted=TRUSTED)
    except ModelFileError:
        raise
    except UntrustedTypesFoundException as problem:
        raise ModelFileError(
            f"{path}: {problem}; only scikit-learn's own estimators and NumPy's arrays are read"
        ) from None
    except Exception as problem:  # whatever a stranger's file may raise
        reason = str(problem) or type(problem).__name__
        raise ModelFileError(f"{path}: is no skops file of an estimator ({reason})") from None


def _skops() -> Any:
    try:
        import skops.io
    except ImportError:
        raise DataError('skops files need the package skops; run: pip install "accelnn[skops]"') from None
    return skops.io
