"""Model files: what is written comes back bit for bit, and nothing else comes back at all."""

import os
import struct
import warnings

import numpy as np
import pytest
from conftest import host
from forging import closed, forge, opened, resealed
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

import accelnn
from accelnn import Checkpoint, DataError, ModelFileError, Network
from accelnn.storage import container, load_model, save_model


@pytest.fixture
def saved(tmp_path):
    net = Network([3, 5, 2], "gelu", "softmax", seed=4, dtype="float64", backend="numpy")
    rng = np.random.default_rng(0)
    net.fit(rng.normal(size=(3, 20)), rng.integers(2, size=20), epochs=3)
    path = tmp_path / "model.safetensors"
    net.save(path)
    return net, path


def test_a_network_comes_back_bit_for_bit(saved, backend):
    net, path = saved
    again = Network.load(path, backend)
    np.testing.assert_array_equal(host(again.theta), net.theta)
    for name in ("sizes", "activations", "output", "loss", "init", "seed", "dtype", "epochs_trained", "history"):
        assert getattr(again, name) == getattr(net, name)
    assert again.backend is backend
    again.save(path.with_name("again"))
    assert path.with_name("again").read_bytes() == path.read_bytes()
    again.W[1][0, 0] = 7.0
    assert again.theta[0] == 7.0


def test_a_network_of_zeros_loads_without_its_warning(tmp_path):
    with pytest.warns(UserWarning, match="one unit wide"):
        net = Network([2, 3, 1], init="zeros", backend="numpy")
    net.save(tmp_path / "zeros")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Network.load(tmp_path / "zeros", "numpy").init == "zeros"


def test_a_loss_keeps_its_parameter(tmp_path):
    net = Network([2, 3, 1], "tanh", "identity", accelnn.losses.loss("huber", "identity", delta=0.3), backend="numpy")
    net.save(tmp_path / "m")
    assert Network.load(tmp_path / "m", "numpy").loss_entry == net.loss_entry


def test_description_and_tensors_travel_along(saved, tmp_path):
    net, _ = saved
    save_model(net, tmp_path / "m", {"columns": ["ä", "b", '{"sha256": "', "\ud800"]}, {"mean": np.arange(3.0)})
    _, description, tensors = load_model(tmp_path / "m", "numpy")
    assert description == {"columns": ["ä", "b", '{"sha256": "', "\ud800"]}
    np.testing.assert_array_equal(tensors["mean"], np.arange(3.0))


def test_the_same_model_gives_the_same_bytes_and_says_what_wrote_it(saved, tmp_path):
    net, path = saved
    tensors = {name: np.arange(k) for k, name in enumerate("zyxwvutsrq")}
    for name, order in (("a", tensors), ("b", dict(reversed(tensors.items())))):
        save_model(net, tmp_path / name, {"b": 1, "a": 2}, order)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    about, _ = container.read(path)
    assert about["written_by"]["accelnn"] == accelnn.__version__
    assert about["written_by"]["numpy"] == np.__version__
    assert set(about["written_by"]) == {"accelnn", "numpy", "python"}


# Damage.


def test_every_truncation_is_refused(saved):
    _, path = saved
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match=r"model\.safetensors"):
            load_model(path, "numpy")


