"""Floods and half-open SAs: cookies, limits, timeouts, and answers that cost an attacker more than us."""

from __future__ import annotations

import pytest

from gateway.ike import events
from gateway.ike.constants import ExchangeType, Flag, NotifyType, PayloadType
from gateway.ike.events import CloseCause
from gateway.ike.message import Header, clear_message, parse_payloads
from gateway.ike.path import Path
from gateway.ike.payloads.notify import Notify
from gateway.ike.responder import MAX_INIT_BYTES
from gateway.ike.states import State
from tests.peers.initiator import Phase
from tests.unit.gateway.ike.test_sign_in import by_certificate
from tests.unit.gateway.ike.wire import GATEWAY, Client, Wire, responder_config


def from_address(remote: str, port: int = 500) -> Path:
    """How the gateway sees a datagram from there."""
    return Path("2001:db8::1" if ":" in remote else GATEWAY, 500, remote, port)


def init_of(wire: Wire) -> bytes:
    """A fresh IKE_SA_INIT request, of a client that never goes on."""
    client = wire.client()
    wire.clients.remove(client)
    client.initiator.start()
    (datagram,) = client.initiator.datagrams_to_send()
    return datagram


def notifies_of(datagram: bytes) -> list[Notify]:
    """The notifies of a message in the clear."""
    payloads = parse_payloads(Header.parse(datagram).next_payload, datagram[28:])
    return [Notify.parse(body) for body in payloads.all(PayloadType.NOTIFY)]


def flood(wire: Wire, count: int, address: str = "203.0.113.9") -> None:
    """That many requests of different clients at one address."""
    for port in range(1, count + 1):
        wire.inject(init_of(wire), from_address(address, port))


class TestTimeout:
    def test_a_client_that_never_goes_on(self) -> None:
        wire = Wire()
        flood(wire, 3)
        assert wire.responder.half_open == 3
        wire.advance(wire.config.half_open_timeout_s - 0.1)
        assert wire.responder.half_open == 3
        wire.advance(0.2)
        assert wire.responder.half_open == 0
        assert wire.causes == [CloseCause.HALF_OPEN_TIMEOUT] * 3
        assert {code for code, _ in wire.failures} == {"handshake-timeout"}
        # Nothing was known of them: whoever hears of it can tell that it is no failed sign-in of anyone.
        assert {event.evidence.state for event in wire.seen(events.HandshakeFailed)} == {State.HALF_OPEN}
        wire.advance(wire.config.linger_s)
        assert wire.responder.sas() == []

    @pytest.mark.parametrize("state", [State.EAP, State.EAP_DONE])
    def test_a_client_that_stops_in_the_middle(self, state: State) -> None:
        wire = Wire()
        client = wire.client()
        client.initiator.start()
        wire.run_until(lambda: wire.state is state)
        wire.advance(wire.config.half_open_timeout_s)
        assert wire.failures == [("handshake-timeout", "the client did not go on with the handshake")]
        assert wire.causes == [CloseCause.HALF_OPEN_TIMEOUT]
        assert wire.responder.half_open == 0

    @pytest.mark.parametrize("config", ["eap", "certificate"])
    def test_aaa_that_does_not_answer(self, config: str) -> None:
        wire = Wire()
        wire.aaa.hold = True
        wire.connect(by_certificate() if config == "certificate" else None)
        assert wire.state in (State.EAP, State.AUTHORISING)
        wire.advance(wire.config.half_open_timeout_s)
        assert wire.causes == [CloseCause.HALF_OPEN_TIMEOUT]
        # And when it does, it is too late.
        wire.release()
        assert (wire.state, wire.responder.half_open, wire.children) == (State.CLOSED, 0, {})

    def test_garbage_does_not_reset_the_clock(self) -> None:
        wire = Wire()
        client = wire.client()
        client.initiator.start()
        wire.run_until(lambda: wire.state is State.HALF_OPEN)
        sa = wire.sa
        for _ in range(10):
            wire.advance(wire.config.half_open_timeout_s / 10 - 0.01)
            garbage = Header(sa.spi_i, sa.spi_r, PayloadType.SK, 0x20, ExchangeType.IKE_AUTH, Flag.INITIATOR, 1, 128)
            wire.inject(garbage.to_bytes() + b"\0\0\0\x64" + bytes(96), client.outer)
        wire.advance(0.2)
        assert wire.causes == [CloseCause.HALF_OPEN_TIMEOUT]


