"""Every error that accelnn raises on purpose, under one root."""

from collections.abc import Iterable

__all__ = [
    "AccelnnError",
    "BackendUnavailableError",
    "BusyError",
    "DataError",
    "DeviceMemoryError",
    "DivergenceError",
    "ModelFileError",
    "OutputError",
    "UnknownNameError",
    "require_known",
]


class AccelnnError(Exception):
    """Root of the hierarchy: catching it catches everything that accelnn raises on purpose."""


class DataError(AccelnnError, ValueError):
    """An argument or a data file that cannot be used; the message names it, the place and the remedy."""


class UnknownNameError(DataError):
    """A name that no table holds; the message lists the known ones."""

    def __init__(self, argument: str, name: object, known: Iterable[str]):
        super().__init__(argument, name, tuple(known))

    def __str__(self) -> str:
        argument, name, known = self.args
        return f"{argument}: {name!r} is not known; choose from {', '.join(sorted(known))}"


def require_known(argument: str, name: object, known: Iterable[str]) -> None:
    """Raise UnknownNameError unless `name` is one of the known words."""
    if not isinstance(name, str) or name not in known:
        raise UnknownNameError(argument, name, known)


class ModelFileError(AccelnnError, ValueError):
    """A model file that cannot be read back."""


class OutputError(AccelnnError, OSError):
    """A file that cannot be written; the one that was there is as it was, unless the message says otherwise."""


class BusyError(AccelnnError, RuntimeError):
    """Two calls that would train the same network at once."""


class BackendUnavailableError(AccelnnError, RuntimeError):
    """A backend was asked for by name and cannot run here; the message says what is missing and how to get it."""


class DeviceMemoryError(AccelnnError, MemoryError):
    """A GPU has no room for what was asked; the message names the sizes."""


class DivergenceError(AccelnnError, ArithmeticError):
    """The loss stopped being finite; the message names the epoch and the learning rate."""
