"""CUDA C kernels on the CPU: compiled by g++ behind ``emulation.h``, launched on NumPy arrays.

`Program` compiles a text into a shared library and launches its kernels in this process. `sanitize` launches one kernel
in a process of its own, where AddressSanitizer or ThreadSanitizer watches it.
"""

import ctypes
import hashlib
import math
import os
import platform
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Counts", "Kernel", "Program", "sanitize"]

HEADER = Path(__file__).with_name("emulation.h")
COMPILER = "g++"

# The largest grid and block that CUDA accepts along each axis, and the most threads of a block.
GRID_LIMITS = (2**31 - 1, 65535, 65535)
BLOCK_LIMITS = (1024, 1024, 64)
MAX_THREADS = 1024

# C's types: NumPy's dtype, and the code of `struct` with as many pad bytes as fill eight.
DTYPES: dict[str, tuple[np.dtype[Any], str]] = {
    "int": (np.dtype(np.int32), "i4x"),
    "unsigned int": (np.dtype(np.uint32), "I4x"),
    "long long": (np.dtype(np.int64), "q"),
    "unsigned long long": (np.dtype(np.uint64), "Q"),
    "float": (np.dtype(np.float32), "f4x"),
    "double": (np.dtype(np.float64), "d"),
}

# Kernels read arrays of numbers as vectors of 16 bytes, so pointers to different types may point to the same memory.
FLAGS = ("-x", "c++", "-std=c++17", "-fno-strict-aliasing")
LIBRARY = ("-O2", "-shared", "-fPIC", "-fvisibility=hidden")
SANITIZERS = {
    # Besides bounds: addresses that a vector's load cannot have, overflow of integers, indices of arrays' inner axes.
    "address": (
        *("-O1", "-g", "-fno-omit-frame-pointer", "-DEMULATION_MAIN"),
        *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fsanitize-sections=shared_*"),
    ),
    "thread": ("-O1", "-g", "-pthread", "-DEMULATION_MAIN", "-DEMULATION_THREADS", "-fsanitize=thread"),
}
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}
REPORTS = ("ERROR: AddressSanitizer: ", "WARNING: ThreadSanitizer: ", "runtime error: ")
TIME_LIMIT = 300  # seconds for one process

_BOUND = r"(?:__launch_bounds__\s*\(([^()]*)\)\s*)?"
_KERNEL = re.compile(rf'extern\s*"C"\s*__global__\s+{_BOUND}void\s+{_BOUND}(\w+)\s*\(')


# ----------------------------------------------------------------------------------------------------------------------
# From a text to a library
# ----------------------------------------------------------------------------------------------------------------------


