"""Every error that accelnn raises on purpose, under one root."""

__all__ = [
    "AccelnnError",
    "BackendUnavailableError",
    "DataError",
    "DivergenceError",
    "ModelFileError",
    "UnknownNameError",
]


class AccelnnError(Exception):
    """Root of the hierarchy: catching it catches everything that accelnn raises on purpose."""


class DataError(AccelnnError, ValueError):
    """An argument or a data file that cannot be used; the message names it, the place and the remedy."""


class UnknownNameError(DataError):
    """A name that no table holds; the message lists the known ones."""

    def __init__(self, argument: str, name: object, known):
        super().__init__(f"{argument}: {name!r} is not known; choose from {', '.join(sorted(map(str, known)))}")


class ModelFileError(AccelnnError, ValueError):
    """A model file that cannot be read back."""


class BackendUnavailableError(AccelnnError, RuntimeError):
    """A backend was asked for by name and cannot run here; the message says what is missing and how to get it."""


class DivergenceError(AccelnnError, ArithmeticError):
    """The loss stopped being finite; the message names the epoch and the learning rate."""
