"""One child SA in the kernel: its two states, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from gateway.dataplane.interface import ChildSa, Counters, DataPlaneError, Endpoints
from gateway.dataplane.lifetime import bounded
from gateway.dataplane.xfrm.policies import PolicyKey
from gateway.dataplane.xfrm.selectors import policy_selectors
from gateway.dataplane.xfrm.states import NewState, Replay, State, StateId
from gateway.dataplane.xfrm.structures import MAX_REPLAY_WINDOW_PACKETS
from gateway.ike.selectors import TrafficSelector, narrow

_MIN_REPLAY_WINDOW_PACKETS = 64
_FIRST_SPI = 256
"""1 to 255 are reserved (RFC 4303 section 2.1)."""
_MAPPING_INTERVAL_S = 1


class Pair:
    """A pair of states, as the plane wants it to be.

    Raises:
        DataPlaneError: SPIs, window or selectors that can't be used.
    """

    def __init__(self, sa: ChildSa, reqid: int, if_id: int) -> None:
        self.name = f"child SA {sa.spi_in:08x}"
        for spi in (sa.spi_in, sa.spi_out):
            if not _FIRST_SPI <= spi < 1 << 32:
                raise DataPlaneError(f"{self.name}: SPI {spi:#x} is reserved or too large (RFC 4303 section 2.1)")
        if not _MIN_REPLAY_WINDOW_PACKETS <= sa.replay_window_packets <= MAX_REPLAY_WINDOW_PACKETS:
            raise DataPlaneError(f"{self.name}: a replay window has 64 to {MAX_REPLAY_WINDOW_PACKETS} packets")
        self.sa = sa
        self.reqid = reqid
        self.endpoints = sa.endpoints
        self.stopped = False
        """Whether its states are gone from the kernel."""
        self.soft_told = False
        self._if_id = if_id
        self._lifetime = bounded(sa.lifetime, esn=sa.suite.esn)
        self.restriction: tuple[TrafficSelector, ...] | None = None
        """What of its selectors it may still carry; None for all."""
        self._keys = policy_selectors(self.name, sa.local_selectors, sa.remote_selectors)
        if not self._keys:
            raise DataPlaneError(f"{self.name}: no traffic selectors")
        self._counters = Counters(0, 0, 0, 0, 0.0, 0, 0)
        self._dropped_before = (0, 0)
        """Replays and failures of earlier states of this pair; all else is carried over by the kernel."""
        self._seen_at = 0.0

    @property
    def id_in(self) -> StateId:
        """Of the state that receives."""
        return StateId(self.endpoints.local, self.sa.spi_in)

    @property
    def id_out(self) -> StateId:
        """Of the state that sends."""
        return StateId(self.endpoints.remote, self.sa.spi_out)

    @property
    def ids(self) -> tuple[StateId, StateId]:
        """Of both, the receiving one first."""
        return self.id_in, self.id_out

    def policy_keys(self, restrictions: Iterable[tuple[TrafficSelector, ...]] = ()) -> frozenset[PolicyKey]:
        """The policies that it needs, where none of these restrictions may be passed.

        Raises:
            DataPlaneError: the kernel can't say that.
        """
        local = self.sa.local_selectors
        for restriction in restrictions:
            local = narrow(local, restriction)
        if local == self.sa.local_selectors:
            return self._keys
        return policy_selectors(self.name, local, self.sa.remote_selectors)

    def states(self, carried: tuple[State, State] | None = None) -> tuple[NewState, NewState]:
        """Both states as they shall be, the receiving one first.

        Args:
            carried: the last of the states that these replace: numbers, counters and lifetimes go on from there.
        """
        sa, ends = self.sa, self.endpoints
        lifetime = self._lifetime
        if self.soft_told:
            lifetime = replace(lifetime, soft_s=None, soft_packets=None, soft_bytes=None)
        ports = (ends.remote_port, ends.local_port) if ends.udp_encapsulation else None
        inward = NewState(
            self.id_in,
            ends.remote,
            self.reqid,
            sa.suite,
            sa.keys_in,
            lifetime,
            Replay(sa.replay_window_packets),
            ports,
            mapping_interval_s=_MAPPING_INTERVAL_S,
            if_id=self._if_id,
        )
        outward = replace(
            inward,
            id=self.id_out,
            source=ends.local,
            keys=sa.keys_out,
            encapsulation=ports[::-1] if ports is not None else None,
            mapping_interval_s=None,
        )
        if carried is None:
            return inward, outward
        was_in, was_out = carried
        return (
            replace(inward, usage=was_in.usage, replay=was_in.known_replay),
            replace(outward, usage=was_out.usage, replay=was_out.known_replay),
        )

    def soft_limit_reached(self, state: State, wall_s: float) -> bool:
        """Whether a state is beyond the soft lifetime.

        Args:
            wall_s: the wall clock, by which the kernel measures lifetimes.
        """
        limits, usage = self._lifetime, state.usage
        return (
            (limits.soft_packets is not None and usage.packets >= limits.soft_packets)
            or (limits.soft_bytes is not None and usage.octets >= limits.soft_bytes)
            or (limits.soft_s is not None and wall_s - usage.added_at >= limits.soft_s)
        )

    def observe(self, inward: State | None, outward: State | None, now: float, wall: Callable[[], float]) -> Counters:
        """Take in what the kernel says of the states, None where it says nothing; the counters of the pair.

        A kernel before 6.2 does not say when a packet came last; then it was now, if there were any since it was
        asked last.
        """
        was = self._counters
        if inward is not None:
            last_in_s = was.last_in_s
            if inward.usage.packets > was.packets_in:
                last_in_s = now
                if inward.last_used_at is not None:
                    # The wall clock may have been set since: the packet came since the last look, whatever it says.
                    last_in_s = max(self._seen_at, now - max(0.0, wall() - inward.last_used_at))
            replays, failures = self._dropped_before
            was = replace(
                was,
                bytes_in=inward.usage.octets,
                packets_in=inward.usage.packets,
                last_in_s=last_in_s,
                replays=replays + inward.replays,
                failures=failures + inward.failures,
            )
            self._seen_at = now
        if outward is not None:
            was = replace(was, bytes_out=outward.usage.octets, packets_out=outward.usage.packets)
        self._counters = was
        return was

    @property
    def counters(self) -> Counters:
        """As they were observed last."""
        return self._counters

    def move(self, endpoints: Endpoints) -> None:
        """From now on between these addresses, with states that begin to count drops anew."""
        self.endpoints = endpoints
        self._dropped_before = (self._counters.replays, self._counters.failures)
