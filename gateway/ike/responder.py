"""The IKEv2 responder: finds the SA of each datagram, admits new ones, keeps the timers.

The driver surface of every protocol core here: `receive_datagram`, `datagrams_to_send`, `get_timer`,
`handle_timer`, `next_event`. No socket, no clock, no thread.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from core.rate import BucketTable, TokenBucket
from gateway.ike import driver
from gateway.ike.admission import admit
from gateway.ike.config import ResponderConfig
from gateway.ike.constants import IKE_HEADER_BYTES, IKE_VERSION, ExchangeType, Flag, NotifyType, PayloadType
from gateway.ike.errors import IkeError, InvalidKePayload, InvalidSyntax, NoProposalChosen
from gateway.ike.events import CloseCause, Event, FirstRequestRefused
from gateway.ike.evidence import Evidence
from gateway.ike.exchanges import ike_sa_init, ike_session_resume, redirect
from gateway.ike.exchanges.redirect import Redirection, Willing
from gateway.ike.half_open import HalfOpen, TooMany, source_of
from gateway.ike.message import Header, Payloads, clear_message, parse_payloads
from gateway.ike.path import Path
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.proposals import IkeSuite
from gateway.ike.sa import IkeSa
from gateway.ike.ticket import TicketRefused

FAULT_PAUSE_S = 5.0
_NO_SPI = bytes(8)
_FIRST_EXCHANGES = frozenset((ExchangeType.IKE_SA_INIT, ExchangeType.IKE_SESSION_RESUME))
VERSION_NOTIFIES_PER_S = 10.0
STRAYS_PER_S, STRAYS_BURST = 20.0, 100.0
STRAYS_PER_SOURCE_PER_S, STRAYS_PER_SOURCE_BURST = 1.0, 4.0
"""INVALID_IKE_SPI, in all and to one source."""
_CHILD_SPI_BASE = 0xC000_0000
MAX_INIT_BYTES = 8192
"""Of an IKE_SA_INIT request, which is kept while the SA is half-open. Stock clients send 300 to 1200 bytes."""


@dataclass(slots=True)
class Statistics:
    """Counters for the metrics page."""

    received: int = 0
    dropped: int = 0
    """Malformed, unknown SPI, over a limit."""
    cookies_sent: int = 0
    other_groups_asked: int = 0
    """Clients told to send a KE payload of another group."""
    initiated: int = 0
    """IKE SAs begun."""
    resumed: int = 0
    """Of them, those by a ticket."""
    tickets_refused: int = 0
    redirected: int = 0
    """Clients sent to another gateway in their first exchange."""


class Responder:
    """All IKE SAs of one worker."""

    def __init__(self, config: ResponderConfig, random: Callable[[int], bytes], now: float) -> None:
        self.config = config
        self.statistics = Statistics()
        self._random = random
        self._sas: dict[bytes, IkeSa] = {}
        self.redirection = Redirection()
        """Where clients are sent, and whether they are."""
        self._half_open = HalfOpen(random, now)
        self._outgoing: deque[tuple[bytes, Path]] = deque()
        self._events: deque[Event] = deque()
        self._timers: list[tuple[float, int, IkeSa]] = []
        self._timer_ids = count()
        self._child_spis: set[int] = set()
        self._lineages = count(1)
        self._version_notifies = TokenBucket(VERSION_NOTIFIES_PER_S, 1.0, now)
        self._stray_notifies = TokenBucket(STRAYS_PER_S, STRAYS_BURST, now)
        self._stray_sources = BucketTable(random(16))

    # --- Driver surface -------------------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, path: Path, now: float) -> None:
        """One IKE message, non-ESP marker taken off. Hostile bytes are expected; nothing raises."""
        self.statistics.received += 1
        try:
            header = Header.parse(data)
        except InvalidSyntax:
            self.statistics.dropped += 1
            return
        sa = self._sas.get(header.spi_r if header.from_initiator else header.spi_i)
        if sa is not None and sa.spi_i == header.spi_i and sa.spi_r == header.spi_r:
            if header.version >> 4 == IKE_VERSION >> 4:
                driver.receive_datagram(sa, header, data, path, now)
                self.touch(sa)
                return
        elif header.exchange in _FIRST_EXCHANGES and header.spi_r == _NO_SPI:
            self._receive_init(header, data, path, now)
            return
        else:
            self._receive_stray(header, path, now)
            return
        self.statistics.dropped += 1

    def datagrams_to_send(self) -> list[tuple[bytes, Path]]:
        """What has to go out, in order; asked for after each call that may have made some."""
        outgoing = list(self._outgoing)
        self._outgoing.clear()
        return outgoing

    def get_timer(self) -> float | None:
        """When `handle_timer` has to be called next, monotonic seconds."""
        return self._timers[0][0] if self._timers else None

    def handle_timer(self, now: float) -> None:
        """Serve every SA whose timer is due."""
        while self._timers and self._timers[0][0] <= now:
            deadline, _, sa = heapq.heappop(self._timers)
            if sa.scheduled_at != deadline:
                continue
            sa.scheduled_at = None
            due = sa.get_timer()
            try:
                if due is not None and due <= now:
                    driver.handle_timer(sa, now)
            except Exception:
                # A fault of ours in one SA must neither stop the others nor be tried again without a pause.
                sa.scheduled_at = now + FAULT_PAUSE_S
                heapq.heappush(self._timers, (sa.scheduled_at, next(self._timer_ids), sa))
                raise
            self.touch(sa)

    def next_event(self) -> Event | None:
        """The next effect for the shell, or None."""
        return self._events.popleft() if self._events else None

    # --- For the shell --------------------------------------------------------------------------------------

    def touch(self, sa: IkeSa) -> None:
        """To be called after every call on an SA: queues its timer anew, or forgets a finished SA."""
        if sa.is_finished:
            self._sas.pop(sa.own_spi, None)
            return
        due = sa.get_timer()
        # An earlier entry in the queue is good enough: it finds nothing due and queues the right one.
        if due is not None and (sa.scheduled_at is None or due < sa.scheduled_at):
            sa.scheduled_at = due
            heapq.heappush(self._timers, (due, next(self._timer_ids), sa))

    def sas(self) -> list[IkeSa]:
        """All SAs, the closed ones that still answer retransmissions among them."""
        return list(self._sas.values())

    @property
    def half_open(self) -> int:
        """How many SAs are not established yet."""
        return len(self._half_open)

    def close_all(self, cause: CloseCause, now: float) -> None:
        """Close every SA; the Deletes are then among the datagrams to send."""
        for sa in self.sas():
            sa.close(cause, now)
            self.touch(sa)

    def announce_addresses(self, addresses: Sequence[str], now: float) -> None:
        """The gateway can be reached at other addresses than before: tell every peer that can make use of them."""
        for sa in self.sas():
            sa.announce_addresses(addresses, now)
            self.touch(sa)

    def adopt(self, sa: IkeSa) -> None:
        """Take in an established SA that came from rekeying, or was restored from a snapshot."""
        self._sas[sa.own_spi] = sa
        self._child_spis.update(sa.children)
        self.touch(sa)

    # --- Owner of the SAs -----------------------------------------------------------------------------------

    def transmit(self, datagram: bytes, path: Path) -> None:
        """Queue a datagram."""
        self._outgoing.append((datagram, path))

    def emit(self, event: Event) -> None:
        """Queue an event."""
        self._events.append(event)

    def settled(self, sa: IkeSa) -> None:
        """The SA is no longer half-open: it leaves the limits."""
        self._half_open.remove(sa)

    def new_ike_spi(self) -> bytes:
        """An SPI for an IKE SA, 8 bytes; its first byte is the worker's index."""
        while True:
            spi = bytes((self.config.worker_index,)) + self._random(7)
            if spi != _NO_SPI and spi not in self._sas:
                return spi

    def new_child_spi(self) -> int:
        """An inbound SPI for a child SA, far above 255 (RFC 4303 section 2.1); its last byte tells workers apart."""
        while True:
            spi = _CHILD_SPI_BASE | int.from_bytes(self._random(3), "big") << 8 | self.config.worker_index
            if spi not in self._child_spis:
                self._child_spis.add(spi)
                return spi

    def free_child_spi(self, spi_in: int) -> None:
        """It is not in use any more."""
        self._child_spis.discard(spi_in)

    def new_lineage(self) -> int:
        """A number for child SAs that follow one another; no two of this process are the same."""
        return next(self._lineages)

    # --- IKE_SA_INIT ----------------------------------------------------------------------------------------

    def _receive_init(self, header: Header, data: bytes, path: Path, now: float) -> None:
        if header.is_response or not header.from_initiator or header.message_id or header.spi_i == _NO_SPI:
            self.statistics.dropped += 1
            return
        if header.version >> 4 != IKE_VERSION >> 4 or len(data) > MAX_INIT_BYTES:
            self.statistics.dropped += 1
            if header.version >> 4 > IKE_VERSION >> 4 and self._version_notifies.take(now):
                self._tell(header, NotifyType.INVALID_MAJOR_VERSION, path)
            return
        half_open = self._half_open.find(path, header.spi_i)
        if half_open is not None:
            # However far the handshake has come since: this request is in the clear, so is what it gets.
            if data == half_open.init_request:
                self.transmit(half_open.init_response, path)
                if half_open.trace is not None:
                    half_open.trace.init_repeats += 1
            return
        try:
            self._begin(header, data, path, now)
        except TooMany as error:
            self.statistics.dropped += 1
            self._tell_shell("too-many-handshakes", str(error), header, path)
        except IkeError as error:
            self.statistics.dropped += 1
            if isinstance(error, InvalidKePayload):
                self.statistics.other_groups_asked += 1
            answer = ike_sa_init.refusal(header, error)
            if answer is not None:
                self.transmit(answer, path)

    def _begin(self, header: Header, data: bytes, path: Path, now: float) -> None:
        exchange = ExchangeType(header.exchange)
        payloads = parse_payloads(header.next_payload, data[IKE_HEADER_BYTES:])
        payloads = admit(exchange, payloads, response=False, encrypted=False)
        cookie = self._half_open.admit(
            self.config, path, header.spi_i, lambda: ike_sa_init.nonce_and_cookie(payloads), now
        )
        if cookie is not None:
            self._answer(header, NotifyType.COOKIE, cookie, path)
            self.statistics.cookies_sent += 1
            if ike_sa_init.nonce_and_cookie(payloads)[1]:
                self._tell_shell("cookie-refused", "the client's cookie is too old, or somebody else's", header, path)
        elif exchange is ExchangeType.IKE_SESSION_RESUME:
            self._resume(header, payloads, data, path, now)
        else:
            self._initiate(header, payloads, data, path, now)

    def _initiate(self, header: Header, payloads: Payloads, data: bytes, path: Path, now: float) -> None:
        request = ike_sa_init.parse_request(payloads)
        willing = Willing(request.notifies)
        if self._sends_away(header, willing, request.nonce, path):
            return
        try:
            suite, answer = ike_sa_init.choose(request, self.config)
        except NoProposalChosen as error:
            evidence = Evidence(self.config, path, request.client, offer=request.sa_body)
            self.emit(FirstRequestRefused("no-proposal-chosen", str(error), evidence))
            raise
        sa = self._new_sa(header, suite, path, willing)
        self._take_in(sa, ike_sa_init.accept(sa, request, answer, data, path, now), path)

    def _resume(self, header: Header, payloads: Payloads, data: bytes, path: Path, now: float) -> None:
        request = ike_session_resume.parse_request(payloads)
        willing = Willing(request.notifies)
        if self._sends_away(header, willing, request.nonce, path):
            return
        try:
            ticket = ike_session_resume.redeem(request, self.config)
        except TicketRefused as error:
            self.statistics.tickets_refused += 1
            self._tell_shell("ticket-refused", str(error), header, path)
            self._answer(header, NotifyType.TICKET_NACK, b"", path)
            return
        sa = self._new_sa(header, ticket.suite, path, willing)
        self._take_in(sa, ike_session_resume.accept(sa, request, ticket, data, path, now), path)
        self.statistics.resumed += 1

    def _tell_shell(self, code: str, reason: str, header: Header, path: Path) -> None:
        """Of a request that nothing is kept of."""
        evidence = Evidence(self.config, path, "", first_exchange=header.exchange)
        self.emit(FirstRequestRefused(code, reason, evidence))

    def _sends_away(self, header: Header, willing: Willing, nonce: bytes, path: Path) -> bool:
        """Whether the client was sent to another gateway; nothing is kept of it."""
        target = self.redirection.target(willing, path) if self.redirection.in_ike_sa_init else None
        if target is None:
            return False
        self._answer(header, NotifyType.REDIRECT, redirect.in_ike_sa_init(target, nonce), path)
        self.statistics.redirected += 1
        return True

    def _answer(self, header: Header, notify: NotifyType, data: bytes, path: Path) -> None:
        self.transmit(ike_sa_init.stateless_notify(header, notify, data), path)

    def _new_sa(self, header: Header, suite: IkeSuite, path: Path, willing: Willing) -> IkeSa:
        sa = IkeSa(
            self, self.config, self._random, spi_i=header.spi_i, spi_r=self.new_ike_spi(), suite=suite, path=path
        )
        sa.willing = willing
        return sa

    def _take_in(self, sa: IkeSa, response: bytes, path: Path) -> None:
        self._half_open.add(sa, path)
        self._sas[sa.spi_r] = sa
        self.statistics.initiated += 1
        self.transmit(response, path)
        self.touch(sa)

    # --- Messages that belong to nothing --------------------------------------------------------------------

    def _receive_stray(self, header: Header, path: Path, now: float) -> None:
        """A message of an SA that is not here. Its sender may have one that a restart has lost: tell it (section
        2.21.4), which proves nothing to it, but has it look sooner. The answers are few, and shorter than the strays.
        """
        self.statistics.dropped += 1
        if (
            not header.is_response
            and header.next_payload in (PayloadType.SK, PayloadType.SKF)
            and header.version >> 4 == IKE_VERSION >> 4
            and _NO_SPI not in (header.spi_i, header.spi_r)
            and not {header.spi_i, header.spi_r} & self._sas.keys()
            and self._stray_sources.take(source_of(path), STRAYS_PER_SOURCE_PER_S, STRAYS_PER_SOURCE_BURST, now)
            and self._stray_notifies.take(now)
        ):
            self._tell(header, NotifyType.INVALID_IKE_SPI, path)

    def _tell(self, header: Header, notify: NotifyType, path: Path) -> None:
        """An answer outside of any SA, in the clear, with the SPIs of the request."""
        flags = Flag.RESPONSE | (0 if header.from_initiator else Flag.INITIATOR)
        self.transmit(
            clear_message(
                header.spi_i, header.spi_r, header.exchange, flags, header.message_id, [notify_payload(notify)]
            ),
            path,
        )
