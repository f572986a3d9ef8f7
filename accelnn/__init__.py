"""Multilayer perceptrons whose equations are written once and run on NumPy, Numba-compiled kernels or CUDA GPUs.

Public names load on first use: importing accelnn imports none of numba, cupy and scikit-learn.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelnn.backends import BACKENDS as BACKENDS
    from accelnn.backends import get_backend as get_backend
    from accelnn.callbacks import Callback as Callback
    from accelnn.callbacks import Progress as Progress
    from accelnn.customloss import custom_loss as custom_loss
    from accelnn.errors import AccelnnError as AccelnnError
    from accelnn.errors import BackendUnavailableError as BackendUnavailableError
    from accelnn.errors import DataError as DataError
    from accelnn.errors import DeviceMemoryError as DeviceMemoryError
    from accelnn.errors import DivergenceError as DivergenceError
    from accelnn.errors import ModelFileError as ModelFileError
    from accelnn.errors import UnknownNameError as UnknownNameError
    from accelnn.estimators import MLPClassifier as MLPClassifier
    from accelnn.estimators import MLPRegressor as MLPRegressor
    from accelnn.losses import Loss as Loss
    from accelnn.network import Network as Network
    from accelnn.network import Plan as Plan
    from accelnn.optimizers import Optimizer as Optimizer
    from accelnn.training import History as History
    from accelnn.training import OptimizerState as OptimizerState

__version__ = version("accelnn")

_HOMES = {
    "backends": ("BACKENDS", "get_backend"),
    "callbacks": ("Callback", "Progress"),
    "customloss": ("custom_loss",),
    "errors": (
        "AccelnnError",
        "BackendUnavailableError",
        "DataError",
        "DeviceMemoryError",
        "DivergenceError",
        "ModelFileError",
        "UnknownNameError",
    ),
    "estimators": ("MLPClassifier", "MLPRegressor"),
    "losses": ("Loss",),
    "network": ("Network", "Plan"),
    "optimizers": ("Optimizer",),
    "training": ("History", "OptimizerState"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'accelnn' has no attribute {name!r}")
    value = getattr(import_module(f"accelnn.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
