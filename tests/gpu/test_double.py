"""The device double has no name that CuPy lacks, mixes nothing with the host, counts everything, and sees disorder."""

import ast
import contextlib
import copy
import inspect
import pickle
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from gpu import double

cp = double.MODULES["cupy"]


@pytest.fixture(autouse=True)
def _new_devices():
    with double.configured():
        yield


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


# ----------------------------------------------------------------------------------------------------------------------
# Arrays, and nothing of the host among them
# ----------------------------------------------------------------------------------------------------------------------

HOST = np.arange(6.0, dtype=np.float32).reshape(2, 3)


def device(values=HOST):
    return cp.asarray(np.asarray(values))


@pytest.mark.parametrize(
    "read",
    [
        np.asarray,
        np.array,
        np.float64,
        lambda x: np.add(x, x),
        lambda x: np.add(HOST, x),
        lambda x: np.multiply(x, 2.0),
        lambda x: np.copyto(HOST.copy(), x),
        lambda x: np.asarray([x, x]),
        lambda x: np.concatenate([x, x]),
        lambda x: np.stack([x]),
        lambda x: HOST.copy().__setitem__(..., x),
        lambda x: np.matmul(HOST.T, x),
        lambda x: np.add(HOST, 1.0, out=x),
        float,
        int,
    ],
)
def test_numpy_never_reads_the_device(read):
    x = device()
    # (NumPy warns beside the error where __array__ has no parameter `copy`; CuPy's has none either.)
    with pytest.raises((TypeError, BufferError, RuntimeError, DeprecationWarning)):
        read(x)
    np.testing.assert_array_equal(x.get(), HOST)


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + HOST,
        lambda x: HOST + x,
        lambda x: x - np.array(1.0),
        lambda x: np.less(HOST, x),
        lambda x: x @ HOST.T,
        lambda x: HOST.T @ x,
        lambda x: x.__iadd__(HOST),
        lambda x: x.__setitem__(..., HOST),
        lambda x: x.__setitem__(0, HOST[0].tolist()),
        lambda x: x.fill(HOST),
        lambda x: x.take(np.array([0]), axis=0),
        lambda x: x[np.array([0])],
        lambda x: x[[0]],
        lambda x: x[x > 1],
        lambda x: cp.sum(HOST),
        lambda x: cp.isfinite(HOST),
        lambda x: cp.sqrt(x, out=HOST.copy()),
        lambda x: cp.take(x, [0], axis=0),
        lambda x: cp.where(x > 0, x, HOST),
        lambda x: cp.where(HOST > 0, x, 0.0),
        lambda x: cp.stack([x, HOST]),
        lambda x: cp.concatenate([HOST, x]),
        lambda x: cp.array([x, x]),
        lambda x: cp.matmul(x, HOST.T),
        lambda x: cp.cublas.gemm("N", "T", x, HOST),
        lambda x: cp.cublas.gemm("N", "T", x, x, out=np.empty((2, 2), np.float32)),
        lambda x: cp.reshape(HOST, (-1,)),
        lambda x: cp.astype(HOST, np.float64),
        lambda x: cp.empty_like(HOST),
        lambda x: cp.ascontiguousarray(HOST),
        lambda x: cp.may_share_memory(x, HOST),
        lambda x: cp.from_dlpack(HOST),
        lambda x: cp.full((2, 3), HOST),
    ],
)
def test_the_device_never_reads_the_host(mix):
    with pytest.raises((TypeError, ValueError)):
        mix(device())


def test_copies_demand_the_same_shape_and_type():
    x = device()
    for wrong, error in ((HOST.astype(np.float64), TypeError), (HOST.T, ValueError), (HOST.tolist(), TypeError)):
        with pytest.raises(error):
            x.set(wrong)
        with pytest.raises(error):
            x.get(out=wrong)
    with pytest.raises(RuntimeError, match="non-contiguous"):
        x[:, :2].set(HOST[:, :2])
    with pytest.raises(ValueError, match="non-scalar"):
        x.fill(x[0])


