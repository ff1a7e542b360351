"""INFORMATIONAL (RFC 7296 sections 1.4 and 2.4): deletes, liveness checks, and errors that the peer reports."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from gateway.ike import child_lifecycle, handover
from gateway.ike.admission import admit
from gateway.ike.channel import OutPayloads
from gateway.ike.child import Child, ChildState
from gateway.ike.constants import ExchangeType, NotifyType, PayloadType, ProtocolId
from gateway.ike.exchanges import mobike, ticket_requests
from gateway.ike.message import Payloads
from gateway.ike.payloads.delete import Delete
from gateway.ike.payloads.notify import Notify
from gateway.ike.states import UNFINISHED, State

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa

MAX_DELETED_UNKNOWN = 64
"""Of the child SAs that a peer deletes before we know of them; honest ones delete the one that crosses."""


def handle_request(sa: IkeSa, payloads: Payloads, now: float) -> None:
    """Answer a verified request; an empty one is a liveness check. Raises InvalidSyntax."""
    payloads = admit(ExchangeType.INFORMATIONAL, payloads, response=False, encrypted=True)
    deletes = [Delete.parse(body) for body in payloads.all(PayloadType.DELETE)]
    notifies = [Notify.parse(body) for body in payloads.all(PayloadType.NOTIFY)]
    errors = [notify for notify in notifies if notify.is_known_error]
    if any(delete.protocol == ProtocolId.IKE for delete in deletes):
        sa.respond(ExchangeType.INFORMATIONAL, [])
        if sa.state in UNFINISHED:
            sa.report_failure("client-gave-up", "the client deleted the SA")
        sa.peer_deleted(now)
        return
    # A client that does not accept our proof in the last response says so here (section 2.21.2).
    rejected = any(notify.type == NotifyType.AUTHENTICATION_FAILED for notify in errors)
    if errors and (rejected or sa.state in UNFINISHED):
        sa.respond(ExchangeType.INFORMATIONAL, [])
        sa.report_failure("client-gave-up", f"the client gave up: {errors[0]}")
        sa.peer_deleted(now)
        return
    handover.is_used(sa, now)
    answer = [*_delete_children(sa, deletes, now), *mobike.handle_request(sa, notifies, now)]
    if sa.state is State.ESTABLISHED and ticket_requests.is_asked(notifies):
        answer.append(ticket_requests.answer(sa))
    sa.respond(ExchangeType.INFORMATIONAL, answer)


def _delete_children(sa: IkeSa, deletes: Sequence[Delete], now: float) -> list[tuple[PayloadType, bytes]]:
    """Delete our half of what the peer deletes; one that both delete at once is not named again (section 1.4.1)."""
    named = {spi for delete in deletes if delete.protocol == ProtocolId.ESP for spi in delete.spis}
    answered: list[bytes] = []
    if sa.outstanding is not None:
        # One that we do not know may be of a child SA that the peer is about to tell of.
        unknown = named - {child.spi_out.to_bytes(4, "big") for child in sa.children.values()}
        sa.deleted_unknown.update(islice(unknown, MAX_DELETED_UNKNOWN - len(sa.deleted_unknown)))
    for child in list(sa.children.values()):
        if child.spi_out.to_bytes(4, "big") not in named or child.state is ChildState.DELETED:
            continue
        if child.state is not ChildState.DELETING:
            answered.append(child.spi_in.to_bytes(4, "big"))
        child_lifecycle.gone(sa, child, now)
    return [(PayloadType.DELETE, Delete(ProtocolId.ESP, tuple(answered)).to_bytes())] if answered else []


def delete_children(sa: IkeSa, children: Sequence[Child], now: float) -> None:
    """Delete child SAs that the peer has as well."""
    for child in children:
        child.state = ChildState.DELETING
    sa.initiate(DeleteChildren([child.spi_in for child in children]), now)


class _Informational:
    """What ours have in common."""

    exchange = ExchangeType.INFORMATIONAL
    moves_along = True

    def abandoned(self, sa: IkeSa, now: float) -> bool:
        """Nothing depends on them."""
        return False


class Liveness(_Informational):
    """An empty request: whoever answers is alive."""

    def request(self, sa: IkeSa, now: float) -> OutPayloads:
        """Nothing in it."""
        return []

    def answered(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """That it came is all."""


class DeleteIke(_Informational):
    """Delete the IKE SA, and with it all its child SAs."""

    def request(self, sa: IkeSa, now: float) -> OutPayloads:
        """One Delete without SPI."""
        return [(PayloadType.DELETE, Delete(ProtocolId.IKE).to_bytes())]

    def answered(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """The SA is over."""
        sa.delete_answered(now)


class DeleteChildren(_Informational):
    """Delete child SAs.

    Args:
        spis_in: our inbound SPIs, which the peer knows as its outbound ones.
    """

    def __init__(self, spis_in: Sequence[int]) -> None:
        self._spis_in = tuple(spis_in)

    def request(self, sa: IkeSa, now: float) -> OutPayloads | None:
        """Those that are still there; the peer may have deleted them meanwhile."""
        self._spis_in = tuple(spi for spi in self._spis_in if spi in sa.children)
        if not self._spis_in:
            return None
        spis = tuple(spi.to_bytes(4, "big") for spi in self._spis_in)
        return [(PayloadType.DELETE, Delete(ProtocolId.ESP, spis).to_bytes())]

    def answered(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """Whatever the answer names: they are gone."""
        for spi in self._spis_in:
            child = sa.children.get(spi)
            if child is not None and child.state is ChildState.DELETING:
                child_lifecycle.gone(sa, child, now)


class Abandoned:
    """A request whose answer changes nothing any more.

    Args:
        exchange: what it was.
    """

    moves_along = True

    def __init__(self, exchange: ExchangeType) -> None:
        self.exchange = exchange

    def request(self, sa: IkeSa, now: float) -> OutPayloads | None:
        """It is out already."""
        return None

    def answered(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """Too late."""

    def abandoned(self, sa: IkeSa, now: float) -> bool:
        """It was before."""
        return False
