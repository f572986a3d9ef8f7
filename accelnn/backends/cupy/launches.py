"""Kernels that are compiled when they are first needed, and lists of launches that run again and again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from accelnn.kernels.cuda import program

__all__ = ["Kernels", "Launch", "Program"]

OPTIONS = ("--std=c++17",)  # CuPy adds that float32 numbers below 1e-38 are flushed to zero


class Kernels:
    """The kernels of one precision.

    Parameters
    ----------
    cupy : module
    dtype : {"float32", "float64"}
    """

    def __init__(self, cupy: Any, dtype: str):
        self._cupy, self._dtype = cupy, dtype
        self._compiled: dict[tuple[str, str], Any] = {}

    def __call__(self, name: str, formulas: str = "") -> Any:
        """The kernel `name` with the formulas that it calls, as text."""
        key = name, formulas
        if key not in self._compiled:
            module = self._cupy.RawModule(code=program(name, self._dtype, formulas), options=OPTIONS)
            self._compiled[key] = module.get_function(name)
        return self._compiled[key]


@dataclass(frozen=True)
class Launch:
    """One call of a kernel, or of cuBLAS.

    Attributes
    ----------
    name : str
        The kernel's, or ``"gemm"``.
    run : callable
        Takes `arguments`.
    arguments : tuple
    grid, block : tuple of int
        Empty for cuBLAS.
    bytes, operations : int
        The least that this work can move through global memory (each input once, each result once), and its
        multiplications and additions within products.
    """

    name: str
    run: Callable
    arguments: tuple
    grid: tuple[int, ...] = ()
    block: tuple[int, ...] = ()
    bytes: int = 0
    operations: int = 0


@dataclass
class Program:
    """Launches, in order. It holds on to every array that they use."""

    launches: list[Launch] = field(default_factory=list)
    _graph: Any = None

    def run(self) -> None:
        """Give them to the current stream."""
        if self._graph is not None:
            self._graph.launch()
            return
        for launch in self.launches:
            launch.run(*launch.arguments)

    def capture(self, stream: Any) -> None:
        """From now on, give them as one CUDA graph, unless cuBLAS takes part, which CuPy cannot capture.

        Not yet run on hardware. The kernels must have run before: a module may not be loaded during a capture.

        Parameters
        ----------
        stream : stream
            One that nobody else uses meanwhile.
        """
        if self._graph is None and all(launch.grid for launch in self.launches):
            with stream:
                stream.begin_capture()
                try:
                    self.run()
                finally:
                    graph = stream.end_capture()
            self._graph = graph