@pytest.mark.parametrize(
    "host", [HOST, HOST.T, HOST[:, ::2], np.asfortranarray(HOST), HOST[:0], np.float32(3), HOST[0]]
)
def test_host_to_device_and_back(host):
    host = np.asarray(host)
    x = cp.asarray(host)
    # What lies in no order of its own comes in C's.
    ordered = host if host.flags.forc else np.ascontiguousarray(host)
    assert (x.shape, x.dtype, x.strides) == (ordered.shape, ordered.dtype, ordered.strides)
    assert x.flags == (ordered.flags.c_contiguous, ordered.flags.f_contiguous)
    assert (x.ndim, x.size, x.nbytes, x.itemsize) == (host.ndim, host.size, host.nbytes, host.itemsize)
    for order in "CFA":
        back = cp.asnumpy(x, order=order)
        np.testing.assert_array_equal(back, host)
        assert back.flags.c_contiguous or order != "C"
        assert back.flags.f_contiguous or order != "F"
    out = np.full_like(host, np.nan, order="C")
    assert x.get(out=out) is out
    np.testing.assert_array_equal(out, host)
    host_again = cp.zeros_like(x)
    host_again.set(host)
    np.testing.assert_array_equal(host_again.get(), host)
    assert cp.asarray(x) is x
    assert cp.array(x) is not x


def test_new_memory_is_poisoned():
    assert np.isnan(cp.empty(5, dtype=np.float32).get()).all()
    assert np.isnan(cp.empty_like(device()).get()).all()
    assert (cp.empty(5, dtype=np.int64).get() == -1).all()
    assert cp.empty(1).data.ptr % 512 == 0


def test_views_share_memory_and_copies_do_not():
    x = device()
    for view in (
        x[0],
        x[:, 1:],
        x.T,
        x.reshape(3, 2),
        x.ravel(),
        x.T.ravel("K"),
        x.view(),
        x.view(cp.int32),
        x[...],
        x[1, 2],
        x[None],
    ):
        assert cp.may_share_memory(x, view)
        assert isinstance(view, cp.ndarray)
    for copied in (x.copy(), x.astype(cp.float64), x.T.ravel(), x.T.reshape(6), x + 0, copy.deepcopy(x)):
        assert not cp.may_share_memory(x, copied)
    with pytest.raises(ValueError, match="copy"):
        x.T.reshape(6, copy=False)
    x[1, 2] = 7
    x[0] = x[1]
    x[:, 0] = cp.zeros(())
    x.T[1] += 10.0
    assert x.get().tolist() == [[0, 14, 7], [0, 14, 7]]
    assert x[1].data.ptr == x.data.ptr + 12
    again = cp.ndarray((3,), np.float32, x.data + 12)
    assert cp.may_share_memory(x, again)
    assert again.get().tolist() == [0, 14, 7]


