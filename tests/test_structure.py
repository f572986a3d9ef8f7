"""How the house is built: who imports whom, and what a backend may change."""

import ast
import graphlib
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import FACTORIES

import accelnn
from accelnn import AccelnnError, Network, backends, equations, verbs
from accelnn.activations import ACTIVATIONS
from accelnn.backends.base import Backend
from accelnn.losses import LOSSES
from accelnn.optimizers import RULES

ROOT = Path(accelnn.__file__).parent
KERNELS = Path(importlib.import_module("accelnn.kernels").__file__).parent

# The floors of the house: a module imports from its own floor or from below.
FLOORS = (
    {"errors", "kernels"},
    {"binding", "elementary", "threads", "interrupts"},
    {"activations", "losses", "optimizers", "parameters", "initializers", "schedules", "callbacks", "dropout", "verbs"},
    {"equations"},
    {"backends"},
    {"checks", "customloss", "progress", "state", "earlystopping"},
    {"feeding"},
    {"streaming"},
    {"network"},
    {"training", "storage", "datasets"},
    {"tables", "checkpoints", "resuming", "logs"},
    {"readers", "exchange"},
    {"benchmark"},
    {"doctor"},
    {"cli", "estimators", "plots"},
    {"__main__"},
)
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}

# A method of Network may reach up to what works on networks, when it is called and not before.
UPWARD_WHEN_CALLED = {("network", "training"), ("network", "storage"), ("training", "resuming")}


def sources():
    """Every module of the package by its dotted name after ``accelnn``."""
    found = {}
    for folder, prefix in ((ROOT, ()), (KERNELS, ("kernels",))):
        for path in folder.rglob("*.py"):
            parts = (*prefix, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path):
    """What a module imports: (dotted name, whether on import rather than in a function), type checking left out."""

    def visit(node, at_import):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            children = node.orelse
        elif isinstance(node, ast.Import):
            yield from ((alias.name, at_import) for alias in node.names)
            return
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full.partition(".")[2] in SOURCES else node.module), at_import
            return
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            children, at_import = ast.iter_child_nodes(node), False
        else:
            children = ast.iter_child_nodes(node)
        for child in children:
            yield from visit(child, at_import)

    return list(visit(ast.parse(path.read_text()), True))


SOURCES = sources()


def ours(path):
    """The imports that stay within the package, by their dotted name after ``accelnn``."""
    return [
        (name.partition(".")[2], at_import) for name, at_import in imports(path) if name.partition(".")[0] == "accelnn"
    ]


def test_the_scan_sees_the_package():
    assert {"equations", "verbs", "backends", "backends.numba", "kernels", "kernels.jit"} <= set(SOURCES)
    assert ("backends.base", True) in ours(SOURCES["backends.numpy.backend"])
    assert ("training", False) in ours(SOURCES["network"])
    assert ("numba", True) in imports(SOURCES["kernels.jit"])


def test_every_module_has_a_floor():
    unplaced = {name.partition(".")[0] for name in SOURCES if name} - set(FLOOR)
    assert not unplaced, f"say on which floor these belong: {sorted(unplaced)}"


@pytest.mark.parametrize("module", sorted(filter(None, SOURCES)))
def test_imports_go_down(module):
    home = module.partition(".")[0]
    for name, at_import in ours(SOURCES[module]):
        other = name.partition(".")[0]
        if not other or (not at_import and (home, other) in UPWARD_WHEN_CALLED):
            continue  # the package itself, which has only its version and lazy names
        assert FLOOR[other] <= FLOOR[home], f"accelnn.{module} imports accelnn.{name} from a floor above"


