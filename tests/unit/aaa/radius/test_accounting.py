"""Accounting intake: sessions that begin, go on and end; repetitions; records that nobody can use."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from aaa import enforcement
from aaa.device_limit import end_surplus
from aaa.interface import Access
from aaa.models import TunnelSession
from aaa.radius.accounting import session_id_of
from aaa.radius.recent import RecentGrants
from aaa.radius.request import Service
from aaa.radius.server import Peer
from aaa.sessions import live_sessions, recent_sessions
from core.audit import SYSTEM
from core.errors import ConflictError
from core.runtime import Runtime
from posture import devices as inventory
from tests.peers.eap import MsChapV2Peer
from tests.peers.radius import (
    ACCOUNTED,
    ACCOUNTING,
    CALLING_STATION,
    CLASS,
    FRAMED_IP,
    INPUT_GIGAWORDS,
    INPUT_OCTETS,
    OUTPUT_OCTETS,
    PORT_TYPE,
    SESSION_ID,
    STATUS_TYPE,
    TERMINATE_CAUSE,
    USER_NAME,
    Attribute,
    packet,
    read_answer,
)
from tests.unit.aaa.driver import Driver, session_start
from tests.unit.aaa.people import Enrolled, enrol
from tests.unit.aaa.radius.house import VPN, House, from_host

START, STOP, INTERIM, ON, OFF = 1, 2, 3, 7, 8
SECRET = VPN.secret.reveal()
DELAY = 41
BOX = "10.0.3.1"


@pytest.fixture
def house(runtime: Runtime) -> Iterator[House]:
    with Driver(runtime, hello=False) as driver:
        yield House(driver)


@pytest.fixture
def laptop(house: House) -> Enrolled:
    return enrol(house.driver.runtime)


def number(kind: int, value: int) -> Attribute:
    return kind, value.to_bytes(4, "big")


def sign_in(house: House, laptop: Enrolled, host: str = BOX) -> list[Attribute]:
    """The Class that the client got."""
    client = house.nas(peer=from_host(host), client=VPN)
    peer = MsChapV2Peer("alice", laptop.code)
    answer = client.sign_in(peer.receive(b"\x01\x01\x00\x05\x01") or b"", peer.receive)
    return [(CLASS, value) for value in answer.values(CLASS)]


EVENT_TIMESTAMP = 55


class Box:
    """A concentrator that reports."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.identifier = 0
        self.peer: Peer = from_host(BOX, service=Service.ACCOUNTING)

    def report(self, status: int, *items: Attribute, session: bytes = b"0001") -> bool:
        """Send a record; whether it was answered."""
        self.identifier += 1
        data = packet(
            ACCOUNTING,
            SECRET,
            [number(STATUS_TYPE, status), *([(SESSION_ID, session)] if session else []), *items],
            identifier=self.identifier,
            macs=self.identifier % 2,
        )
        answer = self.house.ask(data, self.peer)
        if answer is None:
            return False
        assert read_answer(data, answer, SECRET).code == ACCOUNTED
        return True

    def sessions(self) -> list[TunnelSession]:
        with self.house.driver.runtime.database.reading() as session:
            return list(recent_sessions(session))


@pytest.fixture
def box(house: House) -> Box:
    return Box(house)


class TestSession:
    def test_from_start_to_stop(self, box: Box, house: House, laptop: Enrolled) -> None:
        granted = sign_in(house, laptop)
        caller = (CALLING_STATION, b"198.51.100.2[4500]")
        assert box.report(START, *granted, caller, (FRAMED_IP, bytes((10, 99, 0, 5))), number(PORT_TYPE, 5))
        [session] = box.sessions()
        assert session.id == session_id_of("vpn", b"0001")
        assert (session.gateway, session.user_name, session.device_id) == ("vpn", "alice", laptop.id)
        assert (session.method, session.rule) == ("eap-mschapv2", "trusted-devices")
        assert (session.remote_address, session.virtual_ipv4) == ("198.51.100.2", "10.99.0.5")
        assert session.client == "VPN (RADIUS)"
        assert session.ended_at is None

        assert box.report(INTERIM, number(INPUT_OCTETS, 7), number(OUTPUT_OCTETS, 9))
        [session] = box.sessions()
        assert (session.bytes_in, session.bytes_out) == (7, 9)

        counters = (number(INPUT_OCTETS, 1), number(INPUT_GIGAWORDS, 2), number(OUTPUT_OCTETS, 0xFFFF_FFFF))
        assert box.report(STOP, *counters, number(TERMINATE_CAUSE, 1))
        [session] = box.sessions()
        assert (session.bytes_in, session.bytes_out) == ((2 << 32) + 1, 0xFFFF_FFFF)
        assert session.ended_at is not None
        assert session.terminate_cause == "USER_REQUEST"

    def test_a_record_that_comes_again_is_answered_again(self, box: Box, house: House, laptop: Enrolled) -> None:
        """With another identifier, since its Acct-Delay-Time has grown (RFC 2866 section 5.2)."""
        granted = sign_in(house, laptop)
        assert box.report(START, *granted)
        assert box.report(START, *granted, number(DELAY, 5))
        assert len(box.sessions()) == 1
        assert box.report(STOP, number(OUTPUT_OCTETS, 3))
        assert box.report(STOP, number(OUTPUT_OCTETS, 3), number(DELAY, 5))
        assert box.report(START, *granted, number(DELAY, 30))
        [session] = box.sessions()
        assert session.ended_at is not None

    def test_how_long_ago_it_was(self, box: Box, house: House, laptop: Enrolled) -> None:
        assert box.report(START, *sign_in(house, laptop))
        assert box.report(STOP, number(DELAY, 3600))
        [session] = box.sessions()
        assert session.ended_at is not None
        assert 3590 < (session.started_at - session.ended_at).total_seconds() <= 3600

    def test_a_device_that_was_revoked_meanwhile(self, box: Box, house: House, laptop: Enrolled) -> None:
        granted = sign_in(house, laptop)
        enforcement.revoke_device(house.driver.runtime, laptop.id, "stolen", SYSTEM)
        assert box.report(START, *granted)
        assert box.sessions() == []
        [event] = house.driver.events("session.refuse")
        assert (event["code"], event["gateway"]) == ("revoked-device", "vpn")

    def test_sessions_of_two_clients_with_one_id(self) -> None:
        assert session_id_of("a", b"1") != session_id_of("b", b"1")
        assert session_id_of("a", b"1", [b"first"]) != session_id_of("a", b"1", [b"second"])
        assert len(session_id_of("a" * 48, b"x" * 253)) == 36


