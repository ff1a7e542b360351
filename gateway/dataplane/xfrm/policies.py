"""Policies: which packets belong to which states. The messages, and the table of who claims what."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.dataplane.interface import Address
from gateway.dataplane.xfrm.netlink import MalformedNetlink, attribute, parse_attributes
from gateway.dataplane.xfrm.selectors import Selector
from gateway.dataplane.xfrm.structures import (
    INFINITE,
    IPPROTO_ESP,
    LIFETIME_CURRENT,
    LIFETIME_LIMITS,
    MODE_TUNNEL,
    POLICY_BYTES,
    POLICY_ID_TAIL,
    POLICY_TAIL,
    SELECTOR,
    TEMPLATE,
    Action,
    Attribute,
    Command,
    Direction,
    family_of,
    pack_address,
)

_NATIVE = sys.byteorder
_UNLIMITED = LIFETIME_LIMITS.pack(*[INFINITE] * 4, 0, 0, 0, 0)
_ANY_ALGORITHM = 0xFFFF_FFFF
_LEAST_SPECIFIC = 0x4000
"""Priority, of which the lower one wins, of a policy that looks at nothing."""
_LAST_RESORT = 0x7FFF_0000


@dataclass(frozen=True, slots=True)
class Template:
    """What a policy demands of packets."""

    reqid: int
    """The state that carried, or is to carry them, has it."""
    local: Address | None = None
    remote: Address | None = None
    """Outward, between which addresses; inward it does not matter, since the state was found by its SPI."""
    spi: int = 0
    """Outward, exactly this state; 0 for any."""

    def to_bytes(self, family: int) -> bytes:
        """struct xfrm_user_tmpl; `family` counts where it names no address."""
        return TEMPLATE.pack(
            pack_address(self.remote) if self.remote is not None else bytes(16),
            self.spi.to_bytes(4, "big"),
            IPPROTO_ESP,
            family_of(self.remote) if self.remote is not None else family,
            pack_address(self.local) if self.local is not None else bytes(16),
            self.reqid,
            MODE_TUNNEL,
            0,
            0,
            _ANY_ALGORITHM,
            _ANY_ALGORITHM,
            _ANY_ALGORITHM,
        )


PolicyKey = tuple[Direction, Selector]
"""Of which the kernel has at most one."""


def new_policy(key: PolicyKey, template: Template, *, if_id: int) -> bytes:
    """Body of NEWPOLICY and UPDPOLICY: these packets, and only by ESP."""
    _, selector = key
    return (
        _policy(key, Action.ALLOW, _LEAST_SPECIFIC - selector.specificity)
        + attribute(Attribute.TMPL, template.to_bytes(selector.family))
        + _if_id(if_id)
    )


def last_resort_policy(key: PolicyKey, action: Action, xfrm_id: int) -> bytes:
    """Body of NEWPOLICY: what becomes of packets that no other policy takes.

    It has no template, and so no reqid; that it is ours can be seen from its priority.
    """
    return _policy(key, action, _last_resort_priority(action, xfrm_id))


def _last_resort_priority(action: int, xfrm_id: int) -> int:
    """Those that allow come before those that block."""
    return _LAST_RESORT | xfrm_id << 8 | action


def _policy(key: PolicyKey, action: Action, priority: int) -> bytes:
    direction, selector = key
    tail = POLICY_TAIL.pack(priority, 0, direction, action, 0, 0)
    return selector.to_bytes() + _UNLIMITED + bytes(LIFETIME_CURRENT.size) + tail


def delete_policy(key: PolicyKey, *, if_id: int) -> bytes:
    """Body of DELPOLICY."""
    direction, selector = key
    return selector.to_bytes() + POLICY_ID_TAIL.pack(0, direction) + _if_id(if_id)


def _if_id(number: int) -> bytes:
    return attribute(Attribute.IF_ID, number.to_bytes(4, _NATIVE)) if number else b""


@dataclass(frozen=True, slots=True)
class FoundPolicy:
    """A policy that a dump told of."""

    selector: bytes
    """struct xfrm_selector, as it came."""
    direction: int
    index: int
    reqids: tuple[int, ...]
    """Of its templates."""
    if_id: int
    action: int
    priority: int

    def is_last_resort(self, xfrm_id: int) -> bool:
        """Whether `last_resort_policy` made it, for this number."""
        return not self.reqids and self.priority == _last_resort_priority(self.action, xfrm_id)

    def delete(self) -> bytes:
        """Body of DELPOLICY."""
        return self.selector + POLICY_ID_TAIL.pack(self.index, self.direction) + _if_id(self.if_id)


def parse_policy(body: bytes) -> FoundPolicy:
    """Read struct xfrm_userpolicy_info and attributes: the body of NEWPOLICY.

    Raises:
        MalformedNetlink: cut off, or lengths that do not fit.
    """
    if len(body) < POLICY_BYTES:
        raise MalformedNetlink("policy too short")
    priority, index, direction, action, *_ = POLICY_TAIL.unpack_from(body, POLICY_BYTES - POLICY_TAIL.size)
    attributes = parse_attributes(body[POLICY_BYTES:])
    templates = attributes.get(Attribute.TMPL, b"")
    if len(templates) % TEMPLATE.size:
        raise MalformedNetlink("policy templates")
    reqids = tuple(fields[5] for fields in TEMPLATE.iter_unpack(templates))
    if_id = int.from_bytes(attributes.get(Attribute.IF_ID, b""), _NATIVE)
    return FoundPolicy(body[: SELECTOR.size], direction, index, reqids, if_id, action, priority)


@dataclass(frozen=True, slots=True)
class Claim:
    """What one lineage asks of the policies."""

    reqid: int
    keys: frozenset[PolicyKey]
    outward: Template | None
    """Where its packets leave; None while none do."""

    def template(self, direction: Direction) -> Template | None:
        """What its policies of this direction demand; None for no policy."""
        return self.outward if direction is Direction.OUT else Template(self.reqid)


@dataclass(frozen=True, slots=True)
class Change:
    """One message that makes the kernel's policies what the table says."""

    command: Command
    key: PolicyKey
    body: bytes