def test_imports_form_no_circle():
    graph = {m: {n for n, at_import in ours(path) if at_import and n and n != m} for m, path in SOURCES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_the_page_imports_the_verbs_alone():
    assert {name for name, _ in imports(SOURCES["equations"])} == {"accelnn.verbs"}


def test_the_verbs_import_the_elementary_functions_alone():
    allowed = {"math", "array_api_compat", "accelnn.elementary"}
    assert {name for name, _ in imports(SOURCES["verbs"])} <= allowed


@pytest.mark.parametrize("module", [name for name in SOURCES if name.partition(".")[0] == "kernels"])
def test_kernels_import_kernels_alone(module):
    for name, _ in ours(SOURCES[module]):
        assert name.partition(".")[0] == "kernels"


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("numba", {"kernels", "backends.numba.backend"}),
        ("llvmlite", {"kernels"}),
        ("cupy", set()),
        ("sklearn", {"estimators"}),
        ("typer", {"cli"}),
        ("rich", {"cli"}),
        ("polars", set()),
        ("onnx", set()),
        ("skops", set()),
        ("tensorboardX", set()),
        ("matplotlib", set()),
        ("torch", set()),
        ("jax", set()),
        ("optax", set()),
    ],
)
def test_heavy_libraries_are_imported_where_they_are_used(library, homes):
    for module, path in SOURCES.items():
        for name, at_import in imports(path):
            if at_import and name.partition(".")[0] == library:
                assert module in homes or module.partition(".")[0] in homes, f"accelnn.{module} imports {name}"


def loaded_by(code):
    """Which of the heavy libraries a fresh process has loaded after some code."""
    report = (
        "import sys; print(*(n for n in ('numba', 'llvmlite', 'cupy', 'sklearn', 'scipy', 'rich') if n in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_accelnn_loads_nothing_heavy():
    assert loaded_by("import accelnn; accelnn.__version__; dir(accelnn)") == set()


def test_training_on_numpy_loads_nothing_heavy():
    code = """
import numpy as np
from accelnn import Network
net = Network([2, 3, 1], backend="numpy")
net.fit(np.ones((2, 5)), np.ones(5), epochs=2)
net.predict(np.ones((2, 5)))
"""
    assert loaded_by(code) == set()


def test_the_scan_of_loaded_libraries_sees_them():
    assert {"numba", "llvmlite"} <= loaded_by("from accelnn import get_backend; get_backend('numba')")


# Public names.


def test_public_names_load_and_no_others():
    assert accelnn.__all__ == sorted(accelnn.__all__)
    assert {"Network", "get_backend", "Optimizer", "History", "Callback", "DataError"} <= set(accelnn.__all__)
    for name in accelnn.__all__:
        assert getattr(accelnn, name).__name__ == name if name != "BACKENDS" else accelnn.BACKENDS
        assert name in dir(accelnn)
    with pytest.raises(AttributeError, match="Netwrok"):
        accelnn.Netwrok  # noqa: B018


def test_errors_have_one_root():
    for name in accelnn.__all__:
        value = getattr(accelnn, name)
        if inspect.isclass(value) and issubclass(value, BaseException):
            assert issubclass(value, AccelnnError)


def public_objects():
    """Every public function, class and method of the package, by its dotted name."""
    for info in pkgutil.walk_packages([str(ROOT)], "accelnn."):
        if info.name.startswith("accelnn.kernels") or info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        yield info.name, module
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if not callable(value) or getattr(value, "__module__", None) != info.name:
                continue
            yield f"{info.name}.{name}", value
            if inspect.isclass(value):
                for key, member in vars(value).items():
                    inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                    if not key.startswith("_") and (inspect.isfunction(inner) or isinstance(inner, property)):
                        yield f"{info.name}.{name}.{key}", inner


def test_every_public_name_is_documented():
    seen = dict(public_objects())
    assert {"accelnn.network.Network.fit", "accelnn.verbs.update", "accelnn.backends.base.Backend.empty"} <= set(seen)
    missing = [name for name, value in seen.items() if not (value.__doc__ or "").strip()]
    assert not missing


def test_every_kernel_module_is_documented():
    for module, path in SOURCES.items():
        assert ast.get_docstring(ast.parse(path.read_text())), f"accelnn.{module} has no docstring"


@pytest.mark.parametrize("name", verbs.__all__)
def test_verbs_document_their_parameters_and_shapes(name):
    verb = getattr(verbs, name)
    for parameter in inspect.signature(verb).parameters:
        assert parameter in verb.__doc__


# What a backend may change: bodies; never a name or a signature.

PAGE = ("predict", "evaluate", "loss_and_gradient", "train")
OURS = ("reference", "numpy", "numba", pytest.param("cupy", marks=pytest.mark.gpu))


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values() if p.name != "self"]