class TestWhatIsNotRecorded:
    """And so not answered (RFC 2866 section 4.1)."""

    @pytest.mark.parametrize("status", [0, 4, 9, 15, 2**32 - 1])
    def test_kinds_that_are_not_known(self, box: Box, status: int) -> None:
        assert not box.report(status)

    def test_of_no_session(self, box: Box) -> None:
        assert not box.report(STOP, session=b"")
        assert not box.report(STOP, (SESSION_ID, b"a second one"))


class TestWhoseSession:
    """By Class, which a client returns; by the sign-in a moment ago, of one that does not."""

    CALLER = ((CALLING_STATION, b"198.51.100.2[4500]"), (USER_NAME, b"EXAMPLE\\alice"))

    def sign_in(self, house: House, laptop: Enrolled) -> None:
        client = house.nas(self.CALLER, peer=from_host(BOX), client=VPN)
        peer = MsChapV2Peer("alice", laptop.code)
        client.sign_in(peer.receive(b"\x01\x01\x00\x05\x01") or b"", peer.receive)

    def test_a_client_that_does_not_return_class(self, box: Box, house: House, laptop: Enrolled) -> None:
        self.sign_in(house, laptop)
        assert box.report(START, *self.CALLER)
        [session] = box.sessions()
        assert (session.user_name, session.device_id) == ("alice", laptop.id)

    def test_each_sign_in_is_one_session_s(self, box: Box, house: House, laptop: Enrolled) -> None:
        self.sign_in(house, laptop)
        assert box.report(START, *self.CALLER)
        assert box.report(START, *self.CALLER, session=b"0002")
        assert len(box.sessions()) == 1

    def test_two_devices_behind_one_address_in_the_order_of_their_sign_ins(
        self, box: Box, house: House, laptop: Enrolled
    ) -> None:
        other = enrol(house.driver.runtime, "alice", "alice-telephone", new_user=False)
        self.sign_in(house, laptop)
        self.sign_in(house, other)
        assert box.report(START, *self.CALLER)
        assert box.report(START, *self.CALLER, session=b"0002")
        owners = {session.id: session.device_id for session in box.sessions()}
        assert owners == {session_id_of("vpn", b"0001"): laptop.id, session_id_of("vpn", b"0002"): other.id}

    def test_a_minute_later_nothing_is_known(self, box: Box, house: House, laptop: Enrolled) -> None:
        self.sign_in(house, laptop)
        house.now += 61
        assert box.report(START, *self.CALLER)
        assert box.sessions() == []

    @pytest.mark.parametrize("said", [b"", b"of another server"])
    def test_a_session_that_nobody_signed_in_for_here(self, box: Box, house: House, said: bytes) -> None:
        """Answered, since strongSwan keeps its user waiting until it is, and not kept."""
        assert box.report(START, *([(CLASS, said)] if said else []))
        assert box.report(STOP)
        [drop] = house.dropped
        assert "nobody signed in here" in drop.reason
        assert box.sessions() == []

    def test_a_class_that_was_given_to_another_client(self, box: Box, house: House, laptop: Enrolled) -> None:
        answer = house.sign_in(MsChapV2Peer("alice", laptop.code))
        assert box.report(START, *((CLASS, value) for value in answer.values(CLASS)))
        assert box.sessions() == []

    def test_what_is_remembered_has_an_end(self) -> None:
        recent = RecentGrants(most=3)
        access = Access("alice", "d", "d", "eap-tls", "r", "", None, (), (), 1.0, 1.0)
        for number in range(10):
            recent.remember("vpn", f"user-{number}", "", access, 0.0)
        assert len(recent) <= 3
        assert recent.take("vpn", "user-0", "", 1.0) is None
        assert recent.take("vpn", "USER-9", "", 1.0) == access
        assert recent.take("vpn", "user-9", "", 1.0) is None

    @pytest.mark.parametrize(
        ("items", "address"),
        [
            ([(97, b"\0\x80" + bytes(15) + b"\1")], "::1"),
            ([(168, bytes(15) + b"\2")], "::2"),
            ([(97, b"\0\x40" + bytes(8))], None),
            ([(97, b"\0\x80")], None),
            ([(97, b"")], None),
            ([(168, b"\0")], None),
        ],
    )
    def test_ipv6_addresses(
        self, box: Box, house: House, laptop: Enrolled, items: list[Attribute], address: str | None
    ) -> None:
        assert box.report(START, *sign_in(house, laptop), *items)
        assert [session.virtual_ipv6 for session in box.sessions()] == [address]


