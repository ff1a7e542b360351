"""From an authenticated IKE SA to a session: addresses, child SA in the data plane, accounting, and the end of it.

The protocol core knows nothing of users, AAA knows nothing of SPIs; here they meet.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import structlog

from aaa.interface import (
    AaaBackend,
    Access,
    EapConversation,
    Refusal,
    SessionStart,
    SessionUsage,
    SignInContext,
    TerminateCause,
)
from core.settings import GatewaySettings
from gateway.control.disconnect import SessionSelector
from gateway.dataplane.interface import (
    ChildSa,
    Counters,
    DataPlane,
    DataPlaneError,
    Endpoints,
    EspCipher,
    EspIntegrity,
    EspKeys,
    EspSuite,
)
from gateway.ike.child import Assignment, Child
from gateway.ike.errors import IkeError, InternalAddressFailure
from gateway.ike.events import CloseCause
from gateway.ike.path import Path
from gateway.ike.sa import IkeSa
from gateway.pool import Lease, PoolExhausted, Pools

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
    CloseCause.DATA_PLANE: TerminateCause.NAS_ERROR,
}
_NOTHING = Counters(0, 0, 0, 0, 0.0, 0, 0)


@dataclass(slots=True)
class Session:
    """What the gateway knows of one IKE SA beyond the protocol; lives in `IkeSa.context`."""

    sa: IkeSa
    sign_in: SignInContext
    session_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    conversation: EapConversation | None = None
    access: Access | None = None
    lease: Lease | None = None
    spi_in: int | None = None
    counters: Counters = _NOTHING
    """The last ones that were read."""
    next_interim: float = 0.0
    """When accounting is due next, monotonic seconds."""
    started: bool = False


class DataPlaneFailure(IkeError):
    """The data plane can't carry the child SA; the peer gets TEMPORARY_FAILURE."""


