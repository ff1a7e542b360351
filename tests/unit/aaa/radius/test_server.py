"""Who is answered, what is answered to a repetition, and what the limits are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aaa.eap.packet import EapType, response
from aaa.radius.request import Service
from core.runtime import Runtime
from tests.peers.eap import MsChapV2Peer
from tests.peers.radius import (
    ACCEPT,
    ACCESS_REQUEST,
    ACCOUNTED,
    CHALLENGE,
    PROXY_STATE,
    REJECT,
    STATE,
    STATUS,
    USER_NAME,
    Answer,
    Nas,
    eap_attributes,
    packet,
    read_answer,
)
from tests.unit.aaa.driver import Driver
from tests.unit.aaa.people import Enrolled, enrol
from tests.unit.aaa.radius.house import OFFICE, TIMEOUT_S, WIFI, House, from_host, identity

SECRET = WIFI.secret.reveal()


@pytest.fixture
def driver(runtime: Runtime) -> Iterator[Driver]:
    with Driver(runtime, hello=False) as driver:
        yield driver


@pytest.fixture
def house(driver: Driver) -> House:
    return House(driver)


@pytest.fixture
def laptop(driver: Driver) -> Enrolled:
    return enrol(driver.runtime)


class TestWhoIsAnswered:
    @pytest.mark.parametrize("host", ["10.0.2.1", "192.0.2.1", "fd00:1::1", "::ffff:10.0.0.7", "nonsense"])
    def test_nobody_else(self, house: House, host: str) -> None:
        assert house.ask(packet(STATUS, SECRET, []), from_host(host)) is None
        assert house.dropped[-1].reason == "the address is no client's"

    @pytest.mark.parametrize("host", ["10.0.1.1", "fd00::53"])
    def test_each_client_with_its_own_secret(self, house: House, host: str) -> None:
        assert house.ask(packet(STATUS, SECRET, []), from_host(host)) is None
        assert house.dropped[-1].client == "office"
        assert house.ask(packet(STATUS, OFFICE.secret.reveal(), []), from_host(host)) is not None

    def test_a_request_without_message_authenticator(self, house: House) -> None:
        plain = packet(ACCESS_REQUEST, SECRET, [(USER_NAME, b"alice"), *eap_attributes(identity("alice"))], macs=0)
        assert house.ask(plain) is None
        assert house.dropped[-1].reason == "no Message-Authenticator"
        assert len(house.conversations) == 0

    @pytest.mark.parametrize("service", list(Service))
    def test_status_server(self, house: House, service: Service) -> None:
        """RFC 5997 section 4.2."""
        asked = packet(STATUS, SECRET, [(PROXY_STATE, b"p")])
        answer = house.ask(asked, from_host(service=service))
        assert answer is not None
        read = read_answer(asked, answer, SECRET)
        assert read.code == (ACCEPT if service is Service.AUTHENTICATION else ACCOUNTED)


class TestRepetitions:
    def test_the_same_request_gets_the_same_answer_and_is_carried_out_once(
        self, house: House, laptop: Enrolled
    ) -> None:
        nas, peer = house.nas(), MsChapV2Peer("alice", laptop.code)
        answer = nas.carry(identity("alice"))
        while answer.code == CHALLENGE:
            assert house.ask(nas.last_request) == house.sent[-2][0]
            answer = nas.carry(peer.receive(answer.eap) or b"")
        assert answer.code == ACCEPT
        first, again = house.sent[-1][0], house.ask(nas.last_request)
        # Byte by byte: under another salt the keys would be encrypted twice.
        assert again == first
        assert len(house.driver.events("sign-in.accept")) == 1

    def test_one_that_is_still_worked_on_is_not_answered_twice(self, house: House, laptop: Enrolled) -> None:
        request = house.nas().request(identity("alice"))
        assert house.give(request) is None
        assert house.give(request) is None
        house.driver.pump(lambda: bool(house.sent))
        house.driver.run_posted()
        assert len(house.sent) == 1

    def test_another_request_under_the_same_identifier(self, house: House, laptop: Enrolled) -> None:
        """An identifier comes again after 256 requests: only the authenticator says that it is the same."""
        one = packet(ACCESS_REQUEST, SECRET, eap_attributes(identity("alice")), identifier=9)
        other = packet(ACCESS_REQUEST, SECRET, eap_attributes(identity("bob")), identifier=9)
        first, second = house.ask(one), house.ask(other)
        assert first is not None
        assert second is not None
        assert read_answer(one, first, SECRET).values(STATE) != read_answer(other, second, SECRET).values(STATE)

    def test_from_another_port_it_is_another_request(self, house: House, laptop: Enrolled) -> None:
        request = packet(STATUS, SECRET, [])
        house.ask(request, from_host(port=1))
        house.ask(request, from_host(port=2))
        assert len(house.sent) == 2

    def test_what_was_answered_long_ago_is_forgotten(self, house: House, laptop: Enrolled) -> None:
        nas = house.nas()
        nas.carry(identity("alice"))
        house.now += 31.0
        again = house.ask(nas.last_request)
        assert again is not None
        assert again != house.sent[0][0]


class TestState:
    def test_each_challenge_has_its_own(self, house: House, laptop: Enrolled) -> None:
        nas, peer = house.nas(), MsChapV2Peer("alice", laptop.code)
        first = nas.carry(identity("alice"))
        second = nas.carry(peer.receive(first.eap) or b"")
        assert first.values(STATE) != second.values(STATE)

    @pytest.mark.parametrize("state", [b"", b"x" * 16, b"x" * 253])
    def test_an_unknown_one_is_refused(self, house: House, state: bytes) -> None:
        answer = house.nas().carry(identity("alice", 5), (STATE, state))
        assert (answer.code, answer.eap) == (REJECT, b"\x04\x05\x00\x04")

    def test_an_old_one_is_refused_and_harms_nobody(self, house: House, laptop: Enrolled) -> None:
        nas, peer = house.nas(), MsChapV2Peer("alice", laptop.code)
        first = nas.carry(identity("alice"))
        answer = nas.carry(peer.receive(first.eap) or b"")
        assert house.nas().carry(b"\x02\x00\x00\x05\x1a", (STATE, first.values(STATE)[0])).code == REJECT
        while answer.code == CHALLENGE:
            answer = nas.carry(peer.receive(answer.eap) or b"")
        assert answer.code == ACCEPT

    def test_that_of_another_client_is_nobody_s(self, house: House, laptop: Enrolled) -> None:
        first = house.nas().carry(identity("alice"))
        other = house.nas(peer=from_host("10.0.1.1"), client=OFFICE)
        assert other.carry(identity("alice"), (STATE, first.values(STATE)[0])).code == REJECT
        assert len(house.conversations) == 1

    def test_two_of_them_are_dropped(self, house: House) -> None:
        assert house.ask(house.nas().request(identity("alice"), (STATE, b"a"), (STATE, b"b"))) is None
        assert house.dropped[-1].reason == "more than one State"

    def test_two_answers_to_one_challenge(self, house: House, laptop: Enrolled) -> None:
        """The second comes while the first is being decided: there is nothing that it could answer."""
        nas, peer = house.nas(), MsChapV2Peer("alice", laptop.code)
        answer = nas.carry(identity("alice"))
        answer = nas.carry(peer.receive(answer.eap) or b"")
        last = peer.receive(answer.eap) or b""
        assert house.give(nas.request(last)) is None
        drop = house.give(nas.request(last))
        assert drop is not None
        assert "still owed" in drop.reason


class TestLimits:
    def begin(self, nas: Nas) -> bool:
        return nas.ask(nas.request(identity("alice"))) is not None

    def test_of_all_conversations(self, driver: Driver, laptop: Enrolled) -> None:
        """A newcomer takes the place of the oldest one, of the client that has most."""
        house = House(driver, limit=3, limit_per_client=3)
        first, second, _ = (house.nas().carry(identity("alice")) for _ in range(3))
        assert self.begin(house.nas(peer=from_host("10.0.1.1"), client=OFFICE))
        assert len(house.conversations) == 3
        assert not self.goes_on(house, first)
        assert self.goes_on(house, second)

    def test_of_one_client_s_so_that_others_have_room(self, driver: Driver, laptop: Enrolled) -> None:
        house = House(driver, limit=5, limit_per_client=2)
        office = house.nas(peer=from_host("10.0.1.1"), client=OFFICE)
        others = office.carry(identity("alice"))
        first = house.nas().carry(identity("alice"))
        assert [self.begin(house.nas()) for _ in range(20)] == [True] * 20
        assert len(house.conversations) == 3
        assert not self.goes_on(house, first)
        assert office.carry(response(others.eap[1], EapType.TLS, b"")).code == REJECT
        assert len(house.conversations) == 2

    @staticmethod
    def goes_on(house: House, challenge: Answer) -> bool:
        """Whether the conversation of this challenge is known still; the answer, which is none, ends it."""
        before = len(house.conversations)
        house.nas().carry(response(challenge.eap[1], EapType.TLS, b""), (STATE, challenge.values(STATE)[0]))
        return len(house.conversations) < before

    def test_what_was_dropped_for_want_of_room_is_taken_when_it_comes_again(
        self, driver: Driver, laptop: Enrolled
    ) -> None:
        """No room is made where an answer of ours is awaited."""
        house = House(driver, limit=1, limit_per_client=1)
        peer = MsChapV2Peer("alice", laptop.code)
        nas = house.nas()
        answer = nas.carry(identity("alice"))
        answer = nas.carry(peer.receive(answer.eap) or b"")
        house.give(nas.request(peer.receive(answer.eap) or b""))
        request = house.nas().request(identity("alice"))
        assert house.ask(request) is None
        assert house.dropped[-1].reason == "too many sign-ins are under way"
        driver.pump(lambda: len(house.sent) == 3)
        assert house.ask(request) is not None

    def test_silent_clients_are_forgotten(self, house: House, laptop: Enrolled) -> None:
        nas = house.nas()
        first = nas.carry(identity("alice"))
        house.now += TIMEOUT_S - 1
        house.server.handle_timer(house.now)
        assert len(house.conversations) == 1
        due = house.server.get_timer()
        assert due is not None
        house.server.handle_timer(due)
        assert len(house.conversations) == 0
        assert house.server.get_timer() is None
        assert house.nas().carry(identity("alice"), (STATE, first.values(STATE)[0])).code == REJECT

    def test_nothing_is_left_of_those_that_end(self, house: House, laptop: Enrolled) -> None:
        for code in (laptop.code, "wrong"):
            house.sign_in(MsChapV2Peer("alice", code))
        assert len(house.conversations) == 0
        house.nas().carry(identity("alice"))
        house.server.close()
        assert len(house.conversations) == 0
