"""Who may begin a handshake: cookies and rates for each source, and that nobody can shut another one out."""

from __future__ import annotations

from typing import Any

from gateway.ike import events
from gateway.ike.constants import NotifyType
from gateway.ike.path import Path
from tests.peers.initiator import Phase
from tests.unit.gateway.ike.test_half_open import flood, from_address, init_of, notifies_of
from tests.unit.gateway.ike.wire import GATEWAY, Wire, responder_config

SOURCE = "203.0.113.9"
MANY: dict[str, Any] = {
    "cookie_threshold": 100_000,
    "half_open_limit": 100_000,
    "half_open_limit_per_address": 100_000,
}


def with_cookie(wire: Wire, path: Path) -> bytes:
    """A first request of a client there, with the cookie that the gateway wants."""
    client = wire.client(outer=path)
    client.initiator.start()
    (bare,) = client.initiator.datagrams_to_send()
    before = wire.responder.statistics.cookies_sent
    wire.responder.receive_datagram(bare, path, wire.now)
    ((answer, _),) = wire.responder.datagrams_to_send()
    assert wire.responder.statistics.cookies_sent == before + 1
    client.initiator.receive_datagram(answer)
    wire.clients.remove(client)
    (proved,) = client.initiator.datagrams_to_send()
    return proved


def refusals(wire: Wire) -> list[str]:
    """Why first requests got nothing."""
    return [event.reason for event in wire.seen(events.FirstRequestRefused)]


class TestManyOfOneSource:
    def test_have_to_prove_that_they_are_there(self) -> None:
        wire = Wire(responder_config(cookie_threshold_per_address=4))
        flood(wire, 10, SOURCE)
        assert (wire.responder.half_open, wire.responder.statistics.cookies_sent) == (4, 6)
        # Others do not.
        wire.inject(init_of(wire), from_address("203.0.113.10"))
        assert (wire.responder.half_open, wire.responder.statistics.cookies_sent) == (5, 6)

    def test_and_get_in_when_they_have(self) -> None:
        wire = Wire(responder_config(cookie_threshold_per_address=4))
        flood(wire, 4, SOURCE)
        client = wire.connect(local=Path(SOURCE, 5000, GATEWAY, 500))
        assert client.phase is Phase.ESTABLISHED
        assert wire.responder.statistics.cookies_sent == 1

    def test_are_few_again_when_they_are_in(self) -> None:
        wire = Wire(responder_config(cookie_threshold_per_address=1))
        for port in range(1000, 1005):
            assert wire.connect(local=Path(SOURCE, port, GATEWAY, 500)).phase is Phase.ESTABLISHED
        assert wire.responder.statistics.cookies_sent == 0


class TestFastSources:
    def test_a_burst_and_then_a_cookie(self) -> None:
        wire = Wire(responder_config(**MANY, cookie_threshold_per_address=100_000, init_rate_per_address=2.0))
        flood(wire, 20, SOURCE)
        # Four seconds' worth.
        assert (wire.responder.half_open, wire.responder.statistics.cookies_sent) == (8, 12)
        wire.advance(1.0)
        flood(wire, 20, SOURCE)
        assert wire.responder.half_open == 10

    def test_a_slow_one_never_sees_a_cookie(self) -> None:
        wire = Wire(responder_config(**MANY, cookie_threshold_per_address=100_000, init_rate_per_address=2.0))
        for port in range(50):
            wire.inject(init_of(wire), from_address(SOURCE, 1000 + port))
            wire.advance(0.51)
        assert wire.responder.statistics.cookies_sent == 0

    def test_one_that_proved_itself_is_dropped_in_the_end(self) -> None:
        wire = Wire(responder_config(**MANY, cookie_threshold_per_address=0, init_rate_per_address=2.0))
        for port in range(20):
            path = from_address(SOURCE, 1000 + port)
            wire.inject(with_cookie(wire, path), path)
        assert wire.responder.half_open == 8
        assert len(refusals(wire)) == 12
        assert set(refusals(wire)) == {"this source begins more than 2 handshakes a second (init_rate_per_address)"}
        wire.advance(1.0)
        path = from_address(SOURCE, 2000)
        wire.inject(with_cookie(wire, path), path)
        assert wire.responder.half_open == 9

    def test_an_ipv6_network_is_one_source(self) -> None:
        wire = Wire(responder_config(**MANY, cookie_threshold_per_address=100_000, init_rate_per_address=1.0))
        for host in range(1, 11):
            wire.inject(init_of(wire), from_address(f"2001:db8:1:2::{host:x}"))
        assert (wire.responder.half_open, wire.responder.statistics.cookies_sent) == (4, 6)
        wire.inject(init_of(wire), from_address("2001:db8:1:3::1"))
        assert wire.responder.half_open == 5

    def test_who_only_borrows_an_address_shuts_nobody_out(self) -> None:
        """A thousand requests in somebody's name, who then has to send a cookie, and no more."""
        wire = Wire(responder_config(**MANY, init_rate_per_address=2.0))
        for port in range(1000):
            wire.inject(init_of(wire), from_address(SOURCE, 1 + port))
        client = wire.client(local=Path(SOURCE, 5000, GATEWAY, 500))
        client.initiator.start()
        wire.run()
        assert client.phase is Phase.ESTABLISHED
        assert refusals(wire) == []


def test_a_cookie_costs_a_flood_of_one_address_no_more_memory_than_silence() -> None:
    wire = Wire(responder_config(cookie_threshold_per_address=0))
    flood(wire, 200, SOURCE)
    assert (wire.responder.sas(), wire.responder.half_open) == ([], 0)
    assert {n.type for data, _ in wire.from_gateway for n in notifies_of(data)} == {NotifyType.COOKIE}
