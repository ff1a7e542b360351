"""MOBIKE (RFC 4555): the outer addresses of an IKE SA and its child SAs change, and everything else stays.

IKE_AUTH:       N(MOBIKE_SUPPORTED), [N(ADDITIONAL_IP4_ADDRESS), ...]   ->  the same, of ours
INFORMATIONAL:  N(UPDATE_SA_ADDRESSES), [N(NAT_DETECTION_*)], [N(COOKIE2)], [N(NO_NATS_ALLOWED)]
                ->  [N(NAT_DETECTION_*)], [N(COOKIE2)], or an error
ours:           N(COOKIE2)  ->  N(COOKIE2)

The client decides which addresses are used. It names none: those of the IP header count, so that a NAT may change
them. Its IKE messages are answered there at once, but its packets go there only after it has shown that it receives
there (section 3.7): else a client could turn a stream that it asked for against somebody else. Behind a NAT,
authentic ESP from a new address moves it as well, as without MOBIKE: not every client finds out that its NAT has
given it another one.

Every update is taken, but its packets follow a client only so often: to where it is in the end, at the latest a
moment after it has come to rest.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from core.rate import TokenBucket
from gateway.ike.admission import admit
from gateway.ike.channel import OutPayloads
from gateway.ike.constants import ExchangeType, NotifyType, PayloadType
from gateway.ike.errors import InvalidSyntax, UnexpectedNatDetected
from gateway.ike.events import PathChanged
from gateway.ike.exchanges import nat
from gateway.ike.message import Payloads
from gateway.ike.path import EspPath, Path
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.states import State

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa

MAX_ADDRESSES = 16
"""Of a peer that are kept, and of ours that are told."""
MOVES_PER_S, MOVES_BURST = 0.5, 10.0
"""Of the child SAs of an IKE SA. A move costs the kernel new states; a flapping interface makes a few in a row."""
COOKIE2_BYTES = 16
MIN_COOKIE2_BYTES, MAX_COOKIE2_BYTES = 8, 64
_PORTS_BYTES = 4
_ADDITIONAL = {
    NotifyType.ADDITIONAL_IP4_ADDRESS: 4,
    NotifyType.ADDITIONAL_IP6_ADDRESS: 16,
}
"""With the length of an address."""

OutPayload = tuple[PayloadType, bytes]


@dataclass(slots=True)
class Mobility:
    """What is known of an SA whose sides both speak MOBIKE."""

    peer_addresses: tuple[str, ...] = ()
    """Others that the peer has, by its own account; nothing is sent there unless it says so."""
    held: EspPath | None = None
    """Where packets still go, while the peer has not shown that it receives at the new address."""
    last_update: int = -1
    """Message id of the newest UPDATE_SA_ADDRESSES in this IKE SA."""
    moves: TokenBucket = field(default_factory=lambda: TokenBucket(MOVES_PER_S, MOVES_BURST, 0.0), compare=False)
    put_off: RoutabilityCheck | None = field(default=None, compare=False)
    """The check that begins later, where the peer has moved too often."""


# --- IKE_AUTH -----------------------------------------------------------------------------------------------


def begin(sa: IkeSa, notifies: Sequence[Notify]) -> None:
    """Read the request that brings the SA payload.

    Raises:
        UnexpectedNatDetected: the peer wants no NAT, and there is one.
    """
    if not _addresses_are_as_sent(notifies, sa.request_path):
        raise UnexpectedNatDetected("the client allows no NAT, and its addresses were changed on the way")
    if any(notify.type == NotifyType.MOBIKE_SUPPORTED for notify in notifies):
        sa.mobility = Mobility(_additional_addresses(notifies) or ())


def announcement(sa: IkeSa) -> list[OutPayload]:
    """For the answer that brings the SA payload, where the peer speaks MOBIKE."""
    if sa.mobility is None:
        return []
    return [notify_payload(NotifyType.MOBIKE_SUPPORTED), *_own_addresses(sa.config.addresses, sa.path)]


def _own_addresses(addresses: Iterable[str], path: Path) -> list[OutPayload]:
    """Those that the peer does not use at the moment."""
    payloads = []
    for address in addresses:
        packed = ip_address(address).packed
        if packed != ip_address(path.local.partition("%")[0]).packed:
            kind = next(kind for kind, size in _ADDITIONAL.items() if size == len(packed))
            payloads.append(notify_payload(kind, packed))
    return payloads[:MAX_ADDRESSES]


# --- INFORMATIONAL, from the peer ---------------------------------------------------------------------------


def handle_request(sa: IkeSa, notifies: Sequence[Notify], now: float) -> list[OutPayload]:
    """What an authentic request has to do with addresses; returns what the answer has to say of it."""
    if sa.mobility is None:
        return []
    path = sa.request_path
    answer: list[OutPayload] = []
    if not _addresses_are_as_sent(notifies, path):
        answer.append(notify_payload(NotifyType.UNEXPECTED_NAT_DETECTED))
    else:
        if any(notify.type == NotifyType.UPDATE_SA_ADDRESSES for notify in notifies):
            answer += _update(sa, sa.mobility, notifies, path, now)
        addresses = _additional_addresses(notifies)
        if addresses is not None:
            _current(sa).peer_addresses = addresses
    if nat.is_asked(notifies):
        answer += nat.announcement(sa, path)
    return [*answer, *_echo(notifies)]


def _current(sa: IkeSa) -> Mobility:
    """Of the IKE SA that has taken the place of this one, where one has."""
    live = _live(sa)
    return live.mobility or Mobility()


def _live(sa: IkeSa) -> IkeSa:
    while sa.state is State.REPLACED and sa.successor is not None:
        sa = sa.successor
    return sa


def _update(sa: IkeSa, mobility: Mobility, notifies: Sequence[Notify], path: Path, now: float) -> list[OutPayload]:
    """Section 3.5: check, change the IKE SA's addresses, then see to the child SAs."""
    message_id = sa.peer.current
    if message_id < mobility.last_update:
        # With a window of several requests an older one may come behind a newer one.
        return []
    mobility.last_update = message_id
    if not _is_acceptable(sa, path):
        return [notify_payload(NotifyType.UNACCEPTABLE_ADDRESSES)]
    live = _live(sa)
    if live is not sa:
        # It crossed with the rekeying of the IKE SA. What was said on the new one is newer.
        sa.change_path(path)
        if live.state is not State.ESTABLISHED or live.mobility is None or live.mobility.last_update >= 0:
            return []
    elif sa.state is not State.ESTABLISHED:
        return []
    was = live.esp
    live.change_path(path)
    nat.detect(sa, notifies, path, sa.spi_r)
    live.nat_local, live.nat_remote = sa.nat_local, sa.nat_remote
    live.renew_keepalives(now)
    live.send_again(now)
    _see_to_children(live, was, now)
    live.owner.touch(live)
    return []


