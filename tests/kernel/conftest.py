"""Hands the tests of `guest/` to a guest, and in the guest hands their reports back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kernel.machine import RESULTS_VARIABLE
from tests.kernel.relay import GuestReporter, HostRelay


def pytest_configure(config: pytest.Config) -> None:
    """Take the part that this pytest has: the machine's, or the guest's."""
    results = os.environ.get(RESULTS_VARIABLE)
    part = GuestReporter(config, Path(results)) if results else HostRelay(config)
    config.pluginmanager.register(part, "kernel-relay")
