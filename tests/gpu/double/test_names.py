"""The device double has no name that CuPy lacks, with CuPy's signatures, and is imported in its place."""

import ast
import contextlib
import inspect
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from gpu import double
from gpu.double.shared import SCALE, cp, new_devices  # noqa: F401 (a fixture)

# ----------------------------------------------------------------------------------------------------------------------
# Held against the installed CuPy
# ----------------------------------------------------------------------------------------------------------------------

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

# What every class has, or NumPy asks for; CuPy's __array_ufunc__ is a method (see the double's own).
PYTHON = {"__module__", "__dict__", "__weakref__", "__doc__", "__annotations__", "__qualname__", "__hash__"}
PYTHON |= {"__array_ufunc__", "__firstlineno__", "__static_attributes__", "__init__", "__del__"}

# Made by the double or by CuPy itself, never by a program.
NOT_CONSTRUCTED = {"Graph", "PinnedMemoryPointer"}


@pytest.fixture(scope="module")
def cupy():
    return pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)


def parsed(text):
    """The signature in a line of documentation such as "copy(self, size_t size, order='C') -> ndarray"."""
    inside = text[text.index("(") + 1 : text.rindex(")")].replace("\\", "")
    parameters, kind = [], inspect.Parameter.POSITIONAL_OR_KEYWORD
    for part in re.findall(r"(?:[^,(\[']|\([^)]*\)|\[[^\]]*\]|'[^']*')+", inside):
        declared, _, value = (piece.strip() for piece in part.partition("="))
        name = declared.split()[-1]
        if name == "/":
            parameters = [parameter.replace(kind=inspect.Parameter.POSITIONAL_ONLY) for parameter in parameters]
        elif name == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
        elif name.startswith("**"):
            parameters.append(inspect.Parameter(name[2:], inspect.Parameter.VAR_KEYWORD))
        elif name.startswith("*"):
            parameters.append(inspect.Parameter(name[1:], inspect.Parameter.VAR_POSITIONAL))
            kind = inspect.Parameter.KEYWORD_ONLY
        else:
            parameters.append(inspect.Parameter(name, kind, default=default_of(value)))
    return inspect.Signature(parameters)


def default_of(text):
    """The value of a default in a line of documentation."""
    try:
        return float if text == "float" else ast.literal_eval(text) if text else inspect.Parameter.empty
    except ValueError:
        return text  # a name within CuPy, which no default of the double's equals


def documented(real):
    """The signature at the head of the documentation: Cython's, and below it the author's, which says more."""
    found = []
    for line in filter(None, (real.__doc__ or "").strip().splitlines()):
        if not re.fullmatch(r"[\w.]+\(.*\)( -> .*)?", line.strip()):
            break
        found.append(line)
    return parsed(found[-1]) if found else None


def signature_of(real):
    """A signature that says more than "any arguments", by whatever way there is."""
    found = documented(real)
    if found is None:
        found = inspect.signature(real.__init__ if inspect.isclass(real) else real)
    return found


def without_self(signature):
    """The parameters that a caller passes."""
    return [parameter for name, parameter in signature.parameters.items() if name != "self"]


def compare(own, real, what):
    """Every parameter of the double's is the real one's too: at its place, by its name, with its default."""
    theirs = without_self(real)
    by_name = {parameter.name: parameter for parameter in theirs}
    for place, parameter in enumerate(without_self(own)):
        label = f"{what}: parameter {parameter.name}"
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            assert theirs[place].kind is parameter.kind, label
            continue
        assert parameter.name in by_name, f"{label} is not CuPy's: {real}"
        other = by_name[parameter.name]
        if parameter.kind in POSITIONAL:
            assert place < len(theirs), label
            assert theirs[place] is other, f"{label} stands elsewhere in CuPy's {real}"
            assert other.kind in POSITIONAL, f"{label} is for keywords only in CuPy's {real}"
        if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            assert other.kind is not inspect.Parameter.POSITIONAL_ONLY, f"{label} is no keyword in CuPy's {real}"
        if parameter.default is not inspect.Parameter.empty:
            assert parameter.default == other.default, f"{label}: default {other.default!r} in CuPy's {real}"
            assert type(parameter.default) is type(other.default), f"{label}: default {other.default!r} in CuPy"


def public(names):
    """What a program may use: no underscore, or Python's own protocols."""
    return [name for name in names if not name.startswith("_") or (name.endswith("__") and name not in PYTHON)]


def own_names():
    """Module and name of everything in the double."""
    for path, module in double.MODULES.items():
        yield from ((path, name) for name in vars(module) if not name.startswith("_"))


def real_thing(cupy, path, name):
    """What CuPy has by that name; where cuBLAS is missing, its functions are read in the source."""
    place = cupy
    for part in path.split(".")[1:]:
        if part == "cublas":
            text = Path(find_spec("cupy.cublas").origin).read_text()
            (line,) = re.findall(rf"^def ({name}\(.*\)):$", text, re.MULTILINE)

            def function():
                pass

            function.__doc__ = line
            return function
        place = getattr(place, part)
    assert hasattr(place, name), f"{path} of CuPy has no {name}"
    return getattr(place, name)