def test_operators_and_functions_give_numpys_numbers():
    a, b = HOST + 1, HOST[::-1] + 2
    x, y = device(a), device(b)
    pairs = [
        (x + y, a + b),
        (2 - x, 2 - a),
        (np.float64(2) * x, np.float64(2) * a),
        (x / 2, a / 2),
        (x // 2, a // 2),
        (x % 2, a % 2),
        (2**x, 2**a),
        (-x, -a),
        (abs(-x), a),
        (x > y, a > b),
        ((x == 1) | ~(y != 2), (a == 1) | (b == 2)),
        (x @ y.T, a @ b.T),
        (cp.sqrt(x), np.sqrt(a)),
        (cp.abs(-x), a),
        (cp.isfinite(x / 0), np.zeros((2, 3), bool)),
        (cp.isnan(x), np.isnan(a)),
        (cp.sum(x, axis=0, keepdims=True), a.sum(axis=0, keepdims=True)),
        (x.max(), a.max()),
        (cp.argmax(x), a.argmax()),
        (cp.all(x > 1, axis=1), (a > 1).all(axis=1)),
        (cp.any(x > 4), np.array(True)),
        (cp.take(x, cp.asarray([2, 0, 3]), axis=1), a[:, [2, 0, 0]]),  # places wrap around
        (cp.where(x > 2, x, 0.0), np.where(a > 2, a, np.float32(0))),
        (cp.stack([x, y]), np.stack([a, b])),
        (cp.concatenate([x, y], axis=1), np.concatenate([a, b], axis=1)),
        (cp.reshape(x, (-1,)), a.ravel()),
        (cp.astype(x, cp.int64), a.astype(np.int64)),
        (cp.ones((2, 1)), np.ones((2, 1))),
        (cp.full(2, 3), np.full(2, 3)),
        (cp.asfortranarray(x), a),
    ]
    for number, (own, expected) in enumerate(pairs):
        assert isinstance(own, cp.ndarray)
        assert own.dtype == expected.dtype, number
        np.testing.assert_array_equal(own.get(), expected, err_msg=str(number))
    assert (float(x[0, 0]), int(x[1, 0]), bool(x[0, 0] > 5), x[0, 1].item()) == (1.0, 4, False, 2.0)
    assert [row.shape for row in x] == [(3,), (3,)]
    assert len(x) == 2


def test_pickles_by_way_of_the_host():
    x = device(HOST.T)
    again = pickle.loads(pickle.dumps(x))
    assert isinstance(again, cp.ndarray)
    assert again.strides == x.strides
    np.testing.assert_array_equal(again.get(), HOST.T)


# ----------------------------------------------------------------------------------------------------------------------
# What is counted
# ----------------------------------------------------------------------------------------------------------------------

COUNTS = {
    "asarray": (lambda x: cp.asarray(HOST), {"allocations": 1, "host_to_device": 1}),
    "asarray of an array": (lambda x: cp.asarray(x), {}),
    "blocking asarray": (
        lambda x: cp.asarray(HOST, blocking=True),
        {"allocations": 1, "host_to_device": 1, "synchronisations": 1},
    ),
    "set": (lambda x: x.set(HOST), {"host_to_device": 1}),
    "get": (lambda x: x.get(), {"device_to_host": 1, "synchronisations": 1}),
    "get in another order": (
        lambda x: x.get(order="F"),
        {"device_to_host": 1, "synchronisations": 1, "allocations": 1, "launches": 1},
    ),
    "float": (lambda x: float(x[0, 0]), {"device_to_host": 1, "synchronisations": 1}),
    "int": (lambda x: int(x[0, 0]), {"device_to_host": 1, "synchronisations": 1}),
    "bool": (lambda x: bool(x[0, 0]), {"device_to_host": 1, "synchronisations": 1}),
    "item": (lambda x: x[0, 0].item(), {"device_to_host": 1, "synchronisations": 1}),
    "view": (lambda x: x[0].T.reshape(3, 1), {}),
    "copy": (lambda x: x.copy(), {"allocations": 1, "device_to_device": 1}),
    "assignment": (lambda x: x[0].__setitem__(..., x[1]), {"device_to_device": 1}),
    "fill": (lambda x: x.__setitem__(..., 1.0), {"launches": 1}),
    "empty": (lambda x: cp.empty(3), {"allocations": 1}),
    "nothing": (lambda x: cp.empty(0), {}),
    "zeros": (lambda x: cp.zeros(3), {"allocations": 1, "launches": 1}),
    "operator": (lambda x: x + x, {"allocations": 1, "launches": 1}),
    "in place": (lambda x: x.__iadd__(1.0), {"launches": 1}),
    "function": (lambda x: cp.sum(x, axis=0), {"allocations": 1, "launches": 1}),
    "function with out": (lambda x: cp.sqrt(x, out=x), {"launches": 1}),
    "gemm": (lambda x: cp.cublas.gemm("N", "T", x, x), {"allocations": 1, "launches": 1}),
    "gemm with out": (lambda x: cp.cublas.gemm("N", "T", x[:1], x[1:], out=x[:1, :1]), {"launches": 1}),
    "stream": (lambda x: cp.cuda.get_current_stream().synchronize(), {"synchronisations": 1}),
    "event": (lambda x: cp.cuda.get_current_stream().record().synchronize(), {"synchronisations": 1}),
    "device": (lambda x: cp.cuda.Device().synchronize(), {"synchronisations": 1}),
}
WORK = ("launches", "host_to_device", "device_to_host", "device_to_device")


@pytest.mark.parametrize("name", list(COUNTS))
@pytest.mark.parametrize("null", [False, True], ids=["stream", "null stream"])
def test_counts(name, null):
    action, expected = COUNTS[name]
    with cp.cuda.Stream(null=null, non_blocking=not null):
        x = device()
        with double.counting() as counts:
            action(x)
    found = {what: number for what, number in vars(counts).items() if what != "kernels" and number}
    default = sum(expected.get(what, 0) for what in WORK) if null else 0
    assert found == expected | ({"default_stream": default} if default else {})
    assert counts.kernels.total() == counts.launches


def test_counters_nest_and_keep_the_total():
    total = double.counters.allocations
    with double.counting() as outer:
        cp.empty(1)
        with double.counting() as inner:
            cp.empty(1)
        cp.empty(1)
    assert (inner.allocations, outer.allocations, double.counters.allocations - total) == (1, 3, 3)


# ----------------------------------------------------------------------------------------------------------------------
# Kernels
# ----------------------------------------------------------------------------------------------------------------------

SCALE = """
extern "C" __global__ void scale(float* y, const float* x, float a, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = a * x[i];
}
extern "C" __global__ void numbers(double* out, long long a, double b, unsigned long long c, const int* missing) {
    out[0] = a; out[1] = b; out[2] = c; out[3] = missing == nullptr;
}
"""


def scale(y, x, a=2.0, grid=(2,)):
    kernel = cp.RawModule(code=SCALE, options=("--std=c++17",)).get_function("scale")
    kernel(grid, (4,), (y, x, np.float32(a), np.int32(x.size)))


def test_kernels_run_in_the_emulator():
    x = device()
    y = cp.zeros((4, 3), dtype=cp.float32)
    with double.counting() as counts:
        scale(y[1:3], x)  # a view starts at its own address
    np.testing.assert_array_equal(y.get(), np.concatenate([[[0] * 3], 2 * HOST, [[0] * 3]]))
    assert (counts.launches, counts.kernels) == (1, {"scale": 1})
    assert (counts.allocations, counts.synchronisations) == (0, 0)
    scale(y[:2].T, x.T, 3.0)  # contiguous in Fortran's order
    np.testing.assert_array_equal(y[:2].get(), 3 * HOST)


def test_bare_numbers_are_eight_bytes():
    out = cp.zeros(4)
    cp.RawModule(code=SCALE).get_function("numbers")((1,), (1,), (out, 2**40, 0.5, np.uint64(2**63), np.uintp(0)))
    assert out.get().tolist() == [2**40, 0.5, 2**63, 1]  # and a null pointer


@pytest.mark.parametrize(
    ("place", "wrong", "error"),
    [
        (0, HOST, TypeError),
        (1, HOST, TypeError),
        (1, np.ones(1, np.float32), TypeError),  # CuPy passes an array of one element by value
        (0, np.float32(1), TypeError),
        (0, lambda: cp.zeros(6), TypeError),
        (0, lambda: cp.zeros(6, dtype=cp.int32), TypeError),
        (0, lambda: cp.zeros((3, 4), dtype=cp.float32)[:, :2], ValueError),
        (0, lambda: cp.zeros(6, dtype=cp.float32).data.ptr, TypeError),
        (1, None, TypeError),
        (1, np.uintp(8), TypeError),
        (2, 2.0, TypeError),
        (2, np.float64(2), TypeError),
        (2, lambda: cp.ones((), dtype=cp.float32), TypeError),
        (3, 6, TypeError),
        (3, np.int64(6), TypeError),
        (3, True, TypeError),
        (3, None, TypeError),
    ],
)
def test_wrong_arguments_are_refused(place, wrong, error):
    y = cp.zeros(6, dtype=cp.float32)
    arguments = [y, device(), np.float32(2), np.int32(6)]
    arguments[place] = wrong() if callable(wrong) else wrong
    kernel = cp.RawModule(code=SCALE).get_function("scale")
    with pytest.raises(error, match=rf"kernel scale, parameter {place} "):
        kernel((1,), (32,), arguments)
    assert not y.get().any()


def test_wrong_launches_are_refused():
    kernel = cp.RawModule(code=SCALE).get_function("scale")
    arguments = (device(), device(), np.float32(2), np.int32(6))
    with pytest.raises(TypeError, match="takes 4 arguments, got 3"):
        kernel((1,), (32,), arguments[:3])
    with pytest.raises(TypeError, match="tuples"):
        kernel([1], (32,), arguments)
    with pytest.raises(ValueError, match="grid"):
        kernel((0,), (32,), arguments)
    with pytest.raises(ValueError, match="block"):
        kernel((1,), (2048,), arguments)
    with pytest.raises(NotImplementedError, match="shared memory"):
        kernel((1,), (32,), arguments, shared_mem=16)
    with pytest.raises(RuntimeError, match="no kernel other"):
        cp.RawModule(code=SCALE).get_function("other")((1,), (32,), arguments)
    with pytest.raises(ValueError, match="-DN=3"):
        cp.RawModule(code=SCALE, options=("-DN=3",))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transb", ["N", "T"])
@pytest.mark.parametrize("transa", ["N", "T"])
def test_gemm(transa, transb, dtype):
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((4, 3), (3, 5), (4, 5)))
    for order in "CF":
        x = cp.asarray(a if transa == "N" else a.T, order=order)
        y = cp.asarray(b if transb == "N" else b.T, order=order)
        np.testing.assert_array_equal(cp.cublas.gemm(transa, transb, x, y).get(), a @ b)
        out = cp.asarray(c, order=order)
        assert cp.cublas.gemm(transa, transb, x, y, out=out, alpha=2.0, beta=0.5) is out
        np.testing.assert_array_equal(out.get(), 2 * a @ b + 0.5 * c)
        poisoned = cp.empty((4, 5), dtype, order=order)
        np.testing.assert_array_equal(cp.cublas.gemm(transa, transb, x, y, out=poisoned).get(), a @ b)


