"""Sessions: their records, in the right order and complete, and the race with a revocation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import structlog

from aaa import sessions, users
from aaa.interface import Access, EapAccepted, GatewayHello, Refusal, TerminateCause
from aaa.models import TunnelSession
from core.audit import SYSTEM
from core.clock import utc_now
from core.errors import NotFoundError
from core.runtime import Runtime
from pki.certificates import revoke_certificate
from posture import devices as inventory
from tests.peers.eap import MsChapV2Peer
from tests.unit.aaa.driver import Driver, session_start, usage
from tests.unit.aaa.people import Enrolled, certify, chain_of, enrol


@pytest.fixture
def driver(runtime: Runtime) -> Iterator[Driver]:
    with Driver(runtime) as driver:
        yield driver


def _access(driver: Driver) -> tuple[Enrolled, Access]:
    laptop = enrol(driver.runtime)
    result = driver.sign_in(MsChapV2Peer("alice", laptop.code))
    assert isinstance(result, EapAccepted)
    return laptop, result.access


def _stored(runtime: Runtime, session_id: str) -> TunnelSession | None:
    with runtime.database.reading() as session:
        found = session.get(TunnelSession, session_id)
        if found is not None:
            session.expunge(found)
        return found


def test_start_interim_stop(driver: Driver) -> None:
    laptop, access = _access(driver)
    session_id, refusal = driver.start_session(access)
    assert refusal is None
    opened = _stored(driver.runtime, session_id)
    assert opened is not None
    assert (opened.user_name, opened.device_id, opened.device_name) == ("alice", laptop.id, "alice-laptop")
    assert (opened.method, opened.rule, opened.gateway) == ("eap-mschapv2", "trusted-devices", "gateway-1")
    assert (opened.remote_address, opened.virtual_ipv4, opened.virtual_ipv6) == ("192.0.2.7:4500", "10.99.0.2", None)
    assert opened.ended_at is None
    for count in (1, 2, 3):
        driver.backend.session_updated(usage(session_id, count))
    driver.backend.session_ended(usage(session_id, 4), TerminateCause.USER_REQUEST)
    driver.backend.session_updated(usage(session_id, 5))
    driver.backend.session_ended(usage(session_id, 6), TerminateCause.NAS_ERROR)
    driver.backend.goodbye()
    ended = _stored(driver.runtime, session_id)
    assert ended is not None
    assert ended.ended_at is not None
    assert ended.ended_at >= opened.started_at
    assert (ended.bytes_in, ended.bytes_out, ended.packets_in, ended.packets_out) == (4000, 8000, 4, 8)
    assert (ended.terminate_cause, ended.remote_address) == ("USER_REQUEST", "192.0.2.8:4500")


def test_the_newest_interim_counts(driver: Driver) -> None:
    _, access = _access(driver)
    ids = [driver.start_session(access)[0] for _ in range(3)]
    for count in range(1, 20):
        for session_id in ids:
            driver.backend.session_updated(usage(session_id, count))
    _, refusal = driver.start_session(access)  # comes after them in the queue
    assert refusal is None
    for session_id in ids:
        stored = _stored(driver.runtime, session_id)
        assert stored is not None
        assert (stored.packets_in, stored.ended_at) == (19, None)


def test_queries(driver: Driver) -> None:
    laptop, access = _access(driver)
    first, second, third = (driver.start_session(access)[0] for _ in range(3))
    driver.backend.session_ended(usage(first, 1), TerminateCause.LOST_SERVICE)
    driver.start_session(access)
    with driver.runtime.database.reading() as session:
        live = [tunnel.id for tunnel in sessions.live_sessions(session)]
        assert live[1:] == [third, second]
        recent = sessions.recent_sessions(session, 2)
        assert [tunnel.id for tunnel in recent] == live[:2]
        older = sessions.recent_sessions(session, 9, before=recent[-1].started_at)
        assert [tunnel.id for tunnel in older] == [second, first]
        of_device = sessions.sessions_of_device(session, laptop.id)
        assert [tunnel.id for tunnel in of_device] == [*live, first]
        assert [t.id for t in sessions.sessions_of_device(session, laptop.id, live_only=True, limit=2)] == live[:2]
        assert sessions.sessions_of_device(session, "another") == []
        assert sessions.get_session(session, first).terminate_cause == "LOST_SERVICE"
        with pytest.raises(NotFoundError):
            sessions.get_session(session, "another")


def _revoke_device(runtime: Runtime, laptop: Enrolled) -> None:
    with runtime.database.transaction() as session:
        inventory.set_state(session, inventory.get(session, laptop.id), "revoked", "stolen", SYSTEM)


def _quarantine_device(runtime: Runtime, laptop: Enrolled) -> None:
    with runtime.database.transaction() as session:
        inventory.set_state(session, inventory.get(session, laptop.id), "quarantined", "", SYSTEM)


def _disable_user(runtime: Runtime, _laptop: Enrolled) -> None:
    with runtime.database.transaction() as session:
        users.set_disabled(session, users.get_user(session, "alice"), True, SYSTEM)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_revoke_device, "revoked-device"),
        (_quarantine_device, "quarantined-device"),
        (_disable_user, "disabled-user"),
    ],
)
def test_what_changes_between_decision_and_start_is_seen(
    driver: Driver, change: Callable[[Runtime, Enrolled], None], code: str
) -> None:
    laptop, access = _access(driver)
    change(driver.runtime, laptop)
    session_id, refusal = driver.start_session(access)
    assert refusal is not None
    assert refusal.code == code
    assert _stored(driver.runtime, session_id) is None
    (event,) = driver.events("session.refuse")
    assert (event["actor"], event["code"], event["outcome"]) == ("device:alice-laptop", code, "refused")
    # The gateway reports the end of it all the same; that must not make a record.
    driver.backend.session_ended(usage(session_id, 1), TerminateCause.ADMIN_RESET)
    driver.backend.goodbye()
    assert _stored(driver.runtime, session_id) is None


def test_a_certificate_that_is_revoked_before_the_start_is_seen(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    issued, authority = certify(driver.runtime, laptop.id)
    access = driver.certificate(chain_of(issued, authority), "alice-laptop")
    assert isinstance(access, Access)
    with driver.runtime.database.transaction() as session:
        revoke_certificate(session, access.certificate_serial, "", SYSTEM)
    session_id, refusal = driver.start_session(access)
    assert refusal == Refusal("revoked-certificate", f"the certificate {access.certificate_serial} was revoked")
    assert _stored(driver.runtime, session_id) is None


def test_another_rule_than_the_one_that_decided_is_no_start(driver: Driver) -> None:
    _, access = _access(driver)
    _, refusal = driver.start_session(replace(access, rule="administrators"))
    assert refusal is not None
    assert refusal.code == "decision-changed"


def test_a_session_of_nobody_is_refused(driver: Driver) -> None:
    _, access = _access(driver)
    _, refusal = driver.start_session(replace(access, device_id="11111111-2222-4333-8444-555555555555"))
    assert refusal is not None
    assert refusal.code == "unknown-device"


def test_an_id_that_is_taken_spoils_no_other_session(driver: Driver) -> None:
    _, access = _access(driver)
    taken, _ = driver.start_session(access)
    answers: dict[str, list[Refusal | None]] = {"a": [], taken: [], "b": []}
    with structlog.testing.capture_logs():
        for session_id, replies in answers.items():
            driver.backend.session_started(session_start(access, session_id), replies.append)
        driver.pump(lambda: all(answers.values()))
    assert (answers["a"], answers["b"]) == ([None], [None])
    (refusal,) = answers[taken]
    assert refusal is not None
    assert refusal.code == "internal-error"
    assert _stored(driver.runtime, "b") is not None


def test_a_gateway_that_died_finds_its_sessions_closed(runtime: Runtime) -> None:
    with Driver(runtime) as driver:
        _, access = _access(driver)
        session_id, _ = driver.start_session(access)
        # The same gateway starts again, without having said goodbye.
        again = Driver(runtime, hello=False)
        with runtime.database.transaction() as session:
            session.add(_session_of_another_gateway("other"))
        again.backend.hello(GatewayHello("gateway-1", "127.0.0.1", 3799, "userspace"))
        stored = _stored(runtime, session_id)
        assert stored is not None
        assert (stored.terminate_cause, stored.ended_at is not None) == ("NAS_REBOOT", True)
        with runtime.database.reading() as session:
            assert [tunnel.id for tunnel in sessions.live_sessions(session)] == ["other"]
        again.backend.goodbye()
    assert [event["sessions_left_open"] for event in driver.events("gateway.start")] == [0, 1]


def _session_of_another_gateway(session_id: str) -> TunnelSession:
    now = utc_now()
    return TunnelSession(
        id=session_id,
        gateway="gateway-2",
        user_name="bob",
        device_id="x",
        device_name="bob-laptop",
        method="eap-tls",
        rule="r",
        remote_address="192.0.2.9:500",
        started_at=now,
        updated_at=now,
    )


def test_goodbye_closes_what_the_gateway_forgot(driver: Driver) -> None:
    _, access = _access(driver)
    session_id, _ = driver.start_session(access)
    driver.backend.goodbye()
    stored = _stored(driver.runtime, session_id)
    assert stored is not None
    assert stored.terminate_cause == "NAS_REQUEST"
    assert driver.events("gateway.stop")[-1]["sessions_left_open"] == 1


def test_accounting_shows_when_the_gateway_was_seen(driver: Driver) -> None:
    with driver.runtime.database.reading() as session:
        before = sessions.known_gateways(session)[0].last_seen_at
    _access(driver)
    with driver.runtime.database.reading() as session:
        assert sessions.known_gateways(session)[0].last_seen_at > before


def test_a_gateway_that_serves_nobody_is_seen_as_well(driver: Driver) -> None:
    with driver.runtime.database.reading() as session:
        before = sessions.known_gateways(session)[0].last_seen_at
    driver.backend.alive({})
    driver.backend.goodbye()
    with driver.runtime.database.reading() as session:
        assert sessions.known_gateways(session)[0].last_seen_at > before
