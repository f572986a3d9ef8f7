"""The kernels' own elementary functions, over the whole range, against NumPy in a wider type."""

import numba
import numpy as np
import pytest

from accelnn.backends.numba.backend import _formulas
from accelnn.kernels.scalars import SCALARS

RANGES = {"exp": (-110.0, 95.0), "expm1": (-110.0, 95.0), "tanh": (-15.0, 15.0), "log1p": (-0.999, 1e6)}
UNITS = {"exp": 2.0, "expm1": 3.0, "tanh": 3.0, "log1p": 2.0}
WIDER = {"float32": np.float64, "float64": np.longdouble}


def evaluated(name, x):
    function = _formulas(x.dtype.name)(SCALARS[name])

    @numba.njit(error_model="numpy", fastmath={"contract"})
    def loop(x, out):
        for i in range(x.shape[0]):
            out[i] = function(x[i])

    out = np.empty_like(x)
    loop(x, out)
    return out


@pytest.mark.parametrize("dtype", WIDER)
@pytest.mark.parametrize("name", RANGES)
def test_error_in_units_in_the_last_place(name, dtype):
    if dtype == "float64" and np.finfo(np.longdouble).nmant <= 52:
        pytest.skip("this platform has no type wider than float64")
    rng = np.random.default_rng(0)
    tiny = np.exp(rng.uniform(-85, 0, 20_000)) * rng.choice([-0.99, 0.99], 20_000)
    x = np.concatenate([rng.uniform(*RANGES[name], 20_000), rng.normal(size=20_000), tiny])
    x = x[x > -1].astype(dtype) if name == "log1p" else x.astype(dtype)
    with np.errstate(all="ignore"):
        exact = getattr(np, name)(x.astype(WIDER[dtype]))
        rounded = exact.astype(dtype)
        unit = np.maximum(np.spacing(np.abs(rounded)), np.finfo(dtype).smallest_subnormal).astype(WIDER[dtype])
    found = evaluated(name, x)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    assert np.max(np.abs(found[finite] - exact[finite]) / unit[finite]) <= UNITS[name]


@pytest.mark.parametrize("dtype", WIDER)
@pytest.mark.parametrize("name", RANGES)
def test_zeros_subnormals_infinities_and_nan(name, dtype):
    info = np.finfo(dtype)
    ends = [0.0, info.smallest_subnormal, info.tiny, info.max, np.inf, 1.0]
    x = np.array([*ends, *(-end for end in ends), np.nan, -2.0], dtype=dtype)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
    found = evaluated(name, x)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.signbit(found[found == 0]), np.signbit(expected[expected == 0]))
    with np.errstate(invalid="ignore"):
        close = (
            (found == expected) | np.isnan(expected) | (np.abs(found - expected) <= 3 * np.abs(np.spacing(expected)))
        )
    assert close.all(), (x[~close], found[~close], expected[~close])
