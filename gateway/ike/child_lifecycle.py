"""The life of an IKE SA's child SAs, from the moment that they are agreed on to their removal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.ike.child import Child, ChildState
from gateway.ike.errors import IkeError
from gateway.ike.events import ChildDeleted, ChildReady, ChildStarted
from gateway.ike.timers import Timer

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa


@dataclass(slots=True)
class PendingChild:
    """A child SA that the data plane is asked to carry, and what follows."""

    child: Child
    installed: Callable[[float], None]
    failed: Callable[[IkeError, float], None]


def installed(sa: IkeSa, spi_in: int, now: float) -> None:
    """The data plane carries the child SA."""
    pending = sa.pending.pop(spi_in, None)
    if pending is not None:
        sa.children[spi_in] = pending.child
        pending.installed(now)
        sa.send_next(now)


def failed(sa: IkeSa, spi_in: int, error: IkeError, now: float) -> None:
    """The data plane can't carry the child SA."""
    pending = sa.pending.pop(spi_in, None)
    if pending is not None:
        sa.owner.free_child_spi(spi_in)
        pending.failed(error, now)
        sa.send_next(now)


def install(
    sa: IkeSa,
    child: Child,
    *,
    outbound: bool,
    installed: Callable[[float], None],
    failed: Callable[[IkeError, float], None],
) -> None:
    """Ask for a child SA; one of the two calls follows, unless the SA ends first."""
    sa.pending[child.spi_in] = PendingChild(child, installed, failed)
    sa.owner.emit(ChildReady(sa, child, outbound))


def gone(sa: IkeSa, child: Child, now: float) -> None:
    """Both sides have deleted a child SA; what took its place comes into full use."""
    successor = sa.children.get(child.replaced_by) if child.replaced_by is not None else None
    if successor is None:
        remove(sa, child.spi_in)
        return
    sa.owner.emit(ChildStarted(sa, successor.spi_in))
    child.state = ChildState.DELETED
    successor.confirmed = not any(
        other.replaced_by == successor.spi_in and other.state is not ChildState.DELETED
        for other in sa.children.values()
    )
    # What the peer sent on the old one may come behind what says that it is gone.
    sa.timers.set((Timer.REMOVE_CHILD, child.spi_in), now + sa.config.replaced_linger_s)


def remove(sa: IkeSa, spi_in: int) -> None:
    """Have the data plane carry it no more."""
    if sa.children.pop(spi_in, None) is not None:
        sa.timers.cancel((Timer.REMOVE_CHILD, spi_in))
        for other in sa.children.values():
            if other.replaced_by == spi_in and other.state in (ChildState.ESTABLISHED, ChildState.REKEYING):
                # Given up before the one whose place it was to have: that carries on.
                other.replaced_by = None
        sa.owner.free_child_spi(spi_in)
        sa.owner.emit(ChildDeleted(sa, spi_in))


def forget_all(sa: IkeSa) -> None:
    """The SA ends, and its child SAs with it, of which `SaClosed` tells."""
    for spi_in in (*sa.children, *sa.pending):
        sa.owner.free_child_spi(spi_in)
    sa.children = {}
    sa.pending.clear()
