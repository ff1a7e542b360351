"""Sign-ins, accounting and revocation on a real PostgreSQL, where transactions really run at the same time."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import select, text

from aaa import enforcement, users
from aaa.dynamic_authorization import Answer, Change, Peer, Selector
from aaa.interface import Access, EapAccepted, EapRejected, TerminateCause
from aaa.models import TunnelSession
from core.runtime import Runtime
from core.settings import RuleSettings, Settings
from tests.interop.core import test_postgresql as postgresql
from tests.peers.eap import MsChapV2Peer
from tests.unit.aaa.driver import Driver, usage
from tests.unit.aaa.people import certify, enrol, tls_peer

pytestmark = pytest.mark.interop

server = postgresql.server
settings = postgresql.settings


@pytest.fixture
def driver(settings: Settings) -> Iterator[Driver]:
    quick = settings.model_copy(update={"pki": settings.pki.model_copy(update={"gateway_key_type": "ecdsa-p256"})})
    with Runtime.open(quick) as runtime, Driver(runtime) as driver:
        yield driver


def _live(runtime: Runtime) -> set[str]:
    with runtime.database.reading() as session:
        return set(session.scalars(select(TunnelSession.id).where(TunnelSession.ended_at.is_(None))))


def test_a_day_in_the_life_of_a_session(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    issued, authority = certify(driver.runtime, laptop.id)
    for peer in (MsChapV2Peer("alice", laptop.code), tls_peer("alice-laptop", issued, authority)):
        accepted = driver.sign_in(peer)
        assert isinstance(accepted, EapAccepted)
        session_id, refusal = driver.start_session(accepted.access)
        assert refusal is None
        driver.backend.session_updated(usage(session_id, 1))
        driver.backend.session_ended(usage(session_id, 2), TerminateCause.LOST_SERVICE)
    for identity in ("mallory", "mal\0lory", "\ufffd", "a" * 253):
        refused = driver.sign_in(MsChapV2Peer(identity, "wrong"))
        assert isinstance(refused, EapRejected)
        assert refused.refusal.code == "unknown-user"
    driver.backend.goodbye()
    with driver.runtime.database.reading() as session:
        ended = session.scalars(select(TunnelSession)).all()
        assert [(tunnel.packets_in, tunnel.terminate_cause) for tunnel in ended] == [(2, "LOST_SERVICE")] * 2
    assert len(driver.events("sign-in.refuse")) == 4


def test_no_session_begins_behind_a_revocation(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions start as fast as they can while their device is revoked: those that are there when the
    Disconnect-Request goes out are all there will be.
    """
    laptop = enrol(driver.runtime)
    accepted = driver.sign_in(MsChapV2Peer("alice", laptop.code))
    assert isinstance(accepted, EapAccepted)
    at_disconnect: list[set[str]] = []

    def ask(_peer: Peer, _selector: Selector, _change: Change | None = None) -> Answer:
        at_disconnect.append(_live(driver.runtime))
        return Answer(True, None, "")

    monkeypatch.setattr(enforcement, "ask", ask)
    revoker = threading.Thread(
        target=enforcement.revoke_device,
        args=(driver.runtime, laptop.id, "stolen", postgresql.ALICE),
    )
    for count in range(10_000):
        if count == 20:
            revoker.start()
        _, refusal = driver.start_session(accepted.access)
        if refusal is not None:
            assert refusal.code == "revoked-device"
            break
    revoker.join(20)
    for _ in range(5):
        assert driver.start_session(accepted.access)[1] is not None
    (seen,) = at_disconnect
    assert len(seen) >= 20
    assert _live(driver.runtime) == seen


def test_no_session_begins_unseen_while_its_device_goes_into_quarantine(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that start meanwhile are each told of the change, or are not let in."""
    laptop = enrol(driver.runtime)
    accepted = driver.sign_in(MsChapV2Peer("alice", laptop.code))
    assert isinstance(accepted, EapAccepted)
    told: set[str | None] = set()

    def ask(_peer: Peer, selector: Selector, _change: Change | None = None) -> Answer:
        told.add(selector.session_id)
        return Answer(True, None, "")

    monkeypatch.setattr(enforcement, "ask", ask)
    officer = threading.Thread(
        target=enforcement.change_device_state,
        args=(driver.runtime, laptop.id, "quarantined", "disk encryption is off", postgresql.ALICE),
    )
    begun: set[str | None] = set()
    for count in range(10_000):
        if count == 20:
            officer.start()
        session_id, refusal = driver.start_session(accepted.access)
        if refusal is not None:
            assert refusal.code == "quarantined-device"
            break
        begun.add(session_id)
    officer.join(20)
    assert driver.start_session(accepted.access)[1] is not None
    assert len(begun) >= 20
    assert told == begun


def test_connections_that_the_server_cut_are_replaced(driver: Driver) -> None:
    laptop = enrol(driver.runtime)
    assert isinstance(driver.sign_in(MsChapV2Peer("alice", laptop.code)), EapAccepted)
    with driver.runtime.database.reading() as session:
        session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        )
    assert isinstance(driver.sign_in(MsChapV2Peer("alice", laptop.code)), EapAccepted)


def test_no_session_of_an_unknown_device_begins_behind_its_users_disabling(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same without a device to lock, as another CA's certificate lets one in: the user's row stands for it."""
    rule = RuleSettings(name="partners", device_states=("unmanaged",))
    with driver.runtime.database.transaction() as session:
        users.create_user(session, "alice", actor=postgresql.ALICE)
    settings = driver.runtime.settings
    with_rule = settings.model_copy(update={"aaa": settings.aaa.model_copy(update={"rules": (rule,)})})
    at_disconnect: list[set[str]] = []
    told: list[Selector] = []

    def ask(_peer: Peer, selector: Selector, _change: Change | None = None) -> Answer:
        told.append(selector)
        at_disconnect.append(_live(driver.runtime))
        return Answer(True, None, "")

    monkeypatch.setattr(enforcement, "ask", ask)
    access = Access(
        user_name="alice",
        device_id=str(uuid.uuid4()),
        device_name="corporate/1a2b3c",
        method="certificate",
        rule="partners",
        reason="",
        pool=None,
        networks=(),
        dns=(),
        session_lifetime_s=60.0,
        interim_interval_s=60.0,
        certificate_serial="1a2b3c",
        certificate_authority="corporate",
        managed=False,
    )
    with Runtime.open(with_rule) as runtime, Driver(runtime) as partner:
        disabler = threading.Thread(
            target=enforcement.disable_user, args=(runtime, "alice", "left", postgresql.ALICE)
        )
        for count in range(10_000):
            if count == 20:
                disabler.start()
            _, refusal = partner.start_session(access)
            if refusal is not None:
                assert refusal.code == "disabled-user"
                break
        disabler.join(20)
        for _ in range(5):
            assert partner.start_session(access)[1] is not None
        live = _live(runtime)
    assert len(live) >= 20
    assert {selector.session_id for selector in told} == live
    assert at_disconnect[0] == live
