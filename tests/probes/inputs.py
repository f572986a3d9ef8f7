"""Every kind of array that X and Y may be."""

import tempfile
from types import SimpleNamespace

import numpy as np
from probes.common import M, make, used
from scipy import sparse

# Small whole numbers, which every kind holds exactly. The targets are one-hot columns, and 0 or 1 for one output.
rng = np.random.default_rng(2)
X, CLASSES = rng.integers(-2, 3, size=(3, M)).astype(np.float64), rng.integers(0, 2, size=M)
Y = np.eye(2)[CLASSES].T


def producer(array, *protocol):
    """Another library's array, which offers this protocol and nothing else."""
    return type("Producer", (), {name: property(lambda self, name=name: getattr(array, name)) for name in protocol})()


DLPACK, INTERFACE = ("__dlpack__", "__dlpack_device__"), ("__cuda_array_interface__",)
ELSEWHERE = SimpleNamespace(  # an array on a GPU, for backends that must not read it
    __dlpack__=None, __dlpack_device__=lambda: (2, 0), __cuda_array_interface__={}
)


def on_gpu(array, backend):
    return backend.from_host(array) if backend.name == "cupy" else ELSEWHERE


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def memory_map(array):
    with tempfile.TemporaryFile() as file:
        np.save(file, array)
        file.seek(0)
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")


CONVERSIONS = {
    "float64": lambda array, _: array,
    "float32": lambda array, _: array.astype(np.float32),
    "integers": lambda array, _: array.astype(np.int16),
    "C order": lambda array, _: np.ascontiguousarray(array),
    "Fortran order": lambda array, _: np.asfortranarray(array),
    "a table's rows transposed": lambda array, _: np.ascontiguousarray(array.T).T,
    "every other column of a larger array": lambda array, _: np.repeat(array, 2, axis=1)[:, ::2],
    "read-only": lambda array, _: read_only(array),
    "lists": lambda array, _: array.tolist(),
    "a memory map": lambda array, _: memory_map(array),
    "the backend's own arrays": lambda array, backend: backend.from_host(array),
    "DLPack in the host's memory": lambda array, _: producer(array, *DLPACK),
    "DLPack on a GPU": lambda array, backend: producer(on_gpu(array, backend), *DLPACK),
    "CUDA array interface": lambda array, backend: producer(on_gpu(array, backend), *INTERFACE),
}


def converted(convert):
    """A conversion's X and Y; the reference gets plain NumPy arrays."""

    def probe(backend, dtype):
        net = make(backend, output="softmax", dtype=dtype)
        if backend.name == "reference":
            return used(net, X=X, Y=Y)
        return used(net, X=convert(X, backend), Y=convert(Y, backend))

    return probe


SPARSE = sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.csr_matrix


def sparse_input(kind):
    """X as a sparse array; the reference gets it dense."""

    def probe(backend, dtype):
        net = make(backend, output="softmax", dtype=dtype)
        return used(net, X=X if backend.name == "reference" else kind(X), Y=Y, dropout=0.5)

    return probe


def own_prediction(backend, dtype):
    """Prediction of the backend's own array is one, too."""
    A = make(backend, dtype=dtype).predict(backend.from_host(X))
    assert backend.owns(A)
    return [backend.to_host(A)]


def targets(vector, **options):
    """Targets as one vector; the reference gets them as rows."""

    def probe(backend, dtype):
        net = make(backend, dtype=dtype, **options)
        rows = Y if net.sizes[-1] == 2 else Y[1:]
        return used(net, X=X, Y=rows if backend.name == "reference" else vector)

    return probe


INPUTS = {
    **{kind: converted(convert) for kind, convert in CONVERSIONS.items()},
    **{f"X: scipy.sparse.{kind.__name__}": sparse_input(kind) for kind in SPARSE},
    "predictions as the backend's own arrays": own_prediction,
    "class numbers": targets(CLASSES, output="softmax"),
    "class numbers as a list": targets(CLASSES.tolist(), output="softmax"),
    "a vector for one output": targets(Y[1], sizes=(3, 4, 1)),
}
