"""Hands the tests of `guest/` to a guest, and in the guest hands their reports back."""

from __future__ import annotations

import os

import pytest

from tests.kernel import relay
from tests.kernel.machine import RESULTS_VARIABLE


def pytest_configure(config: pytest.Config) -> None:
    """Take the part that this pytest has: the machine's, or the guest's."""
    config.pluginmanager.register(relay.plugin(config, os.environ.get(RESULTS_VARIABLE)), "kernel-relay")
