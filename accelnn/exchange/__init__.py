"""Models in other programs' formats.

ONNX, for any program with an ONNX runtime; safetensors with PyTorch's names, and skops with scikit-learn's estimators,
both to and fro. None of them is a pickle. The packages that write them are imported when a function needs them.
"""

from accelnn.exchange.files import Written
from accelnn.exchange.imported import import_sklearn, import_torch
from accelnn.exchange.onnx_model import save_onnx, to_onnx
from accelnn.exchange.scikit import from_sklearn, to_sklearn
from accelnn.exchange.skops_file import load_skops, save_skops
from accelnn.exchange.torch_state import from_torch, save_torch, to_torch

__all__ = [
    "Written",
    "from_sklearn",
    "from_torch",
    "import_sklearn",
    "import_torch",
    "load_skops",
    "save_onnx",
    "save_skops",
    "save_torch",
    "to_onnx",
    "to_sklearn",
    "to_torch",
]
