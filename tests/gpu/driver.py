"""A library in the place of the NVIDIA driver's, which answers as an old, a broken or a bare one does."""

import shutil
import subprocess

import pytest

TEXT = r"""
#include <cstddef>
#include <cstring>

extern "C" {
int cuInit(unsigned) { return RESULT; }
int cuDriverGetVersion(int* version) { *version = VERSION; return 0; }
int cuDeviceGetCount(int* count) { *count = 2; return RESULT; }
int cuDeviceGet(int* device, int number) { *device = 40 + number; return 0; }
int cuDeviceGetName(char* name, int length, int device) {
    std::strncpy(name, device == 41 ? "Second GPU" : "First GPU", length);
    return 0;
}
int cuDeviceTotalMem_v2(std::size_t* bytes, int device) { *bytes = std::size_t(device) << 30; return 0; }

// The CUDA runtime asks for every function here; this driver has no other than those above (500: not found).
int cuGetProcAddress_v2(const char* name, void** function, int, unsigned long long, int* found) {
    *function = nullptr;
    if (!std::strcmp(name, "cuInit")) *function = (void*)cuInit;
    if (!std::strcmp(name, "cuDriverGetVersion")) *function = (void*)cuDriverGetVersion;
    if (!std::strcmp(name, "cuGetProcAddress")) *function = (void*)cuGetProcAddress_v2;
    if (found) *found = *function ? 0 : 1;
    return *function ? 0 : 500;
}
int cuGetProcAddress(const char* name, void** function, int version, unsigned long long flags) {
    return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}
}
"""


def build(folder, version, result=0):
    """Put such a libcuda.so.1 into a folder.

    It supports CUDA up to `version`, such as 12040, and starts with this result: 0, or the number of an error.
    """
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    flags = ("-shared", "-fPIC", "-x", "c++", f"-DVERSION={version}", f"-DRESULT={result}")
    subprocess.run(["g++", *flags, "-o", folder / "libcuda.so.1", "-"], input=TEXT, text=True, check=True)
    return {"LD_LIBRARY_PATH": str(folder)}
