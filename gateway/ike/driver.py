"""What comes to an IKE SA: datagrams, which are verified and belong to an exchange, and timers that are due.

The exchanges answer; what none of them can serve is answered here, with the notify of the error.
"""

from __future__ import annotations

from gateway.ike import child_lifecycle
from gateway.ike.channel import AuthenticButInvalid, Channel
from gateway.ike.constants import ExchangeType, NotifyType, PayloadType
from gateway.ike.errors import IkeError, IntegrityError, InvalidSyntax, UnsupportedCriticalPayload, code_of
from gateway.ike.events import CloseCause, LivenessWanted, PathChanged
from gateway.ike.exchanges import (
    create_child_sa,
    ike_auth,
    ike_followup_ke,
    ike_intermediate,
    informational,
    rekey_ike,
)
from gateway.ike.keymat import derive_ike_keys, derive_resumed_ike_keys
from gateway.ike.message import Header, Payloads
from gateway.ike.path import Path
from gateway.ike.payloads.notify import Notify
from gateway.ike.sa import FORGED_PER_S, KEEPALIVE, IkeSa
from gateway.ike.states import ALIVE, UNFINISHED, Input, State
from gateway.ike.timers import Timer
from gateway.ike.window import Verdict

_ENCRYPTED = frozenset((PayloadType.SK, PayloadType.SKF))
_AFTER_INIT = frozenset((ExchangeType.IKE_AUTH, ExchangeType.IKE_INTERMEDIATE))
_EXCHANGES = frozenset(ExchangeType) - {ExchangeType.IKE_SA_INIT, ExchangeType.IKE_SESSION_RESUME}


def receive_datagram(sa: IkeSa, header: Header, data: bytes, path: Path, now: float) -> None:
    """A datagram with this SA's SPIs, not verified yet; what is not authentic changes nothing."""
    if header.from_initiator is sa.is_initiator or now < sa.deaf_until:
        return
    try:
        if header.is_response:
            _receive_response(sa, header, data, path, now)
        else:
            _receive_request(sa, header, data, path, now)
    except (IntegrityError, InvalidSyntax):
        if sa.trace is not None:
            sa.trace.damaged += 1
        if sa.state in UNFINISHED and not sa.forged.take(now):
            sa.deaf_until = now + 1 / FORGED_PER_S


def handle_timer(sa: IkeSa, now: float) -> None:
    """Whatever is due: timeouts, retransmissions, liveness, keepalives, rekeying."""
    if sa.own.deadline is not None and now >= sa.own.deadline:
        if not sa.own.retransmit(now, sa.patience_s):
            sa.end(Input.GONE, CloseCause.LOST, now)
            return
        sa.send_all(sa.own.datagrams)
    for key in sa.timers.pop_due(now):
        if sa.state is not State.CLOSED:
            _serve_timer(sa, key, now)


def _serve_timer(sa: IkeSa, key: object, now: float) -> None:
    match key:
        case Timer.HALF_OPEN:
            sa.report_failure("handshake-timeout", CloseCause.HALF_OPEN_TIMEOUT.value)
            sa.end(Input.TIMEOUT, CloseCause.HALF_OPEN_TIMEOUT, now)
        case Timer.DELETE:
            sa.initiate(informational.DeleteIke(), now)
        case Timer.SESSION_END:
            sa.close(CloseCause.SESSION_TIMEOUT, now)
        case Timer.REDIRECTED:
            sa.close(CloseCause.REDIRECTED, now)
        case Timer.REKEY:
            sa.initiate(rekey_ike.RekeyIke(), now)
        case Timer.LIVENESS:
            # Whatever a client had against our last answer, it would have said by now.
            sa.trace = None
            if sa.channel is not None:
                sa.channel.forget_incomplete()
            sa.timers.set(Timer.LIVENESS, now + sa.config.dpd_interval_s)
            if sa.own.message_id is None:
                sa.owner.emit(LivenessWanted(sa))
        case Timer.KEEPALIVE:
            sa.timers.set(Timer.KEEPALIVE, now + sa.config.keepalive_interval_s)
            sa.owner.transmit(KEEPALIVE, sa.path)
        case (Timer.REMOVE_CHILD, int(spi_in)):
            child_lifecycle.remove(sa, spi_in)
        case (Timer.FOLLOWUP, bytes(link)):
            sa.unfinished.pop(link).dropped()
        case _:
            # An exchange of ours that was put off.
            sa.initiate(key, now)  # type: ignore[arg-type]


def _receive_request(sa: IkeSa, header: Header, data: bytes, path: Path, now: float) -> None:
    verdict = sa.peer.judge(header.message_id)
    if verdict is Verdict.ANSWERED:
        response = sa.peer.response_to(header.message_id, data)
        if response and sa.trace is not None:
            sa.trace.repeated()
        # Whoever sends a request again from elsewhere may be its peer on the move, or anybody who has caught it.
        if path == sa.path or sa.stray_answers.take(now):
            sa.send_all(response, path)
        return
    if verdict is not Verdict.NEW or sa.state is State.CLOSED:
        return
    channel = sa.channel or _derive_channel(sa, header)
    problem: IkeError | None = None
    payloads = None
    try:
        payloads = channel.open(header, data)
        if payloads is None:
            return
    except (AuthenticButInvalid, UnsupportedCriticalPayload) as error:
        problem = error
    sa.peer.begin(header.message_id, channel.first_datagram, path)
    if sa.trace is not None:
        sa.trace.request(now, header.exchange, path.local_port, channel.message_fragments)
    _heard(sa, path, now)
    try:
        if payloads is not None:
            _dispatch(sa, header, payloads, now)
    except IkeError as error:
        problem = error
    if problem is not None:
        exchange = ExchangeType(header.exchange) if header.exchange in _EXCHANGES else ExchangeType.INFORMATIONAL
        answer_error(sa, exchange, problem, now, header.message_id)