def _is_acceptable(sa: IkeSa, path: Path) -> bool:
    """Not where the tunnel itself leads, or its packets would go round in it; and not back from the NAT-T port,
    where both sides have to stay (section 3.3).
    """
    if path.local_port != sa.config.natt_port == sa.path.local_port:
        return False
    remote = ip_address(path.remote.partition("%")[0])
    return not any(remote in network for network in sa.config.inner_networks if network.version == remote.version)


def _see_to_children(sa: IkeSa, was: EspPath, now: float) -> None:
    mobility = sa.mobility
    if mobility is None:
        return
    mobility.held = None
    if sa.esp == was:
        return
    if sa.path.remote == was.path.remote and mobility.moves.take(now):
        # Ports, the NAT, or our own address: nobody else can be meant.
        sa.emit(PathChanged(sa))
        return
    mobility.held = was
    if sa.path.remote == was.path.remote:
        _check_later(sa, mobility, now)
    elif not _is_being_checked(sa):
        _check(sa, mobility, now)


def _check(sa: IkeSa, mobility: Mobility, now: float) -> None:
    if mobility.moves.take(now):
        sa.proceed(RoutabilityCheck(), now)
    else:
        _check_later(sa, mobility, now)


def _check_later(sa: IkeSa, mobility: Mobility, now: float) -> None:
    """Whoever moves on meanwhile does not wait longer for it."""
    if mobility.put_off is None:
        mobility.put_off = RoutabilityCheck()
        sa.initiate_at(mobility.put_off, now + 1 / MOVES_PER_S)


def _is_being_checked(sa: IkeSa) -> bool:
    return any(isinstance(own, RoutabilityCheck) for own in sa.waiting)


