"""Fixtures of the AAA tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.runtime import Runtime
from tests.unit.aaa.installation import open_runtime, remove_template


@pytest.fixture(scope="session", autouse=True)
def _clean_up() -> Iterator[None]:
    yield
    remove_template()


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """An installation of its own."""
    with open_runtime(tmp_path / "state") as opened:
        yield opened
