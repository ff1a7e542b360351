"""One child SA at work: keys, window, selectors and counters of both directions."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Protocol

from gateway.dataplane.interface import ChildSa, Counters, DataPlaneError, Endpoints
from gateway.dataplane.lifetime import bounded
from gateway.dataplane.userspace.esp import make_opener, make_sealer
from gateway.dataplane.userspace.replay import ReplayWindow
from gateway.dataplane.userspace.router import SelectorGuard
from gateway.ike.selectors import TrafficSelector

_NEVER = 1 << 128


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """It shall not."""


class Child:
    """The state that the two pipelines share; they count in it directly.

    Raises:
        DataPlaneError: keys, SPIs, window or selectors that can't be used.
    """

    __slots__ = (
        "byte_mark",
        "bytes_in",
        "bytes_out",
        "endpoints",
        "exhausted",
        "failures",
        "inbound",
        "last_in_s",
        "lifetime",
        "opener",
        "outbound",
        "packet_mark",
        "packets_in",
        "packets_out",
        "remote_name",
        "replays",
        "sa",
        "sealer",
        "soft_told",
        "stopped",
        "timers",
        "waiting",
        "window",
    )

    def __init__(self, sa: ChildSa, random: Callable[[int], bytes]) -> None:
        name = f"child SA {sa.spi_in:08x}"
        for spi in (sa.spi_in, sa.spi_out):
            if not 255 < spi < 1 << 32:
                raise DataPlaneError(f"{name}: SPI {spi:#x} is reserved or too large (RFC 4303 section 2.1)")
        if not sa.local_selectors or not sa.remote_selectors:
            raise DataPlaneError(f"{name}: no traffic selectors")
        self.sa = sa
        try:
            self.window = ReplayWindow(sa.replay_window_packets, sa.suite.esn)
        except ValueError as error:
            raise DataPlaneError(f"{name}: {error}") from error
        self.opener = make_opener(sa.suite, sa.keys_in, sa.spi_in)
        self.sealer = make_sealer(sa.suite, sa.keys_out, sa.spi_out, random)
        self.inbound = SelectorGuard(sa.remote_selectors, sa.local_selectors)
        self.outbound = SelectorGuard(sa.local_selectors, sa.remote_selectors)
        self.bytes_in = self.packets_in = self.bytes_out = self.packets_out = 0
        self.replays = self.failures = 0
        self.last_in_s = 0.0
        self.waiting = False
        """Whether nothing is sent on it yet."""
        self.stopped = False
        """Whether it is removed, or its hard lifetime over."""
        self.exhausted = False
        """Whether it has no sequence numbers left to send with."""
        self.soft_told = False
        self.timers: list[Timer] = []
        self.lifetime = bounded(sa.lifetime, esn=sa.suite.esn)
        self.packet_mark, self.byte_mark = _NEVER, _NEVER
        """What either direction reaches when there is something to do about the lifetime."""
        self._set_marks(self.lifetime.soft_packets, self.lifetime.soft_bytes)
        self.move(sa.endpoints)

    def move(self, endpoints: Endpoints) -> None:
        """Send to these addresses from now on."""
        self.endpoints = endpoints
        self.remote_name = (str(endpoints.remote), endpoints.remote_port)
        """The peer as a socket names it, so that a packet from where it was is one comparison."""

    def restrict(self, local_selectors: tuple[TrafficSelector, ...]) -> None:
        """Carry no more than this from now on."""
        self.inbound = SelectorGuard(self.sa.remote_selectors, local_selectors)
        self.outbound = SelectorGuard(local_selectors, self.sa.remote_selectors)

    def tell_soft(self) -> bool:
        """Whether the end of the soft lifetime is still to be told; from now on only the hard one is looked at."""
        first = not self.soft_told
        self.soft_told = True
        self._set_marks(self.lifetime.hard_packets, self.lifetime.hard_bytes)
        return first

    def hard_limit_reached(self) -> bool:
        """Whether packets, bytes or sequence numbers are used up."""
        packets, octets = self.lifetime.hard_packets, self.lifetime.hard_bytes
        return (
            self.exhausted
            or (packets is not None and max(self.packets_in, self.packets_out) >= packets)
            or (octets is not None and max(self.bytes_in, self.bytes_out) >= octets)
        )

    def _set_marks(self, packets: int | None, octets: int | None) -> None:
        hard = self.lifetime
        self.packet_mark = min(_NEVER if limit is None else limit for limit in (packets, hard.hard_packets))
        self.byte_mark = min(_NEVER if limit is None else limit for limit in (octets, hard.hard_bytes))

    def stop(self) -> None:
        """Nothing is sent or received with it any more."""
        self.stopped = True
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

    def comes_from_elsewhere(self, host: str, port: int) -> bool:
        """Whether this is another address than the peer's, and not just another spelling of it."""
        if port == self.endpoints.remote_port and ip_address(host) == self.endpoints.remote:
            self.remote_name = (host, port)
            return False
        return True

    def counters(self) -> Counters:
        """A copy of the counters now."""
        return Counters(
            bytes_in=self.bytes_in,
            packets_in=self.packets_in,
            bytes_out=self.bytes_out,
            packets_out=self.packets_out,
            last_in_s=self.last_in_s,
            replays=self.replays,
            failures=self.failures,
        )
