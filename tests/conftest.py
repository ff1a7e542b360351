"""What holds for all tests: unit tests open no network socket, and nothing is skipped where it could run."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from unittest import mock

import pytest

from core import migrations
from core.runtime import Runtime
from core.settings import Settings

UNIT = Path(__file__).parent / "unit"
NEEDS_ROOT = {"interop", "browser"}


class _UnixSocketOnly(socket.socket):
    """Lets through what asyncio wakes itself with; a unit test that reaches for the network fails."""

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        if fileno is None and family != socket.AF_UNIX:
            raise AssertionError("a unit test opens a network socket")
        super().__init__(family, type, proto, fileno)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Around a unit test with its fixtures: no network, and no `OSTIARY_...` variable of the developer's shell."""
    if not item.path.is_relative_to(UNIT):
        return (yield)
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith("OSTIARY_")}
    with mock.patch.object(socket, "socket", _UnixSocketOnly), mock.patch.dict(os.environ, clean, clear=True):
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that make namespaces need root. CI is root, so there they always run."""
    if os.geteuid() == 0 or os.environ.get("CI"):
        return
    skip = pytest.mark.skip(reason="needs root, to make network namespaces: run `make test` as root")
    for item in items:
        if any(item.get_closest_marker(name) for name in NEEDS_ROOT):
            item.add_marker(skip)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The defaults, in a state directory of the test's own."""
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database at the newest schema, made once, to be copied."""
    settings = Settings(state_dir=tmp_path_factory.mktemp("migrated"))
    migrations.upgrade(settings)
    return settings.state_dir / "ostiary.db"


@pytest.fixture
def runtime(settings: Settings, migrated_database: Path) -> Iterator[Runtime]:
    """A runtime on a migrated database of the test's own."""
    settings.state_dir.mkdir(mode=0o700)
    shutil.copyfile(migrated_database, settings.state_dir / "ostiary.db")
    with Runtime.open(settings) as runtime:
        yield runtime
