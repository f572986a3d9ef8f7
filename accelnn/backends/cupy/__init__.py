"""CuPy: the page recorded as a list of launches of CUDA kernels, and run again for every step."""

from accelnn.backends.cupy.backend import CupyBackend

__all__ = ["CupyBackend"]
