"""The arrays of the device double: what they compute, and that nothing of the host mixes with them."""

import copy
import pickle

import numpy as np
import pytest
from gpu import double
from gpu.double.shared import HOST, cp, device, new_devices, two_streams  # noqa: F401 (a fixture)

# ----------------------------------------------------------------------------------------------------------------------
# Arrays, and nothing of the host among them
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        np.asarray,
        np.array,
        np.float64,
        lambda x: np.add(x, x),
        lambda x: np.add(HOST, x),
        lambda x: np.multiply(x, 2.0),
        lambda x: np.copyto(HOST.copy(), x),
        lambda x: np.asarray([x, x]),
        lambda x: np.concatenate([x, x]),
        lambda x: np.stack([x]),
        lambda x: HOST.copy().__setitem__(..., x),
        lambda x: np.matmul(HOST.T, x),
        lambda x: np.add(HOST, 1.0, out=x),
        float,
        int,
    ],
)
def test_numpy_never_reads_the_device(read):
    x = device()
    # (NumPy warns beside the error where __array__ has no parameter `copy`; CuPy's has none either.)
    with pytest.raises((TypeError, BufferError, RuntimeError, DeprecationWarning)):
        read(x)
    np.testing.assert_array_equal(x.get(), HOST)


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + HOST,
        lambda x: HOST + x,
        lambda x: x - np.array(1.0),
        lambda x: np.less(HOST, x),
        lambda x: x @ HOST.T,
        lambda x: HOST.T @ x,
        lambda x: x.__iadd__(HOST),
        lambda x: x.__setitem__(..., HOST),
        lambda x: x.__setitem__(0, HOST[0].tolist()),
        lambda x: x.fill(HOST),
        lambda x: x.take(np.array([0]), axis=0),
        lambda x: x[np.array([0])],
        lambda x: x[[0]],
        lambda x: x[x > 1],
        lambda x: cp.sum(HOST),
        lambda x: cp.isfinite(HOST),
        lambda x: cp.sqrt(x, out=HOST.copy()),
        lambda x: cp.take(x, [0], axis=0),
        lambda x: cp.where(x > 0, x, HOST),
        lambda x: cp.where(HOST > 0, x, 0.0),
        lambda x: cp.stack([x, HOST]),
        lambda x: cp.concatenate([HOST, x]),
        lambda x: cp.array([x, x]),
        lambda x: cp.matmul(x, HOST.T),
        lambda x: cp.cublas.gemm("N", "T", x, HOST),
        lambda x: cp.cublas.gemm("N", "T", x, x, out=np.empty((2, 2), np.float32)),
        lambda x: cp.reshape(HOST, (-1,)),
        lambda x: cp.astype(HOST, np.float64),
        lambda x: cp.empty_like(HOST),
        lambda x: cp.ascontiguousarray(HOST),
        lambda x: cp.may_share_memory(x, HOST),
        lambda x: cp.from_dlpack(HOST),
        lambda x: cp.full((2, 3), HOST),
    ],
)
def test_the_device_never_reads_the_host(mix):
    with pytest.raises((TypeError, ValueError)):
        mix(device())


def test_copies_demand_the_same_shape_and_type():
    x = device()
    for wrong, error in ((HOST.astype(np.float64), TypeError), (HOST.T, ValueError), (HOST.tolist(), TypeError)):
        with pytest.raises(error):
            x.set(wrong)
        with pytest.raises(error):
            x.get(out=wrong)
    with pytest.raises(RuntimeError, match="non-contiguous"):
        x[:, :2].set(HOST[:, :2])
    with pytest.raises(ValueError, match="non-scalar"):
        x.fill(x[0])


@pytest.mark.parametrize(
    "host", [HOST, HOST.T, HOST[:, ::2], np.asfortranarray(HOST), HOST[:0], np.float32(3), HOST[0]]
)
def test_host_to_device_and_back(host):
    host = np.asarray(host)
    x = cp.asarray(host)
    # What lies in no order of its own comes in C's.
    ordered = host if host.flags.forc else np.ascontiguousarray(host)
    assert (x.shape, x.dtype, x.strides) == (ordered.shape, ordered.dtype, ordered.strides)
    assert x.flags == (ordered.flags.c_contiguous, ordered.flags.f_contiguous)
    assert (x.ndim, x.size, x.nbytes, x.itemsize) == (host.ndim, host.size, host.nbytes, host.itemsize)
    for order in "CFA":
        back = cp.asnumpy(x, order=order)
        np.testing.assert_array_equal(back, host)
        assert back.flags.c_contiguous or order != "C"
        assert back.flags.f_contiguous or order != "F"
    out = np.full_like(host, np.nan, order="C")
    assert x.get(out=out) is out
    np.testing.assert_array_equal(out, host)
    host_again = cp.zeros_like(x)
    host_again.set(host)
    np.testing.assert_array_equal(host_again.get(), host)
    assert cp.asarray(x) is x
    assert cp.array(x) is not x


def test_views_share_memory_and_copies_do_not():
    x = device()
    for view in (
        x[0],
        x[:, 1:],
        x.T,
        x.reshape(3, 2),
        x.ravel(),
        x.T.ravel("K"),
        x.view(),
        x.view(cp.int32),
        x[...],
        x[1, 2],
        x[None],
    ):
        assert cp.may_share_memory(x, view)
        assert isinstance(view, cp.ndarray)
    for copied in (x.copy(), x.astype(cp.float64), x.T.ravel(), x.T.reshape(6), x + 0, copy.deepcopy(x)):
        assert not cp.may_share_memory(x, copied)
    with pytest.raises(ValueError, match="copy"):
        x.T.reshape(6, copy=False)
    x[1, 2] = 7
    x[0] = x[1]
    x[:, 0] = cp.zeros(())
    x.T[1] += 10.0
    assert x.get().tolist() == [[0, 14, 7], [0, 14, 7]]
    assert x[1].data.ptr == x.data.ptr + 12
    again = cp.ndarray((3,), np.float32, x.data + 12)
    assert cp.may_share_memory(x, again)
    assert again.get().tolist() == [0, 14, 7]


