"""A network's weights in scikit-learn's form: lists of arrays, which can be assigned as there."""

from typing import Any

import numpy as np

from accelnn.errors import DataError
from accelnn.network import Network

__all__ = ["Weights"]


class Weights(list):
    """Host arrays of all layers; an assignment to one, or to all of them, writes into the network.

    Parameters
    ----------
    network : Network
    which : {"W", "b"}
    """

    def __init__(self, network: Network, which: str):
        self._network, self._which = network, which
        super().__init__(self._seen(array) for array in getattr(network, which)[1:])

    def __setitem__(self, place: Any, values: Any) -> None:
        if isinstance(place, slice):
            places, values = range(len(self))[place], list(values)
            if len(places) != len(values):
                raise DataError(f"{self._name}: has {len(values)} array(s) for {len(places)} layer(s)")
            for one, value in zip(
                places, [self._checked(*pair) for pair in zip(places, values, strict=True)], strict=True
            ):
                self[one] = value
            return
        value, net = self._checked(place, values), self._network
        layer = getattr(net, self._which)[1:][place]
        with net.backend.context():
            value = value.T if self._which == "W" else value[:, None]
            layer[...] = net.backend.from_host(np.asfortranarray(value, dtype=net.dtype))
        super().__setitem__(place, self._seen(layer))

    def _checked(self, place: int, values: Any) -> np.ndarray:
        value, name, shape = np.asarray(values), f"{self._name}[{place}]", self[place].shape
        if value.shape != shape:
            raise DataError(f"{name}: has shape {value.shape}, expected {shape}")
        if value.dtype.kind not in "fiub" or not np.isfinite(value).all():
            raise DataError(f"{name}: holds what is no finite number")
        return value

    def __reduce__(self) -> Any:
        return list, (list(self),)

    @property
    def _name(self) -> str:
        return "coefs_" if self._which == "W" else "intercepts_"

    def _seen(self, array: Any) -> np.ndarray:
        host = self._network.backend.to_host(array)
        return host.T if self._which == "W" else host[:, 0]
