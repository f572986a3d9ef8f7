"""Faults planted in the shipped kernels: each is caught, by results that differ or by a sanitizer.

The emulator's own tests plant faults in small kernels; these show that the backend's launches would reveal them.
"""

import shutil

import numpy as np
import pytest
from gpu import emulator
from gpu.test_launches import NETWORKS, launches, run

if shutil.which("g++") is None:
    pytest.skip("the emulator compiles kernels with g++, which is not installed", allow_module_level=True)

# Kernel; what stands there; what is put there instead; which layers see it. What leaves its arrays runs only under
# AddressSanitizer, in a process of its own.
FAULTS = {
    "a missing barrier before a slab is read": (
        "linear_activation",
        "b.stash(tiles.B);\n        __syncthreads();",
        "b.stash(tiles.B);",
        {"results", "thread"},
    ),
    "a missing barrier before a slab is overwritten": (
        "backpropagate",
        "__syncthreads();  // the slab before is no longer read",
        "",
        {"thread"},
    ),
    "a missing barrier in a sum": (
        "total_loss",
        "        __syncthreads();\n        if (own + half < live)",
        "        if (own + half < live)",
        {"results", "thread"},
    ),
    "an unguarded row of a tile": ("linear_activation", "if (example >= m) continue;", "", {"address"}),
    "an unguarded column of a tile": ("backpropagate", "if (unit >= n_prev) continue;", "", {"address"}),
    "no row of ones": ("linear_gradients", "packs[part].at[v] = 1;", "packs[part].at[v] = 0;", {"results"}),
    "one row too far": ("linear_gradients", "if (input > n_prev) continue;", "", {"address"}),
    "a pack where a tail begins": ("linear_activation", "if (aligned && count >= PACK)", "if (aligned)", {"address"}),
    "a pack that is not aligned": ("linear_activation", "length % PACK == 0 &&", "", {"address"}),
    "a tail of a pack": ("gather", "if (v < count) store(place + v", "store(place + v", {"address"}),
    "an example too many": ("loss_gradient", "example < end ? n : 0", "example <= end ? n : 0", {"address"}),
    "a weight too many": ("loss_gradient", "w && columns ?", "w ?", {"address"}),
    "a gradient without its weight": ("loss_gradient", "weight * (exp(shifted)", "(exp(shifted)", {"results"}),
    "another example's weight": ("gather", "load(w + source)", "load(w + target)", {"results"}),
    "a missing barrier before numbers are read": (
        "dropout",
        "words[w][threadIdx.x] = drawn.at[w];\n    }\n    __syncthreads();",
        "words[w][threadIdx.x] = drawn.at[w];\n    }",
        {"results", "thread"},
    ),
    "numbers that nobody drew": (
        "dropout",
        "if (number * DRAWN < size)",
        "if (number * DRAWN < size - 16)",
        {"results"},
    ),
    "the numbers before": ("dropout", "static_cast<unsigned long long>(number) + 1", "number", {"results"}),
    "masks of another group of epochs": ("dropout", "load(first) + load(clock)", "load(clock)", {"results"}),
    "masks of the next block": ("dropout", "at < THREADS * DRAWN && ", "", {"address"}),
    "a tail of masks": (
        "dropout",
        "< PACK ? static_cast<int>(size - start - at) : PACK",
        "< 0 ? 0 : PACK",
        {"address"},
    ),
    "an unguarded example": ("sparse_linear_activation", "example >= m || count <= 0", "count <= 0", {"address"}),
    "an unguarded input": ("sparse_linear_gradients", "input >= n_prev || count <= 0", "count <= 0", {"address"}),
    "an unguarded pack": ("sparse_linear_gradients", "input >= n_prev || count <= 0", "input >= n_prev", {"address"}),
    "an entry too many": (
        "sparse_linear_gradients",
        "load(starts + row + 1) - start)",
        "load(starts + row + 1) - start) + 1",
        {"address"},
    ),
    "a lost end of a chain": ("sparse_linear_activation", "first += CHAIN", "first += CHAIN + 1", {"results"}),
    "a sparse row's pack that is not aligned": (
        "sparse_linear_activation",
        "length % PACK == 0 &&",
        "",
        {"address"},
    ),
    "an uninitialised sum": ("update", "scratch[own] = value;", "", {"results"}),
    "the clock read where it is written": (
        "update",
        "const long long step = load(clock + 1);",
        "const long long step = load(clock);",
        {"thread"},
    ),
    "one slice too few": ("all_reduce", "for (int s = 0; s < count", "for (int s = 1; s < count", {"results"}),
    "one element too many": ("all_reduce", "k < end; k += stride", "k <= end; k += stride", {"address"}),
}


@pytest.fixture(scope="module")
def recorded():
    """The launches of some networks, by kernel."""
    found = {}
    for name in NETWORKS:
        for launch in launches(name, "float32"):
            found.setdefault(launch[0], []).append(launch)
    return found


def seen_by(layer, kernel, broken, grid, block, arguments, expected):
    """Whether a layer notices the fault in one launch."""
    if layer != "results":
        return emulator.sanitize(broken, kernel, grid, block, arguments, layer) != ""
    for seed in range(6):
        actual = run(broken, kernel, grid, block, arguments, seed)
        for a, b in zip(actual, expected, strict=True):
            if isinstance(a, np.ndarray) and not np.allclose(a, b, rtol=1e-3, atol=1e-6, equal_nan=True):
                return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_planted_fault_is_caught(recorded, fault):
    kernel, old, new, layers = FAULTS[fault]
    assert layers
    for layer in layers:
        caught = False
        for _, text, grid, block, arguments in recorded[kernel]:
            assert old in text
            expected = run(text, kernel, grid, block, arguments, seed=0)
            if seen_by(layer, kernel, text.replace(old, new), grid, block, arguments, expected):
                caught = True
                break
        assert caught, f"{fault} in {kernel}: not seen by {layer}"
