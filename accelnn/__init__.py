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
    from accelnn.checkpoints import Checkpoint as Checkpoint
    from accelnn.customloss import custom_loss as custom_loss
    from accelnn.earlystopping import EarlyStopping as EarlyStopping
    from accelnn.errors import AccelnnError as AccelnnError
    from accelnn.errors import BackendUnavailableError as BackendUnavailableError
    from accelnn.errors import BusyError as BusyError
    from accelnn.errors import DataError as DataError
    from accelnn.errors import DeviceMemoryError as DeviceMemoryError
    from accelnn.errors import DivergenceError as DivergenceError
    from accelnn.errors import ModelFileError as ModelFileError
    from accelnn.errors import OutputError as OutputError
    from accelnn.errors import UnknownNameError as UnknownNameError
    from accelnn.estimators import MLPClassifier as MLPClassifier
    from accelnn.estimators import MLPRegressor as MLPRegressor
    from accelnn.logs import CsvLog as CsvLog
    from accelnn.logs import JsonLog as JsonLog
    from accelnn.logs import TensorBoardLog as TensorBoardLog
    from accelnn.logs import log_to as log_to
    from accelnn.losses import Loss as Loss
    from accelnn.network import Network as Network
    from accelnn.network import Plan as Plan
    from accelnn.optimizers import Optimizer as Optimizer
    from accelnn.readers.reading import load_table as load_table
    from accelnn.state import History as History
    from accelnn.state import OptimizerState as OptimizerState
    from accelnn.streaming import Stream as Stream
    from accelnn.tables.model import TableModel as TableModel
    from accelnn.tables.schema import Schema as Schema

__version__ = version("accelnn")

_HOMES = {
    "backends": ("BACKENDS", "get_backend"),
    "callbacks": ("Callback", "Progress"),
    "checkpoints": ("Checkpoint",),
    "customloss": ("custom_loss",),
    "earlystopping": ("EarlyStopping",),
    "errors": (
        "AccelnnError",
        "BackendUnavailableError",
        "BusyError",
        "DataError",
        "DeviceMemoryError",
        "DivergenceError",
        "ModelFileError",
        "OutputError",
        "UnknownNameError",
    ),
    "estimators": ("MLPClassifier", "MLPRegressor"),
    "logs": ("CsvLog", "JsonLog", "TensorBoardLog", "log_to"),
    "losses": ("Loss",),
    "network": ("Network", "Plan"),
    "optimizers": ("Optimizer",),
    "state": ("History", "OptimizerState"),
    "streaming": ("Stream",),
    "tables.model": ("TableModel",),
    "readers.reading": ("load_table",),
    "tables.schema": ("Schema",),
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
