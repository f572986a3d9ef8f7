"""The device double sees work that is not ordered by events, waiting or the null stream; and it captures graphs."""

import numpy as np
import pytest
from gpu import double
from gpu.double.shared import HOST, cp, device, new_devices, scale, two_streams  # noqa: F401 (a fixture)

# ----------------------------------------------------------------------------------------------------------------------
# Order
# ----------------------------------------------------------------------------------------------------------------------

USES = {
    "a launch reads": lambda x: scale(cp.empty_like(x), x),
    "a launch writes": lambda x: scale(x, cp.ndarray(x.shape, x.dtype)),
    "an operator reads": lambda x: x + 1,
    "a copy to the host reads": lambda x: x.get(),
    "a copy to the host by float": lambda x: float(x[0, 0]),
    "a copy from the host writes": lambda x: x.set(HOST),
    "a copy writes": lambda x: x.__setitem__(..., cp.empty_like(x)),
    "a product reads": lambda x: cp.cublas.gemm("N", "T", x, x),
}
ORDERS = {
    "an event": lambda one, two: two.wait_event(one.record()),
    "an event recorded by itself": lambda one, two: recorded(one, two),
    "the host waits for the stream": lambda one, two: one.synchronize(),
    "the host waits for an event": lambda one, two: one.record().synchronize(),
    "the host waits for the device": lambda one, two: cp.cuda.Device().synchronize(),
    "by way of a third stream": lambda one, two: by_a_third(one, two),
}


def recorded(one, two):
    event = cp.cuda.Event(disable_timing=True)
    with one:
        event.record()
    two.wait_event(event)


def by_a_third(one, two):
    third = cp.cuda.Stream(non_blocking=True)
    third.wait_event(one.record())
    two.wait_event(third.record())


@pytest.mark.parametrize("use", list(USES))
@pytest.mark.parametrize("order", [None, *ORDERS])
def test_another_streams_array_needs_order(use, order):
    one, two = two_streams()
    with one:
        x = cp.zeros((2, 3), dtype=cp.float32)
    if order is not None:
        ORDERS[order](one, two)
    with two:
        if order is None:
            with pytest.raises(RuntimeError, match="unordered"):
                USES[use](x)
        else:
            USES[use](x)


def test_a_reader_is_waited_for_too():
    one, two = two_streams()
    with one:
        x = cp.zeros(4)
    two.wait_event(one.record())
    with two:
        y = x + 1
    with one:
        _ = x + 1  # two readers need no order
        scale(cp.empty_like(x, dtype=cp.float32), x.view(cp.float32)[:4])
        with pytest.raises(RuntimeError, match=r"unordered: fill .* that are read"):
            x.fill(2)
        with pytest.raises(RuntimeError, match=r"unordered: scale .* that are read"):
            scale(x.view(cp.float32), cp.ndarray(4, cp.float32))
    one.wait_event(two.record())
    with one:
        x.fill(2)
    del y


def test_an_event_before_the_work_orders_nothing():
    one, two = two_streams()
    early = one.record()
    with one:
        x = cp.zeros(4)
    two.wait_event(early)
    two.wait_event(cp.cuda.Event())  # never recorded
    with two, pytest.raises(RuntimeError, match="unordered"):
        _ = x + 1


def test_other_bytes_of_the_same_memory_need_no_order():
    one, two = two_streams()
    x = cp.empty((2, 4))
    with one:
        x[0].fill(1)
    with two:
        x[1].fill(2)
        with pytest.raises(RuntimeError, match="unordered"):
            x[:, 0].fill(3)


def test_the_null_stream_waits_for_blocking_streams_alone():
    blocking, other = cp.cuda.Stream(), cp.cuda.Stream(non_blocking=True)
    for stream in (blocking, other):
        with stream:
            x = cp.zeros(4)
        if stream is blocking:
            x += 1
            with stream:
                x += 1
        else:
            with pytest.raises(RuntimeError, match="unordered"):
                x += 1
    y = cp.zeros(4)
    with other, pytest.raises(RuntimeError, match=r"unordered.*the null stream"):
        y += 1


def test_current_streams_nest():
    one, two = two_streams()
    assert cp.cuda.get_current_stream() == cp.cuda.Stream.null == cp.cuda.Stream(null=True)
    with one:
        with two:
            assert cp.cuda.get_current_stream() is two
        assert cp.cuda.get_current_stream() is one
        two.use()
        assert cp.cuda.get_current_stream() is two
    assert cp.cuda.get_current_stream() == cp.cuda.Stream.null


# ----------------------------------------------------------------------------------------------------------------------
# Graphs
# ----------------------------------------------------------------------------------------------------------------------


def test_a_graph_records_launches_and_runs_them_again():
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = device()
        kept = x.copy()
        with double.counting() as counts:
            stream.begin_capture()
            assert stream.is_capturing()
            scale(x, x)
            x += 1.0
            graph = stream.end_capture()
        assert counts.launches == 0
        np.testing.assert_array_equal(x.get(), HOST)
        with double.counting() as counts:
            graph.launch()
            graph.launch(stream=stream)
        assert (counts.graph_launches, counts.launches, counts.kernels) == (2, 0, {"scale": 2, "add": 2})
        np.testing.assert_array_equal(x.get(), 4 * HOST + 3)
        np.testing.assert_array_equal(kept.get(), HOST)


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (lambda x: cp.cublas.gemm("N", "T", x, x, out=x[:, :2]), NotImplementedError),
        (lambda x: x @ x.T, NotImplementedError),
        (lambda x: cp.empty(3), RuntimeError),
        (lambda x: x + 1, RuntimeError),
        (lambda x: x.get(), RuntimeError),
        (lambda x: float(x[0, 0]), RuntimeError),
        (lambda x: x.set(HOST), RuntimeError),
        (lambda x: cp.asarray(HOST), RuntimeError),
        (lambda x: cp.cuda.get_current_stream().synchronize(), RuntimeError),
        (lambda x: cp.cuda.Device().synchronize(), RuntimeError),
        (lambda x: cp.cuda.get_current_stream().begin_capture(), RuntimeError),
    ],
)
def test_what_a_graph_cannot_hold(action, error):
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = device()
        stream.begin_capture()
        with pytest.raises(error):
            action(x)
        stream.end_capture()
        with pytest.raises(RuntimeError, match="begin_capture"):
            stream.end_capture()
    with pytest.raises(RuntimeError, match="default"):
        cp.cuda.Stream.null.begin_capture()


def test_a_graph_keeps_no_memory_and_needs_order():
    one, two = two_streams()
    with one:
        x = device()
        one.begin_capture()
        scale(x, x)
        graph = one.end_capture()
    with pytest.raises(RuntimeError, match="unordered"):
        graph.launch(stream=two)
    used = cp.get_default_memory_pool().used_bytes()
    del x
    assert cp.get_default_memory_pool().used_bytes() == used - 512
    with pytest.raises(RuntimeError, match="freed"):
        graph.launch(stream=one)
