"""From an authenticated IKE SA to a session: addresses, child SAs, accounting, and the end of it.

The protocol core knows nothing of users, AAA knows nothing of SPIs; here they meet.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import structlog

from aaa.interface import (
    AaaBackend,
    Access,
    EapConversation,
    FirstFactor,
    Refusal,
    SessionStart,
    SessionUsage,
    SignInContext,
    TerminateCause,
)
from core.rate import TokenBucket
from core.settings import GatewaySettings
from gateway.child_sas import ChildSas, SessionChildren
from gateway.control.change import SessionChange
from gateway.control.dynamic_authorization import SessionSelector
from gateway.dataplane.interface import DataPlane
from gateway.ike import child_lifecycle, sign_in
from gateway.ike.child import Assignment, Child, Wish
from gateway.ike.errors import InternalAddressFailure
from gateway.ike.events import AssignmentWanted, CloseCause
from gateway.ike.exchanges import first_child, replace_child
from gateway.ike.exchanges.child_sa import wished_selectors
from gateway.ike.path import Path
from gateway.ike.sa import IkeSa
from gateway.ike.selectors import TrafficSelector, narrow
from gateway.pool import Lease, PoolExhausted, Pools
from gateway.reach import Reach, reach_of

CONFIRMATION_S = 60.0
"""That AAA has to decide again on a session that has started, before it ends: whoever was put into quarantine since
the first decision does not go on by it while the database hangs.
"""

MOVES_PER_S, MOVES_BURST = 2.0, 20.0
"""Of a session's child SAs. Whoever moves more often is followed with the next sweep of accounting."""

_log = structlog.get_logger(__name__)

_TERMINATE_CAUSE = {
    CloseCause.PEER_DELETE: TerminateCause.USER_REQUEST,
    CloseCause.LOST: TerminateCause.LOST_SERVICE,
    CloseCause.SESSION_TIMEOUT: TerminateCause.SESSION_TIMEOUT,
    CloseCause.ADMIN: TerminateCause.ADMIN_RESET,
    CloseCause.REPLACED: TerminateCause.NAS_REQUEST,
    CloseCause.SHUTDOWN: TerminateCause.ADMIN_REBOOT,
    CloseCause.REFUSED: TerminateCause.USER_ERROR,
    CloseCause.HALF_OPEN_TIMEOUT: TerminateCause.USER_ERROR,
    CloseCause.PROTOCOL_ERROR: TerminateCause.NAS_ERROR,
    CloseCause.CHANGED: TerminateCause.NAS_REQUEST,
    CloseCause.REDIRECTED: TerminateCause.NAS_REQUEST,
    CloseCause.NOT_CONFIRMED: TerminateCause.NAS_ERROR,
    CloseCause.NOT_REKEYED: TerminateCause.NAS_REQUEST,
}


@dataclass(slots=True)
class Session:
    """What the gateway knows of one IKE SA beyond the protocol; lives in `IkeSa.context`."""

    sa: IkeSa
    sign_in: SignInContext
    session_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    first_factor: FirstFactor | None = None
    """The device, where its user is to follow."""
    conversation: EapConversation | None = None
    access: Access | None = None
    lease: Lease | None = None
    reach: Reach | None = None
    """What it may reach now."""
    deprived: dict[int, Wish] = field(default_factory=dict)
    """Of each child SA that had to go because nothing of it may be reached: its lineage, and the client's wish."""
    children: SessionChildren = field(default_factory=SessionChildren)
    moves: TokenBucket = field(default_factory=lambda: TokenBucket(MOVES_PER_S, MOVES_BURST, 0.0))
    has_to_move: bool = False
    """Its child SAs are not yet where IKE is."""
    next_interim: float = 0.0
    """When accounting is due next, monotonic seconds."""
    started: bool = False
    confirm_by: float | None = None
    """Until when AAA has to have confirmed the start, monotonic seconds; None once it has."""
    resumes: str = ""
    """The id of the session that it goes on with, by a ticket."""