class TestLimits:
    def test_of_one_address(self) -> None:
        wire = Wire(responder_config(half_open_limit_per_address=5))
        flood(wire, 9)
        assert wire.responder.half_open == 5
        assert wire.responder.statistics.dropped == 4
        # Somebody else is not touched by it.
        assert wire.connect().phase is Phase.ESTABLISHED

    def test_of_an_ipv6_prefix(self) -> None:
        wire = Wire(responder_config(half_open_limit_per_address=5))
        for host in range(9):
            wire.inject(init_of(wire), from_address(f"2001:db8:1:2::{host + 1}"))
        assert wire.responder.half_open == 5
        wire.inject(init_of(wire), from_address("2001:db8:1:3::1"))
        assert wire.responder.half_open == 6

    def test_of_all(self) -> None:
        wire = Wire(responder_config(half_open_limit=7))
        for host in range(10):
            wire.inject(init_of(wire), from_address(f"203.0.113.{host + 1}"))
        assert wire.responder.half_open == 7

    def test_who_is_in_or_gone_no_longer_counts(self) -> None:
        wire = Wire(responder_config(half_open_limit_per_address=1))
        for number in range(3):
            local = Path("198.51.100.1", 1000 + number, GATEWAY, 500)
            assert wire.connect(local=local).phase is Phase.ESTABLISHED
        wire.aaa.may_enter = False
        assert wire.connect(local=Path("198.51.100.1", 2000, GATEWAY, 500)).phase is Phase.FAILED
        wire.aaa.may_enter = True
        assert wire.connect(local=Path("198.51.100.1", 2001, GATEWAY, 500)).phase is Phase.ESTABLISHED
        assert wire.responder.half_open == 0

    def test_the_same_request_counts_once(self) -> None:
        wire, request = Wire(), b""
        request = init_of(wire)
        for _ in range(5):
            wire.inject(request, from_address("203.0.113.1"))
        assert wire.responder.half_open == 1
        assert len({data for data, _ in wire.from_gateway}) == 1
        assert len(wire.from_gateway) == 5

    def test_another_request_with_the_same_spi_is_dropped(self) -> None:
        wire = Wire()
        request = init_of(wire)
        wire.inject(request, from_address("203.0.113.1"))
        other = request[:-1] + bytes((request[-1] ^ 1,))
        wire.inject(other, from_address("203.0.113.1"))
        assert (wire.responder.half_open, len(wire.from_gateway)) == (1, 1)


