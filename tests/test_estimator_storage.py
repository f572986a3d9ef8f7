"""An estimator in a file comes back as it was: it answers and goes on training with the same bits."""

import builtins
import copy
import importlib
import math
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import host
from forging import forge
from scipy import sparse
from sklearn.exceptions import NotFittedError

from accelnn import Callback, Checkpoint, MLPClassifier, MLPRegressor, ModelFileError, Network, custom_loss, get_backend
from accelnn.errors import BackendUnavailableError, DataError, UnknownNameError
from accelnn.losses import loss
from accelnn.schedules import Cosine, ReduceOnPlateau, Schedule, Step
from accelnn.storage import save_model
from accelnn.storage.values import packed, unpacked

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
NUMBERS = X @ [1.0, -2.0, 0.5, 0.0] + RNG.normal(size=60)
THREE = np.digitize(NUMBERS, [-1.0, 1.0])
TARGETS = {
    "two": (MLPClassifier, NUMBERS > 0),
    "numbers": (MLPClassifier, np.array([-7, 3, 10**6])[THREE]),
    "small numbers": (MLPClassifier, np.array([2, 5, 9], dtype=np.uint8)[THREE]),
    "fractions": (MLPClassifier, np.array([1.0, 2.0, 3.0])[THREE]),
    "text": (MLPClassifier, np.array(["no", "può darsi", "ja\u4e2d\U0001f600"])[THREE]),
    "objects": (MLPClassifier, np.array(["no", "maybe", "yes"], dtype=object)[THREE]),
    "labels": (MLPClassifier, np.stack([NUMBERS > 0, NUMBERS > 1, X[:, 3] > 0], axis=1).astype(int)),
    "one": (MLPRegressor, NUMBERS),
    "several": (MLPRegressor, np.stack([NUMBERS, X[:, 0], X[:, 1] ** 2], axis=1)),
}
SGD = {"solver": "sgd", "learning_rate_init": 0.02}
STOPPING = {"early_stopping": True, "n_iter_no_change": 2, "tol": 0.01, "validation_fraction": 0.3}
OPTIONS = {
    "adam": ("two", {}),
    "momentum": ("two", {**SGD, "nesterovs_momentum": False}),
    "nesterov": ("two", SGD),
    "sgd": ("one", {**SGD, "momentum": 0.0}),
    "invscaling": ("one", {**SGD, "learning_rate": "invscaling"}),
    "adaptive": ("one", {**SGD, "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 1.0}),
    "cosine": ("two", {"learning_rate": Cosine(warmup=2, epochs=10)}),
    "step": ("two", {"learning_rate": "step"}),
    "plateau": ("two", {"learning_rate": ReduceOnPlateau(patience=1, threshold=0.05)}),
    "lbfgs": ("two", {"solver": "lbfgs"}),
    "dropout": ("two", {"dropout": [0.3, 0.1], "hidden_layer_sizes": (5, 3)}),
    "early stopping": ("one", {**STOPPING, "max_iter": 40}),
    "early stopping of classes": ("two", {**STOPPING, "scoring": "roc_auc", "max_iter": 40}),
    "isotonic": ("text", {"calibration": "isotonic", "validation_fraction": 0.5}),
    "sigmoid": ("numbers", {"calibration": "sigmoid", "validation_fraction": 0.5}),
    "sigmoid of two": ("two", {"calibration": "sigmoid", "validation_fraction": 0.5}),
    "isotonic of two": ("two", {"calibration": "isotonic", "validation_fraction": 0.5}),
    "weights of classes": ("numbers", {"class_weight": {-7: 1.0, 3: 2, 10**6: np.float32(5.0)}}),
    "weights of text": ("text", {"class_weight": "balanced"}),
    "huber": ("one", {"loss": "huber", "delta": 0.3}),
    "a loss": ("several", {"loss": loss("quantile", "identity", level=0.7)}),
    "standardised": ("several", {"standardize_target": True}),
    "single precision": ("two", {"hidden_layer_sizes": np.array([5, 3]), "activation": ["tanh", "gelu"]}),
}
if sklearn.__version__ >= "1.8":
    OPTIONS["temperature"] = "text", {"calibration": "temperature", "validation_fraction": 0.5}
    OPTIONS["temperature of two"] = "two", {"calibration": "temperature", "validation_fraction": 0.5}


def make(kind, **options):
    fixed = {"backend": "numpy", "hidden_layer_sizes": (5,), "max_iter": 4, "random_state": 0, "batch_size": 16}
    return kind(**{**fixed, "warm_start": True, **options})


def fitted(target="two", **options):
    kind, y = TARGETS[target]
    return make(kind, **options).fit(X, y)


def loaded(model, path, **options):
    """What a file gives of a model."""
    model.save(path)
    return type(model).load(path, **options)


def assert_alike(found, expected, where="model"):
    """The same types and bits, all the way down."""
    assert type(found) is type(expected), f"{where}: {type(found)} for {type(expected)}"
    if isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), where
        assert found.dtype == object or found.tobytes() == expected.tobytes(), where
        np.testing.assert_array_equal(found, expected, err_msg=where)
    elif isinstance(expected, Network):
        for name in set(vars(expected)) - {"W", "b", "layout", "_prepared", "_in_training", "backend", "_chosen"}:
            assert_alike(getattr(found, name), getattr(expected, name), f"{where}.{name}")
        assert found.backend is expected.backend
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for k, pair in enumerate(zip(found, expected, strict=True)):
            assert_alike(*pair, f"{where}[{k}]")
    elif isinstance(expected, dict):
        assert list(found) == list(expected), where
        for name in expected:
            assert_alike(found[name], expected[name], f"{where}[{name!r}]")
    elif isinstance(expected, float):
        assert (found == expected and math.copysign(1, found) == math.copysign(1, expected)) or (
            math.isnan(found) and math.isnan(expected)
        ), where
    elif hasattr(expected, "__dict__") and not isinstance(expected, loss("huber", "identity").__class__):
        assert set(vars(found)) == set(vars(expected)), where
        for name in vars(expected):
            if name not in ("calibrated_", "_slowed", "seconds"):
                assert_alike(getattr(found, name), getattr(expected, name), f"{where}.{name}")
    else:
        assert found == expected, where


def answers(model, rows=X):
    return [getattr(model, name)(rows) for name in ("predict", "predict_proba", "transform") if hasattr(model, name)]


@pytest.mark.parametrize("target", TARGETS)
def test_a_model_of_any_target_comes_back(target, tmp_path):
    model = fitted(target)
    again = loaded(model, tmp_path / "model")
    assert_alike(again, model)
    assert_alike(answers(again), answers(model))
    assert_alike(again.coefs_[0], model.coefs_[0])


@pytest.mark.parametrize("case", OPTIONS)
def test_a_model_goes_on_as_if_it_had_never_been_saved(case, tmp_path):
    """Warm, once and again, and in parts."""
    target, options = OPTIONS[case]
    kind, y = TARGETS[target]
    dtype = np.float32 if case == "single precision" else np.float64
    rows, model = X.astype(dtype), make(kind, **options)
    model.fit(rows, y)
    again = loaded(model, tmp_path / "model")
    assert_alike(again, model)
    for round_ in range(2):
        assert_alike(answers(again, rows), answers(model, rows))
        model.fit(rows, y)
        again.fit(rows, y)
        assert_alike(again, model, f"round {round_}")
    again = loaded(model, tmp_path / "model")
    if case not in ("lbfgs",) and "calibration" not in options and options.get("class_weight") != "balanced":
        for _ in range(3):
            model.partial_fit(rows[:30], y[:30])
            again.partial_fit(rows[:30], y[:30])
        assert_alike(again, model, "in parts")
    assert_alike(answers(again, rows), answers(model, rows))


def test_parts_go_on(tmp_path):
    """Also beyond the end that early stopping has set."""
    model = make(MLPRegressor, **STOPPING, learning_rate_init=0.1)
    held = {"eval_set": (X, -NUMBERS)}
    for _ in range(6):
        model.partial_fit(X, NUMBERS, **held)
        again = loaded(model, tmp_path / "model")
        assert_alike(again, model)
        copied = copy.deepcopy(model)
        assert_alike(again.partial_fit(X, NUMBERS, **held), copied.partial_fit(X, NUMBERS, **held))
    assert again.stopped_


def test_an_interrupted_fit_goes_on(tmp_path):
    class Interrupt(Callback):
        def on_epoch_end(self, progress):
            if progress.epoch == 2:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        model = fitted(max_iter=5, callbacks=[Interrupt()])
    model.set_params(callbacks=None, max_iter=3)
    again = loaded(model, tmp_path / "model")
    y = TARGETS["two"][1]
    assert_alike(again.fit(X, y), model.fit(X, y))
    np.testing.assert_array_equal(again.network_.theta, fitted(max_iter=5).network_.theta)


def test_a_sparse_trained_model_comes_back(tmp_path):
    rows = sparse.csr_array(np.where(np.abs(X) > 1, X, 0.0))
    model = make(MLPRegressor).fit(rows, NUMBERS)
    again = loaded(model, tmp_path / "model")
    assert_alike(again.predict(rows), model.predict(rows))
    assert_alike(again.fit(rows, NUMBERS), model.fit(rows, NUMBERS))


def test_names_of_features_and_forms_of_answers_come_back(tmp_path):
    table = pd.DataFrame(X, columns=["a", "ö", "\U0001f600", ""])
    model = make(MLPClassifier).fit(table, THREE).set_output(transform="pandas")
    with sklearn.config_context(enable_metadata_routing=True):
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight="w")
        again = loaded(model, tmp_path / "model")
        assert str(again.get_metadata_routing()) == str(model.get_metadata_routing())
    assert_alike(again.feature_names_in_, model.feature_names_in_)
    pd.testing.assert_frame_equal(again.transform(table), model.transform(table))
    with pytest.raises(ValueError, match="feature names"):
        again.predict(table.rename(columns={"a": "b"}))


