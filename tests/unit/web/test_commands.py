"""`ostiary admin` and the portal's part of `ostiary check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from core.audit import recent_events
from core.cli import root
from core.runtime import Runtime
from core.settings import Settings
from tests.unit.web.visitor import Person
from web import invitations
from web.checks import checks
from web.server import PortalError


def _run(runtime: Runtime, *arguments: str) -> str:
    result = CliRunner().invoke(root, arguments, env={"OSTIARY_STATE_DIR": str(runtime.settings.state_dir)})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_invite_prints_a_link_that_opens(runtime: Runtime) -> None:
    """Made by whoever is at the terminal."""
    link = _run(runtime, "admin", "invite", "--role", "security", "--name", "Jude").strip()
    assert link.startswith("https://localhost:8443/invitation/")
    with runtime.database.reading() as session:
        invitation = invitations.find(session, link.rpartition("/")[2])
        event = recent_events(session, action="invitation.create", limit=1)[0]
    assert invitation is not None
    assert (invitation.role, invitation.user_name) == ("security", "jude")
    assert event.actor.startswith("cli:")


def test_invite_refuses_what_can_not_be(runtime: Runtime) -> None:
    """With a sentence."""
    result = CliRunner().invoke(
        root, ["admin", "invite", "--name", "no name!"], env={"OSTIARY_STATE_DIR": str(runtime.settings.state_dir)}
    )
    assert result.exit_code == 1
    assert "can't be used" in result.output


def test_list_shows_who_may_sign_in(runtime: Runtime) -> None:
    """As a table and as JSON."""
    Person(runtime, "maria")
    Person(runtime, "ines", None)
    assert "maria" in _run(runtime, "admin", "list")
    rows = json.loads(_run(runtime, "admin", "list", "--json"))
    assert rows == [
        {"name": "maria", "display_name": "maria", "role": "administrator", "second_factor": True, "disabled": False}
    ]


@pytest.mark.parametrize(("in_use", "ok"), [(True, None), (False, False)])
def test_the_port_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_use: bool, ok: bool | None) -> None:
    """In use is no failure, since it may be by the portal; everything else is."""

    def refuse(_web: object) -> None:
        error = PortalError("the portal can't listen on 0.0.0.0 port 8443: because", fix="do something")
        error.in_use = in_use
        raise error

    monkeypatch.setattr("web.checks.listen", refuse)
    (check,) = checks(Settings(state_dir=tmp_path))
    assert (check.name, check.ok, check.fix) == ("web: TCP 0.0.0.0 port 8443", ok, "do something")


def test_a_free_port_is_given_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A check changes nothing."""
    closed = []

    class _Listener:
        def close(self) -> None:
            """As a socket does."""
            closed.append(self)

    monkeypatch.setattr("web.checks.listen", lambda _web: _Listener())
    (check,) = checks(Settings(state_dir=tmp_path))
    assert check.ok
    assert len(closed) == 1
