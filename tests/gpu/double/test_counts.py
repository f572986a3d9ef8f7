"""The device double counts launches, copies, allocations and synchronisations."""

import pytest
from gpu import double
from gpu.double.shared import HOST, cp, device, new_devices  # noqa: F401 (a fixture)

COUNTS = {
    "asarray": (lambda x: cp.asarray(HOST), {"allocations": 1, "host_to_device": 1}),
    "asarray of an array": (lambda x: cp.asarray(x), {}),
    "blocking asarray": (
        lambda x: cp.asarray(HOST, blocking=True),
        {"allocations": 1, "host_to_device": 1, "synchronisations": 1},
    ),
    "set": (lambda x: x.set(HOST), {"host_to_device": 1}),
    "get": (lambda x: x.get(), {"device_to_host": 1, "synchronisations": 1}),
    "get in another order": (
        lambda x: x.get(order="F"),
        {"device_to_host": 1, "synchronisations": 1, "allocations": 1, "launches": 1},
    ),
    "float": (lambda x: float(x[0, 0]), {"device_to_host": 1, "synchronisations": 1}),
    "int": (lambda x: int(x[0, 0]), {"device_to_host": 1, "synchronisations": 1}),
    "bool": (lambda x: bool(x[0, 0]), {"device_to_host": 1, "synchronisations": 1}),
    "item": (lambda x: x[0, 0].item(), {"device_to_host": 1, "synchronisations": 1}),
    "view": (lambda x: x[0].T.reshape(3, 1), {}),
    "copy": (lambda x: x.copy(), {"allocations": 1, "device_to_device": 1}),
    "assignment": (lambda x: x[0].__setitem__(..., x[1]), {"device_to_device": 1}),
    "fill": (lambda x: x.__setitem__(..., 1.0), {"launches": 1}),
    "empty": (lambda x: cp.empty(3), {"allocations": 1}),
    "nothing": (lambda x: cp.empty(0), {}),
    "zeros": (lambda x: cp.zeros(3), {"allocations": 1, "launches": 1}),
    "operator": (lambda x: x + x, {"allocations": 1, "launches": 1}),
    "in place": (lambda x: x.__iadd__(1.0), {"launches": 1}),
    "function": (lambda x: cp.sum(x, axis=0), {"allocations": 1, "launches": 1}),
    "function with out": (lambda x: cp.sqrt(x, out=x), {"launches": 1}),
    "gemm": (lambda x: cp.cublas.gemm("N", "T", x, x), {"allocations": 1, "launches": 1}),
    "gemm with out": (lambda x: cp.cublas.gemm("N", "T", x[:1], x[1:], out=x[:1, :1]), {"launches": 1}),
    "stream": (lambda x: cp.cuda.get_current_stream().synchronize(), {"synchronisations": 1}),
    "event": (lambda x: cp.cuda.get_current_stream().record().synchronize(), {"synchronisations": 1}),
    "device": (lambda x: cp.cuda.Device().synchronize(), {"synchronisations": 1}),
}
WORK = ("launches", "host_to_device", "device_to_host", "device_to_device")


@pytest.mark.parametrize("name", list(COUNTS))
@pytest.mark.parametrize("null", [False, True], ids=["stream", "null stream"])
def test_counts(name, null):
    action, expected = COUNTS[name]
    with cp.cuda.Stream(null=null, non_blocking=not null):
        x = device()
        with double.counting() as counts:
            action(x)
    found = {what: number for what, number in vars(counts).items() if what != "kernels" and number}
    default = sum(expected.get(what, 0) for what in WORK) if null else 0
    assert found == expected | ({"default_stream": default} if default else {})
    assert counts.kernels.total() == counts.launches


def test_counters_nest_and_keep_the_total():
    total = double.counters.allocations
    with double.counting() as outer:
        cp.empty(1)
        with double.counting() as inner:
            cp.empty(1)
        cp.empty(1)
    assert (inner.allocations, outer.allocations, double.counters.allocations - total) == (1, 3, 3)
