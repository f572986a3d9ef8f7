"""Reading runs no code: every reader is fed a pickle that would leave a mark, and the source has no way to run one."""

import ast
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

import accelnn
from accelnn import DataError, ModelFileError, Network, load_table
from accelnn.readers import load_features
from accelnn.readers.sources import ENDINGS
from accelnn.tables import TableModel

PACKAGE = Path(accelnn.__file__).parent
KERNELS = PACKAGE.parent / "kernels"

UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
READERS = {"load", "loads", "Unpickler", "open"}
RUNNERS = {"eval", "exec", "compile", "__import__"}


class Canary:
    """Its pickle writes a file when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def canary(tmp_path):
    """What to pickle; at the end it must not have been run."""
    path = tmp_path / "ran"
    yield Canary(path)
    assert not path.exists(), "a reader ran code from a file"


def test_the_canary_runs_where_pickles_are_read(tmp_path):
    path = tmp_path / "ran"
    pickle.loads(pickle.dumps(Canary(path)))
    assert path.is_dir()
    np.save(tmp_path / "t.npy", np.array([Canary(path)]))
    path.rmdir()
    np.load(tmp_path / "t.npy", allow_pickle=True)
    assert path.is_dir()


def forms(canary):
    """Bytes that hold the canary in some form, by name."""
    raw, npy, npz, archive = pickle.dumps(canary), io.BytesIO(), io.BytesIO(), io.BytesIO()
    objects = np.array([[canary, canary]], dtype=object)
    np.save(npy, objects)
    np.savez(npz, X=objects, y=objects[:, 0])
    with zipfile.ZipFile(archive, "w") as members:
        for name in ("X.npy", "y.npy", "data.pkl", "archive/data.pkl"):
            members.writestr(name, raw)
    structure = io.BytesIO()
    np.save(structure, np.array([(canary, 1.0)], dtype=[("a", object), ("b", float)]))
    return {
        "pickle": raw,
        "text pickle": pickle.dumps(canary, protocol=0),
        "npy of objects": npy.getvalue(),
        "npy of structures": structure.getvalue(),
        "npz of objects": npz.getvalue(),
        "zip of pickles": archive.getvalue(),
        "csv with a pickle": b"a,y\n" + pickle.dumps(canary, protocol=0).replace(b"\n", b",\n") + b"\n",
    }


@pytest.mark.parametrize("ending", [*ENDINGS, ".safetensors", ".pkl", ".joblib"])
def test_a_pickle_is_never_run(ending, canary, tmp_path):
    for form, content in forms(canary).items():
        path = tmp_path / f"t{ending}"
        path.write_bytes(content)
        for read in (lambda path: load_table(path, "y"), lambda path: load_features(path, ["a"])):
            with pytest.raises(DataError):
                read(path)
        for read in (Network.load, TableModel.load):
            with pytest.raises(ModelFileError):
                read(path)
        assert not Path(canary.path).exists(), form


def test_a_target_of_objects_is_never_run(canary, tmp_path):
    np.save(tmp_path / "X.npy", np.zeros((1, 2)))
    np.save(tmp_path / "y.npy", np.array([canary]))
    with pytest.raises(DataError, match="Python objects"):
        load_table(tmp_path / "X.npy", str(tmp_path / "y.npy"))


@pytest.mark.parametrize(
    "shape", ["(__import__('os').mkdir({!r}), 2)", "[__import__('os').mkdir({!r})]", "(1).__class__", "lambda: {!r}"]
)
def test_a_header_is_no_program(shape, canary, tmp_path):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape.format(canary.path)}}}".encode()
    path = tmp_path / "t.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(DataError, match="its description cannot be read"):
        load_features(path, ["x0"])


def sources():
    return [*PACKAGE.rglob("*.py"), *KERNELS.rglob("*.py")]


def dangers(tree):
    """What in a module could run what a file holds: (line, what)."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            names = []
        yield from ((line, name) for name in names if name.partition(".")[0] in UNPICKLERS)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            home, _, last = called.rpartition(".")
            if called in RUNNERS or home == "builtins" or (home in UNPICKLERS and last in READERS):
                yield line, called
            if called in ("torch.load", "pandas.read_pickle") or called.endswith((".load_module", ".exec_module")):
                yield line, called
            if called.endswith("import_module") and node.args and isinstance(node.args[0], ast.Constant):
                yield from ((line, v) for v in [str(node.args[0].value)] if v.partition(".")[0] in UNPICKLERS)
            for keyword in node.keywords:
                false = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in ("allow_pickle", "weights_only") and false is (keyword.arg == "weights_only"):
                    yield line, f"{keyword.arg}="
            if called in ("np.load", "numpy.load") and "allow_pickle" not in [k.arg for k in node.keywords]:
                yield line, "np.load without allow_pickle=False"


def test_the_source_has_no_way_to_run_a_file():
    assert len(sources()) > 80
    found = [
        f"{path.name}:{line}: {what}"
        for path in sources()
        for line, what in dangers(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "import dill as d", "from pickle import loads", "from joblib import load", "eval('1')"),
        *("exec(text)", "compile(text, '', 'exec')", "np.load(path, allow_pickle=True)", "np.load(path)"),
        *("np.load(p, allow_pickle=x)", "torch.load(p)", "importlib.import_module('marshal')", "__import__('shelve')"),
        *("builtins.eval(x)", "torch.load(p, weights_only=False)", "spec.loader.exec_module(m)", "joblib.load(p)"),
    ],
)
def test_the_scan_of_the_source_sees(code):
    assert list(dangers(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["re.compile('a')", "program.compile('cubin')", "np.load(p, allow_pickle=False)", "copy.deepcopy(x)"]
)
def test_the_scan_of_the_source_lets_pass(code):
    assert not list(dangers(ast.parse(code)))
