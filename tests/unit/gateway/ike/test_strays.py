"""Messages of an SA that is not here: who is told so, how often, and that it never begins a conversation."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.ike.constants import ExchangeType, Flag, NotifyType, PayloadType
from gateway.ike.message import Header, clear_message
from gateway.ike.path import Path
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.responder import STRAYS_BURST, STRAYS_PER_SOURCE_BURST, Responder
from tests.peers.initiator import Phase
from tests.unit.gateway.ike.test_half_open import from_address, notifies_of
from tests.unit.gateway.ike.wire import Client, Wire

SOURCE = "203.0.113.9"


def stray(spi_i: bytes = b"i" * 8, spi_r: bytes = b"r" * 8, **fields: Any) -> bytes:
    """An encrypted request of whatever SA."""
    header = Header(spi_i, spi_r, PayloadType.SK, 0x20, ExchangeType.INFORMATIONAL, Flag.INITIATOR, 5, 80)
    return header._replace(**fields).to_bytes() + b"\0\0\0\x34" + bytes(48)


def after_a_restart() -> tuple[Wire, Client]:
    """A client that is in, and a gateway that has lost everything."""
    wire = Wire()
    client = wire.connect()
    assert client.phase is Phase.ESTABLISHED
    wire.responder = Responder(wire.config, wire.random.randbytes, wire.now)
    wire.forget()
    return wire, client


def test_a_client_whose_sa_was_lost_learns_it_by_its_next_request() -> None:
    wire, client = after_a_restart()
    client.initiator.request(ExchangeType.INFORMATIONAL, [])
    wire.run()
    ((answer, path),) = wire.from_gateway
    header = Header.parse(answer)
    assert (header.spi_i, header.spi_r) == (client.initiator.spi_i, client.initiator.spi_r)
    assert (header.exchange, header.is_response) == (ExchangeType.INFORMATIONAL, True)
    assert header.message_id == client.initiator.message_id
    assert [notify.type for notify in notifies_of(answer)] == [NotifyType.INVALID_IKE_SPI]
    assert path == client.outer
    assert client.initiator.told_in_the_clear == 1


def test_the_role_bit_is_that_of_the_other_side() -> None:
    """Of an SA that we had begun by rekeying, the client is the responder."""
    wire = Wire()
    for flags in (0, Flag.INITIATOR):
        wire.inject(stray(flags=flags), from_address(SOURCE))
    assert [Header.parse(data).from_initiator for data, _ in wire.from_gateway] == [True, False]


def test_the_answer_is_shorter_than_the_stray() -> None:
    wire = Wire()
    wire.inject(stray(), from_address(SOURCE))
    ((answer, _),) = wire.from_gateway
    # The shortest encrypted message that anybody makes: header, SK payload, IV, pad length, ICV.
    assert len(answer) == 36 < 28 + 4 + 8 + 1 + 12


@pytest.mark.parametrize(
    "fields",
    [
        {"flags": Flag.INITIATOR | Flag.RESPONSE},
        {"next_payload": PayloadType.NOTIFY},
        {"next_payload": PayloadType.NONE},
        {"next_payload": PayloadType.DELETE},
        {"version": 0x10},
        {"version": 0x30},
        {"spi_r": bytes(8)},
        {"spi_i": bytes(8)},
    ],
)
def test_no_answer_to(fields: dict[str, Any]) -> None:
    wire = Wire()
    wire.inject(stray(**fields), from_address(SOURCE))
    assert (wire.from_gateway, wire.responder.statistics.dropped) == ([], 1)


def test_what_we_say_ourselves_is_never_answered() -> None:
    """Two gateways that know nothing of each other do not talk for ever."""
    wire = Wire()
    wire.inject(stray(), from_address(SOURCE))
    ((answer, path),) = wire.from_gateway
    wire.inject(answer, path)
    unprotected = clear_message(
        b"i" * 8, b"r" * 8, ExchangeType.INFORMATIONAL, 0, 0, [notify_payload(NotifyType.INVALID_IKE_SPI)]
    )
    wire.inject(unprotected, path)
    assert len(wire.from_gateway) == 1


def test_an_sa_that_is_here_is_not_denied() -> None:
    """With one of its SPIs changed a message belongs to nothing; who sees the wire must not make it look dead."""
    wire = Wire()
    client = wire.connect()
    spi_i, spi_r = client.initiator.spi_i, client.initiator.spi_r
    wire.forget()
    for spis in ((spi_i, b"r" * 8), (b"i" * 8, spi_r), (spi_r, spi_i), (spi_r, b"r" * 8)):
        wire.inject(stray(*spis), client.outer)
    told = [notifies_of(data) for data, _ in wire.from_gateway]
    # Of the client's SPI alone, the gateway can't know.
    assert len(told) == 1
    assert Header.parse(wire.from_gateway[0][0]).spi_r == b"r" * 8


def test_each_source_is_told_now_and_then() -> None:
    wire = Wire()
    for number in range(50):
        wire.inject(stray(message_id=number), from_address(SOURCE, 500 + number))
    assert len(wire.from_gateway) == STRAYS_PER_SOURCE_BURST
    wire.inject(stray(), from_address("203.0.113.10"))
    assert len(wire.from_gateway) == STRAYS_PER_SOURCE_BURST + 1
    wire.advance(1.0)
    wire.inject(stray(), from_address(SOURCE))
    assert len(wire.from_gateway) == STRAYS_PER_SOURCE_BURST + 2


def test_and_all_of_them_together_not_too_often() -> None:
    wire = Wire()
    for host in range(1, 250):
        wire.inject(stray(), Path("192.0.2.1", 500, f"203.0.113.{host}", 500))
    assert len(wire.from_gateway) == STRAYS_BURST


def test_no_sa_of_ours_ends_by_one() -> None:
    """Such a notify is in the clear, so anybody can make it."""
    wire = Wire()
    client = wire.connect()
    sa = wire.sa
    for flags in (0, Flag.RESPONSE, Flag.INITIATOR, Flag.INITIATOR | Flag.RESPONSE):
        for message_id in range(3):
            told = clear_message(
                sa.spi_i,
                sa.spi_r,
                ExchangeType.INFORMATIONAL,
                flags,
                message_id,
                [notify_payload(NotifyType.INVALID_IKE_SPI)],
            )
            wire.inject(told, client.outer)
    assert wire.established == [sa]
    assert wire.causes == []