def test_gemm_refuses_what_cublas_does():
    x = device()
    for arguments in (("N", "N", x, x), ("N", "T", x, x.astype(cp.float64)), ("N", "T", x[0], x)):
        with pytest.raises(AssertionError):
            cp.cublas.gemm(*arguments)
    with pytest.raises(AssertionError):
        cp.cublas.gemm("N", "T", x, x, out=cp.empty((2, 3), dtype=cp.float32))
    with pytest.raises(TypeError, match="trans"):
        cp.cublas.gemm("X", "T", x, x)
    with pytest.raises(RuntimeError, match="empty"):
        cp.cublas.gemm("N", "T", x[:, :0], x[:, :0])


def test_gemm_copies_what_is_not_contiguous():
    x, out = device(), cp.zeros((2, 4), dtype=cp.float32)
    part = x[:, :2]
    with double.counting() as counts:
        cp.cublas.gemm("N", "T", part, x[:, 1:], out=out[:, ::2])
    np.testing.assert_array_equal(out[:, ::2].get(), HOST[:, :2] @ HOST[:, 1:].T)
    assert counts.allocations == 3


# ----------------------------------------------------------------------------------------------------------------------
# Order
# ----------------------------------------------------------------------------------------------------------------------


def two_streams():
    return cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)


USES = {
    "a launch reads": lambda x: scale(cp.empty_like(x), x),
    "a launch writes": lambda x: scale(x, cp.ndarray(x.shape, x.dtype)),
    "an operator reads": lambda x: x + 1,
    "a copy to the host reads": lambda x: x.get(),
    "a copy to the host by float": lambda x: float(x[0, 0]),
    "a copy from the host writes": lambda x: x.set(HOST),
    "a copy writes": lambda x: x.__setitem__(..., cp.empty_like(x)),
    "a product reads": lambda x: cp.cublas.gemm("N", "T", x, x),
}
ORDERS = {
    "an event": lambda one, two: two.wait_event(one.record()),
    "an event recorded by itself": lambda one, two: recorded(one, two),
    "the host waits for the stream": lambda one, two: one.synchronize(),
    "the host waits for an event": lambda one, two: one.record().synchronize(),
    "the host waits for the device": lambda one, two: cp.cuda.Device().synchronize(),
    "by way of a third stream": lambda one, two: by_a_third(one, two),
}


