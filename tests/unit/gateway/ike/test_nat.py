"""NAT: found by the hashes in all four cases, followed when a binding changes, and kept open when it is ours."""

from __future__ import annotations

import hashlib

import pytest

from gateway.ike.constants import ExchangeType
from gateway.ike.events import PathChanged
from gateway.ike.path import Path, nat_detection_hash
from gateway.ike.sa import KEEPALIVE
from gateway.ike.states import State
from tests.peers.initiator import Phase
from tests.unit.gateway.ike.wire import GATEWAY, Wire

CLIENT = Path("10.0.0.2", 500, GATEWAY, 500)
PLAIN = Path(GATEWAY, 500, "10.0.0.2", 500)
BEHIND = Path(GATEWAY, 500, "203.0.113.7", 61001)
"""As the gateway sees a client behind a NAT."""
FORWARDED_CLIENT = Path("10.0.0.2", 500, "192.0.2.200", 500)
"""The client talks to the NAT in front of the gateway."""


@pytest.mark.parametrize(
    ("local", "outer", "nat_local", "nat_remote"),
    [
        (CLIENT, PLAIN, False, False),
        (CLIENT, BEHIND, False, True),
        (FORWARDED_CLIENT, PLAIN, True, False),
        (FORWARDED_CLIENT, BEHIND, True, True),
    ],
)
def test_detection(local: Path, outer: Path, nat_local: bool, nat_remote: bool) -> None:
    wire = Wire()
    client = wire.connect(local=local, outer=outer)
    assert client.phase is Phase.ESTABLISHED
    assert (wire.sa.nat_local, wire.sa.nat_remote) == (nat_local, nat_remote)
    # Keepalives come from the side that is behind the NAT (RFC 3948 section 4).
    wire.advance(3 * wire.config.keepalive_interval_s)
    keepalives = [path for data, path in wire.from_gateway if data is KEEPALIVE]
    assert keepalives == [outer] * (3 if nat_local else 0)


def test_a_port_that_differs_is_a_nat_too() -> None:
    wire = Wire()
    wire.connect(local=CLIENT, outer=PLAIN._replace(remote_port=1025))
    assert wire.sa.nat_remote


def test_ipv6() -> None:
    wire = Wire()
    local = Path("2001:db8:1::2", 500, "2001:db8::1", 500)
    client = wire.connect(local=local, outer=Path("2001:db8::1", 500, "2001:db8:1::2", 500))
    assert client.phase is Phase.ESTABLISHED
    assert (wire.sa.nat_local, wire.sa.nat_remote) == (False, False)
    assert wire.sa.path.remote_text == "[2001:db8:1::2]:500"
    assert PLAIN.remote_text == "10.0.0.2:500"


def test_the_hash() -> None:
    # SHA-1 of SPIi, SPIr, address and port (RFC 7296 section 2.23).
    assert nat_detection_hash(b"i" * 8, b"r" * 8, "192.0.2.1", 500).hex() == (
        hashlib.sha1(b"i" * 8 + b"r" * 8 + bytes((192, 0, 2, 1)) + b"\x01\xf4").hexdigest()
    )


class TestMoving:
    def test_to_the_other_port_with_the_first_ike_auth(self) -> None:
        wire = Wire()
        client = wire.client(local=CLIENT, outer=BEHIND)
        client.initiator.start()
        wire.run_until(lambda: wire.state is State.HALF_OPEN)
        client.outer = Path(GATEWAY, 4500, "203.0.113.7", 61002)
        client.initiator.request(ExchangeType.IKE_AUTH, client.initiator.first_auth_payloads())
        wire.run()
        assert client.phase is Phase.ESTABLISHED
        assert wire.sa.path == client.outer
        # That is no change of an SA that was up.
        assert wire.seen(PathChanged) == []

    def test_a_new_binding_of_a_client_behind_a_nat(self) -> None:
        wire = Wire()
        client = wire.connect(local=CLIENT, outer=BEHIND)
        client.outer = BEHIND._replace(remote_port=61999)
        client.initiator.request(ExchangeType.INFORMATIONAL, [])
        wire.run()
        assert wire.seen(PathChanged) == [PathChanged(wire.sa)]
        assert wire.sa.path == client.outer
        assert wire.from_gateway[-1][1] == client.outer

    def test_is_not_followed_without_a_nat(self) -> None:
        wire = Wire()
        client = wire.connect(local=CLIENT, outer=PLAIN)
        client.outer = PLAIN._replace(remote="203.0.113.66")
        client.initiator.request(ExchangeType.INFORMATIONAL, [])
        wire.run()
        assert wire.seen(PathChanged) == []
        assert wire.sa.path == PLAIN

    def test_is_not_followed_for_what_is_not_authentic_or_old(self) -> None:
        # Whoever sends an old request again gets its answer where it is, and no more than that.
        wire = Wire()
        client = wire.connect(local=CLIENT, outer=BEHIND)
        elsewhere = BEHIND._replace(remote="203.0.113.66")
        last_request = client.last_request[0]
        for datagram in (last_request, last_request[:-1] + bytes((last_request[-1] ^ 1,))):
            wire.inject(datagram, elsewhere)
        assert wire.sa.path == BEHIND
        answers = [data for data, path in wire.from_gateway if path == elsewhere]
        assert answers == [data for data, path in wire.from_gateway if path == BEHIND][-1:]
        client.initiator.request(ExchangeType.INFORMATIONAL, [])
        wire.run()
        assert wire.from_gateway[-1][1] == BEHIND

    def test_is_followed_for_authentic_esp(self) -> None:
        wire = Wire()
        wire.connect(local=CLIENT, outer=BEHIND)
        moved = BEHIND._replace(remote_port=62000)
        wire.sa.remote_moved(moved)
        assert wire.sa.path == moved

    def test_esp_does_not_move_a_client_without_a_nat(self) -> None:
        wire = Wire()
        wire.connect(local=CLIENT, outer=PLAIN)
        wire.sa.remote_moved(PLAIN._replace(remote="203.0.113.66"))
        assert wire.sa.path == PLAIN
