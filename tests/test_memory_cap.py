"""A data set five times as large as the memory that a process may have."""

import os

import capped
import numpy as np
import pytest

CAP = 320 * 2**20
FEATURES = 100
ROWS = 5 * CAP // (4 * FEATURES)

TRAIN = """
import sys, time
import numpy as np
from accelnn import Network, Stream
path, rows, memory = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
X = np.memmap(path, np.float32, "r", shape=(rows, 100))
y = np.arange(rows, dtype=np.int64) % 10
net = Network([100, 256, 256, 10], output="softmax", backend="numba")
options = dict(batch_size=256, optimizer="sgd", learning_rate=0.01)
net.fit(X[:512].T, y[:512], epochs=1, **options)
data = Stream(X.T, y, memory=memory) if memory else (np.array(X).T, y)
start = time.perf_counter()
history = net.fit(data, epochs=1, **options) if memory else net.fit(*data, epochs=1, **options)
print(rows / (time.perf_counter() - start), history.loss[-1])
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file of five times the cap, dropped from the cache of the operating system."""
    path = tmp_path_factory.mktemp("large") / "X.bin"
    block = np.random.default_rng(0).standard_normal((2**16, FEATURES), np.float32)
    with path.open("wb") as file:
        for start in range(0, ROWS, len(block)):
            file.write(block[: ROWS - start].tobytes())
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    yield path
    path.unlink()


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="Linux alone caps a process's memory in this way")
def test_a_map_of_five_times_the_cap_trains_within_it(large):
    assert large.stat().st_size > 4.99 * CAP
    printed, peak, how = capped.run(TRAIN, large, ROWS, 2**26, limit=CAP)
    speed, loss = map(float, printed.split())
    print(f"\n{speed:,.0f} examples a second under a {how} of {CAP >> 20} MiB")
    assert 0.0 < loss < 5.0
    assert peak is None or peak <= CAP


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="Linux alone caps a process's memory in this way")
def test_the_cap_is_one(large):
    with pytest.raises(AssertionError, match=r"exit code -9|MemoryError"):
        capped.run(TRAIN, large, ROWS, 0, limit=CAP)
