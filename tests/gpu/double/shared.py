"""What the tests of the device double share: a new double for each test, an array, a kernel, two streams."""

import numpy as np
import pytest
from gpu import double

cp = double.MODULES["cupy"]

HOST = np.arange(6.0, dtype=np.float32).reshape(2, 3)

SCALE = """
extern "C" __global__ void scale(float* y, const float* x, float a, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = a * x[i];
}
extern "C" __global__ void numbers(double* out, long long a, double b, unsigned long long c, const int* missing) {
    out[0] = a; out[1] = b; out[2] = c; out[3] = missing == nullptr;
}
"""


@pytest.fixture(autouse=True)
def new_devices():
    with double.configured():
        yield


def device(values=HOST):
    return cp.asarray(np.asarray(values))


def scale(y, x, a=2.0, grid=(2,)):
    kernel = cp.RawModule(code=SCALE, options=("--std=c++17",)).get_function("scale")
    kernel(grid, (4,), (y, x, np.float32(a), np.int32(x.size)))


def two_streams():
    return cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