@given(data=st.data())
def test_every_flipped_bit_is_refused(data, tmp_path_factory):
    """Wherever it is: in a number, a name or a space."""
    net = Network([2, 3, 1], seed=1, backend="numpy")
    path = tmp_path_factory.mktemp("flip") / "m"
    net.save(path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        Network.load(path, "numpy")


def test_a_file_is_sealed_as_a_whole(saved):
    """The forger of these tests makes the seal that `save` makes; without it nothing passes."""
    _, path = saved
    content = path.read_bytes()
    assert resealed(content) == content
    about, header, data = opened(content)
    about["network"]["seed"] += 1
    path.write_bytes(closed(about, header, data))
    with pytest.raises(ModelFileError, match=r"is damaged \(its checksum"):
        load_model(path, "numpy")
    path.write_bytes(resealed(path.read_bytes()))
    assert load_model(path, "numpy")[0].seed == about["network"]["seed"]


CHANGES = {
    "newer format": (lambda about, _: about.update(format=3), "format 3 is not known to accelnn .* reads format 2"),
    "unknown kind": (lambda about, _: about.update(kind="evil"), "of no kind that there is"),
    "no version": (lambda about, _: about["written_by"].pop("numpy"), "has no 'numpy'"),
    "unknown activation": (lambda about, _: about["network"].update(activations=["evil"]), "'evil' is not known"),
    "unknown loss": (lambda about, _: about["network"].update(loss="evil"), "'evil' is not known"),
    "unknown init": (lambda about, _: about["network"].update(init="evil"), "'evil' is not known"),
    "a loss's parameter": (lambda about, _: about["network"].update(loss_parameters={"delta": 1.0}), "not known"),
    "10^12 units": (lambda about, _: about["network"].update(sizes=[10**12, 10**12]), "do not fit"),
    "10^6 layers": (lambda about, _: about["network"].update(sizes=[1] * 10**6), "larger than any"),
    "10^5 layers": (lambda about, _: about["network"].update(sizes=[1] * 10**5), "do not fit"),
    "negative sizes": (lambda about, _: about["network"].update(sizes=[3, -5, 2]), "do not fit"),
    "no layer": (lambda about, _: about["network"].update(sizes=[3]), "do not fit"),
    "a size that is true": (lambda about, _: about["network"].update(sizes=[3, True, 2]), "no whole number"),
    "other dtype": (lambda about, _: about["network"].update(dtype="float32"), "no vector of float32"),
    "no network": (lambda about, _: about.pop("network"), "has no 'network'"),
    "no sizes": (lambda about, _: about["network"].pop("sizes"), "lacks 'sizes'"),
    "unknown setting": (lambda about, _: about["network"].update(shell="rm"), "unknown 'shell'"),
    "text for a number": (lambda about, _: about.update(epochs_trained="3"), "'3', which is no whole number"),
    "a negative number": (lambda about, _: about.update(steps_trained=-3), "counts nothing"),
    "a large number": (lambda about, _: about.update(steps_trained=2**63), "counts nothing"),
    "no description": (lambda about, _: about.pop("description"), "has no 'description'"),
    "no checksum": (lambda about, _: about.pop("sha256"), "format 2 is not known"),
    "a long name": (lambda about, _: about["network"].update(init="x" * 10**6), "is not known"),
    "10^12 elements": (lambda _, header: header["theta"].update(shape=[10**12]), "is no accelnn model"),
    "10^12 bytes": (lambda _, header: header["theta"].update(data_offsets=[0, 10**12]), "is damaged"),
    "negative offsets": (lambda _, header: header["theta"].update(data_offsets=[-8, 8]), "is"),
    "another type": (lambda _, header: header["theta"].update(dtype="I64"), "no vector of float64"),
    "an unknown type": (lambda _, header: header["theta"].update(dtype="BF16"), "is no accelnn model"),
    "more of an array": (lambda _, header: header["theta"].update(more=1), "unknown 'more'"),
    "more of a header": (lambda _, header: header["__metadata__"].update(more="1"), "unknown 'more'"),
    "no parameters": (lambda _, header: header.update(other=header.pop("theta")), "has no 'theta'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_description_that_lies_is_refused(name, saved):
    """Even behind a seal that fits."""
    _, path = saved
    change, message = CHANGES[name]
    forge(path, change)
    with pytest.raises(ModelFileError, match=message) as refusal:
        load_model(path, "numpy")
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_refused(value, saved):
    net, path = saved
    net.theta[3] = value
    net.save(path)
    with pytest.raises(ModelFileError, match="its parameters hold NaN or infinity"):
        load_model(path, "numpy")


def test_json_is_read_strictly(saved):
    """What Python's reader lets pass, and the writer never writes."""
    _, path = saved
    about, header, data = opened(path.read_bytes())
    text = closed(about, header, data)
    about_text = header["__metadata__"]["accelnn"]
    for old, new, message in (
        ('"epochs_trained": 3', '"epochs_trained": 2, "epochs_trained": 3', "a name twice"),
        ('"seed": 4', '"seed": 4, "seed": 4', "a name twice"),
        ('"epochs_trained": 3', '"epochs_trained": NaN', "holds NaN"),
        ('"epochs_trained": 3', '"epochs_trained": 1e999', "holds 1e999"),
        ('"epochs_trained": 3', f'"epochs_trained": {"9" * 5000}', "4300 digits"),
        ('"epochs_trained": 3', f'"epochs_trained": {"[" * 10**5}{"]" * 10**5}', "nested too deeply"),
        ('"epochs_trained": 3', '"epochs_trained": 3,', "is no accelnn model"),
    ):
        assert old in about_text
        path.write_bytes(resealed(closed(about_text.replace(old, new), header, data)))
        with pytest.raises(ModelFileError, match=message):
            load_model(path, "numpy")
    path.write_bytes(resealed(text))
    load_model(path, "numpy")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x04K\x01.", b"\xff" * 64, b"{}", struct.pack("<Q", 2) + b"{}", save({"theta": np.arange(3.0)})],
)
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ModelFileError, match="is no accelnn model"):
        load_model(tmp_path / "m", "numpy")


def test_a_file_of_the_first_format_is_named(saved):
    """It began with its format and had its checksum at the end."""
    _, path = saved
    about, header, data = opened(path.read_bytes())
    path.write_bytes(closed({"format": 1, "version": "0.1.0", "network": about["network"]}, header, data))
    with pytest.raises(ModelFileError, match="format 1 is not known"):
        Network.load(path, "numpy")


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("folder", "is no file"), ("pipe", "is no file"), ("none", "No such file"), ("a\0b", "null")):
        with pytest.raises(ModelFileError, match=message):
            Network.load(tmp_path / name, "numpy")
    with pytest.raises(ModelFileError, match="is no file"):
        Network.load("/dev/zero", "numpy")


