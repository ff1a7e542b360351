"""What is left of an SA that is over: its last answer, and neither keys nor anything that the peer sent."""

from __future__ import annotations

import pytest

from gateway.ike.constants import ExchangeType, PayloadType
from gateway.ike.sa import IkeSa
from gateway.ike.states import State
from tests.unit.gateway.ike.established import up
from tests.unit.gateway.ike.wire import Client, Wire, mschapv2, responder_config

LARGE = (PayloadType.VENDOR_ID, bytes(50_000))


def bytes_kept(sa: IkeSa) -> int:
    """Of all byte strings that the SA holds, but for the answer that it may have to send again."""
    values = (getattr(sa, name) for name in IkeSa.__slots__)
    return sum(len(value) for value in values if isinstance(value, bytes))


def refused(wire: Wire) -> Client:
    """A client that proves nothing and sends as much as fits into one datagram."""
    client = wire.client(mschapv2())
    client.initiator.config.fragment_size_bytes = None
    client.initiator.start()
    wire.run_until(lambda: bool(wire.responder.sas()))
    client.initiator.message_id = 1
    client.initiator.request(ExchangeType.IKE_AUTH, [LARGE])
    wire.run()
    assert wire.state is State.CLOSED
    return client


def test_a_refused_handshake_leaves_nothing_that_the_peer_sent() -> None:
    wire = Wire()
    refused(wire)
    assert bytes_kept(wire.sa) < 200
    assert (wire.sa.keys, wire.sa.channel, wire.sa.key_pair, wire.sa.auth) == (None, None, None, None)


def test_its_request_is_still_answered_alike_and_no_other() -> None:
    wire = Wire()
    client = refused(wire)
    (request,) = client.last_request
    answer, path = wire.from_gateway[-1]
    count = len(wire.from_gateway)
    wire.inject(request, client.outer)
    assert wire.from_gateway[count:] == [(answer, path)]
    wire.inject(request[:-1] + bytes((request[-1] ^ 1,)), client.outer)
    assert len(wire.from_gateway) == count + 1


@pytest.mark.parametrize("way", ["deleted", "lost", "timeout"])
def test_however_it_ended_no_key_stays(way: str) -> None:
    wire = Wire(responder_config(linger_s=1000.0))
    if way == "timeout":
        client = wire.client()
        client.initiator.start()
        wire.run_until(lambda: bool(wire.responder.sas()))
        wire.advance(wire.config.half_open_timeout_s)
    else:
        client, initiator = up(wire)
        if way == "deleted":
            initiator.delete()
            wire.run()
        else:
            wire.filter = lambda to_gateway, batch: []
            wire.advance(wire.config.dpd_interval_s + sum(wire.config.retransmit_timeouts_s))
    assert wire.state is State.CLOSED
    assert (wire.sa.keys, wire.sa.channel, wire.sa.key_pair) == (None, None, None)
    assert bytes_kept(wire.sa) < 200
