"""The admission table: every row of it, at its limits, in the clear and encrypted."""

from __future__ import annotations

import pytest

from gateway.ike.admission import ADMISSION, Row, admit
from gateway.ike.constants import ExchangeType, PayloadType
from gateway.ike.errors import InvalidSyntax
from gateway.ike.message import Payloads

CASES = [
    pytest.param(
        exchange, response, row, id=f"{exchange.name}-{'response' if response else 'request'}-{row.payload.name}"
    )
    for (exchange, response), rows in ADMISSION.items()
    for row in rows
]


def payloads_for(exchange: ExchangeType, response: bool, row: Row, count: int) -> Payloads:
    """`count` of the row's payload, and of the others what they must have at least."""
    bodies: dict[int, list[bytes]] = {row.payload: [b""] * count} if count else {}
    for other in ADMISSION[exchange, response]:
        if other.payload is not row.payload and other.minimum:
            bodies[other.payload] = [b""] * other.minimum
    return Payloads(bodies)


@pytest.mark.parametrize(("exchange", "response", "row"), CASES)
class TestEachRow:
    def test_at_its_limits(self, exchange: ExchangeType, response: bool, row: Row) -> None:
        for count in (row.minimum, row.maximum):
            given = payloads_for(exchange, response, row, count)
            admitted = admit(exchange, given, response=response, encrypted=row.encrypted)
            assert admitted == given

    def test_one_too_many(self, exchange: ExchangeType, response: bool, row: Row) -> None:
        given = payloads_for(exchange, response, row, row.maximum + 1)
        with pytest.raises(InvalidSyntax, match=f"too many {row.payload.name}"):
            admit(exchange, given, response=response, encrypted=row.encrypted)

    def test_one_too_few(self, exchange: ExchangeType, response: bool, row: Row) -> None:
        if not row.minimum:
            return
        given = payloads_for(exchange, response, row, row.minimum - 1)
        with pytest.raises(InvalidSyntax, match=f"no {row.payload.name}"):
            admit(exchange, given, response=response, encrypted=row.encrypted)

    def test_in_the_clear_where_it_must_be_encrypted(self, exchange: ExchangeType, response: bool, row: Row) -> None:
        if not row.encrypted:
            return
        given = Payloads({row.payload: [b""]})
        with pytest.raises(InvalidSyntax, match="in the clear"):
            admit(exchange, given, response=response, encrypted=False)


def test_what_is_not_for_the_exchange_no_handler_sees() -> None:
    given = Payloads({PayloadType.EAP: [b""], PayloadType.NOTIFY: [b"n"]})
    admitted = admit(ExchangeType.INFORMATIONAL, given, response=False, encrypted=True)
    assert admitted.bodies == {PayloadType.NOTIFY: [b"n"]}


def test_only_first_exchanges_go_in_the_clear() -> None:
    clear = {exchange for (exchange, _), rows in ADMISSION.items() for row in rows if not row.encrypted}
    assert clear == {ExchangeType.IKE_SA_INIT, ExchangeType.IKE_SESSION_RESUME}


def test_every_exchange_has_rows_for_both_directions() -> None:
    assert set(ADMISSION) == {(exchange, response) for exchange in ExchangeType for response in (False, True)}
