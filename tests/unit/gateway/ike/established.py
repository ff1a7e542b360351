"""A client that is in, and questions that it asks the gateway."""

from __future__ import annotations

from gateway.ike.constants import ExchangeType, PayloadType
from gateway.ike.message import Payloads
from gateway.ike.payloads.notify import Notify
from tests.peers.initiator import Phase
from tests.unit.gateway.ike.variants import Listening
from tests.unit.gateway.ike.wire import Client, Wire


def up(wire: Wire) -> tuple[Client, Listening]:
    """A client that is in."""
    client = wire.client(initiator=Listening)
    client.initiator.start()
    wire.run()
    assert isinstance(client.initiator, Listening)
    assert client.phase is Phase.ESTABLISHED
    return client, client.initiator


def ask(wire: Wire, initiator: Listening, exchange: ExchangeType, *payloads: tuple[PayloadType, bytes]) -> Payloads:
    """A request of the client, and the answer to it."""
    before = len(initiator.answers)
    initiator.request(exchange, payloads)
    wire.run()
    (answer,) = initiator.answers[before:]
    return answer


def notifies(payloads: Payloads) -> list[int]:
    """The types of the notifies in an answer."""
    return [Notify.parse(body).type for body in payloads.all(PayloadType.NOTIFY)]
