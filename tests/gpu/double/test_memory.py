"""The device double's memory is poisoned and runs out; pinned memory keeps CUDA's rules; devices are kept apart."""

import pickle

import numpy as np
import pytest
from gpu import double
from gpu.double.shared import HOST, cp, device, new_devices, scale, two_streams  # noqa: F401 (a fixture)

# ----------------------------------------------------------------------------------------------------------------------
# Pinned memory, and copies by address
# ----------------------------------------------------------------------------------------------------------------------


def pinned_like(host):
    memory = cp.cuda.alloc_pinned_memory(host.nbytes)
    assert memory.size() >= host.nbytes
    return np.frombuffer(memory, host.dtype, host.size).reshape(host.shape)


def test_pinned_memory_is_left_alone_until_its_copy_has_ended():
    stream, _ = two_streams()
    buffer = pinned_like(HOST)
    x = cp.empty((2, 3), dtype=cp.float32)
    buffer[...] = HOST
    x.set(buffer, stream=stream)
    stream.record().synchronize()
    buffer[...] = 0  # after the host has waited
    x.set(buffer, stream=stream)
    buffer[...] = 1  # before
    with pytest.raises(RuntimeError, match="pinned memory"):
        stream.synchronize()
    plain = HOST.copy()
    x.set(plain, stream=stream)
    plain[...] = 1  # staged: the host may go on
    stream.synchronize()
    np.testing.assert_array_equal(x.get(), HOST)


def test_a_copy_to_pinned_memory_arrives_when_the_host_has_waited():
    stream, _ = two_streams()
    with stream:
        x = device()
        buffer = pinned_like(HOST)
        buffer[...] = -1
        with double.counting() as counts:
            x.get(out=buffer, blocking=False)
        assert (counts.device_to_host, counts.synchronisations) == (1, 0)
        assert np.isnan(buffer).all()
        x.fill(0)
        stream.synchronize()
        np.testing.assert_array_equal(buffer, HOST)
        # To memory that is not pinned the copy itself waits.
        np.testing.assert_array_equal(x.get(blocking=False), np.zeros_like(HOST))


def test_pinned_memory_comes_in_powers_of_two():
    assert [cp.cuda.alloc_pinned_memory(n).size() for n in (0, 1, 512, 513, 5000)] == [0, 512, 512, 1024, 8192]
    cp.get_default_pinned_memory_pool().free_all_blocks()
    assert cp.get_default_pinned_memory_pool().n_free_blocks() == 0


def test_copies_by_address():
    stream, _ = two_streams()
    runtime = cp.cuda.runtime
    x, y = cp.empty_like(device()), cp.empty_like(device())
    out = np.empty_like(HOST)
    with double.counting() as counts:
        runtime.memcpyAsync(x.data.ptr, HOST.ctypes.data, HOST.nbytes, runtime.memcpyHostToDevice, stream.ptr)
        runtime.memcpyAsync(y.data.ptr, x.data.ptr, HOST.nbytes, runtime.memcpyDeviceToDevice, stream.ptr)
        runtime.memcpyAsync(out.ctypes.data, y.data.ptr, HOST.nbytes, runtime.memcpyDeviceToHost, stream.ptr)
    np.testing.assert_array_equal(out, HOST)
    assert (counts.host_to_device, counts.device_to_device, counts.device_to_host, counts.default_stream) == (
        1,
        1,
        1,
        0,
    )
    with pytest.raises(runtime.CUDARuntimeError):
        runtime.memcpyAsync(x.data.ptr, HOST.ctypes.data, HOST.nbytes + 1, runtime.memcpyHostToDevice, stream.ptr)


# ----------------------------------------------------------------------------------------------------------------------
# Memory and devices
# ----------------------------------------------------------------------------------------------------------------------


def test_new_memory_is_poisoned():
    assert np.isnan(cp.empty(5, dtype=np.float32).get()).all()
    assert np.isnan(cp.empty_like(device()).get()).all()
    assert (cp.empty(5, dtype=np.int64).get() == -1).all()
    assert cp.empty(1).data.ptr % 512 == 0


