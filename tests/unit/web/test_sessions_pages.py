"""The sessions pages and the overview: what is up, what was, and how it is ended."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from threading import Timer

import pytest
from flask import Flask

from aaa.enforcement import Enforcement, GatewayAnswer
from aaa.models import Gateway
from core.audit import Actor, Entry, recent_events, record_many
from core.clock import utc_now
from core.runtime import Runtime
from posture.models import Device
from tests.unit.web import world
from tests.unit.web.visitor import Person, Visitor
from web.console.overview import sign_in_chart

HOSTILE = '<script>alert("x")</script>'


def test_nobody_connected_says_what_to_do(administrator: Visitor) -> None:
    """With the name that a client needs."""
    page = administrator.get("/sessions").text
    assert "Nobody is connected" in page
    assert "gateway.ostiary.internal" in page
    assert "/devices/add" in page


def test_a_live_session_is_shown_with_all_that_is_known(runtime: Runtime, administrator: Visitor) -> None:
    """In the page, in the fragment that refreshes it, and on its own page."""
    world.add_gateway(runtime)
    device = world.add_device(runtime, "ines", "ines-laptop")
    session_id = world.connect(runtime, device)
    for path in ("/sessions", "/sessions/live", f"/devices/{device.id}", f"/devices/{device.id}/live"):
        page = administrator.get(path).text
        for part in ("ines-laptop", "ines", "EAP-TLS", "gateway-1", "10.99.0.2", "fd99::2", "2001:db8::7"):
            assert part in page, (path, part)
        for part in ("strongSwan", "5 min", "1.5 MB", "42.0 GB", f"/sessions/{session_id}/disconnect"):
            assert part in page, (path, part)
    page = administrator.get(f"/sessions/{session_id}").text
    for part in ("trusted-devices", "AES_GCM_16_256 / ECP_384", "[2001:db8::7]:4500", session_id, "1,000 packets"):
        assert part in page


def test_an_ended_session_says_why(runtime: Runtime, administrator: Visitor) -> None:
    """And can't be ended again."""
    world.add_gateway(runtime)
    session_id = world.connect(runtime, world.add_device(runtime, "ines", "ines-laptop"))
    world.end(runtime, session_id)
    page = administrator.get("/sessions").text
    assert "Nobody is connected" in page
    assert "User request" in page
    assert "/disconnect" not in page
    assert administrator.get(f"/sessions/{session_id}/disconnect").location == f"/sessions/{session_id}"
    answer = administrator.post(f"/sessions/{session_id}/disconnect", {})
    assert answer.status_code == 400
    assert "has ended already" in answer.text


def test_what_a_client_calls_itself_is_shown_and_not_run(runtime: Runtime, administrator: Visitor) -> None:
    """Everything that comes from outside is escaped."""
    world.add_gateway(runtime)
    device = world.add_device(runtime, "ines", "ines-laptop")
    session_id = world.connect(runtime, device, client=HOSTILE)
    with runtime.database.transaction() as session:
        event = Entry(
            Actor("user", HOSTILE), "sign-in.refuse", f"gateway:{HOSTILE}", outcome="refused", reason=HOSTILE,
            detail={HOSTILE: HOSTILE},
        )  # fmt: skip
        record_many(session, [event])
    for path in (
        "/",
        "/sessions",
        f"/sessions/{session_id}",
        f"/devices/{device.id}",
        "/audit",
        f"/audit?q={HOSTILE}",
    ):
        page = administrator.get(path).text
        assert "<script>alert" not in page, path
    assert "&lt;script&gt;alert" in administrator.get("/audit").text


