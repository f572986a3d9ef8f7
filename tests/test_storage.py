"""Model files: what is written comes back bit for bit, and nothing else comes back at all."""

import json
import os
import struct
import warnings

import numpy as np
import pytest
from conftest import host
from hypothesis import given
from hypothesis import strategies as st

from accelnn import DataError, ModelFileError, Network
from accelnn.storage import load_model, save_model


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
    for name in ("sizes", "activations", "output", "loss", "init", "seed", "dtype", "epochs_trained"):
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


def test_description_and_tensors_travel_along(saved, tmp_path):
    net, _ = saved
    save_model(net, tmp_path / "m", {"columns": ["ä", "b"]}, {"mean": np.arange(3.0)})
    _, description, tensors = load_model(tmp_path / "m", "numpy")
    assert description == {"columns": ["ä", "b"]}
    np.testing.assert_array_equal(tensors["mean"], np.arange(3.0))


def test_every_truncation_is_refused(saved):
    _, path = saved
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match=r"model\.safetensors"):
            load_model(path, "numpy")


@given(data=st.data())
def test_every_flipped_bit_is_refused_or_harmless(data, tmp_path_factory):
    """A flip in the header may be a change of spelling only; one in the tensors never passes."""
    net = Network([2, 3, 1], seed=1, backend="numpy")
    path = tmp_path_factory.mktemp("flip") / "m"
    net.save(path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    (header,) = struct.unpack_from("<Q", path.read_bytes())
    try:
        again = Network.load(path, "numpy")
    except ModelFileError:
        return
    assert place < 8 + header
    np.testing.assert_array_equal(again.theta, net.theta)


def rewritten(path, change):
    """The file with its description changed, its header's length kept in step."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["accelnn"])
    change(about, header)
    header["__metadata__"]["accelnn"] = json.dumps(about)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


CHANGES = {
    "another activation": (lambda about, _: about["network"].update(activations=["relu"]), "is damaged"),
    "newer format": (lambda about, _: about.update(format=2), "format 2 is not known"),
    "unknown activation": (lambda about, _: about["network"].update(activations=["evil"]), "'evil' is not known"),
    "10^12 units": (lambda about, _: about["network"].update(sizes=[10**12, 10**12]), "do not fit"),
    "10^6 layers": (lambda about, _: about["network"].update(sizes=[1] * 10**6), "do not fit"),
    "negative sizes": (lambda about, _: about["network"].update(sizes=[3, -5, 2]), "do not fit"),
    "other dtype": (lambda about, _: about["network"].update(dtype="float32"), "do not fit"),
    "no network": (lambda about, _: about.pop("network"), "is no accelnn model"),
    "unknown setting": (lambda about, _: about["network"].update(shell="rm"), "is no accelnn model"),
    "no checksum": (lambda about, _: about.pop("sha256"), "is no accelnn model"),
    "10^12 elements": (lambda _, header: header["theta"].update(shape=[10**12]), "is no accelnn model"),
    "negative offsets": (lambda _, header: header["theta"].update(data_offsets=[-8, 8]), "is no accelnn model"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_description_that_lies_is_refused(name, saved):
    _, path = saved
    change, message = CHANGES[name]
    rewritten(path, change)
    with pytest.raises(ModelFileError, match=message):
        load_model(path, "numpy")


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\xff" * 64, b"{}", struct.pack("<Q", 2) + b"{}"])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ModelFileError, match="is no accelnn model"):
        load_model(tmp_path / "m", "numpy")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(saved, monkeypatch):
    net, path = saved
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    net.theta[0] += 1.0
    with pytest.raises(DataError, match=r"model\.safetensors: cannot be written \(No space left on device\)"):
        net.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


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