def test_memory_runs_out_and_comes_back():
    double.configure(memory=2**20)
    pool = cp.get_default_memory_pool()
    x = cp.empty(2**19, dtype=np.int8)
    y = cp.empty(1)
    assert (pool.used_bytes(), pool.free_bytes(), pool.total_bytes()) == (2**19 + 512, 0, 2**19 + 512)
    with pytest.raises(MemoryError, match=r"Out of memory allocating 524,288 bytes") as caught:
        cp.empty(2**19, dtype=np.int8)
    assert isinstance(caught.value, cp.cuda.memory.OutOfMemoryError)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), cp.cuda.memory.OutOfMemoryError)
    assert cp.cuda.Device().mem_info == (2**19 - 512, 2**20)
    del x, caught
    assert (pool.used_bytes(), pool.free_bytes()) == (512, 2**19)
    again = cp.empty(2**19, dtype=np.int8)  # from the pool
    assert pool.free_bytes() == 0
    del again
    big = cp.empty(2**20 - 512, dtype=np.int8)  # the pool gives its blocks back first
    assert (pool.free_bytes(), cp.cuda.Device().mem_info[0]) == (0, 0)
    del big
    pool.free_all_blocks()
    assert (pool.total_bytes(), cp.cuda.Device().mem_info[0]) == (512, 2**20 - 512)
    del y


def test_devices():
    double.configure(devices=2, memory=2**20)
    runtime = cp.cuda.runtime
    assert runtime.getDeviceCount() == 2
    assert cp.is_available()
    x = device()
    with cp.cuda.Device(1) as second:
        assert (cp.cuda.Device().id, runtime.getDevice(), int(second)) == (1, 1, 1)
        y = cp.zeros((2, 3), dtype=cp.float32)
        assert y.device == second
        assert y.data.device_id == 1
        for mix in (lambda: x + 1, lambda: y + x, lambda: scale(y, x), lambda: x.fill(0)):
            with pytest.raises(ValueError, match="device 0"):
                mix()
        with pytest.raises(RuntimeError, match="unordered"):
            cp.asarray(x)
        cp.cuda.Device(0).synchronize()
        z = cp.asarray(x)  # copies to the current device
        assert z.device.id == 1
        np.testing.assert_array_equal(x.get(), HOST)  # from any device
        np.testing.assert_array_equal(z.get(), HOST)
        stream = cp.cuda.Stream()
        with pytest.raises(runtime.CUDARuntimeError):
            cp.cuda.Device(2).use()
    assert cp.cuda.Device().id == 0
    with pytest.raises(RuntimeError, match="belongs to device 1"):
        stream.use()
    assert cp.cuda.Device(1).mem_info[0] == 2**20 - 1024
    cp.cuda.Device(1).use()
    assert runtime.getDevice() == 1
    double.configure(devices=0)
    assert not cp.is_available()


def test_other_devices_come_back_as_they_were():
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = device()
        with double.configured(devices=2):
            cp.cuda.Device(1).use()
            assert cp.cuda.get_current_stream() == cp.cuda.Stream.null
            assert cp.get_default_memory_pool().used_bytes() == 0
            with pytest.raises(ValueError, match="lives on"):
                _ = x + 1
        assert cp.cuda.get_current_stream() is stream
        np.testing.assert_array_equal((x + 1).get(), HOST + 1)
        assert cp.get_default_memory_pool().used_bytes() == 512


def test_a_device_says_what_it_is():
    properties = cp.cuda.runtime.getDeviceProperties(0)
    assert isinstance(properties["name"], bytes)
    assert properties["totalGlobalMem"] == 2**30 == cp.cuda.Device().mem_info[1]
    assert cp.cuda.Device().compute_capability == f"{properties['major']}{properties['minor']}"
    assert cp.cuda.Device().attributes["MultiProcessorCount"] == properties["multiProcessorCount"]
    assert cp.cuda.runtime.driverGetVersion() >= cp.cuda.runtime.runtimeGetVersion() > 12000
    assert cp.cuda.runtime.memGetInfo() == cp.cuda.Device().mem_info
    assert cp.cuda.runtime.is_hip is False
