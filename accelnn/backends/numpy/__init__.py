"""NumPy: the page interpreted, every verb in place."""

from accelnn.backends.numpy.backend import NumpyBackend

__all__ = ["NumpyBackend"]
