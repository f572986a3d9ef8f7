"""scikit-learn's multilayer perceptrons, to and fro, and the skops files that hold them."""

import io
import itertools
import os
import re
import sys
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import accelnn
from accelnn import AccelnnError, DataError, ModelFileError, Network, custom_loss
from accelnn.exchange import from_sklearn, import_sklearn, load_skops, save_skops, to_sklearn
from accelnn.exchange import skops_file as files
from accelnn.exchange.scikit import ACTIVATIONS, LOSSES
from accelnn.tables.model import TableModel

sio = pytest.importorskip("skops.io", reason="the extra skops is not installed")
POISSON = "loss" in MLPRegressor().get_params()


def network(sizes, activations, output, loss=None, dtype="float64"):
    net = Network(sizes, activations, output, loss, dtype=dtype, backend="numpy")
    net.theta = np.random.default_rng(1).normal(scale=0.5, size=net.theta.shape)
    return net


def fitted(model, X, y):
    """After a few epochs, which are not enough."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


def predicted(estimator, X):
    """A column for each output of the network."""
    if not hasattr(estimator, "predict_proba"):
        return estimator.predict(X).reshape(len(X), -1)
    P = estimator.predict_proba(X)
    return P[:, 1:] if len(estimator.classes_) == 2 and estimator.n_outputs_ == 1 else P


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("loss", "output", "units"),
    [
        (loss, output, units)
        for loss, output in sorted(LOSSES)
        for units in (1, 2, 3)
        if (output, units) != ("softmax", 1) and (output != "exp" or POISSON)
    ],
)
def test_scikit_learn_predicts_the_same(loss, output, units, dtype, tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 5)).astype(dtype)
    for activation, depth in itertools.product(ACTIVATIONS, range(4)):
        net = network([5, *(7, 6, 4)[:depth], units], activation, output, loss, dtype)
        made = to_sklearn(net)
        A = net.predict(X.T).T
        A = A[:, 1:] if (output, units) == ("softmax", 2) else A
        found = predicted(made, X)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, A, rtol=1e-5, atol=1e-6, err_msg=f"{activation} {depth}")
        again = from_sklearn(made, "numpy")
        assert (again.output, again.loss, again.dtype) == (
            ("sigmoid", "binary_cross_entropy", dtype) if (output, units) == ("softmax", 2) else (output, loss, dtype)
        )
        if (output, units) != ("softmax", 2):
            np.testing.assert_array_equal(again.theta, net.theta)
    save_skops(net, tmp_path / "m.skops")
    np.testing.assert_array_equal(predicted(load_skops(tmp_path / "m.skops"), X), found)


def test_what_scikit_learn_has_not():
    for net, message in (
        (network([3, 4, 4, 1], ["tanh", "relu"], "sigmoid"), "activations: scikit-learn has one for all hidden layers"),
        (network([3, 4, 1], "gelu", "sigmoid"), "activations: scikit-learn has no gelu (it has identity, sigmoid, tan"),
        (network([3, 4, 1], "relu", "identity", "huber"), "loss: scikit-learn has no huber with the output identity"),
        (network([3, 4, 1], "relu", "sigmoid", "squared_error"), "no squared_error with the output sigmoid (it has bi"),
        (network([3, 1], (), "identity", "poisson"), "loss: scikit-learn has no poisson with the output identity"),
    ):
        with pytest.raises(DataError, match=re.escape(message)) as caught:
            to_sklearn(net)
        assert "export it to ONNX instead" in str(caught.value)
    own = custom_loss(lambda a, y: 0.5 * (a - y) * (a - y), lambda a, y: a - y, name="squared_error")
    with pytest.raises(DataError, match="loss: scikit-learn has no squared_error"):
        to_sklearn(Network([3, 1], (), "identity", own, backend="numpy"))


def classification(classes, labels=False):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    if labels:
        return X, rng.integers(2, size=(80, classes))
    return X, np.array(["pine", "ash", "oak"])[:classes][rng.integers(classes, size=80)]


@pytest.mark.parametrize(("classes", "labels"), [(2, False), (3, False), (3, True)])
def test_an_estimator_of_accelnns_is_one_of_scikit_learns(classes, labels):
    X, y = classification(classes, labels)
    model = fitted(
        accelnn.MLPClassifier((6,), alpha=0.5, max_iter=5, random_state=3, backend="numpy", dropout=0.1), X, y
    )
    made = to_sklearn(model)
    assert type(made) is MLPClassifier
    np.testing.assert_array_equal(made.predict(X), model.predict(X))
    np.testing.assert_allclose(made.predict_proba(X), model.predict_proba(X), atol=1e-12)
    np.testing.assert_array_equal(made.classes_, model.classes_)
    assert (made.alpha, made.max_iter, made.random_state, made.n_iter_) == (0.5, 5, 3, 5)
    assert made.loss_curve_ == model.loss_curve_
    # It can be trained on, by both ways that scikit-learn has.
    assert made.partial_fit(X, y).loss_curve_[:5] == model.loss_curve_
    fitted(made.set_params(warm_start=True), X, y)


@pytest.mark.parametrize("targets", [1, 2])
def test_a_regressors_targets_keep_their_units(targets):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 4)).astype("float32"), 1e6 + rng.normal(size=(80, targets))
    model = accelnn.MLPRegressor(
        hidden_layer_sizes=(6,), standardize_target=True, max_iter=5, random_state=3, backend="numpy", activation="tanh"
    )
    fitted(model, X, y if targets > 1 else y[:, 0])
    made = to_sklearn(model)
    assert type(made) is MLPRegressor
    assert made.predict(X).shape == model.predict(X).shape
    np.testing.assert_allclose(made.predict(X), model.predict(X), rtol=1e-12)


def test_a_schedule_stays_behind():
    X, y = classification(2)
    model = accelnn.MLPClassifier((3,), max_iter=2, learning_rate="cosine", random_state=0, backend="numpy")
    made = to_sklearn(fitted(model, X, y))
    assert made.learning_rate == "constant"
    fitted(made, X, y)


THEIRS = {
    "two classes": (MLPClassifier(solver="adam"), classification(2)),
    "three classes": (MLPClassifier(activation="tanh", solver="sgd"), classification(3)),
    "labels": (MLPClassifier(activation="logistic"), classification(3, labels=True)),
    "no hidden layer": (MLPClassifier(hidden_layer_sizes=()), classification(3)),
    "lbfgs": (MLPClassifier(solver="lbfgs", activation="identity"), classification(2)),
    "a number": (MLPRegressor(early_stopping=True), (classification(2)[0], np.arange(80.0) / 40)),
    "numbers": (MLPRegressor(), (classification(2)[0], classification(3, labels=True)[1] / 3)),
    "counts": (MLPRegressor(**({"loss": "poisson"} if POISSON else {})), (classification(2)[0], np.arange(80) % 5)),
    "float32": (MLPClassifier(), (classification(3)[0].astype("float32"), classification(3)[1])),
}


@pytest.mark.parametrize("name", THEIRS)
def test_a_fitted_estimator_of_scikit_learns(name, tmp_path):
    model, (X, y) = THEIRS[name]
    model = fitted(model.set_params(max_iter=5, random_state=0), X, y)
    net = from_sklearn(model, "numpy")
    assert net.dtype == X.dtype
    assert net.epochs_trained == model.n_iter_
    expected = predicted(model, X)
    np.testing.assert_allclose(net.predict(X.T).T, expected, rtol=1e-6, atol=1e-6)
    (tmp_path / "m.skops").write_bytes(sio.dumps(model))
    table = import_sklearn(tmp_path / "m.skops")
    if name in ("labels", "numbers"):
        assert isinstance(table, Network)
        np.testing.assert_array_equal(table.theta, net.theta)
        return
    assert isinstance(table, TableModel)
    assert table.schema.names == ("x0", "x1", "x2", "x3")
    if hasattr(model, "classes_"):
        assert list(table.classes) == list(model.classes_)
        np.testing.assert_array_equal(np.array(table.classes)[table.predict(X).argmax(axis=1)], model.predict(X))
    else:
        np.testing.assert_allclose(table.predict(X), model.predict(X), rtol=1e-6)
    table.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(TableModel.load(tmp_path / "m.safetensors", "numpy").predict(X), table.predict(X))


@pytest.mark.parametrize("scaler", [StandardScaler(), StandardScaler(with_mean=False), StandardScaler(with_std=False)])
def test_a_pipeline_with_a_scaler(scaler, tmp_path):
    pandas = pytest.importorskip("pandas")
    X, y = classification(3)
    table = pandas.DataFrame(X * [1.0, 10.0, 1e-3, 5.0] + [3.0, 0.0, 1.0, -7.0], columns=list("abcd"))
    pipeline = fitted(make_pipeline(scaler, MLPClassifier((5,), max_iter=5, random_state=0)), table, y)
    (tmp_path / "m.skops").write_bytes(sio.dumps(pipeline))
    model = import_sklearn(tmp_path / "m.skops")
    assert model.schema.names == ("a", "b", "c", "d")
    np.testing.assert_allclose(model.predict(table.to_numpy()), pipeline.predict_proba(table), atol=1e-6)


def test_a_scaler_before_several_numbers_goes_into_the_first_layer(tmp_path):
    X = classification(2)[0] * [1.0, 10.0, 1e-3, 5.0] + [3.0, 0.0, 1.0, -7.0]
    pipeline = fitted(
        make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(5,), max_iter=5, random_state=0)), X, X[:, :2]
    )
    (tmp_path / "m.skops").write_bytes(sio.dumps(pipeline))
    np.testing.assert_allclose(import_sklearn(tmp_path / "m.skops").predict(X.T).T, pipeline.predict(X), atol=1e-9)


def test_other_estimators_are_refused(tmp_path):
    X, y = classification(2)
    for model, message in (
        (MLPClassifier(), "has no coefs_; fit it first"),
        (PCA(2).fit(X), "PCA is neither MLPClassifier nor MLPRegressor of scikit-learn's"),
        (
            fitted(make_pipeline(PCA(2), StandardScaler(), MLPClassifier((2,), max_iter=2)), X, y),
            "a pipeline of PCA, StandardScaler, MLPClassifier has no counterpart here; save its last step alone",
        ),
    ):
        (tmp_path / "m.skops").write_bytes(sio.dumps(model))
        with pytest.raises(ModelFileError, match=rf"m\.skops: cannot be imported .*{message}"):
            import_sklearn(tmp_path / "m.skops")
    with pytest.raises(DataError, match="it holds its network as network_ already"):
        from_sklearn(fitted(accelnn.MLPClassifier((2,), max_iter=2, backend="numpy"), X, y))


def broken(**attributes):
    model = fitted(MLPClassifier((3,), max_iter=2, random_state=0), *classification(3))
    model.__dict__.update(attributes)
    return model


BROKEN = {
    "coefs_ is no list": ({"coefs_": "evil"}, "coefs_ is no list of arrays"),
    "no arrays": ({"coefs_": [[1.0], [2.0]]}, r"coefs_\[0\] is no array of float32 or float64"),
    "integers": ({"intercepts_": [np.zeros(3, int), np.zeros(3)]}, r"intercepts_\[0\] is no array of float32"),
    "no chain": (
        {"coefs_": [np.zeros((4, 3)), np.zeros((5, 3))]},
        r"coefs_\[1\] of shape \(5, 3\) and intercepts_\[1\]",
    ),
    "too few": ({"coefs_": [np.zeros((4, 3))]}, r"has 1 coefs_ and 2 intercepts_"),
    "none": ({"coefs_": [], "intercepts_": []}, r"has 0 coefs_ and 0 intercepts_"),
    "flat": ({"coefs_": [np.zeros(4), np.zeros(3)]}, r"coefs_\[0\] of shape \(4,\)"),
    "no rows": ({"coefs_": [np.zeros((0, 3)), np.zeros((3, 3))]}, r"coefs_\[0\] of shape \(0, 3\)"),
    "NaN": ({"intercepts_": [np.zeros(3), np.full(3, np.nan)]}, r"intercepts_\[1\] holds NaN or infinity"),
    "activation": ({"activation": "swish"}, "'swish' and 'softmax' are none of scikit-learn's"),
    "no text": ({"activation": ["relu"]}, r"\['relu'\] and 'softmax' are none"),
    "output": ({"out_activation_": "evil"}, "'relu' and 'evil' are none of scikit-learn's"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_attributes_that_do_not_fit(name, tmp_path):
    attributes, message = BROKEN[name]
    with pytest.raises(DataError, match=f"estimator: .*{message}"):
        from_sklearn(broken(**attributes))
    (tmp_path / "m.skops").write_bytes(sio.dumps(broken(**attributes)))
    with pytest.raises(ModelFileError, match=rf"m\.skops: cannot be imported .*{message}"):
        import_sklearn(tmp_path / "m.skops")


@pytest.mark.parametrize("names", [["a"], ["a"] * 4, 7, [["a", "b"], ["c", "d"]]])
def test_names_that_do_not_fit(names, tmp_path):
    for attribute in ("feature_names_in_", "classes_"):
        (tmp_path / "m.skops").write_bytes(sio.dumps(broken(**{attribute: np.array(names)})))
        with pytest.raises(ModelFileError, match=r"m\.skops: cannot be imported"):
            import_sklearn(tmp_path / "m.skops")


class Strange:
    """Of a module that no file may name."""

    def __init__(self):
        self.network_ = None


def test_a_file_that_would_run_something_is_refused_and_runs_nothing(tmp_path):
    trace = tmp_path / "trace"
    evil = FunctionTransformer(os.system, kw_args={"command": f"touch {trace}"})
    for model in (evil, make_pipeline(evil, broken()), broken(random_state=Strange()), Strange()):
        (tmp_path / "m.skops").write_bytes(sio.dumps(model))
        with pytest.raises(ModelFileError, match=r"m\.skops: Untrusted types .*; only scikit-learn's own estimators"):
            load_skops(tmp_path / "m.skops")
    assert not trace.exists()


def test_a_file_that_unpacks_to_too_much(tmp_path, monkeypatch):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", "{}")
        archive.writestr("bomb.npy", bytes(2**20))
    (tmp_path / "m.skops").write_bytes(content.getvalue())
    monkeypatch.setattr(files, "ALWAYS_UNPACKED", 2**16)
    with pytest.raises(ModelFileError, match=r"m\.skops: would unpack to 1,048,578 bytes"):
        load_skops(tmp_path / "m.skops")


@pytest.mark.parametrize("content", [b"", b"\x80\x02c\x00.", b"PK\x03\x04" + bytes(60), b"{}" * 40])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "m.skops").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"m\.skops: is no skops file of an estimator"):
        load_skops(tmp_path / "m.skops")
    with pytest.raises(ModelFileError, match="nothing: cannot be read"):
        load_skops(tmp_path / "nothing")


CONTENT = sio.dumps(to_sklearn(network([2, 2, 1], "relu", "sigmoid", "binary_cross_entropy")))


@settings(max_examples=150)
@given(place=st.integers(0, len(CONTENT) - 1), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_a_model_or_an_error_of_ours(place, value, cut, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "damaged.skops"
    content = bytearray(CONTENT)
    content[place] = value
    path.write_bytes(content[:place] if cut else content)
    try:
        model = import_sklearn(path)
    except AccelnnError:
        return
    assert np.isfinite(model.predict(np.zeros((1, 2)))).all()


@settings(max_examples=150)
@given(data=st.data())
def test_a_schema_with_another_value_is_a_model_or_an_error_of_ours(data, tmp_path_factory):
    """What a sound archive may say, with one of its words replaced by another."""
    path = tmp_path_factory.getbasetemp() / "rewritten.skops"
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    words = re.findall(rb'"[^"]*"|\d+|true|null', parts["schema.json"])
    old, new = (data.draw(st.sampled_from(words)) for _ in range(2))
    places = [found.start() for found in re.finditer(re.escape(old), parts["schema.json"])]
    place = data.draw(st.sampled_from(places))
    schema = parts["schema.json"]
    parts["schema.json"] = schema[:place] + new + schema[place + len(old) :]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    try:
        import_sklearn(path)
    except AccelnnError:
        return


def test_what_is_written_needs_no_trust(tmp_path):
    """A network's file holds types alone that skops trusts by itself, so that anybody loads it without a word."""
    written = save_skops(network([3, 4, 2], "relu", "softmax"), tmp_path / "m.skops")
    assert written.program == f'import skops.io\n\nmodel = skops.io.load("{tmp_path / "m.skops"}")\n'
    assert written.note == "it holds an MLPClassifier"
    sio.load(tmp_path / "m.skops")


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "skops.io", None)
    for call in (
        lambda: save_skops(network([2, 1], (), "sigmoid"), tmp_path / "m"),
        lambda: load_skops(tmp_path / "m"),
    ):
        with pytest.raises(DataError, match=r'run: pip install "accelnn\[skops\]"'):
            call()
