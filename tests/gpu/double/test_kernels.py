"""The device double runs kernels in the emulator and computes cuBLAS' products; wrong arguments are refused."""

import numpy as np
import pytest
from gpu import double
from gpu.double.shared import HOST, SCALE, cp, device, new_devices, scale  # noqa: F401 (a fixture)


def test_kernels_run_in_the_emulator():
    x = device()
    y = cp.zeros((4, 3), dtype=cp.float32)
    with double.counting() as counts:
        scale(y[1:3], x)  # a view starts at its own address
    np.testing.assert_array_equal(y.get(), np.concatenate([[[0] * 3], 2 * HOST, [[0] * 3]]))
    assert (counts.launches, counts.kernels) == (1, {"scale": 1})
    assert (counts.allocations, counts.synchronisations) == (0, 0)
    scale(y[:2].T, x.T, 3.0)  # contiguous in Fortran's order
    np.testing.assert_array_equal(y[:2].get(), 3 * HOST)


def test_bare_numbers_are_eight_bytes():
    out = cp.zeros(4)
    cp.RawModule(code=SCALE).get_function("numbers")((1,), (1,), (out, 2**40, 0.5, np.uint64(2**63), np.uintp(0)))
    assert out.get().tolist() == [2**40, 0.5, 2**63, 1]  # and a null pointer


@pytest.mark.parametrize(
    ("place", "wrong", "error"),
    [
        (0, HOST, TypeError),
        (1, HOST, TypeError),
        (1, np.ones(1, np.float32), TypeError),  # CuPy passes an array of one element by value
        (0, np.float32(1), TypeError),
        (0, lambda: cp.zeros(6), TypeError),
        (0, lambda: cp.zeros(6, dtype=cp.int32), TypeError),
        (0, lambda: cp.zeros((3, 4), dtype=cp.float32)[:, :2], ValueError),
        (0, lambda: cp.zeros(6, dtype=cp.float32).data.ptr, TypeError),
        (1, None, TypeError),
        (1, np.uintp(8), TypeError),
        (2, 2.0, TypeError),
        (2, np.float64(2), TypeError),
        (2, lambda: cp.ones((), dtype=cp.float32), TypeError),
        (3, 6, TypeError),
        (3, np.int64(6), TypeError),
        (3, True, TypeError),
        (3, None, TypeError),
    ],
)
def test_wrong_arguments_are_refused(place, wrong, error):
    y = cp.zeros(6, dtype=cp.float32)
    arguments = [y, device(), np.float32(2), np.int32(6)]
    arguments[place] = wrong() if callable(wrong) else wrong
    kernel = cp.RawModule(code=SCALE).get_function("scale")
    with pytest.raises(error, match=rf"kernel scale, parameter {place} "):
        kernel((1,), (32,), arguments)
    assert not y.get().any()


def test_wrong_launches_are_refused():
    kernel = cp.RawModule(code=SCALE).get_function("scale")
    arguments = (device(), device(), np.float32(2), np.int32(6))
    with pytest.raises(TypeError, match="takes 4 arguments, got 3"):
        kernel((1,), (32,), arguments[:3])
    with pytest.raises(TypeError, match="tuples"):
        kernel([1], (32,), arguments)
    with pytest.raises(ValueError, match="grid"):
        kernel((0,), (32,), arguments)
    with pytest.raises(ValueError, match="block"):
        kernel((1,), (2048,), arguments)
    with pytest.raises(NotImplementedError, match="shared memory"):
        kernel((1,), (32,), arguments, shared_mem=16)
    with pytest.raises(RuntimeError, match="no kernel other"):
        cp.RawModule(code=SCALE).get_function("other")((1,), (32,), arguments)
    with pytest.raises(ValueError, match="-DN=3"):
        cp.RawModule(code=SCALE, options=("-DN=3",))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transb", ["N", "T"])
@pytest.mark.parametrize("transa", ["N", "T"])
def test_gemm(transa, transb, dtype):
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((4, 3), (3, 5), (4, 5)))
    for order in "CF":
        x = cp.asarray(a if transa == "N" else a.T, order=order)
        y = cp.asarray(b if transb == "N" else b.T, order=order)
        np.testing.assert_array_equal(cp.cublas.gemm(transa, transb, x, y).get(), a @ b)
        out = cp.asarray(c, order=order)
        assert cp.cublas.gemm(transa, transb, x, y, out=out, alpha=2.0, beta=0.5) is out
        np.testing.assert_array_equal(out.get(), 2 * a @ b + 0.5 * c)
        poisoned = cp.empty((4, 5), dtype, order=order)
        np.testing.assert_array_equal(cp.cublas.gemm(transa, transb, x, y, out=poisoned).get(), a @ b)


def test_gemm_refuses_what_cublas_does():
    x = device()
    for arguments in (("N", "N", x, x), ("N", "T", x, x.astype(cp.float64)), ("N", "T", x[0], x)):
        with pytest.raises(AssertionError):
            cp.cublas.gemm(*arguments)
    with pytest.raises(AssertionError):
        cp.cublas.gemm("N", "T", x, x, out=cp.empty((2, 3), dtype=cp.float32))
    with pytest.raises(TypeError, match="trans"):
        cp.cublas.gemm("X", "T", x, x)
    with pytest.raises(RuntimeError, match="empty"):
        cp.cublas.gemm("N", "T", x[:, :0], x[:, :0])


def test_gemm_copies_what_is_not_contiguous():
    x, out = device(), cp.zeros((2, 4), dtype=cp.float32)
    part = x[:, :2]
    with double.counting() as counts:
        cp.cublas.gemm("N", "T", part, x[:, 1:], out=out[:, ::2])
    np.testing.assert_array_equal(out[:, ::2].get(), HOST[:, :2] @ HOST[:, 1:].T)
    assert counts.allocations == 3