def test_curves_of_what_is_no_number_come_back(tmp_path):
    """NaN stands for epochs without a validation set."""
    model = make(MLPRegressor, max_iter=2).fit(X, NUMBERS)
    model.fit(X, NUMBERS, eval_set=(X, NUMBERS))
    assert math.isnan(model.validation_loss_curve_[0])
    model.loss_curve_ += [math.inf, -math.inf, -0.0, 5e-324, 0.1 + 0.2]
    model.best_loss_, model.note_ = -math.inf, {"by": ("me", 1), 2: [np.int8(3), None, "ä", True, b"".hex()]}
    assert_alike(loaded(model, tmp_path / "model"), model)


def test_a_model_comes_to_every_backend(named_backend, tmp_path):
    """One that is named becomes the parameter; by default it is the model's own."""
    model, y = fitted(backend=named_backend.name), TARGETS["two"][1]
    again = loaded(model, tmp_path / "model")
    assert_alike([host(a) for a in answers(again)], [host(a) for a in answers(model)])
    assert again.network_.backend is model.network_.backend
    assert_alike(host(again.fit(X, y).network_.theta), host(model.fit(X, y).network_.theta))
    other = MLPClassifier.load(tmp_path / "model", backend="numpy")
    assert other.backend == other.network_.backend.name == "numpy"
    given = MLPClassifier.load(tmp_path / "model", backend=get_backend("numpy"))
    assert given.fit(X, y).backend is get_backend("numpy")
    with pytest.raises(DataError, match=r"backend: a file cannot hold .*; give its name"):
        given.save(tmp_path / "model")


