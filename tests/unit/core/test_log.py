"""Logs: one line an event, nothing secret, nothing that a client wrote takes effect."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from core import log
from core.secrets import Secret
from core.settings import LogSettings, Settings


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in log._CHATTY}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def configure(**options: Any) -> io.StringIO:
    stream = io.StringIO()
    log.configure(Settings(log=LogSettings(**options)), stream=stream)
    return stream


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_one_object_a_line() -> None:
    stream = configure(format="json")
    structlog.get_logger("gateway.daemon").info("session started", session="s-1", bytes=12)
    logging.getLogger("some.library").warning("pool of %d is full", 10)
    first, second = events(stream)
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "session started",
        "session": "s-1",
        "bytes": 12,
        "level": "info",
        "logger": "gateway.daemon",
    }
    assert (second["event"], second["level"], second["logger"]) == ("pool of 10 is full", "warning", "some.library")


@pytest.mark.parametrize("format", ["json", "console"])
def test_secrets_are_redacted_at_every_depth(format: str) -> None:
    stream = configure(format=format)
    structlog.get_logger().warning(
        "sign-in",
        password="hunter2",
        access_code="hunter2",
        user_password="hunter2",
        msk=b"hunter2",
        nested={"list": [{"shared_secret": "hunter2", "name": "gw"}], "secret": Secret(b"hunter2")},
        box=Secret(b"hunter2"),
        url="postgresql://ostiary:hunter2@db/ostiary",
        note="tried redis://:hunter2@queue:6379/0 and failed",
    )
    logging.getLogger("lib").error("connect to %s", "amqp://guest:hunter2@queue//")
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "***" in text
    assert "gw" in text


def test_ordinary_names_are_not_redacted() -> None:
    stream = configure(format="json")
    structlog.get_logger().info("x", key_type="rsa-3072", tokens_left=3, secretary="bob", password="")
    (event,) = events(stream)
    assert (event["key_type"], event["secretary"], event["password"]) == ("rsa-3072", "bob", "")


def test_what_a_client_wrote_stays_on_its_line() -> None:
    stream = configure(format="console")
    structlog.get_logger().info("sign-in \x1b[2Jrefused", identity="bob\nlevel=critical forged\u202e")
    (line,) = stream.getvalue().splitlines()
    assert "sign-in \\x1b[2Jrefused" in line
    assert "nlevel=critical forged" in line
    assert not set(line) & {"\x1b", "\u202e"}


@pytest.mark.parametrize("format", ["json", "console"])
def test_traceback_is_kept(format: str) -> None:
    stream = configure(format=format)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("job failed")
        logging.getLogger("lib").exception("and again")
    text = stream.getvalue()
    assert text.count("ValueError") >= 2
    assert text.count("broken") >= 2
    assert "test_log.py" in text


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_names_no_local_variables(format: str) -> None:
    def sign_in(password: str, typed: dict[str, str]) -> None:
        raise RuntimeError(f"database is locked for {len(password) + len(typed)} s")

    stream = configure(format=format)
    secret = "hunter" + str(1 + 1)  # the source that a traceback quotes does not have it
    try:
        sign_in(secret, {"code": secret})
    except RuntimeError:
        structlog.get_logger().exception("portal request failed")
        logging.getLogger("lib").exception("and again")
    assert stream.getvalue().count("database is locked for 8 s") == 2
    assert secret not in stream.getvalue()


def test_the_message_of_an_exception_can_neither_forge_a_line_nor_command_the_terminal() -> None:
    stream = configure(format="console")
    try:
        raise ValueError("bad name \x1b[2J\r\n2026-01-01 [info] forged, at amqp://ostiary:hunter2@queue//")
    except ValueError:
        structlog.get_logger().exception("dropped")
    first, *rest = stream.getvalue().splitlines()
    assert "dropped" in first
    assert all(line.startswith("  ") for line in rest)
    assert rest[-1] == "  2026-01-01 [info] forged, at amqp://ostiary:***@queue//"
    assert not {"\x1b", "\r"} & set(stream.getvalue())


def test_level_is_respected_and_chatty_libraries_are_quiet() -> None:
    stream = configure(format="json", level="info")
    structlog.get_logger("core").debug("no")
    logging.getLogger("celery.beat").info("no")
    logging.getLogger("celery.beat").warning("yes")
    assert [event["event"] for event in events(stream)] == ["yes"]
    stream = configure(format="json", level="debug")
    logging.getLogger("celery.beat").debug("now")
    structlog.get_logger("core").debug("too")
    assert [event["event"] for event in events(stream)] == ["now", "too"]


def test_configuring_again_replaces_the_handler() -> None:
    first = configure(format="json")
    second = configure(format="json")
    structlog.get_logger().info("x")
    assert first.getvalue() == ""
    assert len(events(second)) == 1


def test_warnings_go_to_the_log() -> None:
    stream = configure(format="json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    assert "old thing" in events(stream)[0]["event"]


def test_colour_follows_the_conventions(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configure(format="console")
    structlog.get_logger().info("plain")
    assert "\x1b[" not in stream.getvalue()
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = configure(format="console")
    structlog.get_logger().info("coloured")
    assert "\x1b[" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    stream = configure(format="console")
    structlog.get_logger().info("plain again")
    assert "\x1b[" not in stream.getvalue()
