"""The child SAs of sessions in the data plane: what IKE negotiated becomes what carries packets, and is counted."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

import structlog

from core.settings import GatewaySettings
from gateway.dataplane.interface import (
    ChildSa,
    Counters,
    DataPlane,
    DataPlaneError,
    Endpoints,
    EspCipher,
    EspIntegrity,
    EspKeys,
    EspLifetime,
    EspSuite,
)
from gateway.ike.child import Child
from gateway.ike.errors import TemporaryFailure
from gateway.ike.sa import IkeSa, jittered
from gateway.ike.selectors import TrafficSelector, narrow

HARD_LIFETIME_FACTOR = 1.2
"""How much longer than to its rekeying a child SA may live."""
MAX_PACKETS_WITHOUT_ESN = 1 << 32
"""Sequence numbers end there (RFC 4303 section 3.3.3); long before it the pair is rekeyed."""

_NOTHING = Counters(0, 0, 0, 0, 0.0, 0, 0)
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SessionChildren:
    """The child SAs of one session."""

    spis_in: set[int] = field(default_factory=set)
    """Of those in the data plane."""
    retired: Counters = _NOTHING
    """Of those that are gone, added up."""


class ChildSas:
    """Installs, moves, counts and removes child SAs.

    Args:
        settings: lifetimes and the replay window.
        plane: the data plane.
    """

    def __init__(self, settings: GatewaySettings, plane: DataPlane) -> None:
        self._settings = settings
        self._plane = plane

    def install(
        self, sa: IkeSa, children: SessionChildren, child: Child, *, outbound: bool
    ) -> TemporaryFailure | None:
        """Have the data plane carry a child SA; what went wrong comes back as the error for the peer."""
        try:
            self._plane.install(self._child_sa(sa, child), outbound=outbound)
        except DataPlaneError as error:
            _log.error("child SA not installed", spi_in=f"{child.spi_in:#x}", error=str(error))
            return TemporaryFailure(str(error))
        children.spis_in.add(child.spi_in)
        return None

    def start_outbound(self, spi_in: int) -> None:
        """Send on this pair from now on."""
        try:
            self._plane.start_outbound(spi_in)
        except DataPlaneError as error:
            _log.error("child SA not taken into use", spi_in=f"{spi_in:#x}", error=str(error))

    def restrict(self, sa: IkeSa, allowed: tuple[TrafficSelector, ...]) -> None:
        """Let every child SA of an IKE SA carry no more than this of what it was made for."""
        for child in sa.children.values():
            try:
                self._plane.restrict(child.spi_in, narrow(child.local_selectors, allowed))
            except DataPlaneError as error:
                _log.error("child SA not narrowed, so it is stopped", spi_in=f"{child.spi_in:#x}", error=str(error))

    def move(self, sa: IkeSa, children: SessionChildren) -> None:
        """The IKE SA's path has changed."""
        for spi_in in children.spis_in:
            try:
                self._plane.move(spi_in, endpoints(sa))
            except DataPlaneError as error:
                _log.error("child SA not moved", spi_in=f"{spi_in:#x}", error=str(error))

    def remove(self, children: SessionChildren, spi_in: int) -> None:
        """Stop a child SA; its counters stay."""
        if spi_in not in children.spis_in:
            return
        children.spis_in.remove(spi_in)
        last = self._plane.remove(spi_in)
        if last is not None:
            children.retired = _sum(children.retired, last)

    def counters(self, children: SessionChildren) -> Counters:
        """Of a whole session, from its first child SA on."""
        total = children.retired
        for spi_in in children.spis_in:
            total = _sum(total, self._plane.counters(spi_in) or _NOTHING)
        return total

    def last_in_s(self, children: SessionChildren) -> float:
        """When the last authentic packet came; 0.0 for never."""
        found = [self._plane.counters(spi_in) for spi_in in children.spis_in]
        return max((counters.last_in_s for counters in found if counters is not None), default=0.0)

    def _child_sa(self, sa: IkeSa, child: Child) -> ChildSa:
        suite, keys = child.suite, child.keys
        from_initiator = EspKeys(keys.encr_i, keys.integ_i)
        from_responder = EspKeys(keys.encr_r, keys.integ_r)
        return ChildSa(
            spi_in=child.spi_in,
            spi_out=child.spi_out,
            suite=EspSuite(
                EspCipher(int(suite.encr)), suite.key_bits or 256, EspIntegrity(int(suite.integ)), suite.esn
            ),
            keys_in=from_responder if child.initiated else from_initiator,
            keys_out=from_initiator if child.initiated else from_responder,
            endpoints=endpoints(sa),
            local_selectors=child.local_selectors,
            remote_selectors=child.remote_selectors,
            replay_window_packets=self._settings.replay_window_packets,
            lineage=child.lineage,
            lifetime=self._lifetime(suite.esn),
        )

    def _lifetime(self, esn: bool) -> EspLifetime:
        soft_s = jittered(self._settings.child_rekey_s, os.urandom)
        return EspLifetime(
            soft_s=soft_s,
            hard_s=self._settings.child_rekey_s * HARD_LIFETIME_FACTOR,
            soft_packets=None if esn else MAX_PACKETS_WITHOUT_ESN // 2,
            hard_packets=None if esn else MAX_PACKETS_WITHOUT_ESN - 1,
        )


def _sum(one: Counters, other: Counters) -> Counters:
    return Counters(
        one.bytes_in + other.bytes_in,
        one.packets_in + other.packets_in,
        one.bytes_out + other.bytes_out,
        one.packets_out + other.packets_out,
        max(one.last_in_s, other.last_in_s),
        one.replays + other.replays,
        one.failures + other.failures,
    )


def endpoints(sa: IkeSa) -> Endpoints:
    """Where the packets of an IKE SA's child SAs go."""
    esp = sa.esp
    path = esp.path
    return Endpoints(
        local=_address(path.local),
        local_port=path.local_port,
        remote=_address(path.remote),
        remote_port=path.remote_port,
        udp_encapsulation=esp.udp_encapsulation,
        peer_behind_nat=esp.peer_behind_nat,
    )


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address:
    """An address as a socket names it, without the zone of a link-local one."""
    return ip_address(text.partition("%")[0])
