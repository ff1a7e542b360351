"""MOBIKE (RFC 4555): a client moves, and its SAs with it, once it has shown that it receives where it is."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from gateway.child_sas import endpoints
from gateway.ike import handover
from gateway.ike.constants import ExchangeType, NotifyType, PayloadType
from gateway.ike.events import CloseCause, PathChanged
from gateway.ike.exchanges.informational import Liveness
from gateway.ike.exchanges.mobike import MAX_ADDRESSES, MOVES_BURST, MOVES_PER_S, Mobility
from gateway.ike.message import Header
from gateway.ike.path import Path
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.sa import KEEPALIVE, STRAY_ANSWERS_BURST, IkeSa
from gateway.ike.states import State
from tests.peers.initiator import Phase
from tests.peers.mobike import MobileInitiator, address_payload, no_nats_allowed
from tests.unit.gateway.ike.wire import GATEWAY, Client, Wire, mschapv2, responder_config

HOME = Path(GATEWAY, 4500, "198.51.100.1", 4500)
AWAY = Path(GATEWAY, 4500, "203.0.113.7", 4500)
ELSEWHERE = Path(GATEWAY, 4500, "203.0.113.66", 4500)
BEHIND = Path(GATEWAY, 4500, "192.0.2.99", 61001)
"""As the gateway sees a client behind a NAT."""
UPDATE = notify_payload(NotifyType.UPDATE_SA_ADDRESSES)
COOKIE = notify_payload(NotifyType.COOKIE2, b"sixteen octets!!")


def seen_by_client(path: Path) -> Path:
    """The path as the client sees it, where no NAT is in between."""
    return Path(path.remote, path.remote_port, path.local, path.local_port)


def connect(wire: Wire, outer: Path = HOME, *announced: tuple[PayloadType, bytes]) -> tuple[Client, MobileInitiator]:
    """A client that is in and may move."""
    local = Path("10.0.0.2", 4500, GATEWAY, 4500) if outer is BEHIND else seen_by_client(outer)
    client = wire.client(mschapv2(), local=local, outer=outer, initiator=MobileInitiator)
    assert isinstance(client.initiator, MobileInitiator)
    client.initiator.announced += announced
    client.initiator.start()
    wire.run()
    assert client.phase is Phase.ESTABLISHED
    return client, client.initiator


def move(wire: Wire, client: Client, outer: Path, *more: tuple[PayloadType, bytes]) -> list[Notify]:
    """The client is somewhere else, and says so; the notifies of the answer."""
    initiator = client.initiator
    assert isinstance(initiator, MobileInitiator)
    client.outer = outer
    local = Path("10.0.0.2", 4500, GATEWAY, 4500) if outer is BEHIND else seen_by_client(outer)
    initiator.move(local, *more)
    wire.run()
    return initiator.answers[-1]


def ask(wire: Wire, client: Client, *payloads: tuple[PayloadType, bytes]) -> list[Notify]:
    """An INFORMATIONAL request; the notifies of the answer."""
    initiator = client.initiator
    assert isinstance(initiator, MobileInitiator)
    initiator.request(ExchangeType.INFORMATIONAL, payloads)
    wire.run()
    return initiator.answers[-1]


def types(notifies: list[Notify]) -> list[int]:
    """Of notifies."""
    return [notify.type for notify in notifies]


class Lossy:
    """A network that can lose what the gateway sends."""

    def __init__(self, wire: Wire) -> None:
        self.is_down = False
        wire.filter = self

    def __call__(self, to_gateway: bool, batch: list[bytes]) -> list[bytes]:
        """What arrives."""
        return [] if self.is_down and not to_gateway else batch


class TestAgreement:
    def test_both_sides_announce_it(self) -> None:
        wire = Wire(responder_config(addresses=("192.0.2.1", "203.0.113.200", "2001:db8::1")))
        _, initiator = connect(wire, HOME, address_payload("198.51.100.50"), address_payload("2001:db8:7::7"))
        announced = [(notify.type, notify.data) for notify in initiator.last_auth_notifies]
        assert announced == [
            (NotifyType.MOBIKE_SUPPORTED, b""),
            (NotifyType.ADDITIONAL_IP4_ADDRESS, bytes((203, 0, 113, 200))),
            (NotifyType.ADDITIONAL_IP6_ADDRESS, bytes.fromhex("20010db8000000000000000000000001")),
        ]
        assert wire.sa.mobility == Mobility(("198.51.100.50", "2001:db8:7::7"))

    def test_not_with_a_client_that_does_not(self) -> None:
        wire = Wire(responder_config(addresses=("203.0.113.200",)))
        client = wire.client(mschapv2(), initiator=MobileInitiator)
        assert isinstance(client.initiator, MobileInitiator)
        client.initiator.announced = []
        client.initiator.start()
        wire.run()
        assert client.initiator.last_auth_notifies == []
        assert wire.sa.mobility is None
        assert ask(wire, client, UPDATE, COOKIE, *client.initiator.nat_detection()) == []

    def test_its_content_means_nothing(self) -> None:
        wire = Wire()
        client = wire.client(mschapv2(), initiator=MobileInitiator)
        assert isinstance(client.initiator, MobileInitiator)
        client.initiator.announced = [notify_payload(NotifyType.MOBIKE_SUPPORTED, b"whatever")]
        client.initiator.start()
        wire.run()
        assert client.initiator.speaks_mobike

    def test_so_many_addresses_are_kept_and_no_more(self) -> None:
        wire = Wire()
        connect(wire, HOME, *(address_payload(f"198.51.100.{number}") for number in range(1, 30)))
        assert wire.sa.mobility is not None
        assert len(wire.sa.mobility.peer_addresses) == MAX_ADDRESSES

    @pytest.mark.parametrize(
        ("kind", "size"),
        [(NotifyType.ADDITIONAL_IP4_ADDRESS, 3), (NotifyType.ADDITIONAL_IP4_ADDRESS, 16)]
        + [(NotifyType.ADDITIONAL_IP6_ADDRESS, size) for size in (0, 4, 17)],
    )
    def test_an_address_of_the_wrong_length(self, kind: NotifyType, size: int) -> None:
        wire = Wire()
        client = wire.client(mschapv2(), initiator=MobileInitiator)
        assert isinstance(client.initiator, MobileInitiator)
        client.initiator.announced.append(notify_payload(kind, bytes(size)))
        client.initiator.start()
        wire.run()
        assert (client.phase, wire.failures[0][0]) == (Phase.FAILED, "invalid-syntax")


class TestMoving:
    def test_the_packets_follow_when_the_address_is_proved(self) -> None:
        wire = Wire()
        client, initiator = connect(wire)
        at_the_check: list[Any] = []

        def look(cookie: bytes) -> bytes:
            at_the_check.append((wire.sa.path, wire.sa.esp.path, len(wire.seen(PathChanged))))
            return cookie

        initiator.answer_to_cookie2 = look
        answer = move(wire, client, AWAY)
        assert types(answer) == [NotifyType.NAT_DETECTION_SOURCE_IP, NotifyType.NAT_DETECTION_DESTINATION_IP]
        # IKE follows at once, ESP only after the check.
        assert at_the_check == [(AWAY, HOME, 0)]
        assert wire.seen(PathChanged) == [PathChanged(wire.sa)]
        assert (wire.sa.path, wire.sa.esp.path) == (AWAY, AWAY)
        assert [types(asked) for asked in initiator.asked] == [[NotifyType.COOKIE2]]

    def test_the_answer_goes_where_the_request_came_from(self) -> None:
        wire = Wire()
        client, _ = connect(wire)
        sent = len(wire.from_gateway)
        move(wire, client, AWAY)
        assert {path for _, path in wire.from_gateway[sent:]} == {AWAY}

    def test_cookies_are_not_to_be_guessed(self) -> None:
        wire = Wire()
        client, initiator = connect(wire)
        for outer in (AWAY, HOME, ELSEWHERE):
            move(wire, client, outer)
        cookies = [asked[0].data for asked in initiator.asked]
        assert len(set(cookies)) == 3
        assert {len(cookie) for cookie in cookies} == {16}

    @pytest.mark.parametrize(
        "answer",
        [
            lambda _: None,
            lambda _: b"",
            lambda cookie: cookie[:-1],
            lambda cookie: cookie + b"\0",
            lambda cookie: bytes(len(cookie)),
        ],
    )
    def test_a_wrong_cookie_ends_the_sa(self, answer: Any) -> None:
        wire = Wire()
        client, initiator = connect(wire)
        initiator.answer_to_cookie2 = answer
        move(wire, client, AWAY)
        assert wire.causes == [CloseCause.PROTOCOL_ERROR]
        assert wire.children == {}

    def test_a_client_that_never_gets_the_cookie_is_gone_in_the_end(self) -> None:
        wire = Wire(responder_config(mobike_patience_s=60.0, dpd_interval_s=1e6))
        network = Lossy(wire)
        client, initiator = connect(wire)
        network.is_down = True
        client.outer = AWAY
        initiator.move(seen_by_client(AWAY))
        wire.run()
        assert wire.sa.esp.path == HOME
        wire.advance(59.0)
        assert wire.sa.state is State.ESTABLISHED
        assert wire.sa.esp.path == HOME
        wire.advance(15.0)
        assert wire.causes == [CloseCause.LOST]

    def test_another_port_needs_no_proof(self) -> None:
        wire = Wire()
        client, initiator = connect(wire, BEHIND)
        move(wire, client, BEHIND)
        assert wire.seen(PathChanged) == []
        client.outer = BEHIND._replace(remote_port=61999)
        initiator.move(initiator.path)
        wire.run()
        assert wire.seen(PathChanged) == [PathChanged(wire.sa)]
        assert wire.sa.esp.path == client.outer
        assert initiator.asked == []

    def test_another_address_of_ours_needs_no_proof(self) -> None:
        wire = Wire()
        client, initiator = connect(wire)
        there = HOME._replace(local="203.0.113.200")
        move(wire, client, there)
        assert (wire.sa.esp.path, initiator.asked) == (there, [])
        assert wire.seen(PathChanged) == [PathChanged(wire.sa)]

    def test_from_ipv4_to_ipv6_and_back(self) -> None:
        wire = Wire()
        client, _ = connect(wire)
        there = Path("2001:db8::1", 4500, "2001:db8:1::2", 4500)
        channel = wire.sa.channel
        assert channel is not None
        room = channel.room_bytes
        move(wire, client, there)
        assert wire.sa.esp.path == there
        assert channel.room_bytes == room - 20
        move(wire, client, HOME)
        assert (wire.sa.esp.path, channel.room_bytes) == (HOME, room)

    def test_back_to_where_its_packets_still_go(self) -> None:
        wire = Wire()
        network = Lossy(wire)
        client, initiator = connect(wire)
        network.is_down = True
        client.outer = AWAY
        initiator.move(seen_by_client(AWAY))
        wire.run()
        network.is_down = False
        wire.retransmit(client)
        # The check is still under way, since the network ate it.
        assert wire.sa.esp.path == HOME
        move(wire, client, HOME)
        wire.advance(3.0)
        assert (wire.sa.path, wire.sa.esp.path, wire.seen(PathChanged)) == (HOME, HOME, [])

    def test_on_while_it_is_being_checked(self) -> None:
        """What was asked at one place proves nothing of the next one."""
        wire = Wire()
        network = Lossy(wire)
        client, initiator = connect(wire)
        network.is_down = True
        client.outer = AWAY
        initiator.move(seen_by_client(AWAY))
        wire.run()
        network.is_down = False
        wire.retransmit(client)
        initiator.asked.clear()
        move(wire, client, ELSEWHERE)
        wire.advance(3.0)
        # The request to the first place went out anew to the second one, and then one of its own.
        first, second = (asked[0].data for asked in initiator.asked)
        assert first != second
        assert wire.sa.esp.path == ELSEWHERE
        assert wire.seen(PathChanged) == [PathChanged(wire.sa)]

    def test_what_is_outstanding_goes_along_the_new_path_at_once(self) -> None:
        wire = Wire()
        network = Lossy(wire)
        client, initiator = connect(wire)
        network.is_down = True
        wire.sa.initiate(Liveness(), wire.now)
        wire.responder.touch(wire.sa)
        wire.run()
        ((request, _),) = wire.from_gateway[-1:]
        network.is_down = False
        move(wire, client, AWAY)
        assert (request, AWAY) in wire.from_gateway
        assert [types(asked) for asked in initiator.asked] == [[], [NotifyType.COOKIE2]]
        assert wire.sa.esp.path == AWAY

    def test_nat_is_found_anew(self) -> None:
        wire = Wire()
        client, initiator = connect(wire)
        assert not endpoints(wire.sa).udp_encapsulation
        move(wire, client, BEHIND)
        assert (wire.sa.nat_remote, wire.sa.nat_local) == (True, False)
        into = endpoints(wire.sa)
        assert (into.udp_encapsulation, into.peer_behind_nat, into.remote_port) == (True, True, 61001)
        move(wire, client, AWAY)
        out_of = endpoints(wire.sa)
        assert (out_of.udp_encapsulation, out_of.peer_behind_nat) == (False, False)
        assert len(wire.seen(PathChanged)) == 2
        assert initiator.requests_seen == 2

    def test_before_the_check_encapsulation_stays_as_it_was(self) -> None:
        wire = Wire()
        network = Lossy(wire)
        client, initiator = connect(wire)
        network.is_down = True
        client.outer = BEHIND
        initiator.move(Path("10.0.0.2", 4500, GATEWAY, 4500))
        wire.run()
        assert (wire.sa.nat_remote, wire.sa.path) == (True, BEHIND)
        still = endpoints(wire.sa)
        assert (still.udp_encapsulation, str(still.remote)) == (False, HOME.remote)

    def test_without_nat_detection_nothing_is_known_anew(self) -> None:
        wire = Wire()
        client, _ = connect(wire, BEHIND)
        client.outer = BEHIND._replace(remote="192.0.2.98")
        assert ask(wire, client, UPDATE) == []
        assert wire.sa.esp.path == client.outer
        assert wire.sa.nat_remote

    def test_keepalives_begin_and_end(self) -> None:
        wire = Wire(responder_config(dpd_interval_s=1e6))
        client, initiator = connect(wire)
        forwarded = AWAY._replace(local="10.9.9.9")
        client.outer = forwarded
        initiator.move(seen_by_client(AWAY))
        wire.run()
        assert wire.sa.nat_local
        wire.advance(2 * wire.config.keepalive_interval_s)
        assert [path for data, path in wire.from_gateway if data is KEEPALIVE] == [forwarded] * 2
        move(wire, client, HOME)
        wire.advance(3 * wire.config.keepalive_interval_s)
        assert len([path for data, path in wire.from_gateway if data is KEEPALIVE]) == 2


class TestRefusals:
    def test_an_address_inside_the_tunnels(self) -> None:
        wire = Wire(responder_config(inner_networks=(ip_network("10.99.0.0/20"), ip_network("fd99::/112"))))
        client, _ = connect(wire)
        for inside in ("10.99.3.4", "fd99::7"):
            answer = move(wire, client, HOME._replace(remote=inside), COOKIE)
            assert types(answer)[0] == NotifyType.UNACCEPTABLE_ADDRESSES
            assert types(answer)[-1] == NotifyType.COOKIE2
            assert (wire.sa.path, wire.sa.esp.path) == (HOME, HOME)
        assert types(move(wire, client, AWAY))[0] == NotifyType.NAT_DETECTION_SOURCE_IP

    def test_back_to_port_500(self) -> None:
        wire = Wire()
        client, _ = connect(wire)
        answer = move(wire, client, AWAY._replace(local_port=500, remote_port=500))
        assert types(answer)[0] == NotifyType.UNACCEPTABLE_ADDRESSES
        assert wire.sa.path == HOME

    def test_from_port_500_to_4500(self) -> None:
        wire = Wire()
        client, _ = connect(wire, HOME._replace(local_port=500, remote_port=500))
        move(wire, client, AWAY)
        assert wire.sa.esp.path == AWAY

    @pytest.mark.parametrize("outer", [HOME, Path("2001:db8::1", 4500, "2001:db8:1::2", 4500)])
    def test_no_nats_allowed(self, outer: Path) -> None:
        wire = Wire()
        client, _ = connect(wire, outer, no_nats_allowed(seen_by_client(outer)))
        fine = move(wire, client, AWAY, no_nats_allowed(seen_by_client(AWAY)), COOKIE)
        assert NotifyType.UNEXPECTED_NAT_DETECTED not in types(fine)
        assert wire.sa.path == AWAY
        translated = ELSEWHERE._replace(remote_port=1025)
        client.outer = translated
        answer = ask(wire, client, UPDATE, no_nats_allowed(seen_by_client(ELSEWHERE)), COOKIE)
        assert types(answer) == [NotifyType.UNEXPECTED_NAT_DETECTED, NotifyType.COOKIE2]
        assert wire.from_gateway[-1][1] == translated
        assert wire.sa.path == AWAY

    def test_no_nats_allowed_in_ike_auth(self) -> None:
        wire = Wire()
        client = wire.client(mschapv2(), local=seen_by_client(HOME), outer=BEHIND, initiator=MobileInitiator)
        assert isinstance(client.initiator, MobileInitiator)
        client.initiator.announced.append(no_nats_allowed(seen_by_client(HOME)))
        client.initiator.start()
        wire.run()
        assert (client.phase, client.initiator.error) == (Phase.FAILED, "UNEXPECTED_NAT_DETECTED")
        assert wire.failures[0][0] == "unexpected-nat-detected"

    @pytest.mark.parametrize("size", [0, 8, 11, 13, 36])
    def test_no_nats_allowed_of_any_length(self, size: int) -> None:
        wire = Wire()
        client, _ = connect(wire)
        answer = ask(wire, client, UPDATE, notify_payload(NotifyType.NO_NATS_ALLOWED, bytes(size)))
        assert types(answer) == [NotifyType.UNEXPECTED_NAT_DETECTED]


class TestWhatMovesNothing:
    def test_an_update_that_is_played_again(self) -> None:
        wire = Wire()
        client, initiator = connect(wire)
        (update,) = initiator.move(seen_by_client(AWAY))
        client.outer = AWAY
        wire.run()
        move(wire, client, HOME)
        events, sent = len(wire.events), len(wire.from_gateway)
        for _ in range(50):
            wire.inject(update, ELSEWHERE)
        assert (wire.sa.path, wire.sa.esp.path, wire.events[events:]) == (HOME, HOME, [])
        # It is no longer the newest request, so nobody gets an answer either.
        assert wire.from_gateway[sent:] == []

    def test_the_newest_one_played_again(self) -> None:
        wire = Wire()
        client, _ = connect(wire)
        move(wire, client, AWAY)
        (newest,) = [data for data, path in wire.to_gateway if path == AWAY and not Header.of(data).is_response]
        sent = len(wire.from_gateway)
        for _ in range(500):
            wire.inject(newest, ELSEWHERE)
        assert (wire.sa.path, wire.sa.esp.path) == (AWAY, AWAY)
        # A few copies of the answer, and each no longer than what brought it.
        answers = wire.from_gateway[sent:]
        assert len(answers) == STRAY_ANSWERS_BURST
        assert all(path == ELSEWHERE and len(data) <= len(newest) for data, path in answers)

    def test_an_update_that_is_not_authentic(self) -> None:
        wire = Wire()
        _, initiator = connect(wire)
        (update,) = initiator.move(seen_by_client(AWAY))
        initiator.datagrams_to_send()
        for position in range(28, len(update)):
            wire.inject(update[:position] + bytes((update[position] ^ 1,)) + update[position + 1 :], ELSEWHERE)
        assert (wire.sa.path, wire.seen(PathChanged)) == (HOME, [])

    def test_a_request_from_elsewhere_tries_a_path_and_no_more(self) -> None:
        wire = Wire()
        for outer in (HOME, BEHIND):
            client, initiator = connect(wire, outer)
            sa = wire.established[-1]
            client.outer = ELSEWHERE
            answer = ask(wire, client, COOKIE, *initiator.nat_detection())
            assert types(answer) == [
                NotifyType.NAT_DETECTION_SOURCE_IP,
                NotifyType.NAT_DETECTION_DESTINATION_IP,
                NotifyType.COOKIE2,
            ]
            assert answer[-1].data == b"sixteen octets!!"
            assert wire.from_gateway[-1][1] == ELSEWHERE
            assert sa.path == outer
        assert wire.seen(PathChanged) == []

    @pytest.mark.parametrize(("size", "echoed"), [(0, False), (7, False), (8, True), (64, True), (65, False)])
    def test_cookies_of_all_lengths(self, size: int, echoed: bool) -> None:
        wire = Wire()
        client, _ = connect(wire)
        answer = ask(wire, client, notify_payload(NotifyType.COOKIE2, bytes(range(size))))
        assert [notify.data for notify in answer] == ([bytes(range(size))] if echoed else [])

    def test_authentic_esp_behind_a_nat_does_move(self) -> None:
        wire = Wire()
        connect(wire, BEHIND)
        moved = BEHIND._replace(remote_port=62000)
        wire.sa.remote_moved(moved)
        assert (wire.sa.path, wire.sa.esp.path) == (moved, moved)

    def test_addresses_named_without_an_update_are_kept(self) -> None:
        wire = Wire()
        client, _ = connect(wire, HOME, address_payload("198.51.100.50"))
        mobility = wire.sa.mobility
        assert mobility is not None
        assert ask(wire, client, address_payload("198.51.100.60"), address_payload("2001:db8:7::8")) == []
        assert mobility.peer_addresses == ("198.51.100.60", "2001:db8:7::8")
        move(wire, client, AWAY)
        assert mobility.peer_addresses == ("198.51.100.60", "2001:db8:7::8")
        ask(wire, client, notify_payload(NotifyType.NO_ADDITIONAL_ADDRESSES))
        assert not mobility.peer_addresses

    def test_an_older_update_behind_a_newer_one(self) -> None:
        """With a window of two, the first of two requests may come last."""
        wire = Wire()
        client, initiator = connect(wire)
        wire.sa.peer.widen(2)
        (older,) = initiator.move(seen_by_client(AWAY))
        initiator.message_id += 1
        (newer,) = initiator.move(seen_by_client(ELSEWHERE))
        initiator.datagrams_to_send()
        client.outer = ELSEWHERE
        wire.inject(newer, ELSEWHERE)
        wire.inject(older, AWAY)
        assert wire.sa.path == ELSEWHERE
        assert AWAY in {path for _, path in wire.from_gateway}


class TestMovingTooOften:
    """Every update is taken, but what costs the kernel new states is done only so often."""

    @staticmethod
    def place(number: int) -> Path:
        return AWAY._replace(remote=f"203.0.113.{1 + number % 250}")

    def test_a_flapping_interface_is_followed_at_once(self) -> None:
        wire = Wire()
        client, _ = connect(wire)
        for number in range(int(MOVES_BURST)):
            assert move(wire, client, self.place(number)) != []
            assert wire.sa.esp.path == self.place(number)

    def test_a_flood_is_not_and_its_end_is(self) -> None:
        wire = Wire()
        client, _ = connect(wire)
        for number in range(200):
            answer = move(wire, client, self.place(number))
            assert types(answer) == [
                NotifyType.NAT_DETECTION_SOURCE_IP,
                NotifyType.NAT_DETECTION_DESTINATION_IP,
            ]
            assert wire.sa.path == self.place(number)
        assert len(wire.seen(PathChanged)) == MOVES_BURST
        assert wire.sa.esp.path == self.place(int(MOVES_BURST) - 1)
        wire.advance(1 / MOVES_PER_S + 0.1)
        assert wire.sa.esp.path == self.place(199)
        assert len(wire.seen(PathChanged)) == MOVES_BURST + 1

    def test_neither_is_one_of_ports(self) -> None:
        wire = Wire()
        client, _ = connect(wire, BEHIND)
        for number in range(50):
            client.outer = BEHIND._replace(remote_port=40_000 + number)
            ask(wire, client, UPDATE)
        assert len(wire.seen(PathChanged)) == MOVES_BURST
        wire.advance(1 / MOVES_PER_S + 0.1)
        assert wire.sa.esp.path.remote_port == 40_049

    def test_a_flood_for_long(self) -> None:
        wire = Wire()
        client, _ = connect(wire)
        for number in range(600):
            move(wire, client, self.place(number))
            wire.advance(0.1)
        assert len(wire.seen(PathChanged)) <= MOVES_BURST + 2 * 60 * MOVES_PER_S + 1
        wire.advance(1 / MOVES_PER_S + 0.1)
        assert wire.sa.esp.path == self.place(599)

    def test_whoever_moves_on_while_it_is_asked(self) -> None:
        """Each answer that comes from where the client is no more calls for another question."""
        wire = Wire()
        client, initiator = connect(wire)
        asked: list[int] = []

        def move_on(cookie: bytes) -> bytes:
            asked.append(len(asked))
            client.outer = self.place(len(asked))
            if len(asked) == 1:
                # The question comes before the answer to the update.
                initiator.message_id += 1
            initiator.move(seen_by_client(client.outer))
            return cookie

        initiator.answer_to_cookie2 = move_on
        move(wire, client, self.place(0))
        assert len(asked) <= MOVES_BURST
        wire.advance(60)
        assert MOVES_BURST < len(asked) <= MOVES_BURST + 2 * 60 * MOVES_PER_S + 1
        assert wire.seen(PathChanged) == []
        initiator.answer_to_cookie2 = lambda cookie: cookie
        wire.advance(2 / MOVES_PER_S + 0.1)
        assert wire.sa.esp.path == wire.sa.path == client.outer

    def test_when_the_ike_sa_is_rekeyed_meanwhile(self) -> None:
        wire = Wire()
        client, _ = connect(wire)
        for number in range(20):
            move(wire, client, self.place(number))
        new = TestRekeying.rekeyed(wire)
        assert (new.path, new.esp.path) == (self.place(19), self.place(int(MOVES_BURST) - 1))
        assert new.mobility is not None
        sent = len(wire.from_gateway)
        wire.advance(1 / MOVES_PER_S + 0.1)
        asked = [path for data, path in wire.from_gateway[sent:] if Header.parse(data).spi_r == new.spi_r]
        assert set(asked) == {self.place(19)}


class TestRekeying:
    @staticmethod
    def rekeyed(wire: Wire) -> IkeSa:
        """The SA that takes the place of the only one, as if the peer had rekeyed it."""
        old = wire.sa
        new = IkeSa(
            wire.responder,
            wire.config,
            wire.random.randbytes,
            spi_i=b"new-spi!",
            spi_r=wire.responder.new_ike_spi(),
            suite=old.suite,
            path=old.path,
        )
        assert old.keys is not None
        new.use_keys(old.keys)
        new.resume(wire.now, None, wire.now)
        wire.responder.adopt(new)
        handover.hand_over(old, new, wire.now)
        wire.responder.touch(old)
        wire.run()
        return new

    def test_moving_goes_on_in_the_new_sa(self) -> None:
        wire = Wire()
        connect(wire, HOME, address_payload("198.51.100.50"))
        assert wire.sa.mobility is not None
        wire.sa.mobility.last_update = 7
        assert self.rekeyed(wire).mobility == Mobility(("198.51.100.50",))

    def test_a_check_under_way_begins_anew(self) -> None:
        wire = Wire()
        network = Lossy(wire)
        client, initiator = connect(wire)
        network.is_down = True
        client.outer = AWAY
        initiator.move(seen_by_client(AWAY))
        wire.run()
        network.is_down = False
        old = wire.sa
        new = self.rekeyed(wire)
        assert (new.path, new.esp.path) == (AWAY, HOME)
        assert [type(own).__name__ for own in new.waiting] == ["RoutabilityCheck"]
        # What was asked under the old keys proves nothing for the new SA.
        wire.advance(2.5)
        assert (old.outstanding, new.esp.path) == (None, HOME)

    def test_an_update_that_crosses_with_the_rekeying(self) -> None:
        wire = Wire()
        client, initiator = connect(wire)
        (update,) = initiator.move(seen_by_client(AWAY))
        initiator.datagrams_to_send()
        client.outer = AWAY
        new = self.rekeyed(wire)
        wire.inject(update, AWAY)
        assert (new.path, new.esp.path) == (AWAY, HOME)
        assert types(initiator.answers[-1]) == [
            NotifyType.NAT_DETECTION_SOURCE_IP,
            NotifyType.NAT_DETECTION_DESTINATION_IP,
        ]

    def test_what_was_said_on_the_new_sa_is_newer(self) -> None:
        wire = Wire()
        _, initiator = connect(wire)
        (update,) = initiator.move(seen_by_client(AWAY))
        initiator.datagrams_to_send()
        new = self.rekeyed(wire)
        assert new.mobility is not None
        new.mobility.last_update = 0
        wire.inject(update, AWAY)
        assert new.path == HOME


class TestOwnAddresses:
    def test_a_new_list_is_told(self) -> None:
        wire = Wire(responder_config(addresses=(GATEWAY, "203.0.113.200")))
        _, initiator = connect(wire)
        wire.sa.announce_addresses((GATEWAY, "203.0.113.201", "2001:db8::2"), wire.now)
        wire.run()
        assert types(initiator.asked[-1]) == [NotifyType.ADDITIONAL_IP4_ADDRESS, NotifyType.ADDITIONAL_IP6_ADDRESS]
        wire.sa.announce_addresses((GATEWAY,), wire.now)
        wire.run()
        assert types(initiator.asked[-1]) == [NotifyType.NO_ADDITIONAL_ADDRESSES]

    def test_not_to_a_client_that_can_make_no_use_of_it(self) -> None:
        wire = Wire()
        client = wire.connect()
        wire.sa.announce_addresses(("203.0.113.201",), wire.now)
        wire.run()
        assert client.initiator.requests_seen == 0


class TestPatience:
    def test_a_client_on_the_move_gets_minutes(self) -> None:
        wire = Wire(replace(responder_config(), dpd_interval_s=30.0))
        network = Lossy(wire)
        connect(wire)
        network.is_down = True
        wire.advance(30.0 + 299.0)
        assert wire.sa.state is State.ESTABLISHED
        wire.advance(13.0)
        assert wire.causes == [CloseCause.LOST]

    def test_others_do_not(self) -> None:
        wire = Wire()
        network = Lossy(wire)
        wire.connect()
        network.is_down = True
        wire.advance(wire.config.dpd_interval_s + sum(wire.config.retransmit_timeouts_s))
        assert wire.causes == [CloseCause.LOST]

    def test_a_delete_waits_no_longer_than_ever(self) -> None:
        wire = Wire()
        network = Lossy(wire)
        connect(wire)
        network.is_down = True
        wire.sa.close(CloseCause.ADMIN, wire.now)
        wire.responder.touch(wire.sa)
        wire.run()
        wire.advance(sum(wire.config.retransmit_timeouts_s))
        assert wire.state is State.CLOSED

    def test_it_comes_back_from_elsewhere_in_time(self) -> None:
        wire = Wire()
        network = Lossy(wire)
        client, _ = connect(wire)
        network.is_down = True
        wire.advance(200.0)
        network.is_down = False
        move(wire, client, AWAY)
        wire.advance(20.0)
        assert (wire.sa.state, wire.sa.esp.path) == (State.ESTABLISHED, AWAY)