def test_disconnect_shows_what_the_gateway_answered(
    runtime: Runtime, administrator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who, why, and how fast; the gateway itself answers in tests/browser."""
    world.add_gateway(runtime)
    session_id = world.connect(runtime, world.add_device(runtime, "ines", "ines-laptop"))
    asked: list[tuple[str, str, Actor]] = []

    def disconnect(_runtime: Runtime, session_id: str, reason: str, actor: Actor) -> Enforcement:
        asked.append((session_id, reason, actor))
        answers = [
            GatewayAnswer("gateway-1", True, "1 ended", 12.4, "acknowledged"),
            GatewayAnswer("gateway-2", False, "", 1400.0, "gateway gateway-2 does not answer"),
        ]
        return Enforcement("ines-laptop", 0, answers, 1402.5)

    monkeypatch.setattr("web.console.sessions.disconnect_session", disconnect)
    question = administrator.get(f"/sessions/{session_id}/disconnect").text
    assert "10.99.0.2" in question
    assert "may connect again" in question
    page = administrator.post(f"/sessions/{session_id}/disconnect", {"reason": "wrong   desk\n"}).text
    assert asked == [(session_id, "wrong desk", Actor("user", "maria"))]
    for part in (
        "ines-laptop was disconnected",
        "12 ms",
        "1 ended",
        "1.40 s",
        "No answer yet",
        "is asked again until",
    ):
        assert part in page, part


def test_the_page_with_the_answer_waits_for_the_record_of_the_end(
    runtime: Runtime, administrator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which a gateway writes a moment after it has answered; one that never does is not waited for long."""
    world.add_gateway(runtime)
    device = world.add_device(runtime, "ines", "ines-laptop")
    recorded, lost = world.connect(runtime, device), world.connect(runtime, device)
    answer = GatewayAnswer("gateway-1", True, "1 ended", 12.4, "acknowledged")

    def disconnect(_runtime: Runtime, session_id: str, _reason: str, _actor: Actor) -> Enforcement:
        if session_id == recorded:
            Timer(0.05, world.end, (runtime, session_id)).start()
        return Enforcement("ines-laptop", 0, [answer], 13.0)

    monkeypatch.setattr("web.console.sessions.disconnect_session", disconnect)
    assert "User request" in administrator.post(f"/sessions/{recorded}/disconnect").text
    monkeypatch.setattr("web.console.records.PATIENCE_S", 0.02)
    assert "was disconnected" in administrator.post(f"/sessions/{lost}/disconnect").text


@pytest.mark.parametrize(
    "path", ["/sessions/none", "/sessions/none/disconnect", "/devices/none", "/devices/none/live"]
)
def test_what_is_not_there_is_a_page_that_says_so(administrator: Visitor, path: str) -> None:
    """And no error inside."""
    answer = administrator.get(path)
    assert answer.status_code == 404
    assert "There is nothing behind this door" in answer.text


def test_the_overview_counts(runtime: Runtime, administrator: Visitor) -> None:
    """Sessions, people, devices, refusals, gateways."""
    world.add_gateway(runtime)
    world.add_gateway(runtime, "gateway-2", "kernel")
    laptop, phone = world.add_device(runtime, "ines", "laptop"), world.add_device(runtime, "ines", "phone", "iOS")
    for device in (laptop, phone):
        world.connect(runtime, device)
    page = administrator.get("/").text
    for part in ("2</span>", "1 person connected", "0 quarantined, 0 revoked", "Userspace ESP · 2 sessions"):
        assert part in page, part
    assert "Kernel ESP · 0 sessions" in page
    assert "No device has signed in yet" in page


@pytest.mark.parametrize(("seconds", "is_up"), [(60, True), (100, False)])
def test_a_gateway_is_up_until_it_is_not_heard_of(
    runtime: Runtime, administrator: Visitor, seconds: int, is_up: bool
) -> None:
    """One without sessions too: it says that it is there. Since when nothing was heard is on the page."""
    world.add_gateway(runtime)
    seen_at = utc_now() - timedelta(seconds=seconds)
    with runtime.database.transaction() as session:
        session.get_one(Gateway, "gateway-1").last_seen_at = seen_at
    page = administrator.get("/").text
    assert ("Up</span>" in page) == is_up
    assert ("Silent</span>" in page) == (not is_up)
    assert bool(re.search(rf"since <time [^>]*>[^<]*{seen_at:%H:%M} UTC</time>", page)) == (not is_up)


def test_the_chart_counts_by_the_hour(app: Flask, runtime: Runtime) -> None:
    """24 bars, the newest last; the tallest fills the height."""
    now = datetime(2026, 5, 4, 17, 40, tzinfo=UTC)
    with runtime.database.transaction() as session:
        record_many(
            session,
            [
                _sign_in("sign-in.accept", now - timedelta(hours=24)),  # older than the first bar
                _sign_in("sign-in.accept", datetime(2026, 5, 3, 18, 0, tzinfo=UTC)),
                _sign_in("sign-in.refuse", datetime(2026, 5, 4, 16, 59, 59, tzinfo=UTC)),
                *[_sign_in("sign-in.accept", datetime(2026, 5, 4, 17, 39, tzinfo=UTC))] * 3,
                _sign_in("sign-in.refuse", datetime(2026, 5, 4, 17, 39, tzinfo=UTC)),
                _sign_in("device.add", datetime(2026, 5, 4, 17, 39, tzinfo=UTC)),
            ],
        )
    with runtime.database.reading() as session:
        chart = sign_in_chart(session, now)
    assert (chart.accepted, chart.refused, chart.highest) == (4, 2, 4)
    assert len(chart.bars) == 24
    assert (chart.bars[0].label, chart.bars[0].accepted, chart.bars[0].accepted_height) == ("18:00", 1, 25.0)
    assert (chart.bars[22].accepted, chart.bars[22].refused) == (0, 1)
    assert (chart.bars[23].accepted_height, chart.bars[23].refused_height) == (75.0, 25.0)
    assert chart.axis == ("18:00", "00:00", "06:00", "12:00", "now")


def _sign_in(action: str, at: datetime) -> Entry:
    return Entry(Actor("device", "laptop"), action, "gateway:gateway-1", at=at)


def test_an_auditor_sees_no_buttons_that_would_refuse(runtime: Runtime, app: Flask) -> None:
    """Only what the role can do is offered."""
    world.add_gateway(runtime)
    device = world.add_device(runtime, "ines", "ines-laptop")
    session_id = world.connect(runtime, device)
    auditor = Person(runtime, "audrey", "auditor").signed_in(app)
    for path in ("/sessions", f"/sessions/{session_id}", "/devices", f"/devices/{device.id}"):
        page = auditor.get(path).text
        for part in ("Disconnect", "Revoke</a>", "Add a device", "New access code", 'href="/users"'):
            assert part not in page, (path, part)
    with runtime.database.reading() as session:
        assert recent_events(session, actor="user:audrey", action="session.*") == []


def test_a_session_of_a_device_that_is_not_in_the_inventory(runtime: Runtime, administrator: Visitor) -> None:
    """Let in by another CA's certificate; there is no page of the device to lead to."""
    world.add_gateway(runtime)
    device = world.add_device(runtime, "ines", "ines-laptop")
    session_id = world.connect(runtime, device)
    assert f'href="/devices/{device.id}"' in administrator.get(f"/sessions/{session_id}").text
    stranger = Device(id=str(uuid.uuid4()), name="corporate/1a2b3c", owner="ines")
    session_id = world.connect(runtime, stranger)
    for path in ("/sessions", f"/sessions/{session_id}", f"/sessions/{session_id}/disconnect"):
        page = administrator.get(path)
        assert page.status_code == 200
        assert "corporate/1a2b3c" in page.text
        assert stranger.id not in page.text