class Sessions:
    """All sessions of this worker, from sign-in to the last accounting record."""

    def __init__(self, settings: GatewaySettings, backend: AaaBackend, plane: DataPlane) -> None:
        self._settings = settings
        self._backend = backend
        self._child_sas = ChildSas(settings, plane)
        self._pools = Pools(settings.pools)
        self._by_sa: dict[IkeSa, Session] = {}
        self._by_spi: dict[int, Session] = {}
        self._by_device: dict[str, dict[IkeSa, Session]] = {}
        """Those that have, or are about to have, addresses; oldest first."""
        self._started = 0

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_sa.values()))

    def __len__(self) -> int:
        return self._started

    def begin(self, sa: IkeSa) -> Session:
        """A peer began IKE_AUTH."""
        sign_in = SignInContext(
            sign_in_id=sa.spi_r.hex(),
            gateway=self._settings.name,
            remote_address=sa.path.remote,
            ike_identity=sa.peer_identity,
            client=sa.client or "unknown client",
        )
        session = Session(sa, sign_in)
        self._by_sa[sa] = session
        sa.context = session
        return session

    def of(self, sa: IkeSa) -> Session | None:
        """The session of an SA, None where it is over."""
        return self._by_sa.get(sa)

    def of_spi(self, spi_in: int) -> Session | None:
        """The session whose child SA has this inbound SPI."""
        return self._by_spi.get(spi_in)

    def rekeyed(self, session: Session, new: IkeSa) -> None:
        """A new IKE SA has taken the place of the session's."""
        self._by_sa[new] = self._by_sa.pop(session.sa)
        if session.access is not None:
            siblings = self._by_device.get(session.access.device_id, {})
            # In its old place: it is as old as it was.
            renamed = {new if sa is session.sa else sa: sibling for sa, sibling in siblings.items()}
            self._by_device[session.access.device_id] = renamed
        session.sa = new

    # --- Coming up ------------------------------------------------------------------------------------------

    def assign(self, session: Session, wanted: AssignmentWanted, now: float) -> None:
        """Find addresses for an authenticated peer."""
        access = session.access
        if access is None:
            first_child.refuse(session.sa, InternalAddressFailure("not authorised"), now)
            return
        self._by_device.setdefault(access.device_id, {})[session.sa] = session
        reach = session.reach = session.reach or reach_of(access, self._settings)
        wanted = replace(
            wanted,
            wants_ipv4=wanted.wants_ipv4 and reach.has_family(4),
            wants_ipv6=wanted.wants_ipv6 and reach.has_family(6),
        )
        if access.peer_networks:
            sign_in.assign(session.sa, _assignment(session, access, reach, self._lineage_of_site(session)), now)
            return
        lineage = self._share_lease(session, access.pool, wanted)
        if session.lease is None:
            try:
                session.lease = self._pools.get(access.pool).lease(
                    access.device_id, wants_ipv4=wanted.wants_ipv4, wants_ipv6=wanted.wants_ipv6
                )
            except PoolExhausted:
                name = access.pool or "of the gateway"
                first_child.refuse(session.sa, InternalAddressFailure(f"pool {name} has no free address"), now)
                return
        sign_in.assign(session.sa, _assignment(session, access, reach, lineage), now)

    def _lineage_of_site(self, session: Session) -> int:
        """That of the child SA which carries the site's networks already, as `_share_lease` has it; 0 for none."""
        older = (child for other in reversed(self.others_of(session)) for child in other.sa.children.values())
        return next((child.lineage for child in older), 0)

    def _share_lease(self, session: Session, pool: str | None, wanted: AssignmentWanted) -> int:
        """Give a device that signs in anew, and asks for the addresses that it still has, just those.

        A client that reauthenticates by "make before break" (RFC 7296 section 2.8.3) lets go of the old SA when the
        new one is up, and must not see its addresses change. Where it is decided otherwise now, of which pool they
        are goes before: filters elsewhere know a device in quarantine by its address.

        Returns:
            The lineage of the child SA that the new one follows, 0 for none.
        """
        for other in self.others_of(session):
            lease, children = other.lease, other.sa.children
            if lease is None or not other.started or not children or not self._pools.has(pool, lease):
                continue
            same4 = not wanted.wants_ipv4 or (lease.ipv4 is not None and lease.ipv4 == wanted.asked_ipv4)
            same6 = not wanted.wants_ipv6 or (lease.ipv6 is not None and lease.ipv6 == wanted.asked_ipv6)
            if same4 and same6 and (wanted.wants_ipv4 or wanted.wants_ipv6):
                self._pools.share(lease)
                session.lease = lease
                return next(iter(children.values())).lineage
        return 0

    def install(self, session: Session, child: Child, now: float, *, outbound: bool) -> None:
        """Have the data plane carry a child SA.

        Args:
            session: whose.
            child: which.
            now: monotonic seconds.
            outbound: send on it at once, and not when its peer is ready; where it follows none that is still there,
                that is done in any case.
        """
        outbound = outbound or not any(
            other.lineage == child.lineage
            for one in (session, *self.others_of(session))
            for other in one.sa.children.values()
        )
        failure = self._child_sas.install(session.sa, session.children, child, outbound=outbound)
        if failure is None:
            self._by_spi[child.spi_in] = session
            child_lifecycle.installed(session.sa, child.spi_in, now)
        else:
            child_lifecycle.failed(session.sa, child.spi_in, failure, now)

    def started(self, session: Session, refused: Callable[[Session, Refusal], None], now: float) -> None:
        """The peer is in: open the accounting record, limit the session's life."""
        access, sa, lease = session.access, session.sa, session.lease
        if access is None or (lease is None and not access.peer_networks):
            sa.close(CloseCause.PROTOCOL_ERROR, now)
            return
        session.started, session.confirm_by = True, now + CONFIRMATION_S
        self._started += 1
        session.next_interim = now + access.interim_interval_s
        sa.limit_session(access.session_lifetime_s, now)
        # A change may have come while the client was signing in.
        self._apply_reach(session, now)
        start = SessionStart(
            session_id=session.session_id,
            access=access,
            gateway=self._settings.name,
            remote_address=sa.path.remote_text,
            client=session.sign_in.client,
            virtual_ipv4=str(lease.ipv4) if lease and lease.ipv4 else None,
            virtual_ipv6=str(lease.ipv6) if lease and lease.ipv6 else None,
            ike_suite=str(sa.suite),
            esp_suite=next((str(child.suite) for child in sa.children.values()), ""),
        )

        def answered(refusal: Refusal | None) -> None:
            session.confirm_by = None
            if refusal is not None:
                refused(session, refusal)

        self._backend.session_started(start, answered)
        _log.debug(
            "session started",
            session=session.session_id,
            user=access.user_name,
            device=access.device_name,
            remote=start.remote_address,
            suite=start.ike_suite,
        )

    def resumed_by(self, session: Session) -> Session | None:
        """The session that a returning peer has left behind, if it is still here: it is the peer's no more."""
        if not session.resumes:
            return None
        return next((other for other in self.others_of(session) if other.session_id == session.resumes), None)

    def others_of(self, session: Session) -> list[Session]:
        """The device's other sessions here, oldest first; INITIAL_CONTACT says that they are gone."""
        access = session.access
        if access is None:
            return []
        return [
            other
            for other in self._by_device.get(access.device_id, {}).values()
            if other is not session and other.access is not None and other.access.user_name == access.user_name
        ]

    def too_many_with(self, session: Session) -> list[Session]:
        """The device's oldest sessions, which have to end for this new one to begin."""
        access, limit = session.access, self._settings.sessions_per_device
        if access is None or len(self._by_device.get(access.device_id, ())) < limit:
            return []
        others = self.others_of(session)
        return others[: max(0, len(others) + 1 - limit)]

    # --- While it is up -------------------------------------------------------------------------------------

    def last_esp_in_s(self, session: Session) -> float:
        """When the peer's last authentic ESP packet came; 0.0 for never."""
        return self._child_sas.last_in_s(session.children)

    def account(self, now: float) -> None:
        """Send the interim records that are due; move child SAs that could not be moved at once."""
        for session in self._by_sa.values():
            if session.has_to_move:
                self.path_changed(session, now)
            if session.started and now >= session.next_interim and session.access is not None:
                session.next_interim = now + session.access.interim_interval_s
                self._backend.session_updated(self._usage(session))

    def unconfirmed(self, now: float) -> list[Session]:
        """Those that have started, and have waited for too long to hear whether they may."""
        return [one for one in self._by_sa.values() if one.confirm_by is not None and now >= one.confirm_by]

    def path_changed(self, session: Session, now: float) -> None:
        """IKE saw the peer at a new address, or came to a new address of ours: its ESP goes there as well."""
        session.has_to_move = not session.moves.take(now)
        if session.has_to_move:
            return
        self._child_sas.move(session.sa, session.children)

    def child_started(self, session: Session, spi_in: int) -> None:
        """The peer is ready for our packets on a child SA."""
        self._child_sas.start_outbound(spi_in)

    def matching(self, selector: SessionSelector) -> list[Session]:
        """The sessions that a Disconnect-Request names, those that are just signing in among them."""
        return [session for session in self if _matches(session, selector)]

    def change(self, session: Session, change: SessionChange, now: float) -> None:
        """Change what a session reaches and how long it lasts: for its packets at once, for the client by a new child
        SA; a session that is just signing in gets it when it is up.
        """
        access = session.access
        if access is None:
            return
        if change.networks is not None or change.rule is not None:
            reach = session.reach or reach_of(access, self._settings)
            networks = self._settings.networks if change.networks is None else change.networks
            session.reach = replace(reach, networks=networks)
        if change.session_timeout_s is not None:
            session.access = access = replace(access, session_lifetime_s=change.session_timeout_s)
            if session.started:
                session.sa.limit_session(change.session_timeout_s, now)
        _log.info(
            "session changed",
            session=session.session_id,
            device=access.device_name,
            rule=change.rule or access.rule,
            networks=None if change.networks is None else [str(network) for network in change.networks],
            reason=change.reason,
        )
        self._apply_reach(session, now)

    def _apply_reach(self, session: Session, now: float) -> None:
        """Let data plane and client know what the session reaches, where that is not what they have."""
        access, sa, reach = session.access, session.sa, session.reach
        if access is None or reach is None or not session.started:
            return
        if sa.assignment is not None and sa.assignment.networks == reach.networks:
            return
        self._child_sas.restrict(sa, tuple(map(TrafficSelector.from_network, reach.networks)))
        assignment = _assignment(session, access, reach, sa.assignment.lineage if sa.assignment is not None else 0)
        live = {child.lineage: child.wish for child in sa.children.values() if child.is_live}
        session.deprived = {lineage: wish for lineage, wish in session.deprived.items() if lineage not in live}
        was_deprived = any(any(wished_selectors(assignment, wish)) for wish in session.deprived.values())
        session.deprived.update(
            (lineage, wish) for lineage, wish in live.items() if not any(wished_selectors(assignment, wish))
        )
        replace_child.reassign(sa, assignment, now)
        if was_deprived:
            # There is no child SA left to make room for one, and no client waits to be offered one.
            sa.close(CloseCause.CHANGED, now)

    def is_short_of(self, session: Session) -> bool:
        """Whether a child SA reaches less than the session may, of what the client asked for with it."""
        assignment, children = session.sa.assignment, session.sa.children.values()
        if assignment is None:
            return False
        for child in children:
            _, wished = wished_selectors(assignment, child.wish)
            if child.is_live and set(narrow(wished, child.local_selectors)) != set(wished):
                return True
        return False

    # --- Going down -----------------------------------------------------------------------------------------

    def child_deleted(self, session: Session, spi_in: int) -> None:
        """A child SA is gone; the session goes on, if need be without any."""
        self._child_sas.remove(session.children, spi_in)
        self._by_spi.pop(spi_in, None)

    def end(self, session: Session, cause: CloseCause) -> None:
        """The SA is over: nothing of it stays."""
        if self._by_sa.pop(session.sa, None) is None:
            return
        session.sa.context = None
        if session.conversation is not None:
            session.conversation.close()
            session.conversation = None
        self._start_successors(session)
        for spi_in in list(session.children.spis_in):
            self.child_deleted(session, spi_in)
        self._leave_device(session)
        if session.lease is not None:
            self._pools.release(session.lease)
        if session.started:
            self._started -= 1
            self._backend.session_ended(self._usage(session), _TERMINATE_CAUSE[cause])
            access = session.access
            _log.debug(
                "session ended",
                session=session.session_id,
                user=access.user_name if access else "",
                device=access.device_name if access else "",
                cause=cause.value,
                bytes_in=session.children.retired.bytes_in,
                bytes_out=session.children.retired.bytes_out,
            )

    def _start_successors(self, session: Session) -> None:
        """The client lets go of the session that it has signed in anew for: now at the latest it has the new one."""
        for other in self.others_of(session):
            if session.lease is not None and other.lease == session.lease:
                for spi_in in other.children.spis_in:
                    self._child_sas.start_outbound(spi_in)

    def _leave_device(self, session: Session) -> None:
        if session.access is None:
            return
        device_id = session.access.device_id
        siblings = self._by_device.get(device_id, {})
        siblings.pop(session.sa, None)
        if not siblings:
            self._by_device.pop(device_id, None)

    def _usage(self, session: Session) -> SessionUsage:
        counters = self._child_sas.counters(session.children)
        return SessionUsage(
            session.session_id,
            counters.bytes_in,
            counters.bytes_out,
            counters.packets_in,
            counters.packets_out,
            session.sa.path.remote_text,
        )


def _assignment(session: Session, access: Access, reach: Reach, lineage: int) -> Assignment:
    lease = session.lease
    return Assignment(
        lease.ipv4 if lease is not None else None,
        lease.ipv6 if lease is not None else None,
        reach.networks,
        reach.dns,
        lineage,
        reach.dns_domains,
        access.peer_networks,
        access.session_lifetime_s,
    )


def _matches(session: Session, selector: SessionSelector) -> bool:
    access, lease = session.access, session.lease
    if access is None:
        return False
    given_and_actual = (
        (selector.session_id, session.session_id),
        (selector.chargeable_identity, access.device_id),
        (selector.user_name, access.user_name),
        (selector.framed_ipv4, str(lease.ipv4) if lease and lease.ipv4 else ""),
    )
    return all(given is None or given == actual for given, actual in given_and_actual)


def moved(path: Path, remote: str, remote_port: int) -> Path:
    """The path after the peer's NAT gave it another address."""
    return path._replace(remote=remote, remote_port=remote_port)