class TestCookies:
    def test_above_the_threshold_nothing_is_kept(self) -> None:
        wire = Wire(responder_config(cookie_threshold=3))
        flood(wire, 10)
        assert wire.responder.half_open == 3
        assert wire.responder.statistics.cookies_sent == 7
        assert len(wire.responder.sas()) == 3

    def test_the_answer_is_small_and_names_no_spi_of_ours(self) -> None:
        wire = Wire(responder_config(cookie_threshold=0))
        request = init_of(wire)
        wire.inject(request, from_address("203.0.113.1"))
        ((answer, _),) = wire.from_gateway
        header = Header.parse(answer)
        assert (header.spi_r, header.message_id, header.is_response) == (bytes(8), 0, True)
        (notify,) = notifies_of(answer)
        assert notify.type == NotifyType.COOKIE
        assert len(answer) < len(request) / 3

    def test_a_real_client_gets_through(self) -> None:
        wire = Wire(responder_config(cookie_threshold=3))
        flood(wire, 3)
        assert wire.connect().phase is Phase.ESTABLISHED
        assert wire.responder.statistics.cookies_sent == 1

    def test_a_cookie_that_is_too_old(self) -> None:
        wire = Wire(responder_config(cookie_threshold=0))
        client: Client = wire.client()
        client.initiator.start()
        wire.run_until(lambda: wire.responder.statistics.cookies_sent == 1)
        client.initiator.start()
        (with_cookie,) = client.initiator.datagrams_to_send()
        wire.advance(1000.0)
        wire.inject(with_cookie, client.outer)
        assert wire.responder.statistics.cookies_sent == 2
        # The client uses the new one.
        assert client.phase is Phase.ESTABLISHED

    def test_somebody_elses_cookie(self) -> None:
        wire = Wire(responder_config(cookie_threshold=0))
        client = wire.client()
        client.initiator.start()
        wire.run_until(lambda: wire.responder.statistics.cookies_sent == 1)
        client.initiator.start()
        (with_cookie,) = client.initiator.datagrams_to_send()
        wire.inject(with_cookie, from_address("203.0.113.77"))
        assert (wire.responder.half_open, wire.responder.statistics.cookies_sent) == (0, 2)

    def test_proposals_are_not_looked_at_without_one(self) -> None:
        wire = Wire(responder_config(cookie_threshold=0))
        payloads = [(PayloadType.SA, b"rubbish"), (PayloadType.KE, b""), (PayloadType.NONCE, b"n" * 32)]
        request = clear_message(b"i" * 8, bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0, payloads)
        wire.inject(request, from_address("203.0.113.1"))
        assert wire.responder.statistics.cookies_sent == 1


class TestFirstMessages:
    """What a datagram without an SA may be, and that everything else gets silence."""

    @staticmethod
    def changed(wire: Wire, **fields: int | bytes) -> bytes:
        """A good request with another header."""
        request = init_of(wire)
        return Header.parse(request)._replace(**fields).to_bytes() + request[28:]  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "fields",
        [
            {"spi_i": bytes(8)},
            {"spi_r": b"r" * 8},
            {"message_id": 1},
            {"flags": 0},
            {"flags": Flag.INITIATOR | Flag.RESPONSE},
            {"exchange": ExchangeType.IKE_AUTH},
            {"exchange": ExchangeType.CREATE_CHILD_SA},
            {"exchange": ExchangeType.INFORMATIONAL},
            {"exchange": 2},  # IKEv1's main mode
            {"exchange": 4},
            {"version": 0x10},
            {"version": 0x00},
            {"next_payload": 1},
            {"next_payload": PayloadType.SK},
            {"length": 28},
            {"length": 2**32 - 1},
        ],
    )
    def test_silence(self, fields: dict[str, int | bytes]) -> None:
        wire = Wire()
        wire.inject(self.changed(wire, **fields), from_address("203.0.113.1"))
        assert (wire.from_gateway, wire.responder.sas(), wire.events) == ([], [], [])
        assert wire.responder.statistics.dropped == 1

    def test_a_newer_minor_version_is_fine(self) -> None:
        wire = Wire()
        wire.inject(self.changed(wire, version=0x2F), from_address("203.0.113.1"))
        assert wire.responder.half_open == 1

    def test_a_newer_major_version_is_told_so_now_and_then(self) -> None:
        wire = Wire()
        for _ in range(50):
            wire.inject(self.changed(wire, version=0x30), from_address("203.0.113.1"))
        assert len(wire.from_gateway) == 1
        assert [n.type for n in notifies_of(wire.from_gateway[0][0])] == [NotifyType.INVALID_MAJOR_VERSION]
        assert Header.parse(wire.from_gateway[0][0]).version == 0x20
        wire.advance(1.0)
        wire.inject(self.changed(wire, version=0x30), from_address("203.0.113.1"))
        assert len(wire.from_gateway) == 2

    def test_a_response_of_a_newer_version_is_not(self) -> None:
        # Two gateways would else go on about it for ever.
        wire = Wire()
        flags = Flag.INITIATOR | Flag.RESPONSE
        wire.inject(self.changed(wire, version=0x30, flags=flags), from_address("203.0.113.1"))
        assert wire.from_gateway == []

    def test_an_unknown_critical_payload_is_told_so(self) -> None:
        wire = Wire()
        request = init_of(wire)
        header = Header.parse(request)
        strange = b"\x21\x80\x00\x08" + b"what"
        data = header._replace(next_payload=99, length=len(request) + 8).to_bytes() + strange + request[28:]
        wire.inject(data, from_address("203.0.113.1"))
        (notify,) = notifies_of(wire.from_gateway[0][0])
        assert (notify.type, notify.data) == (NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, b"\x63")
        assert wire.responder.sas() == []

    def test_a_request_that_is_larger_than_any_client_sends(self) -> None:
        wire = Wire()
        request = init_of(wire)
        payloads = parse_payloads(Header.parse(request).next_payload, request[28:])
        items = [(PayloadType(kind), body) for kind, bodies in payloads.bodies.items() for body in bodies]

        def padded(size: int) -> bytes:
            more = [*items, (PayloadType.VENDOR_ID, bytes(size))]
            return clear_message(b"i" * 8, bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0, more)

        room = MAX_INIT_BYTES - len(padded(0))
        wire.inject(padded(room + 1), from_address("203.0.113.1"))
        assert wire.responder.sas() == []
        wire.inject(padded(room), from_address("203.0.113.1"))
        assert len(wire.responder.sas()) == 1

    @pytest.mark.parametrize("size", [0, 1, 4, 27, 28, 29, 100])
    def test_short_and_empty_datagrams(self, size: int) -> None:
        wire = Wire()
        for fill in (b"\0", b"\xff"):
            wire.inject(fill * size, from_address("203.0.113.1"))
        assert (wire.from_gateway, wire.responder.sas()) == ([], [])


