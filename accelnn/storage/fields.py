"""What a description must hold, looked at before anything is made of it."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from accelnn.errors import AccelnnError, BackendUnavailableError, ModelFileError

__all__ = ["count", "field", "listed", "only", "readable"]

_MOST = 2**63 - 1
_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", list: "list", dict: "object"}


@contextlib.contextmanager
def readable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within, whatever turns out to be wrong with a file's contents becomes a ModelFileError that names the file."""
    try:
        yield
    except (ModelFileError, BackendUnavailableError):
        raise
    except KeyError as problem:
        raise ModelFileError(f"{path}: is no accelnn model (it has no {_shown(problem.args[0])})") from None
    except (AccelnnError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as problem:
        raise ModelFileError(f"{path}: is no accelnn model ({_short(str(problem))})") from None
    except RecursionError:
        raise ModelFileError(f"{path}: is no accelnn model (it is nested too deeply)") from None
    except MemoryError:
        raise ModelFileError(f"{path}: needs more memory than is free") from None


def field(about: Mapping[str, Any], name: str, kind: type) -> Any:
    """The value of this name, of exactly this kind.

    Raises
    ------
    KeyError, TypeError
        Where there is none, or it is of another kind: true is no whole number.
    """
    value = about[name]
    if type(value) is not kind:
        raise TypeError(f"{name!r} is {_shown(value)}, which is no {_WORDS[kind]}")
    return value


def count(about: Mapping[str, Any], name: str) -> int:
    """The same of a number that counts something: whole, from 0 on, of 63 bits at most."""
    value: int = field(about, name, int)
    if not 0 <= value <= _MOST:
        raise ValueError(f"{name!r} is {_shown(value)}, which counts nothing")
    return value


def listed(about: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    """The same of a list whose items are of exactly this kind."""
    values: list[Any] = field(about, name, list)
    for value in values:
        if type(value) is not kind:
            raise TypeError(f"{name!r} holds {_shown(value)}, which is no {_WORDS[kind]}")
    return values


def only(about: Mapping[str, Any], names: Mapping[str, Any] | tuple[str, ...], what: str) -> None:
    """Raise unless these are the names that there are, each of them.

    Raises
    ------
    ValueError
    """
    strange, missing = set(about) - set(names), set(names) - set(about)
    if strange or missing:
        fault = "lacks" if missing else "holds an unknown"
        raise ValueError(f"{what} {fault} {_shown(min(missing or strange))}")


def _shown(value: Any) -> str:
    return _short(repr(value), 40)


def _short(text: str, most: int = 200) -> str:
    """What somebody else has written, in a message."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 3 :]}"
