"""An IKE SA takes the place of another one: rekeyed by one side, or by both at once (RFC 7296, 2.8.2, 2.18)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.ike.events import SaRekeyed
from gateway.ike.exchanges import mobike
from gateway.ike.states import Input
from gateway.ike.timers import Timer

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa

HANDED_OVER = (
    "assignment",
    "children",
    "client",
    "config",
    "context",
    "nat_local",
    "nat_remote",
    "new_keys",
    "path",
    "peer_fragments",
    "peer_hashes",
    "peer_identity",
    "resumption",
    "willing",
)
"""What a rekeyed IKE SA has of the one before it, beside timers and exchanges that wait."""


def hand_over(sa: IkeSa, new: IkeSa, now: float) -> None:
    """`new` takes the place of this SA: child SAs, session, and what is still to be done (RFC 7296 section 2.18).

    The exchange that is outstanding stays: its answer comes under the old keys.
    """
    sa.drop_unfinished()
    for name in HANDED_OVER:
        setattr(new, name, getattr(sa, name))
    sa.children, sa.context, sa.assignment = {}, None, None
    for timer in (Timer.SESSION_END, Timer.REDIRECTED):
        due = sa.timers.get(timer)
        if due is not None:
            new.timers.set(timer, due)
    sa.timers.hand_over(new.timers, _moves_along)
    sa.timers.clear()
    sa.move(Input.REPLACED)
    sa.owner.emit(SaRekeyed(sa, new))
    new.last_received = now
    for own in sa.queue:
        if own.moves_along:
            new.initiate(own, now)
    sa.queue.clear()
    sa.successor = new
    mobike.hand_over(sa, new, now)
    sa.owner.adopt(new)


def _moves_along(key: object) -> bool:
    """The timers of child SAs do, and those of exchanges that were put off; the SA's own begin anew."""
    return not isinstance(key, Timer) and (isinstance(key, tuple) or bool(getattr(key, "moves_along", False)))


def take_rival(sa: IkeSa) -> IkeSa | None:
    """What becomes of the rival is decided: the caller does it."""
    rival, sa.rival = sa.rival, None
    if rival is not None:
        rival.predecessor = None
    return rival


def is_used(sa: IkeSa, now: float) -> None:
    """The peer asks something of this SA: if it is a rival still, the peer has decided that it has won."""
    if sa.predecessor is not None:
        predecessor = sa.predecessor
        take_rival(predecessor)
        hand_over(predecessor, sa, now)


def be_replaced(sa: IkeSa, now: float) -> None:
    """Of two IKE SAs that came from simultaneous rekeying, this one has lost: whoever made it deletes it."""
    sa.move(Input.REPLACED)
    sa.timers.clear()
    sa.timers.set(Timer.DELETE, now + sa.config.replaced_delete_s)
    sa.owner.touch(sa)
