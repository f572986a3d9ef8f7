"""Numba: the page compiled to machine code and run by a team of threads."""

from accelnn.backends.numba.backend import NumbaBackend

__all__ = ["NumbaBackend"]
