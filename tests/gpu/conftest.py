"""Devices of the double to plug in, for the tests of the backend's use of a GPU."""

import contextlib

import pytest
from gpu import double

from accelnn.backends.cupy import CupyBackend


@pytest.fixture
def machine():
    """Plug in devices, and get a backend on one of them."""
    with contextlib.ExitStack() as plugged:

        def plug_in(device=None, **options):
            plugged.enter_context(double.configured(**options))
            with double.installed():
                return CupyBackend(device)

        yield plug_in


@pytest.fixture
def cupy(machine):
    return machine()
