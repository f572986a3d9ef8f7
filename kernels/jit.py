"""The one place that knows Numba's compiler options and where compiled code is kept."""

import contextlib
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numba
from llvmlite.binding import get_host_cpu_name
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache, _CacheLocator
from numba.core.ccallback import CFunc

__all__ = [
    "cache_folder",
    "compile_for",
    "compiled",
    "compiled_and_kept",
    "formula",
    "inlined",
    "kernel",
    "listeners",
    "source_stamp",
    "summing",
]

_log = logging.getLogger("accelnn")

# nogil: other Python threads run meanwhile. error_model: a division by zero gives infinity, as in the formulas.
# contract: a product and a sum may become one fused multiply-add; no other liberty is taken with floating point.
_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

compiled: Callable = numba.njit(**_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)
# Formulas of one number: a loop around a call that is left does not vectorise.
formula: Callable = numba.njit(**_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)
# Sums, whose terms may be added in any order, so that they vectorise. The order is fixed when they are compiled.
summing: Callable = numba.njit(**_OPTIONS | {"fastmath": {"contract", "reassoc"}}, no_cpython_wrapper=True)
# Merged into its caller before optimisation, so that the page is optimised once for each entry point.
inlined: Callable = numba.njit(**_OPTIONS, inline="always")


# Called once, before the first compilation of this process: it takes seconds, and a person wants to know.
listeners: list[Callable[[], None]] = []
_kernels: list[CFunc] = []  # keeps the code behind every address alive


def cache_folder() -> Path:
    """Where compiled kernels are kept: ``NUMBA_CACHE_DIR`` where it is set, else the user's cache folder."""
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR) / "accelnn"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "accelnn" / "kernels"


def source_stamp(sources: Iterable[Path]) -> str:
    """A hash of the kernels' sources and of these, which are all that becomes compiled code.

    Numba itself looks only at the time stamp of the file that holds the compiled function, so that an edit of a verb
    would leave a stale program behind.
    """
    digest = hashlib.sha256()
    for path in sorted({*sources, *Path(__file__).parent.rglob("*.py")}):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def compiled_and_kept(function: Callable, name: str, stamp: str) -> Callable:
    """Compile an entry point lazily, and keep the machine code for the next process.

    Parameters
    ----------
    function : callable
    name : str
        Distinguishes copies of one function that were bound differently.
    stamp : str
        Names a folder; other sources, other folder.
    """
    dispatcher = numba.njit(**_OPTIONS)(function)
    dispatcher._cache = _open_cache(dispatcher.py_func, name, stamp)
    return dispatcher


def compile_for(entry: Any, arguments: tuple[Any, ...]) -> None:
    """Compile an entry point for arguments of these types, or read it from the cache."""
    entry.compile(tuple(map(numba.typeof, arguments)))


def kernel(function: Callable, signature: Any, name: str, stamp: str, keep: bool = True) -> int:
    """Compile a function with a C signature and return its address, valid for ever.

    It is kept like an entry point unless `keep` says that it is not made of the stamped sources alone.
    """
    options = {"nopython": True, **_OPTIONS}
    callback: Any = CFunc(function, (signature.args, signature.return_type), locals={}, options=options)
    if keep:
        callback._cache = _open_cache(function, name, stamp)
    callback.compile()
    _kernels.append(callback)
    return callback.address


class _TolerantCache(FunctionCache):
    """A damaged file is a kernel that was not kept, and a full disk keeps none."""

    def load_overload(self, sig, target_context):
        found = self._load(sig, target_context)
        if found is None:
            while listeners:
                listeners.pop()()
        return found

    def _load(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception as problem:  # unpickling a damaged file may raise anything
            _log.warning("a kept kernel cannot be read (%s) and is compiled again; see %s", problem, self.cache_path)
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as problem:
            _log.warning("a compiled kernel cannot be kept in %s (%s)", self.cache_path, problem)


class _Locator(_CacheLocator):
    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name

    def get_cache_path(self):
        return str(self.folder)

    def get_source_stamp(self):
        return self.folder.name

    def get_disambiguator(self):
        return self.name


def _open_cache(function: Callable, name: str, stamp: str) -> FunctionCache | NullCache:
    # One folder a processor: hosts that share a home folder must not number each other's files.
    locator = _Locator(cache_folder() / f"{stamp}-{get_host_cpu_name()}", name)
    try:
        locator.ensure_cache_path()
    except OSError as problem:
        # A read-only or full disk costs the compilation again in each process, and nothing else.
        _log.warning("compiled kernels cannot be kept in %s (%s)", locator.folder, problem)
        return NullCache()

    # Numba asks locator classes in turn where a function's code is kept; ours knows already.
    found = type("Found", (), {"from_function": staticmethod(lambda function, path: locator)})
    implementation = type("Implementation", (CompileResultCacheImpl,), {"_locator_classes": [found]})
    return type("KernelCache", (_TolerantCache,), {"_impl_class": implementation})(function)
