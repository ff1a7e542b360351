"""Runs the checks in a thread of its own, away from the gateway's event loop and from the database's thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_network

import structlog
from cryptography import x509

from core.clock import utc_now
from core.settings import GatewaySettings, RevocationSettings
from pki.foreign import ForeignAuthorities, TrustedAuthority
from pki.revocation.checker import PathChecker, Sources
from pki.revocation.destinations import Address, Destinations, Network
from pki.revocation.evidence import PathStatus, RevocationState, Stapled
from pki.revocation.fetch import Fetcher

MOST_CHECKS = 512
"""Sign-ins that may wait for an answer at the same time."""
STOP_TIMEOUT_S = 2.0

_BUSY = PathStatus(RevocationState.UNKNOWN, "too many certificates are being checked")
_BROKEN = PathStatus(RevocationState.UNKNOWN, "the check failed; the gateway's log says why")
_log = structlog.get_logger(__name__)

Reply = Callable[[PathStatus], None]


class RevocationService:
    """One thread with one event loop.

    Args:
        authorities: whose certificates are checked.
        settings: how long to wait and to remember.
        own: see `own_networks`; nor is anything fetched from any other address of this machine, unless the
            operator listed it.
        post: brings a callable to the thread that the answers belong to.
        fetcher: another one, for tests.
    """

    def __init__(
        self,
        authorities: ForeignAuthorities,
        settings: RevocationSettings,
        own: Sequence[Network],
        post: Callable[[Callable[[], None]], None],
        fetcher: Fetcher | None = None,
    ) -> None:
        self._post = post
        self._checker = PathChecker(settings, fetcher or Fetcher(), utc_now)
        is_own = partial(is_own_address, tuple(own))
        self._sources = {authority.name: _sources(authority, is_own) for authority in authorities}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._checks: set[asyncio.Task[None]] = set()
        self._ended = threading.Event()
        self._stopped = False

    def start(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, args=(self._loop,), name="revocation", daemon=True).start()

    def stop(self) -> None:
        """Break off what is under way, and end the thread. No answer comes after this."""
        loop = self._loop
        if loop is None or self._stopped:
            return
        self._stopped = True
        loop.call_soon_threadsafe(loop.stop)
        self._ended.wait(STOP_TIMEOUT_S)

    def check(self, authority: str, path: Sequence[x509.Certificate], stapled: Stapled, reply: Reply) -> None:
        """Find out whether any certificate of a path was revoked; never blocks.

        Args:
            authority: by name, whose path it is.
            path: from the client's certificate to the root, checked but for revocation.
            stapled: what the client sent along.
            reply: posted once, within `timeout_s` and a little.
        """
        loop = self._loop
        if loop is None or self._stopped:
            raise RuntimeError("the revocation service does not run")
        loop.call_soon_threadsafe(self._begin, authority, tuple(path), stapled, reply)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
            loop.run_until_complete(_cancel_all())
        finally:
            loop.close()
            self._ended.set()

    def _begin(self, authority: str, path: tuple[x509.Certificate, ...], stapled: Stapled, reply: Reply) -> None:
        if len(self._checks) >= MOST_CHECKS:
            self._answer(reply, _BUSY)
            return
        task = asyncio.get_running_loop().create_task(self._check(authority, path, stapled, reply))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _check(
        self, authority: str, path: tuple[x509.Certificate, ...], stapled: Stapled, reply: Reply
    ) -> None:
        status = _BROKEN
        try:
            status = await self._checker.check(self._sources[authority], path, stapled)
        except Exception:
            _log.exception("a revocation check failed", authority=authority)
        self._answer(reply, status)

    def _answer(self, reply: Reply, status: PathStatus) -> None:
        def told() -> None:
            if not self._stopped:
                reply(status)

        try:
            self._post(told)
        except RuntimeError:
            # The caller's loop is closed; then nobody waits.
            return


def own_networks(gateway: GatewaySettings) -> list[Network]:
    """Where nothing is fetched from: the gateway's public addresses, and those of its clients."""
    public: list[Network] = [ip_network(address) for address in gateway.public_addresses]
    return public + [network for pool in gateway.pools for network in (pool.ipv4, pool.ipv6) if network is not None]


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def is_own_address(own: Sequence[Network], address: Address) -> bool:
    """Whether an address is this gateway's, or one of its clients'.

    The kernel is asked without a packet: whoever connects to an address of the same machine has that address
    itself.
    """
    if any(address in network for network in own):
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            # No way there at all: the connection will say so.
            return False
        return bool(probe.getsockname()[0] == str(address))


def _sources(authority: TrustedAuthority, is_own: Callable[[Address], bool]) -> Sources:
    settings = authority.settings
    chosen = (*settings.ocsp_urls, *settings.crl_urls)
    destinations = Destinations(settings.allowed_hosts, settings.allowed_ports, chosen, is_own)
    return Sources(authority.name, settings.ocsp_urls, settings.crl_urls, destinations)