class Sessions:
    """All sessions of this worker, from sign-in to the last accounting record."""

    def __init__(self, settings: GatewaySettings, backend: AaaBackend, plane: DataPlane) -> None:
        self._settings = settings
        self._backend = backend
        self._plane = plane
        self._pools = Pools(settings.pools)
        self._by_sa: dict[IkeSa, Session] = {}
        self._by_spi: dict[int, Session] = {}
        self._by_device: dict[str, dict[IkeSa, Session]] = {}
        """Those that have, or are about to have, addresses; oldest first."""

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_sa.values()))

    def __len__(self) -> int:
        return sum(session.started for session in self._by_sa.values())

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

    # --- Coming up ------------------------------------------------------------------------------------------

    def assign(self, session: Session, *, wants_ipv4: bool, wants_ipv6: bool, now: float) -> None:
        """Find addresses and an SPI for an authenticated peer."""
        access = session.access
        if access is None:
            session.sa.refuse_child(InternalAddressFailure("not authorised"), now)
            return
        self._by_device.setdefault(access.device_id, {})[session.sa] = session
        try:
            pool = self._pools.get(access.pool)
            session.lease = pool.lease(access.device_id, wants_ipv4=wants_ipv4, wants_ipv6=wants_ipv6)
        except PoolExhausted:
            name = access.pool or "of the gateway"
            session.sa.refuse_child(InternalAddressFailure(f"pool {name} has no free address"), now)
            return
        session.spi_in = self._plane.allocate_spi()
        networks: tuple[IPv4Network | IPv6Network, ...] = access.networks or self._settings.networks
        assignment = Assignment(
            session.lease.ipv4,
            session.lease.ipv6,
            networks,
            access.dns or self._settings.dns,
            session.spi_in,
        )
        session.sa.assign(assignment, now)

    def install(self, session: Session, child: Child, now: float) -> None:
        """Have the data plane carry the child SA."""
        sa = session.sa
        try:
            self._plane.install(_child_sa(sa, child, self._settings.replay_window_packets))
        except DataPlaneError as error:
            _log.error("child SA not installed", sign_in=session.sign_in.sign_in_id, error=str(error))
            sa.refuse_child(DataPlaneFailure(str(error)), now)
            return
        self._by_spi[child.spi_in] = session
        sa.child_installed(now)

    def started(self, session: Session, refused: Callable[[Session, Refusal], None], now: float) -> None:
        """The peer is in: open the accounting record, limit the session's life."""
        access, sa, lease = session.access, session.sa, session.lease
        if access is None or lease is None:
            sa.close(CloseCause.PROTOCOL_ERROR, now)
            return
        session.started = True
        session.next_interim = now + access.interim_interval_s
        sa.limit_session(access.session_lifetime_s, now)
        start = SessionStart(
            session_id=session.session_id,
            access=access,
            gateway=self._settings.name,
            remote_address=sa.path.remote_text,
            client=session.sign_in.client,
            virtual_ipv4=str(lease.ipv4) if lease.ipv4 else None,
            virtual_ipv6=str(lease.ipv6) if lease.ipv6 else None,
            ike_suite=str(sa.suite),
            esp_suite=str(sa.child.suite) if sa.child else "",
        )

        def answered(refusal: Refusal | None) -> None:
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
        counters = self._plane.counters(session.spi_in) if session.spi_in is not None else None
        return counters.last_in_s if counters is not None else 0.0

    def account(self, now: float) -> None:
        """Send the interim records that are due."""
        for session in self._by_sa.values():
            if session.started and now >= session.next_interim and session.access is not None:
                session.next_interim = now + session.access.interim_interval_s
                self._backend.session_updated(self._usage(session))

    def path_changed(self, session: Session) -> None:
        """IKE saw the peer at a new address: its ESP goes there as well."""
        child = session.sa.child
        if child is None:
            return
        try:
            self._plane.move(child.spi_in, _endpoints(session.sa))
        except DataPlaneError as error:
            _log.error("child SA not moved", sign_in=session.sign_in.sign_in_id, error=str(error))

    def matching(self, selector: SessionSelector) -> list[Session]:
        """The sessions that a Disconnect-Request names, those that are just signing in among them."""
        return [session for session in self if _matches(session, selector)]

    # --- Going down -----------------------------------------------------------------------------------------

    def child_deleted(self, session: Session) -> None:
        """The peer deleted the child SA; the session goes on without."""
        self._remove_child(session)

    def end(self, session: Session, cause: CloseCause) -> None:
        """The SA is over: nothing of it stays."""
        if self._by_sa.pop(session.sa, None) is None:
            return
        session.sa.context = None
        if session.conversation is not None:
            session.conversation.close()
            session.conversation = None
        self._remove_child(session)
        self._leave_device(session)
        if session.lease is not None:
            self._pools.release(session.lease)
        if session.started:
            self._backend.session_ended(self._usage(session), _TERMINATE_CAUSE[cause])
            access = session.access
            _log.debug(
                "session ended",
                session=session.session_id,
                user=access.user_name if access else "",
                device=access.device_name if access else "",
                cause=cause.value,
                bytes_in=session.counters.bytes_in,
                bytes_out=session.counters.bytes_out,
            )

    def _leave_device(self, session: Session) -> None:
        if session.access is None:
            return
        device_id = session.access.device_id
        siblings = self._by_device.get(device_id, {})
        siblings.pop(session.sa, None)
        if not siblings:
            self._by_device.pop(device_id, None)

    def _remove_child(self, session: Session) -> None:
        if session.spi_in is None:
            return
        counters = self._plane.remove(session.spi_in)
        if counters is not None:
            session.counters = counters
        self._by_spi.pop(session.spi_in, None)
        session.spi_in = None

    def _usage(self, session: Session) -> SessionUsage:
        if session.spi_in is not None:
            session.counters = self._plane.counters(session.spi_in) or session.counters
        counters = session.counters
        return SessionUsage(
            session.session_id,
            counters.bytes_in,
            counters.bytes_out,
            counters.packets_in,
            counters.packets_out,
            session.sa.path.remote_text,
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


def _endpoints(sa: IkeSa) -> Endpoints:
    path = sa.path
    return Endpoints(
        local=_address(path.local),
        local_port=path.local_port,
        remote=_address(path.remote),
        remote_port=path.remote_port,
        udp_encapsulation=sa.nat_local or sa.nat_remote,
        peer_behind_nat=sa.nat_remote,
    )


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address:
    """An address as a socket names it, without the zone of a link-local one."""
    return ip_address(text.partition("%")[0])


def _child_sa(sa: IkeSa, child: Child, replay_window_packets: int) -> ChildSa:
    suite, keys = child.suite, child.keys
    return ChildSa(
        spi_in=child.spi_in,
        spi_out=child.spi_out,
        suite=EspSuite(EspCipher(int(suite.encr)), suite.key_bits or 256, EspIntegrity(int(suite.integ)), suite.esn),
        keys_in=EspKeys(keys.encr_i, keys.integ_i),
        keys_out=EspKeys(keys.encr_r, keys.integ_r),
        endpoints=_endpoints(sa),
        local_selectors=child.local_selectors,
        remote_selectors=child.remote_selectors,
        replay_window_packets=replay_window_packets,
    )


def moved(path: Path, remote: str, remote_port: int) -> Path:
    """The path after the peer's NAT gave it another address."""
    return path._replace(remote=remote, remote_port=remote_port)
