"""ONNX files: what onnxruntime computes from them is what the network predicts."""

import itertools
import json
import sys
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import accelnn
from accelnn import DataError, MLPClassifier, MLPRegressor, Network, custom_loss
from accelnn.activations import ACTIVATIONS, HIDDEN, OUTPUTS
from accelnn.exchange import onnx_graph as graphs
from accelnn.exchange import save_onnx, to_onnx
from accelnn.exchange.onnx_activations import OPERATORS
from accelnn.losses import LOSSES

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

ALLOWED = 1e-5  # difference, relative from 1 on


def run(model, **inputs):
    """The outputs by name, as onnxruntime computes them from the file's bytes."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def network(sizes, activations, output, loss=None, dtype="float32", scale=1.0):
    net = Network(sizes, activations, output, loss, dtype=dtype, backend="numpy")
    net.theta = np.random.default_rng(1).normal(scale=scale, size=net.theta.shape)
    return net


def difference(net, X):
    A = run(to_onnx(net), X=np.ascontiguousarray(X.T))["A"]
    assert A.dtype == net.dtype
    expected = net.predict(X).T
    assert A.shape == expected.shape
    return np.max(np.abs(A - expected) / np.maximum(1.0, np.abs(expected)))


def fitted(model, X, y):
    """After a few epochs, which are not enough."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.set_params(max_iter=3, random_state=0, backend="numpy").fit(X, y)


def test_every_activation_has_operators():
    assert set(OPERATORS) == set(ACTIVATIONS) == {*HIDDEN, *OUTPUTS}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pair", LOSSES, ids=" ".join)
def test_onnxruntime_predicts_the_same(pair, dtype):
    X = np.random.default_rng(0).normal(scale=2.0, size=(5, 40)).astype(dtype)
    for activation, depth in itertools.product(HIDDEN, range(4)):
        net = network([5, *(7, 6, 4)[:depth], 3], activation, pair[1], pair[0], dtype, scale=0.5)
        assert difference(net, X) <= ALLOWED, (activation, depth)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 1000])
