"""An application on a database of its own, and browsers in front of it."""

from __future__ import annotations

import pytest
from flask import Flask

from core.runtime import Runtime
from tests.unit.web.visitor import Person, Visitor
from web.app import create_app


@pytest.fixture
def app(runtime: Runtime) -> Flask:
    """The portal."""
    return create_app(runtime)


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