@pytest.mark.parametrize("name", OURS)
def test_a_backend_gives_each_verb_a_body_and_adds_none(name):
    backend = FACTORIES[name]()
    assert set(backend.verbs) == set(verbs.__all__)
    for verb, body in backend.verbs.items():
        assert parameters(body) == parameters(getattr(verbs, verb)), f"{verb} on {name}"


def test_the_verbs_that_numba_compiles_have_the_same_signatures():
    from accelnn.backends.numba import compiled

    assert set(compiled.VERBS) == set(verbs.__all__)
    for verb, body in compiled.VERBS.items():
        assert parameters(body) == parameters(getattr(verbs, verb)), verb


@pytest.mark.parametrize("function", PAGE)
@pytest.mark.parametrize("name", OURS)
def test_the_page_has_its_own_signature_on_every_backend(name, function):
    assert parameters(getattr(FACTORIES[name](), function)) == parameters(getattr(equations, function))


def backend_classes():
    for info in pkgutil.iter_modules([str(ROOT / "backends")]):
        module = importlib.import_module(f"accelnn.backends.{info.name}")
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, Backend) and value is not Backend:
                yield value


@pytest.mark.parametrize("cls", list(dict.fromkeys(backend_classes())), ids=lambda cls: cls.name)
def test_a_backend_adds_no_public_name_and_changes_no_signature(cls):
    public = {name for name in dir(cls) if not name.startswith("_")}
    assert public == {name for name in dir(Backend) if not name.startswith("_")}
    for name in public:
        body = getattr(cls, name)
        if inspect.isfunction(body):
            assert parameters(body) == parameters(getattr(Backend, name)), name
    assert cls.page


@pytest.mark.parametrize("name", ["numpy", "numba", pytest.param("cupy", marks=pytest.mark.gpu)])
def test_an_instance_adds_no_public_name(name):
    mine, reference = ({key for key in vars(FACTORIES[n]()) if not key.startswith("_")} for n in (name, "reference"))
    assert mine == reference


def test_every_backend_has_a_module():
    assert {cls.name for cls in backend_classes()} == set(backends.BACKENDS)


# The cache of compiled code.


def test_an_edit_of_any_source_gives_another_cache(tmp_path):
    from accelnn.kernels import jit

    source = tmp_path / "verbs.py"
    source.write_text("a = 1")
    first = jit.source_stamp([source])
    assert jit.source_stamp([source]) == first
    source.write_text("a = 2")
    assert jit.source_stamp([source]) != first


def test_the_cache_is_stamped_with_every_source_that_is_compiled():
    """A function of ours that compiled code contains comes from one of the stamped files, or from the kernels."""
    from accelnn.backends.numba import backend as numba

    stamped = {*numba.SOURCES, *KERNELS.rglob("*.py")}
    assert Path(equations.__file__) in stamped
    for entry in (*ACTIVATIONS.values(), *LOSSES.values(), *RULES.values()):
        for formula in vars(entry).values():
            if inspect.isfunction(formula):
                assert Path(formula.__code__.co_filename) in stamped


@pytest.mark.slow
def test_compiled_code_is_kept_for_the_next_process(tmp_path):
    """A second process compiles nothing, and a folder that cannot be written costs only time."""
    code = """if True:
        import numpy as np
        from numba.core import event
        from accelnn import Network
        with event.install_recorder("numba:compile") as recorder:
            net = Network([2, 3, 1], backend="numba")
            net.fit(np.ones((2, 5)), np.ones(5), epochs=2)
        print(len(recorder.buffer))
    """
    for folder in ("kept", "file"):
        (tmp_path / "file").touch()
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / folder)}
        environment.pop("NUMBA_CACHE_DIR", None)
        compiled = []
        for _ in range(2 if folder == "kept" else 1):
            result = subprocess.run(
                [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment
            )
            assert result.returncode == 0, result.stderr
            compiled.append(int(result.stdout))
        assert compiled[0] > 0
        assert compiled[1:] == [0] * len(compiled[1:])


def test_read_only_inputs_reach_compiled_code():
    """Numba types them apart; the backend hands them over as the memory that they are."""
    X = np.ones((5, 2)).T
    X.flags.writeable = False
    net = Network([2, 3, 1], dtype="float64", backend="numba")
    np.testing.assert_array_equal(net.predict(X), net.predict(X.copy()))
