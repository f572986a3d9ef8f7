"""A graph of ONNX operators that grows by calls, each of which returns the name of what it computes."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import accelnn
from accelnn.errors import DataError

__all__ = ["Graph"]

# Opset 19, of 2023, is the first in which texts can be compared. Both numbers are the lowest that do.
OPSET = 19
IR_VERSION = 9
MOST_BYTES = 2**31 - 2**20  # a protocol buffer ends at 2 GiB


class Graph:
    """An ONNX graph.

    Parameters
    ----------
    dtype : str
        Of the numbers made with `number`.
    reserved : iterable of str
        Names that inputs will have; nothing else gets one of them.

    Raises
    ------
    DataError
        Where the package onnx is missing.
    """

    def __init__(self, dtype: str, reserved: Iterable[str] = ()):
        try:
            import onnx
        except ImportError:
            raise DataError('ONNX files need the package onnx; run: pip install "accelnn[onnx]"') from None
        self.onnx, self.dtype = onnx, dtype
        self._taken = set(reserved)
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._constants: list[Any] = []
        self._numbers: dict[float, str] = {}

    def input(self, name: str, kind: str, width: int) -> str:
        """An input of shape (N, width), under exactly this name."""
        self._inputs.append(self._value(name, kind, width))
        return name

    def output(self, name: str, kind: str, width: int | None) -> str:
        """Declare that what is computed under this name is an output, of shape (N, width), or (N,)."""
        self._outputs.append(self._value(name, kind, width))
        return name

    def constant(self, name: str, array: Any) -> str:
        """Numbers, or texts, that the graph holds."""
        array = np.asarray(array)
        name = self.free(name)
        if array.dtype.kind in "UO":
            array = np.array([str(text).encode() for text in array.ravel()], dtype=object).reshape(array.shape)
        tensor = self.onnx.numpy_helper.from_array(array, name)
        self._constants.append(tensor)
        return name

    def number(self, value: float) -> str:
        """One number in the graph's dtype, held once."""
        if value not in self._numbers:
            self._numbers[value] = self.constant(f"{value:g}", np.array(value, dtype=self.dtype))
        return self._numbers[value]

    def node(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Append an operator; what it computes gets this name, or one that begins with it where it is taken."""
        result = self.free(name or operator)
        node = self.onnx.helper.make_node(operator, list(inputs), [result], name=result, **attributes)
        self._nodes.append(node)
        return result

    def cast(self, source: str, kind: str, name: str = "") -> str:
        """A value as another type, such as ``"float32"``."""
        return self.node("Cast", source, name=name, to=self._kind(kind))

    def free(self, wanted: str) -> str:
        """A name that nothing has yet; it is taken from now on."""
        name, k = wanted, 1
        while name in self._taken:
            k += 1
            name = f"{wanted}_{k}"
        self._taken.add(name)
        return name

    def model(self, properties: Mapping[str, str], doc: str) -> Any:
        """The whole, checked by onnx's own checker.

        Parameters
        ----------
        properties : mapping of str to str
            Kept in the file's metadata.
        doc : str

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        DataError
            For more than 2 GiB of parameters.
        """
        if (size := sum(constant.ByteSize() for constant in self._constants)) > MOST_BYTES:
            raise DataError(f"model: {size:,} bytes of parameters are more than one ONNX file holds, 2 GiB")
        helper = self.onnx.helper
        graph = helper.make_graph(self._nodes, "accelnn", self._inputs, self._outputs, self._constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="accelnn",
            producer_version=accelnn.__version__,
            doc_string=doc,
        )
        helper.set_model_props(model, dict(properties))
        self.onnx.checker.check_model(model, full_check=True)
        return model

    def _value(self, name: str, kind: str, width: int | None) -> Any:
        self._taken.add(name)
        shape: list[str | int | None] = ["N"] if width is None else ["N", width]
        return self.onnx.helper.make_tensor_value_info(name, self._kind(kind), shape)

    def _kind(self, name: str) -> int:
        if name == "string":
            return self.onnx.TensorProto.STRING
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(name))