def test_a_checkpoint_that_may_be_whole_keeps_its_name(tmp_path):
    """One of a later format is not taken for a damaged one, which would be put aside for the one before it."""
    folder, X, Y = tmp_path / "run", np.ones((3, 8)), np.ones(8)
    Network([3, 2, 1], backend="numpy").fit(X, Y, epochs=2, callbacks=[Checkpoint(folder, every=1)])
    latest = Checkpoint.latest(folder)
    forge(latest, lambda about, _: about.update(format=3))
    names = sorted(os.listdir(folder))
    with pytest.raises(ModelFileError, match="format 3 is not known"):
        Network([3, 2, 1], backend="numpy").fit(X, Y, epochs=3, resume=folder)
    assert sorted(os.listdir(folder)) == names
    latest.write_bytes(b"")
    with pytest.warns(UserWarning, match="is no accelnn model .* and the one before it is taken"):
        Network([3, 2, 1], backend="numpy").fit(X, Y, epochs=3, resume=folder)


def test_a_large_file_is_not_read_to_find_out_that_it_is_none(saved):
    """A hole of 10^12 bytes after the arrays, which no memory could hold."""
    _, path = saved
    os.truncate(path, 10**12)
    with pytest.raises(ModelFileError, match=r"is damaged \(it has 1,000,000,000,000 bytes"):
        Network.load(path, "numpy")


def test_a_description_that_would_not_be_read_again_is_not_written(saved):
    net, path = saved
    before = path.read_bytes()
    for description in ({"names": ["x"] * 10**6}, {"name": "x" * 2**24}):
        with pytest.raises(DataError, match="more than the 16,777,216 and 900,000 that are read again"):
            save_model(net, path, description, {})
    assert path.read_bytes() == before


def test_a_table_of_a_hundred_thousand_columns_is_read_again(saved):
    net, path = saved
    column = {"kind": "numeric", "name": "x", "mean": 0.0, "scale": 1.0, "median": None, "indicator": False}
    save_model(net, path, {"columns": [{**column, "boolean": False}] * 10**5}, {})
    assert len(load_model(path, "numpy")[1]["columns"]) == 10**5


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_a_network_from_a_mapped_file_trains_on(name, tmp_path):
    """joblib maps a file's arrays into memory, read-only."""
    joblib = pytest.importorskip("joblib")
    net = Network([3, 4, 1], backend=name)
    X, Y = np.random.default_rng(0).random((3, 20)), np.ones(20)
    net.fit(X, Y, epochs=2, optimizer="adam")
    joblib.dump(net, tmp_path / "net.joblib")
    mapped = joblib.load(tmp_path / "net.joblib", mmap_mode="r")
    mapped.fit(X, Y, epochs=2, optimizer="adam", resume=True)
    net.fit(X, Y, epochs=2, optimizer="adam", resume=True)
    np.testing.assert_array_equal(mapped.theta, net.theta)
