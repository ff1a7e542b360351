"""What IKE_AUTH and CREATE_CHILD_SA share in the making of a child SA: selectors and keys."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.ike.child import Assignment, Wish
from gateway.ike.constants import PayloadType
from gateway.ike.errors import InvalidSyntax, TsUnacceptable
from gateway.ike.message import Payloads
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.security_association import Proposal
from gateway.ike.selectors import ANYTHING, TrafficSelector, narrow

NONCE_BYTES = 32
MIN_NONCE_BYTES = 16
MAX_NONCE_BYTES = 256

Selectors = tuple[TrafficSelector, ...]


def checked_nonce(nonce: bytes) -> bytes:
    """A peer's nonce; raises InvalidSyntax where its length is none (RFC 7296 section 2.10)."""
    if not MIN_NONCE_BYTES <= len(nonce) <= MAX_NONCE_BYTES:
        raise InvalidSyntax("length of the nonce")
    return nonce


def key_exchange_if_any(payloads: Payloads) -> KeyExchange | None:
    """The KE payload of a CREATE_CHILD_SA that has one; raises InvalidSyntax."""
    body = payloads.first(PayloadType.KE)
    return KeyExchange.parse(body) if body is not None else None


def own_selectors(assignment: Assignment) -> Selectors:
    """The client's virtual addresses as selectors, or a site peer's networks."""
    if assignment.peer_networks:
        return tuple(TrafficSelector.from_network(network) for network in assignment.peer_networks)
    addresses = (assignment.virtual_ipv4, assignment.virtual_ipv6)
    return tuple(TrafficSelector.from_address(address) for address in addresses if address is not None)


def reachable_selectors(assignment: Assignment, families: Sequence[int]) -> Selectors:
    """What may be reached, of these IP versions."""
    return tuple(TrafficSelector.from_network(n) for n in assignment.networks if n.version in families)


def is_choice_from(answer: Sequence[Proposal], offer: Sequence[Proposal]) -> bool:
    """Whether the peer answered with one of our proposals; each of them leaves no choice within."""
    return len(answer) == 1 and any(
        (answer[0].number, answer[0].protocol) == (proposal.number, proposal.protocol)
        and set(answer[0].transforms) == set(proposal.transforms)
        for proposal in offer
    )


def narrow_selectors(
    assignment: Assignment, remote_asked: Selectors, local_asked: Selectors
) -> tuple[Selectors, Selectors]:
    """Narrow what a peer asks for to what it is assigned, each side only in the families that both sides have.

    Returns:
        Of the client's side, and of ours.

    Raises:
        TsUnacceptable: nothing is left.
    """
    remote = narrow(remote_asked, own_selectors(assignment))
    local = narrow(local_asked, reachable_selectors(assignment, [selector.version for selector in remote]))
    families = {selector.version for selector in local}
    remote = tuple(selector for selector in remote if selector.version in families)
    if not remote or not local:
        asked = ", ".join(str(s) for s in (*remote_asked, *local_asked))
        raise TsUnacceptable(f"nothing is left of the selectors {asked}")
    return remote, local


def wished_selectors(assignment: Assignment, wish: Wish) -> tuple[Selectors, Selectors]:
    """All that a peer may have now of what it once asked for; as `narrow_selectors`, or empty."""
    try:
        return narrow_selectors(assignment, *wish)
    except TsUnacceptable:
        return (), ()


def joined(before: Wish, now: Wish) -> Wish:
    """The wish of a peer that rekeys, and may repeat no more of the earlier one than it has got."""
    return Wish(*(narrow((*old, *new), ANYTHING) for old, new in zip(before, now, strict=True)))
