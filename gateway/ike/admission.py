"""Which payloads a message may carry, and how often: checked before any handler sees it.

A row is (payload, min, max, must be encrypted), for each exchange and direction. A payload without a row is
not for that exchange: it is refused if it was critical for the parser, else ignored by every handler, since
`admit` takes it out.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ike.constants import ExchangeType, PayloadType
from gateway.ike.errors import InvalidSyntax
from gateway.ike.message import Payloads

MAX_CERTIFICATES = 12
"""A chain, and what was stapled to it about its revocation: OCSP responses and CRLs."""
MAX_NOTIFIES = 32


@dataclass(frozen=True, slots=True)
class Row:
    """How often one payload may come in a message."""

    payload: PayloadType
    minimum: int
    maximum: int
    encrypted: bool


def _clear(payload: PayloadType, minimum: int, maximum: int) -> Row:
    return Row(payload, minimum, maximum, encrypted=False)


def _sealed(payload: PayloadType, minimum: int, maximum: int) -> Row:
    return Row(payload, minimum, maximum, encrypted=True)


_P = PayloadType
ADMISSION: dict[tuple[ExchangeType, bool], tuple[Row, ...]] = {
    (ExchangeType.IKE_SA_INIT, False): (
        _clear(_P.SA, 1, 1),
        _clear(_P.KE, 1, 1),
        _clear(_P.NONCE, 1, 1),
        _clear(_P.NOTIFY, 0, MAX_NOTIFIES),
        _clear(_P.VENDOR_ID, 0, 20),
        _clear(_P.CERTREQ, 0, 4),
    ),
    (ExchangeType.IKE_SA_INIT, True): (
        _clear(_P.SA, 0, 1),
        _clear(_P.KE, 0, 1),
        _clear(_P.NONCE, 0, 1),
        _clear(_P.NOTIFY, 0, MAX_NOTIFIES),
        _clear(_P.VENDOR_ID, 0, 20),
        _clear(_P.CERTREQ, 0, 4),
    ),
    (ExchangeType.IKE_SESSION_RESUME, False): (
        _clear(_P.NONCE, 1, 1),
        _clear(_P.NOTIFY, 1, MAX_NOTIFIES),
        _clear(_P.VENDOR_ID, 0, 20),
    ),
    (ExchangeType.IKE_SESSION_RESUME, True): (
        _clear(_P.NONCE, 0, 1),
        _clear(_P.NOTIFY, 0, MAX_NOTIFIES),
        _clear(_P.VENDOR_ID, 0, 20),
    ),
    (ExchangeType.IKE_AUTH, False): (
        _sealed(_P.IDI, 0, 1),
        _sealed(_P.IDR, 0, 1),
        _sealed(_P.CERT, 0, MAX_CERTIFICATES),
        _sealed(_P.CERTREQ, 0, 4),
        _sealed(_P.AUTH, 0, 1),
        _sealed(_P.EAP, 0, 1),
        _sealed(_P.CP, 0, 1),
        _sealed(_P.SA, 0, 1),
        _sealed(_P.TSI, 0, 1),
        _sealed(_P.TSR, 0, 1),
        _sealed(_P.NOTIFY, 0, MAX_NOTIFIES),
        _sealed(_P.VENDOR_ID, 0, 20),
    ),
    (ExchangeType.IKE_AUTH, True): (
        _sealed(_P.IDR, 0, 1),
        _sealed(_P.CERT, 0, MAX_CERTIFICATES),
        _sealed(_P.AUTH, 0, 1),
        _sealed(_P.EAP, 0, 1),
        _sealed(_P.CP, 0, 1),
        _sealed(_P.SA, 0, 1),
        _sealed(_P.TSI, 0, 1),
        _sealed(_P.TSR, 0, 1),
        _sealed(_P.NOTIFY, 0, MAX_NOTIFIES),
        _sealed(_P.VENDOR_ID, 0, 20),
    ),
    (ExchangeType.CREATE_CHILD_SA, False): (
        _sealed(_P.SA, 1, 1),
        _sealed(_P.NONCE, 1, 1),
        _sealed(_P.KE, 0, 1),
        _sealed(_P.TSI, 0, 1),
        _sealed(_P.TSR, 0, 1),
        _sealed(_P.CP, 0, 1),
        _sealed(_P.NOTIFY, 0, MAX_NOTIFIES),
        _sealed(_P.VENDOR_ID, 0, 20),
    ),
    (ExchangeType.CREATE_CHILD_SA, True): (
        _sealed(_P.SA, 0, 1),
        _sealed(_P.NONCE, 0, 1),
        _sealed(_P.KE, 0, 1),
        _sealed(_P.TSI, 0, 1),
        _sealed(_P.TSR, 0, 1),
        _sealed(_P.NOTIFY, 0, MAX_NOTIFIES),
        _sealed(_P.VENDOR_ID, 0, 20),
    ),
    (ExchangeType.IKE_INTERMEDIATE, False): (
        _sealed(_P.KE, 1, 1),
        _sealed(_P.NOTIFY, 0, MAX_NOTIFIES),
        _sealed(_P.VENDOR_ID, 0, 20),
    ),
    (ExchangeType.IKE_INTERMEDIATE, True): (
        _sealed(_P.KE, 0, 1),
        _sealed(_P.NOTIFY, 0, MAX_NOTIFIES),
        _sealed(_P.VENDOR_ID, 0, 20),
    ),
    (ExchangeType.IKE_FOLLOWUP_KE, False): (
        _sealed(_P.KE, 1, 1),
        _sealed(_P.NOTIFY, 1, MAX_NOTIFIES),
        _sealed(_P.VENDOR_ID, 0, 20),
    ),
    (ExchangeType.IKE_FOLLOWUP_KE, True): (
        _sealed(_P.KE, 0, 1),
        _sealed(_P.NOTIFY, 0, MAX_NOTIFIES),
        _sealed(_P.VENDOR_ID, 0, 20),
    ),
    (ExchangeType.INFORMATIONAL, False): (
        _sealed(_P.NOTIFY, 0, MAX_NOTIFIES),
        _sealed(_P.DELETE, 0, 8),
        _sealed(_P.CP, 0, 1),
        _sealed(_P.VENDOR_ID, 0, 20),
    ),
    (ExchangeType.INFORMATIONAL, True): (
        _sealed(_P.NOTIFY, 0, MAX_NOTIFIES),
        _sealed(_P.DELETE, 0, 8),
        _sealed(_P.CP, 0, 1),
        _sealed(_P.VENDOR_ID, 0, 20),
    ),
}

_ROWS: dict[tuple[ExchangeType, bool], dict[int, Row]] = {
    key: {row.payload: row for row in rows} for key, rows in ADMISSION.items()
}
_REQUIRED: dict[tuple[ExchangeType, bool], tuple[Row, ...]] = {
    key: tuple(row for row in rows if row.minimum) for key, rows in ADMISSION.items()
}


def admit(exchange: ExchangeType, payloads: Payloads, *, response: bool, encrypted: bool) -> Payloads:
    """The payloads that the exchange allows.

    Raises:
        InvalidSyntax: one is missing, comes too often, or came in the clear where it must be encrypted.
    """
    allowed = _ROWS[exchange, response]
    admitted: dict[int, list[bytes]] = {}
    for payload_type, bodies in payloads.bodies.items():
        row = allowed.get(payload_type)
        if row is None:
            continue
        if row.encrypted and not encrypted:
            raise InvalidSyntax(f"{row.payload.name} in the clear")
        if len(bodies) > row.maximum:
            raise InvalidSyntax(f"too many {row.payload.name} payloads")
        admitted[payload_type] = bodies
    for row in _REQUIRED[exchange, response]:
        if len(admitted.get(row.payload, ())) < row.minimum:
            raise InvalidSyntax(f"no {row.payload.name} payload")
    return Payloads(admitted)
