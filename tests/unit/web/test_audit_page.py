"""The audit log's page: filters, pages, and whether the chain is whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from core.audit import Actor, AuditEvent, Entry, record_many
from core.runtime import Runtime
from tests.unit.web import world
from tests.unit.web.visitor import Visitor

MAY = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def _write(runtime: Runtime, *entries: Entry) -> None:
    with runtime.database.transaction() as session:
        record_many(session, entries)


def _refusal(number: int = 1, reason: str = "wrong access code") -> Entry:
    return Entry(
        Actor("user", f"guest-{number}"),
        "sign-in.refuse",
        "gateway:gateway-1",
        outcome="refused",
        reason=reason,
        detail={"code": "wrong-credential", "proposals": ["3DES", "MODP-1024"]},
        at=MAY + timedelta(days=number),
    )


def test_an_event_is_readable(runtime: Runtime, administrator: Visitor) -> None:
    """Who, what, to what, outcome, why, and the details behind."""
    _write(runtime, _refusal())
    page = administrator.get("/audit").text
    for part in ("guest-1", "Sign-in refused", "sign-in.refuse", "gateway-1", "Refused", "wrong access code"):
        assert part in page
    for part in ("2026-05-05 12:00:00", "wrong-credential", ">3DES, MODP-1024<"):
        assert part in page


def test_devices_are_linked(runtime: Runtime, administrator: Visitor) -> None:
    """From event to device."""
    device = world.add_device(runtime, "ines", "ines-laptop")
    assert f'href="/devices/{device.id}"' in administrator.get("/audit").text


@pytest.mark.parametrize(
    ("query", "shown", "hidden"),
    [
        ("q=GUEST-2", ["guest-2"], ["guest-1", "guest-3"]),
        ("q=revoked", ["guest-3"], ["guest-1"]),
        ("q=gateway-1", ["guest-1", "guest-2"], []),
        ("q=%25", [], ["guest-1"]),
        ("action=sign-in.refuse", ["guest-1"], ["System"]),
        ("outcome=refused", ["guest-1"], []),
        ("outcome=failed", [], ["guest-1"]),
        ("since=2026-05-06&until=2026-05-06", ["guest-2"], ["guest-1", "guest-3"]),
        ("until=2026-05-05", ["guest-1"], ["guest-2"]),
    ],
)
def test_filters(runtime: Runtime, administrator: Visitor, query: str, shown: list[str], hidden: list[str]) -> None:
    """By words, action, outcome and days."""
    _write(runtime, _refusal(1), _refusal(2), _refusal(3, "the certificate was revoked"))
    page = administrator.get(f"/audit?{query}").text
    for part in shown:
        assert f">{part}<" in page
    for part in hidden:
        assert f">{part}<" not in page


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "until=9999-12-31",
        "outcome=maybe",
        "before=-1",
        "before=x",
        "before=9223372036854775808",
        "q=%00",
        "q=a%E2%80%AEb",
        "q=" + "x" * 400,
    ],
)
def test_a_filter_that_makes_no_sense_is_left_out(administrator: Visitor, query: str) -> None:
    """And the page says so."""
    answer = administrator.get(f"/audit?{query}")
    assert answer.status_code == 200
    assert "That filter can&#39;t be used" in answer.text


def test_pages_are_turned_within_the_filter(runtime: Runtime, administrator: Visitor) -> None:
    """Fifty a page, each event once."""
    _write(runtime, *[_refusal(number) for number in range(1, 121)])
    seen: list[str] = []
    path: str | None = "/audit?outcome=refused"
    for expected in (50, 50, 20):
        assert path is not None
        page = administrator.get(path).text
        found = [part.partition('"')[0] for part in page.split('id="event-')[1:]]
        assert len(found) == expected
        seen += found
        path = _older(page)
    assert path is None
    assert len(set(seen)) == 120


def _older(page: str) -> str | None:
    import html
    import re

    found = re.search(r'href="([^"]+)" rel="next"', page)
    return html.unescape(found[1]) if found else None


def test_the_chain_is_checked(runtime: Runtime, administrator: Visitor) -> None:
    """On opening the page, and again at the press of the button."""
    _write(runtime, _refusal())
    assert "The chain is whole." in administrator.get("/audit").text
    assert administrator.post("/audit/verify").location == "/audit"
    assert "the chain is whole" in administrator.get("/audit").text


def test_a_broken_chain_can_not_be_missed(runtime: Runtime, administrator: Visitor) -> None:
    """Somebody changed a reason in the database."""
    _write(runtime, _refusal(1), _refusal(2))
    with runtime.database.transaction() as session:
        session.execute(
            update(AuditEvent).where(AuditEvent.actor == "user:guest-1").values(reason="nothing to see here")
        )
    administrator.post("/audit/verify")
    page = administrator.get("/audit").text
    assert "The chain is broken: audit event" in page
    assert "The chain is whole" not in page


def test_a_long_log_is_checked_on_request_only(
    runtime: Runtime, administrator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page must not read a million events each minute."""
    _write(runtime, _refusal(1))
    administrator.get("/audit")
    monkeypatch.setattr("web.console.audit.CHECK_AT_ONCE", 1)
    monkeypatch.setattr("web.console.audit.CHECK_AFTER", timedelta(0))
    checks: list[int] = []

    def count(_session: object) -> int:
        checks.append(1)
        return 1

    monkeypatch.setattr("web.console.audit.verify_chain", count)
    administrator.get("/audit")
    assert checks == []
    administrator.post("/audit/verify")
    assert checks == [1]
