"""What the tests share: the backends, the settings of Hypothesis, and what "the same numbers" means."""

import contextlib
import copy
import inspect
import os
import shutil

# Before NumPy loads: threads that spin for a core which another process holds cost tests a factor of ten.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import array_api_compat.numpy
import array_api_strict
import numpy as np
import pytest
from hypothesis import settings

from accelnn import Network, backends, equations, get_backend, training
from accelnn.backends import availability, why_unavailable
from accelnn.backends.base import Backend
from accelnn.backends.numba import teamwork

# In CI the same examples every time; elsewhere new ones. Compilation on first use makes a deadline meaningless.
settings.register_profile("accelnn", deadline=None, derandomize=os.environ.get("CI", "").lower() == "true")
settings.load_profile("accelnn")

DTYPES = ("float32", "float64")

# Largest difference between backends, relative to an array's largest element.
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


class StrictBackend(Backend):
    """The reference bodies on array-api-strict, on a device from which NumPy cannot read."""

    def to_host(self, array):
        return np.asarray(array.to_device(array_api_strict.Device("CPU_DEVICE")))


FACTORIES = {
    "reference": lambda: Backend(array_api_compat.numpy),
    "strict": lambda: Backend(array_api_strict),
    "strict device1": lambda: StrictBackend(array_api_strict, array_api_strict.Device("device1")),
    "numpy": lambda: get_backend("numpy"),
    "numba": lambda: get_backend("numba"),
}


def make_cupy_backend():
    """The cupy backend: on a GPU where there is one, else on the device double, whose kernels run in the emulator."""
    if why_unavailable("cupy") is None:
        return get_backend("cupy")
    from gpu import double

    with double.installed():
        from accelnn.backends.cupy import CupyBackend

        return CupyBackend()


HAS_GPU = why_unavailable("cupy") is None
if HAS_GPU or shutil.which("g++"):
    FACTORIES["cupy"] = make_cupy_backend


def pytest_collection_modifyitems(config, items):
    """`pytest -m gpu` asks for hardware; without it, the same tests run on the device double."""
    asked = config.getoption("markexpr") == "gpu"
    for item in items:
        if item.get_closest_marker("gpu") is None:
            continue
        given = item.callspec.params.values() if hasattr(item, "callspec") else ()
        needs_double = "cupy" in given or {"cupy_backend", "cupy_by_name"} & set(item.fixturenames)
        if asked and not HAS_GPU:
            item.add_marker(pytest.mark.skip(reason=f"no GPU: {why_unavailable('cupy')}"))
        elif needs_double and "cupy" not in FACTORIES:
            item.add_marker(pytest.mark.skip(reason="the emulator compiles kernels with g++, which is not installed"))


@pytest.fixture(scope="session")
def cupy_backend():
    """See `make_cupy_backend`."""
    return FACTORIES["cupy"]()


@contextlib.contextmanager
def gpu_found():
    """Within, `backend="cupy"` and `"auto"` find a GPU: a real one, or the device double's."""
    with contextlib.ExitStack() as stack:
        if not HAS_GPU:
            from gpu import double

            for cache in (availability.find_fault, backends.auto_choice, backends._create):
                cache.cache_clear()
                stack.callback(cache.cache_clear)
            stack.enter_context(double.installed())
        yield


@pytest.fixture
def cupy_by_name():
    """See `gpu_found`."""
    with gpu_found():
        yield


NAMED = ["numpy", "numba", pytest.param("cupy", marks=pytest.mark.gpu)]


@pytest.fixture(params=NAMED)
def backend(request):
    """Each backend that a person can name."""
    return FACTORIES[request.param]()


@pytest.fixture(params=NAMED)
def named_backend(request):
    """The same, each as `get_backend` finds it."""
    if request.param == "cupy":
        request.getfixturevalue("cupy_by_name")
    return get_backend(request.param)


@pytest.fixture(params=["reference", *NAMED])
def any_backend(request):
    """Each of them, and the reference bodies on NumPy arrays."""
    return FACTORIES[request.param]()


def host(array):
    """A NumPy array of its own with the values of any backend's array."""
    return array.get(order="A") if hasattr(array, "get") else np.array(array)


def difference(actual, expected):
    """Largest difference, relative to the largest element of what is expected."""
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape
    gap = float(np.max(np.abs(actual - expected), initial=0.0))
    return gap / float(np.max(np.abs(expected))) if gap else 0.0


def assert_same(actual, expected, dtype, what):
    """Two backends' results agree to the tolerance of their dtype."""
    found = difference(actual, expected)
    assert found <= TOLERANCE[dtype], f"{what}: {found:.2e} apart, {TOLERANCE[dtype]:.0e} allowed ({dtype})"


def data(m=50, inputs=3, outputs=2, seed=0):
    """Examples for the network of `make`."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1.0, 1.0, size=(inputs, m)), rng.uniform(0.0, 1.0, size=(outputs, m))


def make(backend, sizes=(3, 8, 2), activations="tanh", **options):
    """A small network."""
    return Network(sizes, activations, **{"dtype": "float64", "backend": backend, **options})


def make_targets(kind, rows, m, rng):
    """Targets of shape (rows, m) that a loss accepts: `kind` is ``Loss.targets``."""
    if kind == "probability":
        return rng.uniform(0.02, 0.98, size=(rows, m))
    if kind == "distribution":
        weights = rng.uniform(0.1, 1.0, size=(rows, m))
        return weights / weights.sum(axis=0)
    if kind == "count":
        # Up to 2, so that exp(z) - y z stays clear of zero and a relative difference means something.
        return rng.integers(0, 3, size=(rows, m)).astype(np.float64)
    return rng.uniform(-1.0, 1.0, size=(rows, m))


def recording(backend):
    """A copy of a backend, and a list that receives the batch order of each epoch that it trains."""
    orders = []
    place = list(inspect.signature(equations.train).parameters)
    spy = copy.copy(backend)

    def train(*arguments):
        named = dict(zip(place, arguments, strict=True))
        if named["s"] == 0:
            orders.extend(np.array(backend.to_host(named["order"])))
        return backend.train(*arguments)

    spy.train = train
    return spy, orders


@pytest.fixture
def teams(monkeypatch):
    """Teams of the numba backend for however little work."""
    monkeypatch.setattr(training._Memory, "_spare", [])
    for name in ("WORTHWHILE", "FEWEST"):
        monkeypatch.setattr(teamwork, name, 1)
    monkeypatch.setattr(teamwork, "FETCHING", 0.0)


def take_few_at_once(monkeypatch, examples):
    """Let members of a team take their shares in passes of so few examples."""
    create = teamwork.Team.__init__

    def in_small_blocks(self, *arguments):
        create(self, *arguments)
        for member in (*self.members, self.alone):
            member[1][teamwork.team.BLOCK] = examples

    monkeypatch.setattr(teamwork.Team, "__init__", in_small_blocks)
