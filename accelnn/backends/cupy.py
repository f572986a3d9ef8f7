"""CuPy: the reference bodies on a CUDA GPU.

Importing this module needs neither CuPy nor a GPU; making a backend needs both. Arrays stay on the device for a whole
fit, the losses of its steps too.
"""

import importlib
from typing import Any

import numpy as np

from accelnn.backends.base import Backend

__all__ = ["CupyBackend"]


class CupyBackend(Backend):
    """The page interpreted, with the reference body of every verb on device arrays."""

    name = "cupy"

    def __init__(self) -> None:
        super().__init__(importlib.import_module("array_api_compat.cupy"))
        self._cupy = importlib.import_module("cupy")

    def describe(self) -> str:
        """The device in words."""
        properties = self._cupy.cuda.runtime.getDeviceProperties(self._cupy.cuda.Device().id)
        return f"{properties['name'].decode()}, {properties['totalGlobalMem'] / 2**30:.0f} GiB"

    def to_host(self, array: Any) -> np.ndarray:
        """A NumPy array with the values of a device array."""
        return self._cupy.asnumpy(array)

    def owns(self, array: Any) -> bool:
        """Whether `array` is a CuPy array."""
        return isinstance(array, self._cupy.ndarray)

    def synchronize(self) -> None:
        """Wait for the current stream."""
        self._cupy.cuda.get_current_stream().synchronize()
