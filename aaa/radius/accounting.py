"""Accounting-Requests (RFC 2866): what a network access server reports of a session, or of itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from aaa.interface import Access, SessionStart, SessionUsage, TerminateCause
from aaa.radius.circumstances import kind_of_network, station
from aaa.radius.clients import RadiusClient
from aaa.radius.constants import AcctStatus, Attribute
from aaa.radius.request import Request
from aaa.radius.wire import MalformedPacket

_IPV4_BYTES, _IPV6_BYTES = 4, 16
LONGEST_DELAY_S = 7 * 24 * 3600
"""Of a record that waited for its server (Acct-Delay-Time); more is a clock that stands wrong."""
_NAMESPACE = uuid.UUID("6f1d7d3e-7f0b-4b51-9d0c-6a2b8f6c2c55")
_MACHINES = (Attribute.NAS_IDENTIFIER, Attribute.NAS_IP_ADDRESS, Attribute.NAS_IPV6_ADDRESS)
_CAUSES = {cause.value: cause for cause in TerminateCause}
_UNSAID = TerminateCause.NAS_REQUEST


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """Of one session."""

    status: AcctStatus
    """`START`, `INTERIM_UPDATE` or `STOP`."""
    usage: SessionUsage
    cause: TerminateCause
    """Of a stop."""
    start: SessionStart | None
    """Of a start; None where nobody has signed in here for that session."""
    delay_s: int
    """How long ago it was."""


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """Of the network access server: it has started, or is about to stop, and has no session (any more)."""

    status: AcctStatus
    """`ACCOUNTING_ON` or `ACCOUNTING_OFF`."""
    at: float | None
    """When that was, seconds since 1970; None where the client does not say."""


def read_record(
    request: Request, client: RadiusClient, granted: Callable[[str], Access | None]
) -> SessionRecord | ClientRecord:
    """What an Accounting-Request says.

    Args:
        request: the request.
        client: who reports.
        granted: whose session it is, by its Calling-Station-Id and what else stands in the request; asked of a start.

    Raises:
        MalformedPacket: nothing that could be recorded; it gets no answer then (RFC 2866 section 4.1).
    """
    number = request.number(Attribute.ACCT_STATUS_TYPE)
    try:
        status = AcctStatus(number if number is not None else 0)
    except ValueError:
        raise MalformedPacket(f"accounting of the unknown kind {number}") from None
    if status in (AcctStatus.ACCOUNTING_ON, AcctStatus.ACCOUNTING_OFF):
        return ClientRecord(status, request.number(Attribute.EVENT_TIMESTAMP))
    sessions = request.values(Attribute.ACCT_SESSION_ID)
    if len(sessions) != 1 or not sessions[0]:
        raise MalformedPacket("accounting of no session")
    machine = [value for kind in _MACHINES for value in request.values(kind)]
    session_id = session_id_of(client.name, sessions[0], machine)
    remote = station(request.text(Attribute.CALLING_STATION_ID))
    start = None
    if status is AcctStatus.START:
        access = granted(remote)
        start = _start(request, client, session_id, access, remote) if access is not None else None
    return SessionRecord(
        status,
        SessionUsage(
            session_id=session_id,
            bytes_in=_long(request, Attribute.ACCT_INPUT_OCTETS, Attribute.ACCT_INPUT_GIGAWORDS),
            bytes_out=_long(request, Attribute.ACCT_OUTPUT_OCTETS, Attribute.ACCT_OUTPUT_GIGAWORDS),
            packets_in=request.number(Attribute.ACCT_INPUT_PACKETS) or 0,
            packets_out=request.number(Attribute.ACCT_OUTPUT_PACKETS) or 0,
            remote_address=remote,
        ),
        _CAUSES.get(request.number(Attribute.ACCT_TERMINATE_CAUSE) or 0, _UNSAID),
        start,
        min(request.number(Attribute.ACCT_DELAY_TIME) or 0, LONGEST_DELAY_S),
    )


def session_id_of(client: str, acct_session_id: bytes, machine: Sequence[bytes] = ()) -> str:
    """By which the session is known here: two clients may give theirs the same Acct-Session-Id, and so may two
    machines of one client, which name themselves in each record.
    """
    return str(uuid.uuid5(_NAMESPACE, "/".join([client, *(part.hex() for part in (acct_session_id, *machine))])))


def _start(request: Request, client: RadiusClient, session_id: str, access: Access, remote: str) -> SessionStart:
    return SessionStart(
        session_id=session_id,
        access=access,
        gateway=client.name,
        remote_address=remote,
        client=kind_of_network(request),
        virtual_ipv4=_ipv4(request),
        virtual_ipv6=_ipv6(request),
        ike_suite="",
        esp_suite="",
    )


def _ipv4(request: Request) -> str | None:
    value = next(iter(request.values(Attribute.FRAMED_IP_ADDRESS)), b"")
    return str(IPv4Address(value)) if len(value) == _IPV4_BYTES else None


def _ipv6(request: Request) -> str | None:
    """Framed-IPv6-Address (RFC 6911), or as strongSwan has it a Framed-IPv6-Prefix of one address (RFC 3162)."""
    value = next(iter(request.values(Attribute.FRAMED_IPV6_ADDRESS)), b"")
    prefix = next(iter(request.values(Attribute.FRAMED_IPV6_PREFIX)), b"")
    if not value and prefix[1:2] == bytes((8 * _IPV6_BYTES,)):
        value = prefix[2:]
    return str(IPv6Address(value)) if len(value) == _IPV6_BYTES else None


def _long(request: Request, low: Attribute, high: Attribute) -> int:
    """A counter of 64 bits in two attributes (RFC 2869 section 5.1)."""
    # As many as the database's column takes, which is half of what the wire can say.
    return (((request.number(high) or 0) & 0x7FFF_FFFF) << 32) | (request.number(low) or 0)
