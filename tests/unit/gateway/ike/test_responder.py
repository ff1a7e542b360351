"""The responder's own duties: SPIs, statistics, its timers, adoption; and the guess what client it talks to."""

from __future__ import annotations

import pytest

from gateway.ike.constants import ExchangeType, Flag
from gateway.ike.events import CloseCause
from gateway.ike.message import Header
from gateway.ike.snapshot import restore, snapshot
from tests.unit.gateway.ike.wire import Wire, responder_config


class TestSpis:
    @pytest.mark.parametrize("worker", [0, 1, 255])
    def test_begin_with_the_workers_index(self, worker: int) -> None:
        wire = Wire(responder_config(worker_index=worker))
        for _ in range(5):
            wire.connect()
        assert {sa.spi_r[0] for sa in wire.responder.sas()} == {worker}
        assert len({sa.spi_r for sa in wire.responder.sas()}) == 5

    def test_are_never_zero_nor_taken(self) -> None:
        wire = Wire()
        wire.connect()
        taken = wire.sa.spi_r
        rolls = iter([taken[1:], bytes(7), bytes(6) + b"\x01"])
        wire.responder._random = lambda size: next(rolls) if size == 7 else wire.random.randbytes(size)
        wire.connect()
        assert [sa.spi_r for sa in wire.responder.sas()] == [taken, bytes(7) + b"\x01"]

    def test_both_must_match(self) -> None:
        wire = Wire()
        client = wire.connect()
        sa, before = wire.sa, len(wire.from_gateway)
        (good,) = client.initiator.request(ExchangeType.INFORMATIONAL, [])
        client.initiator.datagrams_to_send()
        header = Header.parse(good)
        for spi_i, spi_r in ((b"another!", sa.spi_r), (sa.spi_r, sa.spi_i)):
            changed = header._replace(spi_i=spi_i, spi_r=spi_r)
            wire.inject(changed.to_bytes() + good[28:], client.outer)
        assert len(wire.from_gateway) == before
        wire.inject(good, client.outer)
        assert len(wire.from_gateway) == before + 1


class TestStatistics:
    def test_count(self) -> None:
        wire = Wire()
        client = wire.connect()
        assert (wire.responder.statistics.received, wire.responder.statistics.initiated) == (6, 1)
        for data in (b"", b"x" * 10, Header(b"i" * 8, b"r" * 8, 46, 0x20, 37, Flag.INITIATOR, 1, 28).to_bytes()):
            wire.inject(data, client.outer)
        assert (wire.responder.statistics.received, wire.responder.statistics.dropped) == (9, 3)


class TestTimers:
    def test_many_sas_each_in_time(self) -> None:
        wire = Wire()
        for number in range(20):
            wire.connect()
            sa = wire.responder.sas()[number]
            sa.limit_session(100.0 + 7 * ((number * 13) % 20), wire.now)
            wire.responder.touch(sa)
        ends = {}
        for _ in range(300):
            wire.advance(1.0)
            ends[wire.now] = len(wire.causes)
        assert wire.causes == [CloseCause.SESSION_TIMEOUT] * 20
        for number in range(20):
            assert ends[1000.0 + 101.0 + 7 * number] == number + 1

    def test_the_queue_does_not_grow_with_traffic(self) -> None:
        wire = Wire()
        client = wire.connect()
        for _ in range(500):
            client.initiator.request(ExchangeType.INFORMATIONAL, [])
            wire.run()
        assert len(wire.responder._timers) <= 3


def test_an_adopted_sa_is_found_and_timed() -> None:
    wire = Wire()
    client = wire.connect()
    data = snapshot(wire.sa, wire.now)
    other = Wire(wire.config, now=wire.now)
    other.clients = wire.clients
    other.responder.adopt(restore(data, other.responder, other.config, other.random.randbytes, other.now))
    client.initiator.request(ExchangeType.INFORMATIONAL, [])
    other.run()
    assert len(other.from_gateway) == 1
    other.advance(other.config.dpd_interval_s + 1)
    assert client.initiator.requests_seen == 1