def test_a_model_from_a_machine_with_another_backend_loads_on_auto(tmp_path, monkeypatch):
    model = fitted()
    model.save(tmp_path / "model")

    def only_auto(name="auto", *options, **more):
        if name == "numpy":
            raise BackendUnavailableError(f"backend={name!r} cannot run here: it is missing")
        return get_backend(name, *options, **more)

    monkeypatch.setattr("accelnn.estimators.storage.get_backend", only_auto)
    with pytest.warns(UserWarning, match="goes on with backend='auto': .*'numpy' cannot run here"):
        again = MLPClassifier.load(tmp_path / "model")
    assert again.backend == "auto"
    again.fit(X, TARGETS["two"][1])
    with pytest.raises(BackendUnavailableError):
        MLPClassifier.load(tmp_path / "model", backend="numpy")
    with pytest.raises(UnknownNameError, match="backend: 'none' is not known"):
        MLPClassifier.load(tmp_path / "model", backend="none")


def test_the_same_model_gives_the_same_bytes(tmp_path):
    model = fitted("text", calibration="isotonic", validation_fraction=0.5)
    model.save(tmp_path / "a")
    model.save(tmp_path / "b")
    MLPClassifier.load(tmp_path / "a").save(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_joblib_and_pickle_work_as_before_and_after(tmp_path):
    model = loaded(fitted(), tmp_path / "model")
    joblib.dump(model, tmp_path / "joblib")
    mapped = joblib.load(tmp_path / "joblib", mmap_mode="r")
    assert_alike(pickle.loads(pickle.dumps(model)), model)
    assert_alike(answers(mapped), answers(model))
    mapped.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


# What a file cannot hold, or does not.


class Own(Schedule):
    pass


def score(model, X, y):
    return 0.0


def squared(z, y):
    return (z - y) * (z - y)


def squared_gradient(z, y):
    return 2.0 * (z - y)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"callbacks": [Callback()]}, r"callbacks: a file cannot hold .*; use set_params\(callbacks=None\) before"),
        ({"scoring": score, **STOPPING}, "scoring: a file cannot hold .*; give the name of a scorer"),
        ({"random_state": np.random.RandomState(0)}, r"random_state: .*; use set_params\(random_state=0\) before"),
        ({"loss": custom_loss(squared, squared_gradient)}, "loss: .* your own goes with joblib"),
        ({"learning_rate": Own()}, r"learning_rate: .*Own.* \(Own\); a schedule of your own goes with joblib"),
        ({"hidden_layer_sizes": range(3, 5)}, "hidden_layer_sizes: a file cannot hold .*range.*; give text, numbers"),
        ({"hidden_layer_sizes": {5}}, "hidden_layer_sizes: a file cannot hold .*set"),
        ({"backend": get_backend("numpy")}, "backend: a file cannot hold .*; give its name"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_file_cannot_hold_is_named_with_the_remedy(options, match, tmp_path):
    model = make(MLPRegressor, **options).fit(X, NUMBERS)
    (tmp_path / "model").write_bytes(b"old")
    with pytest.raises(DataError, match=match):
        model.save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == b"old"


def test_a_schedule_of_ones_own_that_training_goes_on_with_is_named(tmp_path):
    model = make(MLPRegressor, learning_rate=Own()).fit(X, NUMBERS).set_params(learning_rate="constant")
    with pytest.raises(DataError, match="learning_rate: it was trained with a schedule of your own"):
        model.save(tmp_path / "model")
    assert_alike(loaded(model.fit(X, NUMBERS), tmp_path / "model"), model)


def test_remedies_are_enough(tmp_path):
    model = make(MLPRegressor, callbacks=[Callback()], random_state=np.random.RandomState(0), scoring=score, **STOPPING)
    model.fit(X, NUMBERS).set_params(callbacks=None, random_state=0, scoring=None)
    assert_alike(loaded(model, tmp_path / "model"), model)


@pytest.mark.skipif(not hasattr(MLPRegressor, "set_callbacks"), reason="scikit-learn has callbacks from 1.9 on")
def test_callbacks_of_scikit_learn_are_named(tmp_path):
    from sklearn.callback import ProgressBar

    model = make(MLPRegressor).set_callbacks(ProgressBar())
    model.fit(X, NUMBERS)
    with pytest.raises(DataError, match=r"set_callbacks: a file cannot hold callbacks; use set_callbacks\(\)"):
        model.save(tmp_path / "model")
    model.set_callbacks()
    again = loaded(model, tmp_path / "model")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_an_attribute_that_a_file_cannot_hold_is_named(tmp_path):
    model = fitted()
    model.remark_ = object()
    with pytest.raises(DataError, match="remark_: a file cannot hold <object"):
        model.save(tmp_path / "model")


def test_what_is_not_fitted_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        make(MLPRegressor).save(tmp_path / "model")


class Mine(MLPRegressor):
    """A class of somebody's."""


def test_the_wrong_class_names_the_right_one(tmp_path):
    path = tmp_path / "model"
    fitted("one").save(path)
    with pytest.raises(ModelFileError, match=r"holds a model of MLPRegressor; read it with MLPRegressor\.load"):
        MLPClassifier.load(path)
    make(Mine).fit(X, NUMBERS).save(path)
    with pytest.raises(ModelFileError, match=r"holds a model of Mine; read it with Mine\.load"):
        MLPRegressor.load(path)
    assert type(Mine.load(path)) is Mine


def test_other_files_name_their_reader(tmp_path):
    model, path = fitted(), tmp_path / "model"
    model.network_.save(path)
    with pytest.raises(ModelFileError, match=r"holds a model; read it with Network\.load, or TableModel\.load"):
        MLPClassifier.load(path)
    save_model(model.network_, path, {"features": ["a"]}, {})
    with pytest.raises(ModelFileError, match=r"holds a model; read it with Network\.load, or TableModel\.load"):
        MLPClassifier.load(path)
    fitted("one", callbacks=[Checkpoint(tmp_path / "run")])
    with pytest.raises(
        ModelFileError, match=r"holds a checkpoint; read it with fit\(\.\.\., resume=path\), or Network"
    ):
        MLPRegressor.load(Checkpoint.latest(tmp_path / "run"))
    with pytest.raises(ModelFileError, match="No such file"):
        MLPClassifier.load(tmp_path / "none")


def test_the_network_of_an_estimators_file_is_read(tmp_path):
    model = fitted("text")
    model.save(tmp_path / "model")
    net = Network.load(tmp_path / "model", "numpy")
    np.testing.assert_array_equal(net.predict(X.T), model.network_.predict(X.T))


def test_loading_imports_nothing_by_name_and_unpickles_nothing(tmp_path, monkeypatch):
    model = fitted("text", calibration="isotonic", validation_fraction=0.5)
    loaded(model, tmp_path / "model")

    def forbidden(*arguments, **options):
        raise AssertionError

    for module, name in ((importlib, "import_module"), (pickle, "loads"), (pickle, "load"), (builtins, "eval")):
        monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(builtins, "exec", forbidden)
    again = MLPClassifier.load(tmp_path / "model")
    monkeypatch.undo()
    assert_alike(answers(again), answers(model))


def parameters(about):
    return about["estimator"]["parameters"]


def attributes(about):
    return about["estimator"]["attributes"]


LIES = {
    "class": (lambda about, _: about["estimator"].update({"class": "os.system"}), "a model of os.system"),
    "parameter's value": (lambda about, _: parameters(about).update(alpha="x"), "alpha: 'x' is out of range"),
    "parameter's kind": (lambda about, _: parameters(about).update(device=True), "device: True is neither"),
    "unknown parameter": (lambda about, _: parameters(about).update(shell="rm"), "unknown 'shell'"),
    "missing parameter": (lambda about, _: parameters(about).pop("alpha"), "lacks 'alpha'"),
    "unknown thing": (lambda about, _: parameters(about).update(alpha={"object": "os"}), "'object' is not known"),
    "unknown schedule": (
        lambda about, _: parameters(about).update(learning_rate={"schedule": {"name": "Evil", "fields": {}}}),
        "'Evil' is not known",
    ),
    "method": (lambda about, _: attributes(about).update(predict="x"), "'predict' is no attribute"),
    "special": (lambda about, _: attributes(about).update(__class__="x"), "'__class__' is no attribute"),
    "property": (lambda about, _: attributes(about).update(coefs_=[1.0]), "'coefs_' is no attribute"),
    "missing attribute": (lambda about, _: attributes(about).pop("t_"), "its t_ is missing"),
    "attribute's kind": (lambda about, _: attributes(about).update(t_=1.5), "its t_ is missing, or nothing of"),
    "features": (lambda about, _: attributes(about).update(n_features_in_=5), "its n_features_in_ is"),
    "labels": (lambda about, _: about["estimator"].update(multilabel=True), "do not fit its network"),
    "no labels": (lambda about, _: about["estimator"].update(multilabel=None), "classes are missing"),
    "calibration": (
        lambda about, _: about["estimator"]["calibration"]["dict"].pop(),
        "lacks 'learned'",
    ),
    "array of nothing": (lambda about, _: attributes(about).pop("loss_curve_"), "belongs to nothing"),
    "request": (lambda about, _: about["estimator"].update(requests={"fit": {"x": 1}}), "no name"),
    "output": (lambda about, _: about["estimator"].update(output="rm"), "'rm' is not known"),
    "training": (lambda about, _: about["training"].update(rule="evil"), "'evil' is not known"),
    "no training": (lambda about, _: about.pop("training"), "has no 'training'"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_file_that_lies_behind_a_seal_that_fits_is_refused(name, tmp_path):
    path = tmp_path / "model"
    fitted(calibration="sigmoid", validation_fraction=0.5).save(path)
    change, match = LIES[name]
    forge(path, change)
    with pytest.raises(ModelFileError, match=match):
        MLPClassifier.load(path)


# Values on their own.

VALUES = [
    *(None, True, 0, -(2**70), 0.1, -0.0, math.inf, "", "ä\0\ud800", [], [1, 2.0], [0.5, math.nan]),
    *((), ((1,), [()]), {}, {1: "a", "1": (2,), (3, None): {}}),
    *(np.float64(0.1), np.float32(0.1), np.int8(-3), np.bool_(True), np.str_("x"), np.float64("nan")),
    *(np.array(3.5), np.zeros((2, 0)), np.arange(6).reshape(2, 3).T, np.array([True]), np.array([1], dtype="uint8")),
    *(np.array(["a", "bcd"]), np.array([["ä", ""]]), np.array([1, "a", None, 2.5], dtype=object)),
    *(Step(every=3), loss("huber", "identity", delta=0.5)),
]
BAD_VALUES = [1j, b"x", {1}, object(), print, np.array([1j]), np.array([object()]), 2**2000, [[{1}]], Own()]


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_a_value_comes_back(value):
    arrays = {}
    about = packed(value, "v", arrays)
    assert_alike(unpacked(about, arrays), value, "v")
    assert arrays == {}


def test_numbers_of_c_types_come_back_as_those_of_their_size():
    assert_alike(unpacked(packed(np.longlong(3), "v", {}), {}), np.int64(3))


@pytest.mark.parametrize("value", BAD_VALUES, ids=lambda value: type(value).__name__)
def test_a_value_that_a_file_cannot_hold(value):
    with pytest.raises(DataError, match=r"v.*: a file cannot hold"):
        packed(value, "v", {})


def test_a_value_that_holds_itself():
    value = []
    value.append(value)
    with pytest.raises(DataError, match="a file cannot hold"):
        packed(value, "v", {})


@pytest.mark.parametrize(
    "about",
    [
        *({}, {"tuple": 1}, {"tuple": [], "dict": []}, {"evil": 1}, {"float": 1.0}, {"float": "1"}, {"floats": "w"}),
        *({"dict": [[1]]}, {"dict": [[1, 2], [1, 3]]}, {"dict": [[[], 1]]}, {"scalar": {"type": "O", "value": 1}}),
        *({"scalar": {"type": "int8", "value": 300}}, {"scalar": {"type": "int8", "value": True}}, {"array": "none"}),
        *({"array": ["v"]}, {"texts": "v"}, {"objects": {}}, {"text": 3}, {"schedule": {"name": "Step", "fields": {}}}),
        *({"loss": {"name": "huber", "output": "identity", "parameters": {}}}, {"floats": "c"}, {"array": "c"}),
    ],
    ids=repr,
)
def test_what_is_no_value_is_refused(about):
    arrays = {"v": np.array([0x110000], np.uint32), "c": np.array([1j], np.complex64), "w": np.zeros((2, 2))}
    with pytest.raises((ValueError, TypeError, KeyError, OverflowError)):
        unpacked(about, arrays)
