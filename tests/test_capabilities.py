"""Every probe runs, docs/capabilities.md is the table that they give, and no feature is forgotten."""

import inspect

import pytest
from capabilities import FEATURES, TABLE, Feature, cells, outcome, table
from conftest import NAMED
from probes import BY_DESIGN, GROUPS, methods, parameters
from probes.common import make, used

from accelnn import Network
from accelnn.backends import BACKENDS


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: f"{feature.group}: {feature.name}")
def test_every_feature(feature, name):
    cell, fault = outcome(feature, name)
    if fault is not None:
        raise fault
    assert cell


@pytest.mark.gpu
def test_cupy_lacks_nothing():
    gaps = [feature.name for feature in FEATURES if any(cells(feature)) and not outcome(feature, "cupy")[0]]
    assert not gaps, f"numpy or numba can what cupy cannot: {gaps}"


@pytest.mark.gpu
def test_the_page_is_what_the_probes_give():
    assert TABLE.read_text(encoding="utf-8") == table(), "run `python tests/capabilities.py`"


# The probes themselves: nothing is left out, and a fault leaves a cell empty.


@pytest.mark.parametrize("function", parameters.VALUES, ids=lambda function: function.__name__)
def test_every_parameter_has_a_row(function, monkeypatch):
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    assert list(parameters.every_parameter(function)) == names
    assert names in [list(probes) for probes in GROUPS.values()]
    values = parameters.VALUES[function]
    assert set(values) <= set(names)
    assert all(values.values())
    forgotten = list(values)[-1]
    monkeypatch.delitem(values, forgotten)
    probe = parameters.every_parameter(function)[forgotten]
    cell, fault = outcome(Feature("", forgotten, probe), "numpy")
    assert cell == ""
    assert isinstance(fault, NotImplementedError)


def test_every_method_has_a_probe():
    assert set(methods.PUBLIC) == {name for name in vars(Network) if not name.startswith("_")}
    assert methods.METHODS in GROUPS.values()


def test_what_is_by_design_exists():
    names = {feature.name for feature in FEATURES}
    assert {name for name, _ in BY_DESIGN} <= names
    assert {backend for _, backend in BY_DESIGN} <= set(BACKENDS)


def unlike(backend, dtype):
    """Other numbers than the reference's."""
    return used(make(backend, dtype=dtype, seed=int(backend.name == "numpy")))


def refusing(backend, dtype):
    return used(make(backend, dtype=dtype, device=0))


def silent(backend, dtype):
    return "accepted, not used"


def fewer(backend, dtype):
    results = used(make(backend, dtype=dtype))
    return results[:-1] if backend.name == "numpy" else results


@pytest.mark.parametrize("probe", [unlike, refusing, silent, fewer])
def test_a_fault_leaves_its_cell_empty(probe):
    cell, fault = outcome(Feature("", probe.__name__, probe), "numpy")
    assert cell == ""
    assert fault is not None


def test_a_refusal_that_is_none_leaves_its_cell_empty():
    plain = Feature("", "device", lambda backend, dtype: used(make(backend, dtype=dtype)))
    assert outcome(plain, "numpy")[0] == ""
