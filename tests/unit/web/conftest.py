"""An application on a database of its own, and browsers in front of it."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher
from flask import Flask
from jinja2 import BytecodeCache, FileSystemBytecodeCache

from aaa import users
from core.runtime import Runtime
from tests.unit.web.visitor import Person, Visitor
from web.app import create_app


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash with the least work: how slow it has to be is tried in the tests of `aaa.users`."""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(users, "_hasher", cheap)
    monkeypatch.setattr(users, "_NO_PASSWORD", cheap.hash("nothing that is typed"))


@pytest.fixture(scope="session")
def compiled_templates(tmp_path_factory: pytest.TempPathFactory) -> BytecodeCache:
    """Templates compiled once, though each test has an application of its own."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def app(runtime: Runtime, compiled_templates: BytecodeCache) -> Flask:
    """The portal."""
    app = create_app(runtime)
    app.jinja_env.bytecode_cache = compiled_templates
    return app


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    """Somebody who is not signed in."""
    return Visitor(app)


@pytest.fixture
def maria(runtime: Runtime) -> Person:
    """An administrator."""
    return Person(runtime, "maria")


@pytest.fixture
def administrator(app: Flask, maria: Person) -> Visitor:
    """Maria's browser, signed in."""
    return maria.signed_in(app)
