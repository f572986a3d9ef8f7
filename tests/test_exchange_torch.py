"""PyTorch's state_dict, to and fro: names and shapes by its documentation, and PyTorch itself where it is installed."""

import itertools
import json
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from conftest import host
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save, save_file

from accelnn import AccelnnError, DataError, MLPClassifier, MLPRegressor, ModelFileError, Network, OutputError
from accelnn.activations import ACTIVATIONS, HIDDEN, OUTPUTS
from accelnn.exchange import from_torch, import_torch, save_torch, to_torch
from accelnn.exchange.torch_modules import MODULES
from accelnn.tables.model import TableModel


def network(sizes, activations="relu", output="softmax", dtype="float32", loss=None):
    net = Network(sizes, activations, output, loss, dtype=dtype, backend="numpy")
    net.theta = np.random.default_rng(1).normal(scale=0.5, size=net.theta.shape)
    return net


def weights(*sizes, dtype="float32", prefix="", step=2):
    """A state_dict as ``nn.Sequential`` names it."""
    rng, found = np.random.default_rng(0), {}
    for k, (n_prev, n) in enumerate(itertools.pairwise(sizes)):
        found[f"{prefix}{step * k}.weight"] = rng.normal(size=(n, n_prev)).astype(dtype)
        found[f"{prefix}{step * k}.bias"] = rng.normal(size=n).astype(dtype)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_names_and_shapes_are_those_that_pytorch_documents(dtype, backend):
    net = Network([4, 6, 5, 3], ["tanh", "relu"], "softmax", dtype=dtype, backend=backend)
    state = to_torch(net)
    shapes = {
        "0.weight": (6, 4),
        "0.bias": (6,),
        "2.weight": (5, 6),
        "2.bias": (5,),
        "4.weight": (3, 5),
        "4.bias": (3,),
    }
    assert {name: array.shape for name, array in state.items()} == shapes
    assert all(array.dtype == dtype and array.flags.c_contiguous for array in state.values())
    X = np.random.default_rng(0).normal(size=(20, 4)).astype(dtype)
    A = np.tanh(X @ state["0.weight"].T + state["0.bias"])  # Linear: x A^T + b
    A = np.maximum(A @ state["2.weight"].T + state["2.bias"], 0)
    Z = A @ state["4.weight"].T + state["4.bias"]
    expected = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(host(net.predict(net.backend.from_host(X.T))).T, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(4, 3), (4, 6, 2), (1, 9, 8, 7, 1, 2)])
def test_to_pytorch_and_back_to_the_last_bit(sizes, dtype, tmp_path):
    net = network(sizes, "gelu", "identity", dtype, loss="huber")
    save_torch(net, tmp_path / "m")
    for source in (to_torch(net), tmp_path / "m"):
        again = from_torch(source, "gelu", "identity", backend="numpy")
        assert (again.sizes, again.dtype) == (net.sizes, dtype)
        np.testing.assert_array_equal(again.theta, net.theta)
    # The file says by itself what follows its layers.
    again = from_torch(tmp_path / "m", backend="numpy")
    assert (again.activations, again.output, again.loss_entry) == (net.activations, "identity", net.loss_entry)