def _echo(notifies: Sequence[Notify]) -> list[OutPayload]:
    """COOKIE2 goes back as it came (section 3.7)."""
    for notify in notifies:
        if notify.type == NotifyType.COOKIE2 and MIN_COOKIE2_BYTES <= len(notify.data) <= MAX_COOKIE2_BYTES:
            return [(PayloadType.NOTIFY, notify.to_bytes())]
    return []


def _addresses_are_as_sent(notifies: Sequence[Notify], path: Path) -> bool:
    """Compare NO_NATS_ALLOWED with the IP header: addresses, then ports, the sender's first (section 3.9)."""
    seen = b"".join(ip_address(address.partition("%")[0]).packed for address in (path.remote, path.local))
    seen += path.remote_port.to_bytes(2, "big") + path.local_port.to_bytes(2, "big")
    return all(notify.data == seen for notify in notifies if notify.type == NotifyType.NO_NATS_ALLOWED)


def _additional_addresses(notifies: Sequence[Notify]) -> tuple[str, ...] | None:
    """The peer's new list (section 3.6); None where it says nothing of it. Raises InvalidSyntax."""
    found: list[str] = []
    told = False
    for notify in notifies:
        size = _ADDITIONAL.get(notify.type)  # type: ignore[call-overload]
        if notify.type == NotifyType.NO_ADDITIONAL_ADDRESSES:
            told = True
        elif size is not None:
            if len(notify.data) != size:
                raise InvalidSyntax("length of an additional address")
            told = True
            found.append(str(ip_address(notify.data)))
    return tuple(found[:MAX_ADDRESSES]) if told else None


# --- INFORMATIONAL, from us ---------------------------------------------------------------------------------


class RoutabilityCheck:
    """COOKIE2 to the peer's new address: only who receives there can send it back."""

    exchange = ExchangeType.INFORMATIONAL
    moves_along = True

    def __init__(self) -> None:
        self._cookie = b""
        self._remote = ""

    def request(self, sa: IkeSa, now: float) -> OutPayloads | None:
        """None where nothing has to be checked any more."""
        mobility = sa.mobility
        if mobility is not None and mobility.put_off is self:
            mobility.put_off = None
        if mobility is None or mobility.held is None:
            return None
        self._cookie, self._remote = sa.random(COOKIE2_BYTES), sa.path.remote
        return [notify_payload(NotifyType.COOKIE2, self._cookie)]

    def answered(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """Let the child SAs follow.

        Raises:
            InvalidSyntax: the cookie is not ours, which ends the SA (section 3.7).
        """
        payloads = admit(ExchangeType.INFORMATIONAL, payloads, response=True, encrypted=True)
        notifies = map(Notify.parse, payloads.all(PayloadType.NOTIFY))
        cookies = [notify.data for notify in notifies if notify.type == NotifyType.COOKIE2]
        if len(cookies) != 1 or not hmac.compare_digest(cookies[0], self._cookie):
            raise InvalidSyntax("COOKIE2 did not come back as it was sent")
        if sa.mobility is None or sa.mobility.held is None:
            return
        if sa.path.remote != self._remote:
            # It has moved on meanwhile, and may have read the request where it was before.
            _check(sa, sa.mobility, now)
            return
        sa.mobility.held = None
        sa.emit(PathChanged(sa))

    def abandoned(self, sa: IkeSa, now: float) -> bool:
        """Nothing depends on it."""
        return False


class AnnounceAddresses:
    """Our own list has changed (section 3.6).

    Args:
        addresses: all that the gateway can be reached at now, text.
    """

    exchange = ExchangeType.INFORMATIONAL
    moves_along = True

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = tuple(addresses)

    def request(self, sa: IkeSa, now: float) -> OutPayloads | None:
        """The whole list, but for the one in use."""
        if sa.mobility is None:
            return None
        return _own_addresses(self._addresses, sa.path) or [notify_payload(NotifyType.NO_ADDITIONAL_ADDRESSES)]

    def answered(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """That it came is all."""

    def abandoned(self, sa: IkeSa, now: float) -> bool:
        """Nothing depends on it."""
        return False


def hand_over(sa: IkeSa, new: IkeSa, now: float) -> None:
    """The IKE SA is rekeyed: what is known goes on, message ids begin anew, and so does a check that is under way."""
    if sa.mobility is None:
        return
    new.timers.cancel(sa.mobility.put_off)
    new.mobility = replace(sa.mobility, last_update=-1, put_off=None)
    sa.mobility.held = None
    if new.mobility.held is not None and not _is_being_checked(new):
        _check(new, new.mobility, now)