def _dispatch(sa: IkeSa, header: Header, payloads: Payloads, now: float) -> None:
    exchange = header.exchange
    if exchange == ExchangeType.INFORMATIONAL:
        informational.handle_request(sa, payloads, now)
    elif exchange == ExchangeType.IKE_AUTH and sa.state in UNFINISHED:
        ike_auth.handle_request(sa, payloads)
    elif exchange == ExchangeType.IKE_INTERMEDIATE and sa.state is State.HALF_OPEN:
        ike_intermediate.handle_request(sa, payloads)
    elif exchange == ExchangeType.CREATE_CHILD_SA and sa.state in ALIVE:
        create_child_sa.handle_request(sa, payloads, now)
    elif exchange == ExchangeType.IKE_FOLLOWUP_KE and sa.state in ALIVE:
        ike_followup_ke.handle_request(sa, payloads, now)
    else:
        raise InvalidSyntax(f"exchange {exchange} does not belong in state {sa.state.value!r}")


def answer_error(
    sa: IkeSa, exchange: ExchangeType, error: IkeError, now: float, message_id: int | None = None
) -> None:
    """An authentic request that can't be served: the notify, and for a handshake the end.

    Args:
        sa: whose peer asked.
        exchange: of the request.
        error: why not.
        now: monotonic seconds.
        message_id: of the request; None for the one that was begun last.
    """
    notify = error.notify or NotifyType.INVALID_SYNTAX
    body = Notify(notify, error.data, error.protocol, error.spi).to_bytes()
    sa.respond(exchange, [(PayloadType.NOTIFY, body)], message_id)
    if sa.state in UNFINISHED:
        sa.report_failure(code_of(error, notify), str(error))
        sa.end(Input.REFUSED, CloseCause.REFUSED, now)
    elif sa.state in ALIVE and isinstance(error, InvalidSyntax):
        # RFC 7296 section 2.21.3: the peer is out of step; nothing that it says can be relied on.
        sa.end(Input.GONE, CloseCause.PROTOCOL_ERROR, now)


def _receive_response(sa: IkeSa, header: Header, data: bytes, path: Path, now: float) -> None:
    own = sa.outstanding
    if sa.channel is None or own is None or header.message_id != sa.own.message_id:
        return
    try:
        payloads = sa.channel.open(header, data)
        if payloads is None:
            return
        if header.exchange != own.exchange:
            raise AuthenticButInvalid("a response of another exchange")
    except (AuthenticButInvalid, UnsupportedCriticalPayload):
        sa.end(Input.GONE, CloseCause.PROTOCOL_ERROR, now)
        return
    sa.own.answered(header.message_id)
    sa.outstanding = None
    _heard(sa, path, now)
    try:
        own.answered(sa, payloads, now)
    except IkeError:
        own.abandoned(sa, now)
        sa.end(Input.GONE, CloseCause.PROTOCOL_ERROR, now)
        return
    if sa.outstanding is not own:
        sa.deleted_unknown.clear()
    sa.send_next(now)


def _heard(sa: IkeSa, path: Path, now: float) -> None:
    """An authentic message: the peer lives, and is where the message came from if that may change."""
    sa.last_received = now
    if sa.timers.get(Timer.LIVENESS) is not None:
        sa.timers.set(Timer.LIVENESS, now + sa.config.dpd_interval_s)
    if path == sa.path:
        return
    if sa.state in UNFINISHED:
        # The port changes from 500 to 4500 with the first IKE_AUTH (RFC 7296 section 2.23).
        sa.change_path(path)
    elif sa.nat_remote and sa.state is State.ESTABLISHED and sa.mobility is None:
        # With MOBIKE the peer says so where it moves, and tries paths without moving (RFC 4555 section 3.8).
        sa.change_path(path)
        sa.owner.emit(PathChanged(sa))


def _derive_channel(sa: IkeSa, header: Header) -> Channel:
    """Diffie-Hellman, done when the next request is there and not before: a flood of INITs does not pay."""
    plausible = header.exchange in _AFTER_INIT and header.next_payload in _ENCRYPTED
    ticket, pair = sa.resumption.redeemed, sa.key_pair
    public = sa.nonce_i, sa.nonce_r, sa.spi_i, sa.spi_r
    if plausible and ticket is not None:
        return sa.use_keys(derive_resumed_ike_keys(sa.suite, ticket.sk_d, *public))
    if not plausible or pair is None:
        raise InvalidSyntax("no keys")
    # Once: a public value that makes no secret makes none the next time either.
    sa.key_pair = None
    return sa.use_keys(derive_ike_keys(sa.suite, pair.shared_secret(sa.peer_public), *public))