class PolicyTable:
    """Which lineage has which policy. Where several claim the same one, the newest has it until it goes.

    Args:
        if_id: of the XFRM interface through which the packets pass; 0 for none.
    """

    def __init__(self, if_id: int) -> None:
        self._if_id = if_id
        self._claims: dict[int, Claim] = {}
        """By lineage."""
        self._claimants: dict[PolicyKey, list[int]] = {}
        """Lineages, oldest first."""

    def __len__(self) -> int:
        return sum(self._template(key) is not None for key in self._claimants)

    def claim(self, lineage: int) -> Claim | None:
        """What the lineage claims now."""
        return self._claims.get(lineage)

    def set(self, lineage: int, claim: Claim | None) -> list[Change]:
        """Give a lineage this claim instead of the one it had; what the kernel has to be told, in order.

        What is new comes before what goes, so that no packet that stays allowed finds a gap.
        """
        before = self._claims.get(lineage)
        old_keys = before.keys if before is not None else frozenset()
        new_keys = claim.keys if claim is not None else frozenset()
        touched = sorted(old_keys | new_keys)
        was = {key: self._template(key) for key in touched}
        for key in old_keys - new_keys:
            claimants = self._claimants[key]
            claimants.remove(lineage)
            if not claimants:
                del self._claimants[key]
        for key in new_keys - old_keys:
            self._claimants.setdefault(key, []).append(lineage)
        if claim is None:
            self._claims.pop(lineage, None)
        else:
            self._claims[lineage] = claim
        return list(self._changes(touched, was))

    def _template(self, key: PolicyKey) -> Template | None:
        claimants = self._claimants.get(key)
        return self._claims[claimants[-1]].template(key[0]) if claimants else None

    def _changes(self, touched: list[PolicyKey], was: dict[PolicyKey, Template | None]) -> Iterable[Change]:
        gone = []
        for key in touched:
            before, after = was[key], self._template(key)
            if after is None:
                if before is not None:
                    gone.append(key)
            elif after != before:
                command = Command.NEWPOLICY if before is None else Command.UPDPOLICY
                yield Change(command, key, new_policy(key, after, if_id=self._if_id))
        for key in gone:
            yield Change(Command.DELPOLICY, key, delete_policy(key, if_id=self._if_id))