def recorded(one, two):
    event = cp.cuda.Event(disable_timing=True)
    with one:
        event.record()
    two.wait_event(event)


def by_a_third(one, two):
    third = cp.cuda.Stream(non_blocking=True)
    third.wait_event(one.record())
    two.wait_event(third.record())


@pytest.mark.parametrize("use", list(USES))
@pytest.mark.parametrize("order", [None, *ORDERS])
def test_another_streams_array_needs_order(use, order):
    one, two = two_streams()
    with one:
        x = cp.zeros((2, 3), dtype=cp.float32)
    if order is not None:
        ORDERS[order](one, two)
    with two:
        if order is None:
            with pytest.raises(RuntimeError, match="unordered"):
                USES[use](x)
        else:
            USES[use](x)


def test_a_reader_is_waited_for_too():
    one, two = two_streams()
    with one:
        x = cp.zeros(4)
    two.wait_event(one.record())
    with two:
        y = x + 1
    with one:
        _ = x + 1  # two readers need no order
        scale(cp.empty_like(x, dtype=cp.float32), x.view(cp.float32)[:4])
        with pytest.raises(RuntimeError, match=r"unordered: fill .* that are read"):
            x.fill(2)
        with pytest.raises(RuntimeError, match=r"unordered: scale .* that are read"):
            scale(x.view(cp.float32), cp.ndarray(4, cp.float32))
    one.wait_event(two.record())
    with one:
        x.fill(2)
    del y


def test_an_event_before_the_work_orders_nothing():
    one, two = two_streams()
    early = one.record()
    with one:
        x = cp.zeros(4)
    two.wait_event(early)
    two.wait_event(cp.cuda.Event())  # never recorded
    with two, pytest.raises(RuntimeError, match="unordered"):
        _ = x + 1


def test_other_bytes_of_the_same_memory_need_no_order():
    one, two = two_streams()
    x = cp.empty((2, 4))
    with one:
        x[0].fill(1)
    with two:
        x[1].fill(2)
        with pytest.raises(RuntimeError, match="unordered"):
            x[:, 0].fill(3)