def test_mixed_activations_and_any_number_of_rows(rows, dtype):
    net = network([6, *range(3, 3 + len(HIDDEN)), 2], HIDDEN, "softmax", dtype=dtype, scale=0.4)
    assert difference(net, np.random.default_rng(0).normal(size=(6, rows)).astype(dtype)) <= ALLOWED


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e3), ("float64", 1e4)])
def test_large_logits(output, dtype, size):
    """They neither overflow nor turn into NaN; a rate saturates at exp(60)."""
    net = network([3, 4, 6], "relu", output, dtype=dtype, scale=0.1)
    net.b[2][...] = np.array([-size, -size / 20, 0.0, 1.0, size / 20, size])[:, None]
    X = np.random.default_rng(0).normal(size=(3, 30)).astype(dtype)
    assert difference(net, X) <= ALLOWED
    if output == "exp":
        assert run(to_onnx(net), X=np.ascontiguousarray(X.T))["A"].max() == pytest.approx(np.exp(60.0), rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", HIDDEN)
def test_activations_far_from_zero_and_near_it(activation, dtype):
    net = Network([1, 1, 1], activation, "identity", dtype=dtype, backend="numpy")
    net.theta = [1.0, 0.0, 1.0, 0.0]
    values = [*np.linspace(-8.0, 8.0, 33), *(s * 10.0**k for s in (-1, 1) for k in (-30, -9, -6, -3, 1, 2, 4, 8))]
    X = np.array([values], dtype=dtype)
    assert difference(net, X) <= ALLOWED
    if activation == "elu" and dtype == "float64":  # whose formula keeps the digits of what is small
        A = run(to_onnx(net), X=X.T)["A"].T
        np.testing.assert_allclose(A, net.predict(X), rtol=1e-9, atol=1e-300)


def test_the_file_says_what_it_is(tmp_path):
    net = network([4, 3, 2], "tanh", "softmax")
    written = save_onnx(net, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.producer_name, model.producer_version) == ("accelnn", accelnn.__version__)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", graphs.OPSET)]
    about = json.loads({one.key: one.value for one in model.metadata_props}["accelnn.network"])
    assert about["sizes"] == [4, 3, 2]
    assert about["activations"] == ["tanh"]

    def shape(value):
        kind = value.type.tensor_type
        return value.name, kind.elem_type, [one.dim_param or one.dim_value for one in kind.shape.dim]

    float32 = onnx.TensorProto.FLOAT
    assert [shape(value) for value in model.graph.input] == [("X", float32, ["N", 4])]
    assert [shape(value) for value in model.graph.output] == [("A", float32, ["N", 2])]
    assert [one.name for one in model.graph.initializer] == ["W[1]", "b[1]", "W[2]", "b[2]"]
    assert written.program.splitlines() == [
        "import onnxruntime",
        "",
        f'session = onnxruntime.InferenceSession("{tmp_path / "net.onnx"}")',
        'A, = session.run(None, {"X": X})',
    ]
    assert written.note == "it has one input X of shape (N, 4), float32, and gives A"


def test_a_loss_of_ones_own_predicts_too():
    own = custom_loss(lambda a, y: 0.5 * (a - y) * (a - y), lambda a, y: a - y, name="mine")
    net = Network([3, 4, 1], "tanh", "identity", own, backend="numpy")
    assert difference(net, np.random.default_rng(0).normal(size=(3, 10)).astype("float32")) <= ALLOWED


CLASSES = {
    "two": np.array(["no", "yes"]),
    "texts": np.array(["pine", "ash", "öak"]),
    "numbers": np.array([7, -2, 5, 0]),
    "two numbers": np.array([3, 9]),
    "floats": np.array([1.0, 2.0, 5.0]),
    "truth": np.array([False, True]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_classifier_gives_labels_and_probabilities(name, dtype):
    rng, classes = np.random.default_rng(0), CLASSES[name]
    X = rng.normal(size=(60, 4)).astype(dtype)
    model = fitted(MLPClassifier((5,)), X, classes[rng.integers(len(classes), size=60)])
    found = run(to_onnx(model), X=X)
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), atol=ALLOWED)
    assert found["probabilities"].dtype == dtype
    np.testing.assert_array_equal(found["label"], model.predict(X))


def test_several_labels_at_once_have_probabilities_alone():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    model = fitted(MLPClassifier((5,)), X, rng.integers(2, size=(50, 4)))
    found = run(to_onnx(model), X=X)
    assert list(found) == ["A"]
    np.testing.assert_allclose(found["A"], model.predict_proba(X), atol=ALLOWED)


@pytest.mark.parametrize("targets", [1, 2])
def test_a_regressor_gives_values_in_the_targets_units(targets):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3)).astype(np.float32)
    y = 1e6 + rng.normal(size=(50, targets))
    model = MLPRegressor(hidden_layer_sizes=(5,), standardize_target=True)
    fitted(model, X, y if targets > 1 else y[:, 0])
    value = run(to_onnx(model), X=X)["value"]
    assert value.shape == (50, targets)
    np.testing.assert_allclose(value, model.predict(X).reshape(50, targets), rtol=1e-11)


def test_what_cannot_be_exported():
    with pytest.raises(DataError, match="model: dict is no model; give a Network, a TableModel or a fitted estimator"):
        to_onnx({})
    with pytest.raises(DataError, match="model: MLPClassifier is not fitted yet"):
        to_onnx(MLPClassifier())
    rng = np.random.default_rng(0)
    model = fitted(MLPClassifier((3,), calibration="sigmoid"), rng.normal(size=(60, 2)), rng.integers(2, size=60))
    with pytest.raises(DataError, match="model: its calibrated probabilities are not the network's; fit it with cali"):
        to_onnx(model)


def test_more_than_a_file_holds(monkeypatch):
    monkeypatch.setattr(graphs, "MOST_BYTES", 1000)
    with pytest.raises(DataError, match=r"model: [\d,]+ bytes of parameters are more than one ONNX file holds"):
        to_onnx(network([30, 10, 1], "relu", "sigmoid"))


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DataError, match=r'run: pip install "accelnn\[onnx\]"'):
        to_onnx(network([2, 1], (), "sigmoid"))