def test_a_file_says_what_it_holds(tmp_path):
    from safetensors import safe_open

    save_torch(network([4, 6, 3], "tanh"), tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", "np") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert metadata["written_by"].startswith("accelnn ")
    assert json.loads(metadata["network"])["activations"] == ["tanh"]
    assert metadata["python"].splitlines() == [
        "import torch",
        "from safetensors.torch import load_file",
        "from torch import nn",
        "",
        "model = nn.Sequential(",
        "    nn.Linear(4, 6), nn.Tanh(),",
        "    nn.Linear(6, 3), nn.Softmax(dim=1),",
        ")",
        'model.load_state_dict(load_file("net.safetensors"))',
        "model.eval()",
    ]


def test_every_activation_has_a_module_but_exp():
    assert set(MODULES) == set(ACTIVATIONS) - {"exp"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_pytorch_runs_the_lines_and_predicts_the_same(output, dtype, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    X = np.random.default_rng(0).normal(scale=2.0, size=(4, 50)).astype(dtype)
    program, expected = ["import numpy as np"], {}
    for activation in (*HIDDEN, "mixed", "none"):
        names = HIDDEN[:3] if activation == "mixed" else () if activation == "none" else [activation]
        net = network([4, *(6, 5, 4)[: len(names)], 3], names, output, dtype)
        path = tmp_path / f"{activation}.safetensors"
        lines = save_torch(net, path).program
        call = "predict" if output == "exp" else "model"
        program += [
            lines,
            f"A = {call}(torch.tensor(np.load({str(tmp_path / 'X.npy')!r})))",
            f"np.save({str(tmp_path / f'{activation}.npy')!r}, A.detach().numpy())",
        ]
        expected[activation] = net.predict(X).T
    np.save(tmp_path / "X.npy", X.T)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(program)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for activation, A in expected.items():
        found = np.load(tmp_path / f"{activation}.npy")
        assert found.dtype == dtype
        np.testing.assert_allclose(found, A, rtol=1e-5, atol=1e-5, err_msg=activation)


def test_a_module_of_pytorchs_own():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2, bias=False))
    net = from_torch(model.state_dict(), "tanh", "identity", backend="numpy")
    with torch.no_grad():
        np.testing.assert_allclose(net.predict(X.T).T, model(torch.tensor(X)).numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match=r"'0\.weight' holds bfloat16 numbers; choose the dtype"):
        from_torch(model.bfloat16().state_dict(), "tanh", "identity")
    half = from_torch(model.state_dict(), "tanh", "identity", dtype="float32", backend="numpy")
    np.testing.assert_array_equal(half.W[1], model[0].weight.float().detach().numpy())


NAMES = {
    "a Sequential": lambda k: f"{2 * k}",
    "with dropout": lambda k: f"{3 * k}",
    "within a module": lambda k: f"net.{k}",
    "ten and more": lambda k: f"layers.{8 + k}.linear",
    "attributes": lambda k: f"fc{k + 1}",
    "compiled": lambda k: f"_orig_mod.block_{k}.fc",
}


@pytest.mark.parametrize("name", NAMES)
def test_layers_go_by_their_numbers(name, tmp_path):
    net = network([3, 4, 4, 4, 2], "tanh", "softmax")
    state = {f"{NAMES[name](int(key[0]) // 2)}.{key[2:]}": array for key, array in to_torch(net).items()}
    save_file(dict(reversed(state.items())), tmp_path / "m")
    for source in (dict(reversed(state.items())), tmp_path / "m"):
        np.testing.assert_array_equal(from_torch(source, "tanh", "softmax", backend="numpy").theta, net.theta)


def test_layers_whose_names_have_no_order():
    net = network([3, 3, 3, 3], "tanh", "softmax")
    names = {"0": "in", "2": "hidden", "4": "out"}
    state = {names[key[0]] + key[1:]: array for key, array in to_torch(net).items()}
    with pytest.raises(DataError, match="the order of its layers, 'hidden', 'in', 'out', is not known"):
        from_torch(state, "tanh", "softmax")
    again = from_torch(state, "tanh", "softmax", layers=("in", "hidden", "out"), backend="numpy")
    np.testing.assert_array_equal(again.theta, net.theta)
    with pytest.raises(DataError, match="layers: 'in', 'out' are not its layers, which are 'hidden', 'in', 'out'"):
        from_torch(state, "tanh", "softmax", layers=("in", "out"))


def test_a_bias_that_is_not_there_is_zero():
    state = weights(3, 4, 2)
    del state["0.bias"]
    net = from_torch(state, "relu", "identity", backend="numpy")
    np.testing.assert_array_equal(net.b[1], np.zeros((4, 1)))
    np.testing.assert_array_equal(net.b[2][:, 0], state["2.bias"])
    alone = from_torch({"weight": np.eye(2, 3), "bias": np.ones(2)}, (), "identity", backend="numpy")  # an nn.Linear
    assert (alone.sizes, alone.dtype) == ((3, 2), "float64")


def bfloat16(values):
    """The upper halves of float32, as a file has them."""
    return (np.asarray(values, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)


def test_half_precision_is_converted_if_that_is_asked_for(tmp_path):
    state = {name: array.astype(np.float16) for name, array in weights(3, 4, 2).items()}
    save_file(state, tmp_path / "half")
    # NumPy has no bfloat16, so the file's header is rewritten.
    content = save({name: bfloat16(array) for name, array in weights(3, 4, 2).items()})
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].replace(b'"U16"', b'"BF16"').rstrip()
    header += b" " * (-len(header) % 8)
    (tmp_path / "brain").write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    for name, kind in (("half", "float16"), ("brain", "bfloat16")):
        with pytest.raises(DataError, match=rf"{name}: '\d\.\w+' holds {kind} numbers; choose the dtype float32 or"):
            from_torch(tmp_path / name, "relu", "identity")
        for dtype in ("float32", "float64"):
            net = from_torch(tmp_path / name, "relu", "identity", dtype=dtype, backend="numpy")
            expected = state["2.weight"] if name == "half" else weights(3, 4, 2)["2.weight"]
            assert net.dtype == dtype
            np.testing.assert_allclose(net.W[2], expected, rtol=0 if name == "half" else 2**-7)
    with pytest.raises(DataError, match=r"state_dict: '0\.weight' holds float16 numbers"):
        from_torch(state, "relu", "identity")


def changed(**arrays):
    return {**weights(3, 4, 2), **{name.replace("_", "."): array for name, array in arrays.items()}}


FAULTS = {
    "batch norm": (changed(**{"1_weight": np.ones(4, "f")}), "'1.weight' of shape (4,) is no weight of a Linear layer"),
    "statistics": ({**changed(), "1.running_mean": np.ones(4)}, "'1.running_mean' belongs to no Linear layer"),
    "counter": ({**changed(), "1.num_batches_tracked": np.array(3)}, "'1.num_batches_tracked' belongs to no Linear"),
    "lone bias": ({**changed(), "7.bias": np.ones(4)}, "'7.bias' belongs to no Linear layer"),
    "convolution": ({"0.weight": np.ones((3, 3, 2, 2), "f")}, "'0.weight' of shape (3, 3, 2, 2) is no weight of a Li"),
    "scalar": ({"0.weight": np.float32(3.0)}, "'0.weight' of shape () is no weight of a Linear layer"),
    "empty": ({"0.weight": np.ones((0, 3), "f")}, "'0.weight' of shape (0, 3) is no weight of a Linear layer"),
    "nothing": ({}, "holds no weights (there is no array NAME.weight)"),
    "short bias": (changed(**{"0_bias": np.ones(3, "f")}), "'0.bias' has shape (3,), expected (4,) beside a weight of"),
    "no chain": (
        changed(**{"2_weight": np.ones((2, 5), "f")}),
        "'2.weight' takes 5 inputs, but the layer before it has",
    ),
    "NaN": (changed(**{"2_bias": np.full(2, np.nan, "f")}), "'2.bias' holds NaN or infinity"),
    "infinity": (changed(**{"0_weight": np.full((4, 3), np.inf, "f")}), "'0.weight' holds NaN or infinity"),
    "integers": (changed(**{"0_bias": np.ones(4, int)}), "'0.bias' holds int64 numbers; give float32 or float64"),
    "two dtypes": (changed(**{"0_bias": np.ones(4)}), "mixes float32 and float64; choose a dtype to convert to"),
    "one number": ({"0.weight": np.eye(3), "00.weight": np.eye(3)}, "the order of its layers, '0', '00', is not known"),
    "two numbers": ({"a1.0.weight": np.eye(3), "a2.1.weight": np.eye(3)}, "differ in one number alone; give the names"),
    "digits": ({"9" * 5000 + ".weight": np.eye(3), "x.weight": np.eye(3)}, "is not known"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_chain_of_linear_layers_is_refused_by_name(name, tmp_path):
    state, message = FAULTS[name]
    with pytest.raises(DataError, match=re.escape(message)):
        from_torch(state, "relu", "identity", backend="numpy")
    message = message.replace("int64", "I64")
    save_file({key: np.asarray(array) for key, array in state.items()}, tmp_path / "m")
    with pytest.raises(DataError, match=f"^{re.escape(str(tmp_path / 'm'))}: .*{re.escape(message)}"):
        from_torch(tmp_path / "m", "relu", "identity", backend="numpy")


def test_functions_that_do_not_fit(tmp_path):
    with pytest.raises(DataError, match="state_dict: does not say which functions follow the layers; name the activat"):
        from_torch(weights(3, 4, 2))
    with pytest.raises(DataError, match="does not say which functions"):
        from_torch(weights(3, 4, 2), "relu")
    with pytest.raises(DataError, match="activations: 'silu' is not known"):
        from_torch(weights(3, 4, 2), "silu", "identity")
    with pytest.raises(DataError, match="loss: 'huber' does not go with"):
        from_torch(weights(3, 4, 2), "relu", "softmax", "huber")
    with pytest.raises(DataError, match="dtype: 'float16' is not known"):
        from_torch(weights(3, 4, 2), "relu", "softmax", dtype="float16")
    save_file(weights(3, 4, 2), tmp_path / "m", metadata={"network": '{"activations": 3}'})
    with pytest.raises(ModelFileError, match="m: its metadata describe no network"):
        from_torch(tmp_path / "m")


@pytest.mark.parametrize("content", [b"", b"\x80\x02c\x00.", b"PK\x03\x04" + bytes(60), b"\xff" * 99, b"{}" * 40])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.pt: is no safetensors file .*; in PyTorch, write one with"):
        from_torch(tmp_path / "model.pt", "relu", "identity")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ModelFileError, match="nothing: cannot be read"):
        from_torch(tmp_path / "nothing", "relu", "identity")
    with pytest.raises(ModelFileError, match="is no file"):
        from_torch(tmp_path, "relu", "identity")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ModelFileError, match="pipe: is no file"):
            from_torch(tmp_path / "pipe", "relu", "identity")


@settings(max_examples=300)
@given(place=st.integers(0, 2000), value=st.integers(0, 255), cut=st.integers(0, 2000))
def test_a_damaged_file_is_a_network_or_an_error_of_ours(place, value, cut, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    content = bytearray(save(to_torch(network([3, 4, 2])), metadata={"network": "{}"}))
    content[place % len(content)] = value
    path.write_bytes(content[: len(content) if cut % 2 else cut])
    try:
        net = from_torch(path, "relu", "softmax", backend="numpy")
    except AccelnnError:
        return
    assert np.isfinite(net.theta).all()


def test_an_estimators_weights(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), 1e4 + rng.normal(size=60)
    model = MLPRegressor(
        hidden_layer_sizes=(4,),
        standardize_target=True,
        max_iter=3,
        tol=0.0,
        random_state=0,
        backend="numpy",
        solver="sgd",
    )
    with pytest.warns(UserWarning, match="not enough to converge"):
        model.fit(X, y)
    program = save_torch(model, tmp_path / "m").program
    assert f"model(X) * {float(model.target_scale_[0])!r} + {float(model.target_mean_[0])!r}" in program
    state = load_file(tmp_path / "m")
    np.testing.assert_array_equal(state["0.weight"].T, model.coefs_[0])


def regressor(y, **settings):
    X = np.random.default_rng(0).normal(size=(60, 3))
    model = MLPRegressor(
        hidden_layer_sizes=(4,), standardize_target=True, max_iter=30, random_state=0, backend="numpy", **settings
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y(X)), X


def test_a_standardised_target_comes_back_in_its_units(tmp_path):
    model, X = regressor(lambda X: 5e6 + 1e5 * X[:, 0])
    save_torch(model, tmp_path / "m")
    back = import_torch(tmp_path / "m")
    np.testing.assert_allclose(back.predict(X), model.predict(X), rtol=1e-12)
    assert back.predict(X).mean() > 4e6
    back.save(tmp_path / "back")
    np.testing.assert_array_equal(TableModel.load(tmp_path / "back", "numpy").predict(X), back.predict(X))


def test_several_standardised_targets_come_back_in_their_units(tmp_path):
    model, X = regressor(lambda X: np.stack([5e6 + X[:, 0], 1e-3 * X[:, 1]], axis=1))
    save_torch(model, tmp_path / "m")
    back = import_torch(tmp_path / "m")
    assert back.dtype == "float64"
    expected = model.predict(X)
    np.testing.assert_allclose((back.predict(X.T).T - expected) / expected.std(axis=0), 0.0, atol=1e-5)


@pytest.mark.parametrize("classes", [["öl", "ash"], ["c", "b", "a"], [7, 3], [True, False], [7.0, -1.0, 2.0]])
def test_an_estimators_classes_come_back(classes, tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = np.array(classes)[np.arange(60) % len(classes)]
    model = MLPClassifier((4,), max_iter=3, random_state=0, backend="numpy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    save_torch(model, tmp_path / "m")
    back = import_torch(tmp_path / "m")
    assert back.classes == tuple(map(str, sorted(classes)))
    np.testing.assert_allclose(back.predict(X), model.predict_proba(X), atol=1e-6)
    with pytest.raises(DataError, match="names its classes itself; leave them out"):
        import_torch(tmp_path / "m", classes=("a", "b"))


@pytest.mark.parametrize(
    ("output", "metadata"),
    [
        ("softmax", {"classes": "3"}),
        ("softmax", {"classes": "[]"}),
        ("softmax", {"classes": '["a", "b"]'}),
        ("softmax", {"classes": '["a", "b", ["c"]]'}),
        ("softmax", {"classes": '["a", "b", "\\ud800"]'}),
        ("softmax", {"outputs": '{"mean": [0.0, 0.0, 0.0], "scale": [1.0, 1.0, 1.0]}'}),
        ("identity", {"classes": '["a", "b", "c"]'}),
        ("identity", {"outputs": "["}),
        ("identity", {"outputs": "[]"}),
        ("identity", {"outputs": '{"mean": [0.0], "scale": [1.0]}'}),
        ("identity", {"outputs": '{"mean": [0.0, 0.0, NaN], "scale": [1.0, 1.0, 1.0]}'}),
        ("identity", {"outputs": '{"mean": [0.0, 0.0, 0.0], "scale": [1.0, 0.0, 1.0]}'}),
        ("identity", {"outputs": '{"mean": [0.0, 0.0, 0.0], "scale": [1.0, 1.0]}'}),
        ("exp", {"outputs": '{"mean": [1.0, 0.0, 0.0], "scale": [1.0, 1.0, 1.0]}'}),
    ],
)
def test_metadata_that_do_not_fit_are_refused(output, metadata, tmp_path):
    save_file(to_torch(network([4, 5, 3], "relu", output)), tmp_path / "m", metadata=metadata)
    with pytest.raises(ModelFileError, match="m: is no accelnn model"):
        import_torch(tmp_path / "m", activations="relu", output=output)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        save_torch(network([2, 1], (), "sigmoid"), tmp_path / "no" / "m")