def test_operators_and_functions_give_numpys_numbers():
    a, b = HOST + 1, HOST[::-1] + 2
    x, y = device(a), device(b)
    pairs = [
        (x + y, a + b),
        (2 - x, 2 - a),
        (np.float64(2) * x, np.float64(2) * a),
        (x / 2, a / 2),
        (x // 2, a // 2),
        (x % 2, a % 2),
        (2**x, 2**a),
        (-x, -a),
        (abs(-x), a),
        (x > y, a > b),
        ((x == 1) | ~(y != 2), (a == 1) | (b == 2)),
        (x @ y.T, a @ b.T),
        (cp.sqrt(x), np.sqrt(a)),
        (cp.log(x), np.log(a)),
        (cp.abs(-x), a),
        (cp.isfinite(x / 0), np.zeros((2, 3), bool)),
        (cp.isnan(x), np.isnan(a)),
        (cp.sum(x, axis=0, keepdims=True), a.sum(axis=0, keepdims=True)),
        (x.max(), a.max()),
        (cp.argmax(x), a.argmax()),
        (cp.all(x > 1, axis=1), (a > 1).all(axis=1)),
        (cp.any(x > 4), np.array(True)),
        (cp.take(x, cp.asarray([2, 0, 3]), axis=1), a[:, [2, 0, 0]]),  # places wrap around
        (cp.where(x > 2, x, 0.0), np.where(a > 2, a, np.float32(0))),
        (cp.stack([x, y]), np.stack([a, b])),
        (cp.concatenate([x, y], axis=1), np.concatenate([a, b], axis=1)),
        (cp.reshape(x, (-1,)), a.ravel()),
        (cp.astype(x, cp.int64), a.astype(np.int64)),
        (cp.ones((2, 1)), np.ones((2, 1))),
        (cp.full(2, 3), np.full(2, 3)),
        (cp.asfortranarray(x), a),
    ]
    for number, (own, expected) in enumerate(pairs):
        assert isinstance(own, cp.ndarray)
        assert own.dtype == expected.dtype, number
        np.testing.assert_array_equal(own.get(), expected, err_msg=str(number))
    assert (float(x[0, 0]), int(x[1, 0]), bool(x[0, 0] > 5), x[0, 1].item()) == (1.0, 4, False, 2.0)
    assert [row.shape for row in x] == [(3,), (3,)]
    assert len(x) == 2


def test_pickles_by_way_of_the_host():
    x = device(HOST.T)
    again = pickle.loads(pickle.dumps(x))
    assert isinstance(again, cp.ndarray)
    assert again.strides == x.strides
    np.testing.assert_array_equal(again.get(), HOST.T)


# ----------------------------------------------------------------------------------------------------------------------
# Other libraries' arrays
# ----------------------------------------------------------------------------------------------------------------------


class Producer:
    """Another library's array, which shares memory by one of the two protocols."""

    def __init__(self, array):
        self.array = array


class DlpackProducer(Producer):
    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)


class InterfaceProducer(Producer):
    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__


@pytest.mark.parametrize(
    "take_in", [lambda x: cp.from_dlpack(DlpackProducer(x)), lambda x: cp.asarray(InterfaceProducer(x))]
)
def test_memory_is_shared_without_a_copy(take_in):
    x = device()
    for view in (x, x.T, x[:, 1:], x[1], x[:0]):
        with double.counting() as counts:
            y = take_in(view)
        assert (y.shape, y.dtype) == (view.shape, view.dtype)
        assert (counts.allocations, counts.host_to_device, counts.device_to_device) == (0, 0, 0)
        np.testing.assert_array_equal(y.get(), view.get())
        if view.size:
            assert y.strides == view.strides
            assert cp.may_share_memory(x, y)
    assert x.__dlpack_device__() == (2, 0)
    assert x.__cuda_array_interface__["version"] == 3
    np.testing.assert_array_equal(cp.asnumpy(InterfaceProducer(x)), HOST)


def test_the_host_waits_for_the_stream_that_an_interface_names():
    one, two = two_streams()
    with one:
        x = device()
        producer = type("Producer", (), {"__cuda_array_interface__": x.__cuda_array_interface__})()
    with two:
        with double.counting() as counts:
            y = cp.asarray(producer)
        assert counts.synchronisations == 1
        np.testing.assert_array_equal((y + 1).get(), HOST + 1)


def test_shared_memory_is_in_order():
    one, two = two_streams()
    with one:
        x = device()
        capsule = x.__dlpack__(stream=two.ptr)
        description = x.__cuda_array_interface__
    assert description["stream"] == one.ptr
    with two:
        _ = x + 1
    with one:
        x = device()
        _ = x.__dlpack__(stream=-1)
    with two, pytest.raises(RuntimeError, match="unordered"):
        _ = x + 1
    del capsule


def test_what_is_no_capsule_of_the_double_is_refused():
    class Other:
        def __dlpack_device__(self):
            return (2, 0)

        def __dlpack__(self, **_):
            return object()

    with pytest.raises(TypeError, match="double"):
        cp.from_dlpack(Other())
    with pytest.raises(TypeError, match="CPU"):
        cp.from_dlpack(HOST)
    with pytest.raises(BufferError, match="no copies"):
        np.from_dlpack(device(), device="cpu")
    with pytest.raises((ValueError, BufferError)):
        np.from_dlpack(device())
