"""The figures beside the kernels are counted, not typed, and the narrow step keeps to its bound."""

from pathlib import Path

import pytest
from gpu import roofline

from accelnn.kernels import cuda

NARROW = roofline.NETWORKS[:4]


@pytest.mark.parametrize("name", NARROW)
def test_a_narrow_step_takes_at_most_three_times_its_roofline(name):
    costs = roofline.step_costs(name)
    L = name.count("-")
    assert all(cost.blocks for cost in costs)
    assert len(costs) <= 4 * L + 2
    for cost in costs:
        assert cost.bytes >= cost.least_bytes * 0.99, f"{cost}: a kernel cannot move less than it must"
        assert cost.operations >= cost.least_operations
    assert sum(cost.seconds for cost in costs) <= 3 * sum(cost.floor for cost in costs)
    # The committed table is of these kernels.
    text = Path(cuda.__file__).with_name("ROOFLINE.md").read_text(encoding="utf-8")
    for line in (roofline.row(name, costs), *roofline.kernel_rows(name, costs)):
        assert f"\n{line}\n" in text


def test_a_kernel_that_moves_more_takes_longer():
    cost = roofline.Cost("k", 132, 10**6, 10**8, 0, 0)
    assert cost.seconds > 3 * cost.floor
    few = roofline.Cost("k", 1, 0, 0, 10**9, 10**9)
    assert few.seconds - roofline.LAUNCH == pytest.approx(132 * (few.floor - roofline.LAUNCH))
