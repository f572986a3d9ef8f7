"""The kernels as they are compiled for processors with narrower vectors than this one."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

FEATURES = {
    "avx2": "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2,+cx16,+f16c,+movbe,+lzcnt",
    "sse2": "+sse,+sse2,+cx16",
}
LENGTHS = {"avx2": 8, "sse2": 4}

SCRIPT = """
import numpy as np
from accelnn import Network
from accelnn.kernels.tiles import vector_length

print(vector_length(4))
rng = np.random.default_rng(0)
for sizes in ((5, 4, 3), (70, 33, 9, 10), (300, 520, 10)):
    X, labels = rng.normal(size=(sizes[0], 93)), rng.integers(0, sizes[-1], 93)
    found = {}
    for backend in ("numpy", "numba"):
        net = Network(sizes, "tanh", "softmax", dtype="float64", backend=backend, threads=2)
        net.fit(X, labels, epochs=2, batch_size=50, l2=0.1)
        found[backend] = net.theta, net.predict(X)
    for one, other in zip(*found.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
"""


@pytest.mark.parametrize("features", FEATURES)
def test_narrower_vectors(features, tmp_path):
    """The register tiles of another vector length train the same networks to the same parameters."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("not an x86 processor")
    from llvmlite.binding import get_host_cpu_features

    if features == "avx2" and not get_host_cpu_features().get("avx2"):
        pytest.skip("this processor has no AVX2")
    name = {"avx2": "haswell", "sse2": "x86-64"}[features]
    variables = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": FEATURES[features], "NUMBA_CACHE_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == LENGTHS[features]