def test_the_null_stream_waits_for_blocking_streams_alone():
    blocking, other = cp.cuda.Stream(), cp.cuda.Stream(non_blocking=True)
    for stream in (blocking, other):
        with stream:
            x = cp.zeros(4)
        if stream is blocking:
            x += 1
            with stream:
                x += 1
        else:
            with pytest.raises(RuntimeError, match="unordered"):
                x += 1
    y = cp.zeros(4)
    with other, pytest.raises(RuntimeError, match=r"unordered.*the null stream"):
        y += 1


def test_current_streams_nest():
    one, two = two_streams()
    assert cp.cuda.get_current_stream() == cp.cuda.Stream.null == cp.cuda.Stream(null=True)
    with one:
        with two:
            assert cp.cuda.get_current_stream() is two
        assert cp.cuda.get_current_stream() is one
        two.use()
        assert cp.cuda.get_current_stream() is two
    assert cp.cuda.get_current_stream() == cp.cuda.Stream.null


def pinned_like(host):
    memory = cp.cuda.alloc_pinned_memory(host.nbytes)
    assert memory.size() >= host.nbytes
    return np.frombuffer(memory, host.dtype, host.size).reshape(host.shape)


def test_pinned_memory_is_left_alone_until_its_copy_has_ended():
    stream, _ = two_streams()
    buffer = pinned_like(HOST)
    x = cp.empty((2, 3), dtype=cp.float32)
    buffer[...] = HOST
    x.set(buffer, stream=stream)
    stream.record().synchronize()
    buffer[...] = 0  # after the host has waited
    x.set(buffer, stream=stream)
    buffer[...] = 1  # before
    with pytest.raises(RuntimeError, match="pinned memory"):
        stream.synchronize()
    plain = HOST.copy()
    x.set(plain, stream=stream)
    plain[...] = 1  # staged: the host may go on
    stream.synchronize()
    np.testing.assert_array_equal(x.get(), HOST)


def test_a_copy_to_pinned_memory_arrives_when_the_host_has_waited():
    stream, _ = two_streams()
    with stream:
        x = device()
        buffer = pinned_like(HOST)
        buffer[...] = -1
        with double.counting() as counts:
            x.get(out=buffer, blocking=False)
        assert (counts.device_to_host, counts.synchronisations) == (1, 0)
        assert np.isnan(buffer).all()
        x.fill(0)
        stream.synchronize()
        np.testing.assert_array_equal(buffer, HOST)
        # To memory that is not pinned the copy itself waits.
        np.testing.assert_array_equal(x.get(blocking=False), np.zeros_like(HOST))


def test_pinned_memory_comes_in_powers_of_two():
    assert [cp.cuda.alloc_pinned_memory(n).size() for n in (0, 1, 512, 513, 5000)] == [0, 512, 512, 1024, 8192]
    cp.get_default_pinned_memory_pool().free_all_blocks()
    assert cp.get_default_pinned_memory_pool().n_free_blocks() == 0


def test_copies_by_address():
    stream, _ = two_streams()
    runtime = cp.cuda.runtime
    x, y = cp.empty_like(device()), cp.empty_like(device())
    out = np.empty_like(HOST)
    with double.counting() as counts:
        runtime.memcpyAsync(x.data.ptr, HOST.ctypes.data, HOST.nbytes, runtime.memcpyHostToDevice, stream.ptr)
        runtime.memcpyAsync(y.data.ptr, x.data.ptr, HOST.nbytes, runtime.memcpyDeviceToDevice, stream.ptr)
        runtime.memcpyAsync(out.ctypes.data, y.data.ptr, HOST.nbytes, runtime.memcpyDeviceToHost, stream.ptr)
    np.testing.assert_array_equal(out, HOST)
    assert (counts.host_to_device, counts.device_to_device, counts.device_to_host, counts.default_stream) == (
        1,
        1,
        1,
        0,
    )
    with pytest.raises(runtime.CUDARuntimeError):
        runtime.memcpyAsync(x.data.ptr, HOST.ctypes.data, HOST.nbytes + 1, runtime.memcpyHostToDevice, stream.ptr)


# ----------------------------------------------------------------------------------------------------------------------
# Graphs
# ----------------------------------------------------------------------------------------------------------------------


