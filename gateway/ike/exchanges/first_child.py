"""The end of IKE_AUTH: addresses, the first child SA if one is wanted, and the last response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.ike import child_lifecycle
from gateway.ike.child import Assignment, Child, Wish
from gateway.ike.configuration_reply import configuration_reply
from gateway.ike.constants import ExchangeType, NotifyType, PayloadType
from gateway.ike.errors import AuthenticationFailed, FailedCpRequired, IkeError, code_of
from gateway.ike.events import CloseCause, SaEstablished
from gateway.ike.exchanges import extensions, redirect
from gateway.ike.exchanges.auth_state import IkeAuth
from gateway.ike.exchanges.child_sa import narrow_selectors
from gateway.ike.keymat import derive_child_keys
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.payloads.redirect import GatewayId
from gateway.ike.payloads.security_association import proposals_to_bytes
from gateway.ike.proposals import choose_first_child
from gateway.ike.selectors import selectors_to_bytes
from gateway.ike.states import Input, State

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa

_SHORTEST_LIFETIME_TOLD_S = 3600
_LIFETIME_LIMIT_S = 1 << 32
"""A peer is told of no session lifetime that is shorter than the one, or reaches the other. strongSwan takes off the
time that it wants for signing in anew, 24 minutes as it comes; where nothing is left, it signs in at once, and again.
"""


def negotiate(sa: IkeSa, state: IkeAuth, assignment: Assignment, now: float) -> None:
    """Suite, selectors and keys of the child SA, then ask the data plane; without a child SA, be done.

    Raises:
        NoProposalChosen, TsUnacceptable, FailedCpRequired: no child SA is possible.
    """
    if not assignment.has_addresses:
        raise FailedCpRequired(
            "the client asked for no virtual address of a family that its pool and its networks have"
        )
    if state.childless:
        _finish(sa, state, None, assignment, now)
    else:
        _negotiate_child(sa, state, assignment)


def _negotiate_child(sa: IkeSa, state: IkeAuth, assignment: Assignment) -> None:
    keys = sa.keys
    if keys is None:
        raise AuthenticationFailed("no keys")
    # Before an SPI is taken, so that nothing has to be given back.
    wish = Wish(state.initiator_selectors, state.responder_selectors)
    remote, local = narrow_selectors(assignment, *wish)
    spi_in = sa.owner.new_child_spi()
    try:
        suite, state.answer, spi_out = choose_first_child(state.proposals, sa.config.policy, spi_in)
    except IkeError:
        sa.owner.free_child_spi(spi_in)
        raise
    state.child = child = Child(
        spi_in=spi_in,
        spi_out=spi_out,
        suite=suite,
        keys=derive_child_keys(sa.suite, suite, keys.d, sa.nonce_i, sa.nonce_r),
        local_selectors=local,
        remote_selectors=remote,
        lineage=assignment.lineage or sa.owner.new_lineage(),
        wish=wish,
    )
    child_lifecycle.install(
        sa,
        child,
        # What follows another pair is not sent on before the client is known to have it: it still has the old one.
        outbound=not assignment.lineage,
        installed=lambda now: _finish(sa, state, child, assignment, now),
        failed=lambda error, now: refuse(sa, error, now),
    )


def _finish(sa: IkeSa, state: IkeAuth, child: Child | None, assignment: Assignment, now: float) -> None:
    """The last response: the child SA is up, if there is one, and so is the session."""
    payloads = [*state.proof]
    if _SHORTEST_LIFETIME_TOLD_S <= assignment.session_lifetime_s < _LIFETIME_LIMIT_S:
        # RFC 4478: a client that knows it signs in anew in time; all others pass it over.
        lifetime = int(assignment.session_lifetime_s).to_bytes(4, "big")
        payloads.append(notify_payload(NotifyType.AUTH_LIFETIME, lifetime))
    if state.configuration is not None:
        payloads.append((PayloadType.CP, configuration_reply(state.configuration, assignment).to_bytes()))
    if child is not None and state.answer is not None:
        payloads += [
            (PayloadType.SA, proposals_to_bytes((state.answer,))),
            (PayloadType.TSI, selectors_to_bytes(child.remote_selectors)),
            (PayloadType.TSR, selectors_to_bytes(child.local_selectors)),
        ]
    sa.resumption.idi_body, sa.resumption.idr_body = state.idi_body, state.idr_body
    payloads += extensions.announcement(sa)
    sa.established(Input.CHILD_INSTALLED if child is not None else Input.CHILDLESS, now)
    sa.respond(ExchangeType.IKE_AUTH, payloads)
    sa.emit(SaEstablished(sa))


def finish_with_redirect(sa: IkeSa, state: IkeAuth, target: GatewayId) -> None:
    """The peer is authentic, and is to go elsewhere (RFC 5685 section 6)."""
    sa.respond(ExchangeType.IKE_AUTH, [*state.proof, redirect.in_ike_auth(target)])


def finish_without_child(sa: IkeSa, state: IkeAuth, error: IkeError) -> None:
    """The peer is authentic, but gets no child SA: the proof, and the reason (RFC 7296 section 1.2)."""
    notify = error.notify or NotifyType.TEMPORARY_FAILURE
    sa.respond(ExchangeType.IKE_AUTH, [*state.proof, notify_payload(notify, error.data)])


def refuse(sa: IkeSa, error: IkeError, now: float) -> None:
    """No child SA can be made: say why (the IKE SA itself is authentic), then delete the IKE SA."""
    if sa.auth is None or sa.state is not State.ASSIGNING:
        return
    sa.report_failure(code_of(error, NotifyType.TEMPORARY_FAILURE), str(error))
    finish_without_child(sa, sa.auth, error)
    # Sent at once, the Delete may overtake the response inside the client, which then waits for a dead SA.
    sa.close_without_child(CloseCause.REFUSED, now + sa.config.refused_delete_delay_s)
