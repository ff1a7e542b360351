"""States, which are what the kernel calls ESP security associations: messages to make them, answers about them."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.dataplane.interface import Address, EspKeys, EspLifetime, EspSuite
from gateway.dataplane.xfrm.algorithms import algorithm_attributes
from gateway.dataplane.xfrm.netlink import MalformedNetlink, attribute, parse_attributes
from gateway.dataplane.xfrm.selectors import ANY
from gateway.dataplane.xfrm.structures import (
    ENCAPSULATION,
    EXPIRE_TAIL,
    ID,
    INFINITE,
    IPPROTO_ESP,
    LIFETIME_CURRENT,
    LIFETIME_LIMITS,
    MAPPING_TAIL,
    MAX_REPLAY_WINDOW_PACKETS,
    MODE_TUNNEL,
    REPLAY_ESN,
    SELECTOR,
    STATE_AF_UNSPEC,
    STATE_BYTES,
    STATE_ESN,
    STATE_ID,
    STATE_TAIL,
    STATISTICS,
    UDP_ENCAP_ESPINUDP,
    Attribute,
    family_of,
    pack_address,
    pack_port,
    unpack_address,
)

_U32 = 0xFFFF_FFFF
_NATIVE = sys.byteorder


class StateId(NamedTuple):
    """What the kernel finds a state by: where its packets go, and their SPI."""

    destination: Address
    spi: int

    def to_bytes(self) -> bytes:
        """struct xfrm_usersa_id."""
        return STATE_ID.pack(
            pack_address(self.destination),
            self.spi.to_bytes(4, "big"),
            family_of(self.destination),
            IPPROTO_ESP,
        )

    def __str__(self) -> str:
        return f"SPI {self.spi:08x} to {self.destination}"


@dataclass(frozen=True, slots=True)
class Replay:
    """Sequence numbers of a state: sent, received, and which of the last ones were received."""

    window_packets: int
    sent: int = 0
    """The last number that went out."""
    received: int = 0
    """The highest number that came in."""
    bitmap: bytes = b""
    """As the kernel has it; empty for one of zeros."""

    def to_bytes(self) -> bytes:
        """struct xfrm_replay_state_esn, which non-extended numbers use as well: the older one ends at 32 packets."""
        words = -(-self.window_packets // 32)
        head = REPLAY_ESN.pack(
            words,
            self.sent & _U32,
            self.received & _U32,
            self.sent >> 32,
            self.received >> 32,
            self.window_packets,
        )
        return head + self.bitmap.ljust(4 * words, b"\0")

    @classmethod
    def parse(cls, data: bytes) -> Replay:
        """Read it.

        Raises:
            MalformedNetlink: lengths that do not fit.
        """
        if len(data) < REPLAY_ESN.size:
            raise MalformedNetlink("replay state too short")
        words, sent, received, sent_high, received_high, window = REPLAY_ESN.unpack_from(data)
        bitmap = data[REPLAY_ESN.size :]
        if len(bitmap) != 4 * words or window > min(32 * words, MAX_REPLAY_WINDOW_PACKETS):
            raise MalformedNetlink("replay bitmap length")
        return cls(window, sent_high << 32 | sent, received_high << 32 | received, bitmap)


@dataclass(frozen=True, slots=True)
class Usage:
    """What passed through a state, and since when (seconds of the wall clock)."""

    octets: int
    packets: int
    added_at: int
    used_at: int


@dataclass(frozen=True, slots=True)
class NewState:
    """A state to be made, or to be changed."""

    id: StateId
    source: Address
    reqid: int
    suite: EspSuite
    keys: EspKeys = field(repr=False)
    lifetime: EspLifetime
    replay: Replay
    encapsulation: tuple[int, int] | None
    """Source and destination port of ESP in UDP (RFC 3948)."""
    usage: Usage | None = None
    """What an earlier state that this one replaces has carried: counters and lifetimes go on from there."""
    mapping_interval_s: int | None = None
    """How often to tell that packets come from somewhere else; None for never."""
    if_id: int = 0

    def to_bytes(self) -> bytes:
        """Body of NEWSA and UPDSA.

        Raises:
            DataPlaneError: keys that do not fit the suite.
        """
        parts = [
            ANY,
            ID.pack(pack_address(self.id.destination), self.id.spi.to_bytes(4, "big"), IPPROTO_ESP),
            pack_address(self.source),
            _limits(self.lifetime),
            bytes(LIFETIME_CURRENT.size + STATISTICS.size),
            STATE_TAIL.pack(
                0,
                self.reqid,
                family_of(self.id.destination),
                MODE_TUNNEL,
                0,
                # Any inner family: the policies decide which packets come here.
                STATE_AF_UNSPEC | (STATE_ESN if self.suite.esn else 0),
            ),
            algorithm_attributes(self.suite, self.keys),
            attribute(Attribute.REPLAY_ESN_VAL, self.replay.to_bytes()),
        ]
        if self.encapsulation is not None:
            source, destination = map(pack_port, self.encapsulation)
            body = ENCAPSULATION.pack(UDP_ENCAP_ESPINUDP, source, destination, bytes(16))
            parts.append(attribute(Attribute.ENCAP, body))
            if self.mapping_interval_s is not None:
                parts.append(attribute(Attribute.MTIMER_THRESH, _u32(self.mapping_interval_s)))
        if self.usage is not None:
            usage = self.usage
            body = LIFETIME_CURRENT.pack(usage.octets, usage.packets, usage.added_at, usage.used_at)
            parts.append(attribute(Attribute.LTIME_VAL, body))
        if self.if_id:
            parts.append(attribute(Attribute.IF_ID, _u32(self.if_id)))
        return b"".join(parts)


def _u32(number: int) -> bytes:
    return number.to_bytes(4, _NATIVE)


def _limits(lifetime: EspLifetime) -> bytes:
    return LIFETIME_LIMITS.pack(
        _or_infinite(lifetime.soft_bytes),
        _or_infinite(lifetime.hard_bytes),
        _or_infinite(lifetime.soft_packets),
        _or_infinite(lifetime.hard_packets),
        _whole_seconds(lifetime.soft_s),
        _whole_seconds(lifetime.hard_s),
        0,
        0,
    )


def _or_infinite(limit: int | None) -> int:
    return INFINITE if limit is None else limit


def _whole_seconds(limit: float | None) -> int:
    """The kernel counts whole seconds, and takes 0 for no limit."""
    return 0 if limit is None else max(1, math.ceil(limit))


@dataclass(frozen=True, slots=True)
class State:
    """A state as the kernel tells of it."""

    id: StateId
    source: Address
    reqid: int
    usage: Usage
    replays: int
    """Packets dropped as replayed or too old."""
    failures: int
    """Packets that were not authentic."""
    last_used_at: int | None
    """When a packet passed last, seconds of the wall clock; kernels before 6.2 do not say."""
    replay: Replay | None
    is_esp: bool

    @property
    def known_replay(self) -> Replay:
        """Sequence numbers to go on from; to begin anew instead would use numbers, and with them nonces, twice.

        Raises:
            ValueError: the kernel did not say.
        """
        if self.replay is None:
            raise ValueError("a state without sequence numbers")
        return self.replay


def parse_state(body: bytes) -> State:
    """Read struct xfrm_usersa_info and attributes: the body of NEWSA.

    Raises:
        MalformedNetlink: cut off, or lengths that do not fit.
    """
    if len(body) < STATE_BYTES:
        raise MalformedNetlink("state too short")
    return _state(body, parse_attributes(body[STATE_BYTES:]))


def parse_deleted_state(body: bytes) -> State:
    """Read what is told when a state is deleted: struct xfrm_usersa_id, then the state itself as an attribute.

    Raises:
        MalformedNetlink: cut off, or lengths that do not fit.
    """
    attributes = parse_attributes(body[STATE_ID.size :])
    info = attributes.get(Attribute.SA, b"")
    if len(info) < STATE_BYTES:
        raise MalformedNetlink("deleted state too short")
    return _state(info, attributes)


def _state(info: bytes, attributes: dict[int, bytes]) -> State:
    offset = SELECTOR.size
    destination, spi, protocol = ID.unpack_from(info, offset)
    source = info[offset + ID.size : offset + ID.size + 16]
    offset += ID.size + 16 + LIFETIME_LIMITS.size
    usage = Usage(*LIFETIME_CURRENT.unpack_from(info, offset))
    offset += LIFETIME_CURRENT.size
    too_old, replayed, not_authentic = STATISTICS.unpack_from(info, offset)
    _, reqid, family, _, _, _ = STATE_TAIL.unpack_from(info, offset + STATISTICS.size)
    last_used = attributes.get(Attribute.LASTUSED)
    replay = attributes.get(Attribute.REPLAY_ESN_VAL)
    return State(
        StateId(unpack_address(destination, family), int.from_bytes(spi, "big")),
        unpack_address(source, family),
        reqid,
        usage,
        too_old + replayed,
        not_authentic,
        int.from_bytes(last_used, _NATIVE) if last_used is not None and len(last_used) == 8 else None,
        Replay.parse(replay) if replay is not None else None,
        protocol == IPPROTO_ESP,
    )


@dataclass(frozen=True, slots=True)
class Expiry:
    """A lifetime of a state is over."""

    state: State
    hard: bool
    """The kernel has deleted it."""


def parse_expiry(body: bytes) -> Expiry:
    """Read struct xfrm_user_expire.

    Raises:
        MalformedNetlink: cut off.
    """
    if len(body) < STATE_BYTES + EXPIRE_TAIL.size:
        raise MalformedNetlink("expiry too short")
    (hard,) = EXPIRE_TAIL.unpack_from(body, STATE_BYTES)
    return Expiry(_state(body[:STATE_BYTES], {}), bool(hard))


@dataclass(frozen=True, slots=True)
class Mapping:
    """Authentic packets of a state come from another address or port than it has."""

    id: StateId
    remote: Address
    remote_port: int


def parse_mapping(body: bytes) -> Mapping:
    """Read struct xfrm_user_mapping.

    Raises:
        MalformedNetlink: cut off.
    """
    if len(body) < STATE_ID.size + MAPPING_TAIL.size:
        raise MalformedNetlink("mapping too short")
    destination, spi, family, _ = STATE_ID.unpack_from(body)
    _, _, source, _, port = MAPPING_TAIL.unpack_from(body, STATE_ID.size)
    return Mapping(
        StateId(unpack_address(destination, family), int.from_bytes(spi, "big")),
        unpack_address(source, family),
        int.from_bytes(port, "big"),
    )
