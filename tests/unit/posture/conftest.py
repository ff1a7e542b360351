"""Fixtures of the posture tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.database import Base, Database
from core.settings import Settings


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty database with all tables."""
    database = Database.open(Settings(state_dir=tmp_path))
    Base.metadata.create_all(database.engine)
    yield database
    database.close()
