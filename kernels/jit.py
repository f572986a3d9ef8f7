"""The one place that knows Numba's compiler options and where compiled code is kept.

Who can write to the folder of compiled code can run code in the processes that use it: Numba unpickles what it finds,
and then it runs. So the folder is made for its owner alone, and another user's is not used. Within it, a file that is
damaged, cut off or of another version of Numba is as good as none, and no two processes disturb each other.
"""

import contextlib
import errno
import functools
import hashlib
import io
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numba
from llvmlite.binding import get_host_cpu_name
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, NullCache, _CacheLocator
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
    "require_own",
    "source_stamp",
    "summing",
]

_log = logging.getLogger("accelnn")

# Environment variable, and folder in the home folder, where programs keep what they can make again.
_BASES = {"win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("", "Library/Caches")}
SEAL = hashlib.sha256().digest_size

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
    """Where compiled kernels are kept: ``NUMBA_CACHE_DIR`` where it is set, else the user's cache folder.

    Raises
    ------
    OSError
        Where the user has no home folder.
    """
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR) / "accelnn"
    variable, place = _BASES.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    base = Path(os.environ.get(variable, "") if variable else "")
    if not base.is_absolute():  # the XDG base directory specification ignores others
        try:
            base = Path.home() / place
        except RuntimeError:
            raise OSError(errno.ENOENT, "there is no home folder; set NUMBA_CACHE_DIR") from None
    return base / "accelnn" / "kernels"


def require_own(folder: Path) -> None:
    """Make a folder of compiled code where there is none, and see that nobody else can put code there.

    Raises
    ------
    OSError
        Where it cannot be made, or is another user's, or others may write to it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "geteuid"):  # Windows keeps users' folders apart
        return
    found = folder.stat()
    if found.st_uid not in (os.geteuid(), 0):
        raise PermissionError(errno.EPERM, "belongs to another user; set NUMBA_CACHE_DIR to a folder of your own")
    if found.st_mode & 0o022:
        raise PermissionError(errno.EPERM, f"others may write there; use chmod go-w {folder}")


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


class _NoCache(NullCache):
    """Nothing is kept."""

    def load_overload(self, sig, target_context):
        _announce()


class _TolerantCache(FunctionCache):
    """A damaged file is a kernel that was not kept, and a full disk keeps none."""

    def __init__(self, function):
        super().__init__(function)
        implementation = self._impl
        self._cache_file = _SealedFiles(
            self._cache_path, implementation.filename_base, implementation.locator.get_source_stamp()
        )

    def load_overload(self, sig, target_context):
        found = self._load(sig, target_context)
        if found is None:
            _announce()
        return found

    def _load(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception as problem:  # unpickling may raise anything
            _complain(f"a kept kernel cannot be read ({problem}) and is compiled again; see {self.cache_path}")
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as problem:
            _complain(f"compiled kernels cannot be kept in {self.cache_path} ({problem})")


class _SealedFiles(IndexDataCacheFile):
    """A file for each kernel and signature, whose name says all that must be equal, and whose last bytes are its hash.

    Numba's own index of such files can lead a process to another's file: two that are new to the index at the same
    time give the same number to different code.
    """

    def save(self, key, data):
        self._save_data(self._name(key), data)

    def load(self, key):
        name = self._name(key)
        try:
            content = Path(self._data_path(name)).read_bytes()
        except OSError:
            return None
        if _seal(name, content[:-SEAL]) != content[-SEAL:]:
            raise ValueError(f"{name} is damaged")
        # Unpickling ends before the seal. The file may be another by now, but that is as whole.
        return self._load_data(name)

    def flush(self):
        """Nothing: what is not wanted any more has another name."""

    def _name(self, key: Any) -> str:
        meaning = repr((key, self._version, self._source_stamp)).encode()
        return self._index_name.removesuffix("nbi") + f"{hashlib.sha256(meaning).hexdigest()[:32]}.nbc"

    @contextlib.contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[BinaryIO]:
        with super()._open_for_write(filepath) as file:
            content = io.BytesIO()
            yield content
            file.write(content.getvalue() + _seal(os.path.basename(filepath), content.getvalue()))


def _seal(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).digest()


class _Locator(_CacheLocator):
    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name

    def ensure_cache_path(self):
        require_own(self.folder)

    def get_cache_path(self):
        return str(self.folder)

    def get_source_stamp(self):
        return self.folder.name

    def get_disambiguator(self):
        return self.name


def _open_cache(function: Callable, name: str, stamp: str) -> FunctionCache | NullCache:
    folder: Path | str = "the user's cache folder"
    try:
        # One folder a processor: hosts that share a home folder must not read each other's files.
        folder = cache_folder() / f"{stamp}-{get_host_cpu_name()}"
        require_own(folder)
    except OSError as problem:
        # This costs the compilation again in each process, and nothing else.
        _complain(f"compiled kernels cannot be kept in {folder} ({problem.strerror or problem})")
        return _NoCache()

    # Numba asks locator classes in turn where a function's code is kept; ours knows already.
    locator = _Locator(folder, name)
    found = type("Found", (), {"from_function": staticmethod(lambda function, path: locator)})
    implementation = type("Implementation", (CompileResultCacheImpl,), {"_locator_classes": [found]})
    return type("KernelCache", (_TolerantCache,), {"_impl_class": implementation})(function)


def _announce() -> None:
    """Say that something is about to be compiled."""
    while listeners:
        listeners.pop()()


@functools.cache
def _complain(text: str) -> None:
    """Log a warning, once for all kernels that it holds for."""
    _log.warning("%s", text)