class TestKeyExchange:
    def test_a_public_value_that_gives_no_secret_never_leads_to_an_sa(self) -> None:
        wire = Wire()
        client = wire.client()
        client.initiator.start()
        (request,) = client.initiator.datagrams_to_send()
        at = request.index(b"\0\x1f\0\0") + 4
        wire.inject(request[:at] + bytes(32) + request[at + 32 :], client.outer)
        assert wire.state is State.HALF_OPEN
        sa = wire.sa
        for _ in range(3):
            header = Header(sa.spi_i, sa.spi_r, PayloadType.SK, 0x20, ExchangeType.IKE_AUTH, Flag.INITIATOR, 1, 128)
            wire.inject(header.to_bytes() + b"\0\0\0\x64" + bytes(96), client.outer)
        assert (sa.channel, sa.keys, sa.state) == (None, None, State.HALF_OPEN)
        wire.advance(wire.config.half_open_timeout_s)
        assert wire.causes == [CloseCause.HALF_OPEN_TIMEOUT]

    @pytest.mark.parametrize("next_payload", [0, PayloadType.IDI, PayloadType.NOTIFY, 99])
    def test_diffie_hellman_waits_for_something_encrypted(self, next_payload: int) -> None:
        wire = Wire()
        client = wire.client()
        client.initiator.start()
        wire.run_until(lambda: wire.state is State.HALF_OPEN)
        sa = wire.sa
        header = Header(sa.spi_i, sa.spi_r, next_payload, 0x20, ExchangeType.IKE_AUTH, Flag.INITIATOR, 1, 128)
        wire.inject(header.to_bytes() + b"\0\0\0\x64" + bytes(96), client.outer)
        assert sa.keys is None

    @pytest.mark.parametrize("size", [0, 31, 33, 256])
    def test_a_public_value_of_the_wrong_length(self, size: int) -> None:
        wire = Wire()
        request = init_of(wire)
        payloads = parse_payloads(Header.parse(request).next_payload, request[28:])
        items = [
            (PayloadType(kind), b"\0\x1f\0\0" + bytes(size) if kind == PayloadType.KE else body)
            for kind, bodies in payloads.bodies.items()
            for body in bodies
        ]
        changed = clear_message(b"i" * 8, bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0, items)
        wire.inject(changed, from_address("203.0.113.1"))
        assert (wire.responder.sas(), wire.from_gateway) == ([], [])
