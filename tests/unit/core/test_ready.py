"""Saying "I am ready": one line of JSON to the supervisor, and no harm without one."""

from __future__ import annotations

import json
import os

import pytest

from core.ready import READY_VARIABLE, announce


def test_announcement_is_one_line_and_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    monkeypatch.setenv(READY_VARIABLE, str(write))
    announce(["Portal: https://localhost/", "Grüße"])
    announce(["again"])
    with os.fdopen(read) as pipe:
        text = pipe.read()
    assert text.count("\n") == 1
    assert json.loads(text) == {"ready": True, "lines": ["Portal: https://localhost/", "Grüße"]}


def test_without_a_supervisor_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(READY_VARIABLE, raising=False)
    announce(["x"])
    monkeypatch.setenv(READY_VARIABLE, "nonsense")
    announce(["x"])
    assert READY_VARIABLE not in os.environ


def test_closed_pipe_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setenv(READY_VARIABLE, str(write))
    announce(["x"])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(write)