def test_a_graph_records_launches_and_runs_them_again():
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = device()
        kept = x.copy()
        with double.counting() as counts:
            stream.begin_capture()
            assert stream.is_capturing()
            scale(x, x)
            x += 1.0
            graph = stream.end_capture()
        assert counts.launches == 0
        np.testing.assert_array_equal(x.get(), HOST)
        with double.counting() as counts:
            graph.launch()
            graph.launch(stream=stream)
        assert (counts.graph_launches, counts.launches, counts.kernels) == (2, 0, {"scale": 2, "add": 2})
        np.testing.assert_array_equal(x.get(), 4 * HOST + 3)
        np.testing.assert_array_equal(kept.get(), HOST)


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (lambda x: cp.cublas.gemm("N", "T", x, x, out=x[:, :2]), NotImplementedError),
        (lambda x: x @ x.T, NotImplementedError),
        (lambda x: cp.empty(3), RuntimeError),
        (lambda x: x + 1, RuntimeError),
        (lambda x: x.get(), RuntimeError),
        (lambda x: float(x[0, 0]), RuntimeError),
        (lambda x: x.set(HOST), RuntimeError),
        (lambda x: cp.asarray(HOST), RuntimeError),
        (lambda x: cp.cuda.get_current_stream().synchronize(), RuntimeError),
        (lambda x: cp.cuda.Device().synchronize(), RuntimeError),
        (lambda x: cp.cuda.get_current_stream().begin_capture(), RuntimeError),
    ],
)
def test_what_a_graph_cannot_hold(action, error):
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = device()
        stream.begin_capture()
        with pytest.raises(error):
            action(x)
        stream.end_capture()
        with pytest.raises(RuntimeError, match="begin_capture"):
            stream.end_capture()
    with pytest.raises(RuntimeError, match="default"):
        cp.cuda.Stream.null.begin_capture()


def test_a_graph_keeps_no_memory_and_needs_order():
    one, two = two_streams()
    with one:
        x = device()
        one.begin_capture()
        scale(x, x)
        graph = one.end_capture()
    with pytest.raises(RuntimeError, match="unordered"):
        graph.launch(stream=two)
    used = cp.get_default_memory_pool().used_bytes()
    del x
    assert cp.get_default_memory_pool().used_bytes() == used - 512
    with pytest.raises(RuntimeError, match="freed"):
        graph.launch(stream=one)


# ----------------------------------------------------------------------------------------------------------------------
# Memory and devices
# ----------------------------------------------------------------------------------------------------------------------


def test_memory_runs_out_and_comes_back():
    double.configure(memory=2**20)
    pool = cp.get_default_memory_pool()
    x = cp.empty(2**19, dtype=np.int8)
    y = cp.empty(1)
    assert (pool.used_bytes(), pool.free_bytes(), pool.total_bytes()) == (2**19 + 512, 0, 2**19 + 512)
    with pytest.raises(MemoryError, match=r"Out of memory allocating 524,288 bytes") as caught:
        cp.empty(2**19, dtype=np.int8)
    assert isinstance(caught.value, cp.cuda.memory.OutOfMemoryError)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), cp.cuda.memory.OutOfMemoryError)
    assert cp.cuda.Device().mem_info == (2**19 - 512, 2**20)
    del x, caught
    assert (pool.used_bytes(), pool.free_bytes()) == (512, 2**19)
    again = cp.empty(2**19, dtype=np.int8)  # from the pool
    assert pool.free_bytes() == 0
    del again
    big = cp.empty(2**20 - 512, dtype=np.int8)  # the pool gives its blocks back first
    assert (pool.free_bytes(), cp.cuda.Device().mem_info[0]) == (0, 0)
    del big
    pool.free_all_blocks()
    assert (pool.total_bytes(), cp.cuda.Device().mem_info[0]) == (512, 2**20 - 512)
    del y


def test_devices():
    double.configure(devices=2, memory=2**20)
    runtime = cp.cuda.runtime
    assert runtime.getDeviceCount() == 2
    assert cp.is_available()
    x = device()
    with cp.cuda.Device(1) as second:
        assert (cp.cuda.Device().id, runtime.getDevice(), int(second)) == (1, 1, 1)
        y = cp.zeros((2, 3), dtype=cp.float32)
        assert y.device == second
        assert y.data.device_id == 1
        for mix in (lambda: x + 1, lambda: y + x, lambda: scale(y, x), lambda: x.fill(0)):
            with pytest.raises(ValueError, match="device 0"):
                mix()
        with pytest.raises(RuntimeError, match="unordered"):
            cp.asarray(x)
        cp.cuda.Device(0).synchronize()
        z = cp.asarray(x)  # copies to the current device
        assert z.device.id == 1
        np.testing.assert_array_equal(x.get(), HOST)  # from any device
        np.testing.assert_array_equal(z.get(), HOST)
        stream = cp.cuda.Stream()
        with pytest.raises(runtime.CUDARuntimeError):
            cp.cuda.Device(2).use()
    assert cp.cuda.Device().id == 0
    with pytest.raises(RuntimeError, match="belongs to device 1"):
        stream.use()
    assert cp.cuda.Device(1).mem_info[0] == 2**20 - 1024
    cp.cuda.Device(1).use()
    assert runtime.getDevice() == 1
    double.configure(devices=0)
    assert not cp.is_available()