class TestClient:
    @pytest.mark.parametrize(
        ("status", "cause", "action"), [(ON, "NAS_REBOOT", "start"), (OFF, "NAS_REQUEST", "stop")]
    )
    def test_has_no_session_when_it_starts_or_stops(
        self, box: Box, house: House, laptop: Enrolled, status: int, cause: str, action: str
    ) -> None:
        granted = sign_in(house, laptop)
        assert box.report(START, *granted)
        assert box.report(START, *granted, session=b"0002")
        assert box.report(status, session=b"")
        assert [session.terminate_cause for session in box.sessions()] == [cause, cause]
        [event] = house.driver.events(f"gateway.{action}")
        assert (event["target"], event["sessions_left_open"]) == ("gateway:vpn", 2)

    @pytest.mark.parametrize(("off_s", "counts"), [(0, True), (-290, True), (290, True), (-310, False), (310, False)])
    def test_of_another_time_ends_nothing(
        self, box: Box, house: House, laptop: Enrolled, off_s: int, counts: bool
    ) -> None:
        """Whoever has seen one can play it again, for ever: it is as authentic as it was."""
        assert box.report(START, *sign_in(house, laptop))
        assert box.report(ON, number(EVENT_TIMESTAMP, int(time.time()) + off_s), session=b"") is counts
        assert [session.ended_at is not None for session in box.sessions()] == [counts]
        if not counts:
            assert "of another time" in house.dropped[-1].reason

    def test_one_of_many_by_a_name_speaks_for_itself_alone(self, box: Box, house: House, laptop: Enrolled) -> None:
        """An access point that starts must not end what the others have."""
        assert box.report(START, *sign_in(house, laptop))
        data = packet(ACCOUNTING, b"of the access points", [number(STATUS_TYPE, ON)])
        assert house.ask(data, from_host(service=Service.ACCOUNTING)) is not None
        with house.driver.runtime.database.reading() as session:
            assert len(live_sessions(session)) == 1
        assert house.driver.events("gateway.start") == []


class TestThrowingOut:
    """A RADIUS client is not told yet; nothing says that it was, and nothing else suffers from it."""

    @pytest.fixture
    def connected(self, box: Box, house: House, laptop: Enrolled) -> Enrolled:
        assert box.report(START, *sign_in(house, laptop))
        return laptop

    def test_a_revocation_says_who_is_not_told(self, house: House, connected: Enrolled) -> None:
        done = enforcement.revoke_device(house.driver.runtime, connected.id, "stolen", SYSTEM)
        [answer] = done.answers
        assert (answer.gateway, answer.acknowledged, answer.told) == ("vpn", False, False)

    def test_a_quarantine_comes_about_all_the_same(self, house: House, connected: Enrolled) -> None:
        runtime = house.driver.runtime
        done = enforcement.change_device_state(runtime, connected.id, "quarantined", "disk", SYSTEM)
        assert [answer.acknowledged for answer in done.answers] == [False]
        with runtime.database.reading() as session:
            assert inventory.get(session, connected.id).state == "quarantined"

    def test_disabling_the_user(self, house: House, connected: Enrolled) -> None:
        [done] = enforcement.disable_user(house.driver.runtime, "alice", "left", SYSTEM)
        assert [(answer.gateway, answer.acknowledged) for answer in done.answers] == [("vpn", False)]

    def test_one_session_can_t_be_ended(self, box: Box, house: House, connected: Enrolled) -> None:
        [session] = box.sessions()
        with pytest.raises(ConflictError, match="vpn"):
            enforcement.disconnect_session(house.driver.runtime, session.id, "maintenance", SYSTEM)

    def test_it_does_not_count_where_devices_at_once_are_limited(self, house: House, connected: Enrolled) -> None:
        """Making room by a session that can't be ended would be no room."""
        with house.driver.runtime.database.transaction() as session:
            start = session_start(Access("alice", "d", "d", "psk", "r", "", None, (), (), 1.0, 1.0), "s")
            assert end_surplus(session, [start], {"alice": 1}).events == []