@pytest.mark.parametrize(("path", "name"), list(own_names()))
def test_every_name_is_cupys(cupy, path, name):
    own = getattr(double.MODULES[path], name)
    if inspect.ismodule(own):
        assert f"{path}.{name}" in double.MODULES
        return
    real = real_thing(cupy, path, name)
    assert callable(own) == callable(real)
    if isinstance(own, type) and not issubclass(own, np.generic):
        assert isinstance(real, type)
        for attribute in public(vars(own)):
            assert hasattr(real, attribute), f"CuPy's {name} has no {attribute}"
            compare_attribute(own, real, attribute)
        if name not in NOT_CONSTRUCTED:
            compare(inspect.signature(own), signature_of(real), name)
    elif hasattr(own, "types"):
        assert (own.name, own.nin, own.nout) == (real.name, real.nin, real.nout)
        assert set(own.types) <= set(real.types)
        compare(inspect.signature(type(own).__call__), signature_of(real), name)
    elif callable(own) and not isinstance(own, type):
        compare(inspect.signature(own), signature_of(real), f"{path}.{name}")
    else:
        assert own is real or isinstance(real, type(own))


def compare_attribute(own, real, attribute):
    mine, theirs = getattr(own, attribute), getattr(real, attribute)
    if isinstance(mine, own):
        assert isinstance(theirs, real)  # Stream.null
        return
    assert callable(mine) == callable(theirs), f"{own.__name__}.{attribute}: a method in one, a property in the other"
    # What Python itself calls has the signature that Python says.
    if callable(mine) and (not attribute.endswith("__") or attribute in ("__dlpack__", "__array__")):
        compare(inspect.signature(mine), signature_of(theirs), f"{own.__name__}.{attribute}")


def test_instances_have_cupys_attributes(cupy):
    stream = cp.cuda.Stream()
    made = {
        cupy.cuda.Stream: stream,
        cupy.cuda.Event: stream.record(),
        cupy.cuda.Device: cp.cuda.Device(),
        cupy.cuda.MemoryPointer: cp.zeros(1).data,
        cupy.cuda.PinnedMemoryPointer: cp.cuda.alloc_pinned_memory(1),
        cupy.RawModule: cp.RawModule(code=SCALE),
        cupy.RawKernel: cp.RawModule(code=SCALE).get_function("scale"),
    }
    for real, instance in made.items():
        documentation = " ".join(base.__doc__ or "" for base in real.__mro__)
        for name in public(vars(instance)):
            assert name in dir(real) or f"~{real.__name__}.{name} (" in documentation, f"{real.__name__}.{name}"


def test_a_kernel_is_called_as_cupys(cupy):
    kernel = type(cp.RawModule(code=SCALE).get_function("scale"))
    compare(inspect.signature(kernel.__call__), documented(cupy.RawKernel.__call__), "RawKernel")


def test_a_devices_attributes_are_cupys(cupy):
    for name in cp.cuda.Device().attributes:
        assert hasattr(cupy.cuda.runtime, f"cudaDevAttr{name}")


def test_flags_are_cupys(cupy):
    for name in cp.zeros(1).flags._fields:
        assert f"``{name}``" in cupy.ndarray.flags.__doc__


@pytest.mark.parametrize(
    "planted",
    [
        lambda shape, dtype=float, order="C", device=None: None,  # no such parameter
        lambda shape, order="C", dtype=float: None,  # another place
        lambda shape, dtype=float, order="F": None,  # another default
        lambda shape=0, dtype=float: None,  # a default where CuPy has none
    ],
)
def test_another_signature_is_found(planted):
    real = parsed("empty(shape, dtype=float, order='C')")
    compare(inspect.signature(double.functions.empty), real, "empty")
    with pytest.raises(AssertionError):
        compare(inspect.signature(planted), real, "empty")


def test_documentation_is_parsed():
    signature = parsed("_base.f(self, x, /, str code=None, *shape, tuple options=(), d='a, b', \\*\\*kwargs) -> int")
    assert str(signature) == "(self, x, /, code=None, *shape, options=(), d='a, b', **kwargs)"


def test_the_double_has_no_other_names():
    with pytest.raises(AttributeError):
        _ = cp.linalg
    with pytest.raises(AttributeError):
        _ = cp.zeros(1).mean


# ----------------------------------------------------------------------------------------------------------------------
# In place of cupy
# ----------------------------------------------------------------------------------------------------------------------


def test_it_is_imported_as_cupy():
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "cupy"}
    with double.installed() as module:
        import cupy
        import cupy.cublas
        import cupy.cuda.runtime
        from cupy.cuda.memory import OutOfMemoryError

        assert cupy is module is cp
        assert cupy.cublas is cp.cublas
        assert cupy.cuda.runtime is cp.cuda.runtime
        assert OutOfMemoryError is cp.cuda.memory.OutOfMemoryError
        with pytest.raises(ImportError):
            import cupy.linalg
    assert {name: module for name, module in sys.modules.items() if name.split(".")[0] == "cupy"} == before


def test_what_was_there_comes_back():
    marker = object()
    sys.modules["cupy.marker"] = marker
    try:
        with contextlib.suppress(ZeroDivisionError), double.installed():
            assert "cupy.marker" not in sys.modules
            _ = 1 / 0
        assert sys.modules["cupy.marker"] is marker
    finally:
        del sys.modules["cupy.marker"]