def test_other_devices_come_back_as_they_were():
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = device()
        with double.configured(devices=2):
            cp.cuda.Device(1).use()
            assert cp.cuda.get_current_stream() == cp.cuda.Stream.null
            assert cp.get_default_memory_pool().used_bytes() == 0
            with pytest.raises(ValueError, match="lives on"):
                _ = x + 1
        assert cp.cuda.get_current_stream() is stream
        np.testing.assert_array_equal((x + 1).get(), HOST + 1)
        assert cp.get_default_memory_pool().used_bytes() == 512


def test_a_device_says_what_it_is():
    properties = cp.cuda.runtime.getDeviceProperties(0)
    assert isinstance(properties["name"], bytes)
    assert properties["totalGlobalMem"] == 2**30 == cp.cuda.Device().mem_info[1]
    assert cp.cuda.Device().compute_capability == f"{properties['major']}{properties['minor']}"
    assert cp.cuda.Device().attributes["MultiProcessorCount"] == properties["multiProcessorCount"]
    assert cp.cuda.runtime.driverGetVersion() >= cp.cuda.runtime.runtimeGetVersion() > 12000
    assert cp.cuda.runtime.memGetInfo() == cp.cuda.Device().mem_info
    assert cp.cuda.runtime.is_hip is False


# ----------------------------------------------------------------------------------------------------------------------
# Other libraries' arrays
# ----------------------------------------------------------------------------------------------------------------------


class Producer:
    """Another library's array, which shares memory by one of the two protocols."""

    def __init__(self, array):
        self.array = array


class DlpackProducer(Producer):
    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)


class InterfaceProducer(Producer):
    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__


@pytest.mark.parametrize(
    "take_in", [lambda x: cp.from_dlpack(DlpackProducer(x)), lambda x: cp.asarray(InterfaceProducer(x))]
)
def test_memory_is_shared_without_a_copy(take_in):
    x = device()
    for view in (x, x.T, x[:, 1:], x[1], x[:0]):
        with double.counting() as counts:
            y = take_in(view)
        assert (y.shape, y.dtype) == (view.shape, view.dtype)
        assert (counts.allocations, counts.host_to_device, counts.device_to_device) == (0, 0, 0)
        np.testing.assert_array_equal(y.get(), view.get())
        if view.size:
            assert y.strides == view.strides
            assert cp.may_share_memory(x, y)
    assert x.__dlpack_device__() == (2, 0)
    assert x.__cuda_array_interface__["version"] == 3
    np.testing.assert_array_equal(cp.asnumpy(InterfaceProducer(x)), HOST)


def test_the_host_waits_for_the_stream_that_an_interface_names():
    one, two = two_streams()
    with one:
        x = device()
        producer = type("Producer", (), {"__cuda_array_interface__": x.__cuda_array_interface__})()
    with two:
        with double.counting() as counts:
            y = cp.asarray(producer)
        assert counts.synchronisations == 1
        np.testing.assert_array_equal((y + 1).get(), HOST + 1)


def test_shared_memory_is_in_order():
    one, two = two_streams()
    with one:
        x = device()
        capsule = x.__dlpack__(stream=two.ptr)
        description = x.__cuda_array_interface__
    assert description["stream"] == one.ptr
    with two:
        _ = x + 1
    with one:
        x = device()
        _ = x.__dlpack__(stream=-1)
    with two, pytest.raises(RuntimeError, match="unordered"):
        _ = x + 1
    del capsule


def test_what_is_no_capsule_of_the_double_is_refused():
    class Other:
        def __dlpack_device__(self):
            return (2, 0)

        def __dlpack__(self, **_):
            return object()

    with pytest.raises(TypeError, match="double"):
        cp.from_dlpack(Other())
    with pytest.raises(TypeError, match="CPU"):
        cp.from_dlpack(HOST)
    with pytest.raises(BufferError, match="no copies"):
        np.from_dlpack(device(), device="cpu")
    with pytest.raises((ValueError, BufferError)):
        np.from_dlpack(device())