def _compiler(arguments: Sequence[str], text: str) -> str:
    """Run g++ on a text and return its output."""
    if shutil.which(COMPILER) is None:
        raise RuntimeError(f"the emulator compiles kernels with {COMPILER}, which is not installed")
    result = subprocess.run([COMPILER, *arguments, "-"], input=text, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ValueError(f"{COMPILER} refuses the kernels' text:\n{result.stderr}")
    return result.stdout


def _body_end(text: str, start: int) -> int:
    """Where the braces close that open first after `start`."""
    depth = 0
    for brace in re.compile("[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    raise ValueError("a kernel's text ends inside its body")


def _rewrite(text: str) -> str:
    """Give each kernel's shared arrays to the kernel's section, and name the kernels for the header's table."""
    parts, table, end = [], [], 0
    for match in _KERNEL.finditer(text):
        before, inside, name = match.groups()
        between, end = text[end : match.start()], _body_end(text, match.end())
        body = re.sub(r"\b__shared__\b", f"EMULATED_SHARED({name})", text[match.start() : end])
        parts += [between, body]
        bound = (before or inside or str(MAX_THREADS)).split(",")[0]  # the second is of blocks on a multiprocessor
        table.append(f"EMULATED_KERNEL({name}, ({bound}))\n")
    parts.append(text[end:])
    rewritten = "".join(parts)
    if len(table) != len(re.findall(r"\b__global__\b", text)):
        raise ValueError('declare each kernel as: extern "C" __global__ void name(parameters) { ... }')
    if re.search(r"\b__shared__\b", rewritten):
        raise ValueError("declare __shared__ arrays inside kernels: the emulator fills them before each block")
    return rewritten + "\n" + "".join(table)


@cache
def _sources() -> str:
    return HEADER.read_text() + Path(__file__).read_text()


def _build(text: str, flags: tuple[str, ...]) -> Path:
    """The library or executable of a text, which may have been built before."""
    key = hashlib.sha256("\0".join([_sources(), *flags, text]).encode()).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "accelnn" / "emulator"
    built = folder / key
    if not built.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # The preprocessor alone first, so that kernels are found where macros and conditions have put them.
        counters = () if "-DEMULATION_THREADS" in flags else ("READ", "WRITE", "OPERATIONS")
        kept = [f"-DCOUNT_{name}(n)=COUNT_{name}(n)" for name in counters]
        plain = _compiler(["-E", "-x", "c++", *kept], f'#line 1 "program.cu"\n{text}')
        handle, path = tempfile.mkstemp(dir=folder, prefix="building-")
        os.close(handle)
        try:
            _compiler([*FLAGS, *flags, "-include", str(HEADER), "-o", path], _rewrite(plain))
            os.chmod(path, 0o700)
            os.replace(path, built)  # at once, whoever else builds the same
        finally:
            Path(path).unlink(missing_ok=True)
    return built


# ----------------------------------------------------------------------------------------------------------------------
# Launches
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """What a launch did: bytes of global memory, operations, and barriers, each of which counts once for a block."""

    bytes_read: int
    bytes_written: int
    operations: int
    barriers: int


class Program:
    """The kernels of a text.

    Parameters
    ----------
    text : str
        CUDA C without includes. Kernels are declared as ``extern "C" __global__ void name(parameters)``.

    Attributes
    ----------
    kernels : dict of str to Kernel
    """

    def __init__(self, text: str) -> None:
        # PyDLL keeps the interpreter's lock: a library has one set of stacks, so no two threads may launch at once.
        library = ctypes.PyDLL(str(_build(text, LIBRARY)))
        library.emulation_name.restype = ctypes.c_char_p
        library.emulation_bound.restype = ctypes.c_longlong
        library.emulation_parameter.restype = ctypes.c_char_p
        library.emulation_counts.restype = ctypes.POINTER(ctypes.c_longlong)
        library.emulation_launch.restype = ctypes.c_char_p
        library.emulation_launch.argtypes = [ctypes.c_int, ctypes.c_char_p]
        self.kernels: dict[str, Kernel] = {}
        while name := library.emulation_name(len(self.kernels)):
            self.kernels[name.decode()] = Kernel(library, len(self.kernels), name.decode())


class Kernel:
    """One kernel of a program.

    Attributes
    ----------
    name : str
    parameters : tuple of str
        The parameters' types in C: ``"const float*"``, ``"long long"``.
    max_threads : int
        Most threads of a block: the kernel's ``__launch_bounds__``, or CUDA's limit.
    """

    def __init__(self, library: ctypes.PyDLL, number: int, name: str) -> None:
        self.name = name
        self.max_threads = min(library.emulation_bound(number), MAX_THREADS)
        parameters: list[str] = []
        while parameter := library.emulation_parameter(number, len(parameters)):
            parameters.append(parameter.decode())
        self.parameters = tuple(parameters)
        self._library, self._number = library, number
        self._checks = tuple(map(_check, parameters))
        codes = ["Q" if parameter.endswith("*") else DTYPES[parameter][1] for parameter in parameters]
        self._format = struct.Struct("=6IQ" + "".join(codes))

    def launch(self, grid: Sequence[int], block: Sequence[int], arguments: Sequence[Any], seed: int = 0) -> None:
        """Run the kernel; the arrays among the arguments hold its results.

        Parameters
        ----------
        grid, block : sequence of 1 to 3 int
        arguments : sequence
            A NumPy array of the exact dtype or None for a pointer. For a number a NumPy scalar of the exact type;
            also an int where C has an integer, and a float where it has a double.
        seed : int, default 0
            Of the orders in which the blocks run, and the threads of each block between two barriers.

        Raises
        ------
        TypeError
            The arguments do not fit the parameters.
        ValueError
            CUDA cannot launch such a grid or block, or an array is not contiguous.
        RuntimeError
            Not all threads of a block reach the same barrier.
        """
        error = self._library.emulation_launch(self._number, self._pack(grid, block, arguments, seed))
        if error is not None:
            raise RuntimeError(f"kernel {self.name}, {error.decode()}")

    def counts(self) -> Counts:
        """What the latest launch of the kernel's program did."""
        return Counts(*self._library.emulation_counts()[0:4])

    def _pack(self, grid: Sequence[int], block: Sequence[int], arguments: Sequence[Any], seed: int) -> bytes:
        """The header's struct Launch."""
        sizes = _sizes(tuple(grid), tuple(block), self.name, self.max_threads)
        if len(arguments) != len(self.parameters):
            raise TypeError(f"kernel {self.name} takes {len(self.parameters)} arguments, got {len(arguments)}")
        slots = []
        for check, argument in zip(self._checks, arguments, strict=True):
            try:
                slots.append(check(argument))
            except (TypeError, ValueError) as error:
                place = f"parameter {len(slots)} ({self.parameters[len(slots)]})"
                raise type(error)(f"kernel {self.name}, {place}: {error}") from None
        return self._format.pack(*sizes, seed % 2**64, *slots)


@cache
def _sizes(grid: tuple[int, ...], block: tuple[int, ...], name: str, max_threads: int) -> tuple[int, ...]:
    """The three sizes of a grid and the three of a block, if CUDA can launch them."""
    sizes: tuple[int, ...] = ()
    for what, shape, limits in (("grid", grid, GRID_LIMITS), ("block", block, BLOCK_LIMITS)):
        full = (*shape, *(1,) * (3 - len(shape)))
        if not shape or len(full) > 3 or not all(1 <= n <= limit for n, limit in zip(full, limits, strict=True)):
            raise ValueError(f"kernel {name}: a {what} has one to three sizes, from 1 to {limits}; got {shape}")
        sizes += full
    if math.prod(sizes[3:]) > max_threads:
        raise ValueError(f"kernel {name}: a block of {block} has more threads than {max_threads}")
    return sizes


@cache
def _check(parameter: str) -> Callable[[Any], Any]:
    """A function that checks an argument for a parameter, and returns what `struct` packs."""
    const = parameter.startswith("const ")
    name = parameter.removeprefix("const ").removesuffix("*")
    dtype = DTYPES[name][0]

    def pointer(array):
        if array is None:
            return 0
        if not isinstance(array, np.ndarray):
            raise TypeError(f"pass a NumPy array or None, not {type(array).__name__}")
        if array.dtype != dtype:
            raise TypeError(f"pass an array of {dtype}, not of {array.dtype}")
        if not (const or array.flags.writeable):
            raise TypeError("pass a writeable array: the kernel may write through this pointer")
        if not array.flags.forc:
            raise ValueError("pass a contiguous array")
        return array.__array_interface__["data"][0]

    def number(value):
        if isinstance(value, np.generic):
            if value.dtype != dtype:
                raise TypeError(f"pass a NumPy scalar of {dtype}, not of {value.dtype}")
        elif type(value) is int and dtype.kind in "iu":
            limits = np.iinfo(dtype)
            if not limits.min <= value <= limits.max:
                raise TypeError(f"{value} does not fit")
        elif type(value) is not float or name != "double":
            raise TypeError(f"pass a NumPy scalar of {dtype}, not {type(value).__name__}")
        return value

    return pointer if parameter.endswith("*") else number


# ----------------------------------------------------------------------------------------------------------------------
# Sanitizers
# ----------------------------------------------------------------------------------------------------------------------


def sanitize(
    text: str,
    kernel: str,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[Any],
    sanitizer: str,
    seed: int = 0,
) -> str:
    """Launch a kernel in a process of its own under a sanitizer; the arrays stay as they are.

    Each array lies in memory of exactly its size. Arguments that are the same memory stay so.

    Parameters
    ----------
    text, kernel : str
        The program, and the name of the kernel in it.
    grid, block, arguments, seed
        As in `Kernel.launch`.
    sanitizer : {"address", "thread"}
        ``"address"`` finds accesses outside of arrays, global or shared, and C's undefined behaviour. ``"thread"``
        finds races between the threads of a block, and between blocks in global memory.

    Returns
    -------
    str
        The sanitizer's report, empty where it has none.

    Raises
    ------
    RuntimeError
        The process ended otherwise than well or with a report.
    """
    launched = Program(text).kernels[kernel]
    content = _content(launched._pack(grid, block, arguments, seed), arguments)
    executable = str(_build(text, SANITIZERS[sanitizer]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "arguments"
        file.write_bytes(content)
        for order in ("ordered", "unordered") if sanitizer == "thread" else ("ordered",):
            report = _watch([executable, str(file), kernel, order])
            if report:
                return report
    return ""


def _content(launch: bytes, arguments: Sequence[Any]) -> bytes:
    """The file that the header's main function reads."""
    parts = [launch]
    arrays: dict[int, np.ndarray] = {}
    for i, argument in enumerate(arguments):
        if not isinstance(argument, np.ndarray):
            parts.append(struct.pack("=q", -1))
            continue
        source = next((j for j, other in arrays.items() if np.may_share_memory(argument, other)), i)
        parts.append(struct.pack("=q", source))
        if source == i:
            arrays[i] = argument
            parts += [struct.pack("=q", argument.nbytes), argument.tobytes("A")]
        elif _memory(argument) != _memory(arrays[source]):
            raise ValueError(f"arguments {source} and {i} overlap without being the same memory")
    return b"".join(parts)


def _memory(array: np.ndarray) -> tuple[int, int]:
    return array.__array_interface__["data"][0], array.nbytes


def _watch(command: list[str]) -> str:
    """Run an executable and return its sanitizer's report."""
    result = _run(command)
    if "unexpected memory mapping" in result.stderr:
        # ThreadSanitizer wants addresses that this kernel's randomisation of them may not leave free.
        result = _run(["setarch", platform.machine(), "-R", *command])
    if result.returncode == 0 and result.stdout == "finished\n" and not result.stderr:
        return ""
    if result.returncode > 0 and any(report in result.stderr for report in REPORTS):
        return result.stderr
    raise RuntimeError(f"kernel {command[2]}, exit status {result.returncode}: {result.stderr or 'no message'}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **OPTIONS}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=TIME_LIMIT)
