"""IKE_AUTH (RFC 7296 sections 1.2, 2.15, 2.16, 2.19): who the peer is, and its first child SA.

certificate:  IDi, CERT+, [IDr], AUTH, [CP], SA, TSi, TSr  ->  IDr, CERT+, AUTH, [CP], SA, TSi, TSr
EAP:          IDi, [IDr], [CP], SA, TSi, TSr               ->  IDr, CERT+, AUTH, EAP
              EAP                                          ->  EAP       (as often as the method needs)
              AUTH (from the MSK)                          ->  AUTH (from the MSK), [CP], SA, TSi, TSr
both:         as by certificate, with N(ANOTHER_AUTH_FOLLOWS)  ->  IDr, CERT+, AUTH
              IDi                                          ->  EAP, and on as with EAP (RFC 4739)
EAP alone:    as with EAP, with N(EAP_ONLY_AUTHENTICATION), and without our CERT and AUTH (RFC 5998)
site peer:    IDi, [IDr], AUTH, SA, TSi, TSr               ->  IDr, AUTH, SA, TSi, TSr (both from the pre-shared key)
ticket:       IDi, [IDr], AUTH, [CP], SA, TSi, TSr         ->  IDr, AUTH, [CP], SA, TSi, TSr (both from the keys)

Without SA, TSi and TSr there is no child SA at first (RFC 6023).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from gateway.ike.admission import admit
from gateway.ike.constants import (
    AuthMethod,
    CertEncoding,
    CfgAttribute,
    CfgType,
    ExchangeType,
    NotifyType,
    PayloadType,
)
from gateway.ike.credential_choice import ProofWish
from gateway.ike.errors import AuthenticationFailed, InvalidSyntax, PpkRefused, PskRefused
from gateway.ike.events import (
    AssignmentWanted,
    CertificateReceived,
    EapReceived,
    EapStarted,
    SitePeerProved,
    TicketRedeemed,
)
from gateway.ike.exchanges import extensions
from gateway.ike.exchanges.auth_proofs import (
    introduction,
    proof,
    verify_eap,
    verify_signature,
    verify_site,
    verify_ticket,
)
from gateway.ike.exchanges.auth_state import IkeAuth, Notifies
from gateway.ike.fingerprint import from_ike_auth
from gateway.ike.message import Payloads
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.auth_methods import parse_announcements
from gateway.ike.payloads.certificate import Certificate, CertificateRequest
from gateway.ike.payloads.configuration import Configuration
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.security_association import parse_proposals
from gateway.ike.selectors import parse_selectors
from gateway.ike.states import Input, State
from gateway.ike.ticket import Ticket

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa

_CHILD_PAYLOADS = (PayloadType.SA, PayloadType.TSI, PayloadType.TSR)


def handle_request(sa: IkeSa, payloads: Payloads) -> None:
    """A verified IKE_AUTH request; where it stands in the exchange, the SA's state says."""
    payloads = admit(ExchangeType.IKE_AUTH, payloads, response=False, encrypted=True)
    notifies = Notifies.parse(payloads)
    match sa.state:
        case State.HALF_OPEN:
            _begin(sa, payloads, notifies)
        case State.SECOND_AUTH if sa.auth is not None:
            _begin_second(sa, sa.auth, payloads)
        case State.EAP:
            sa.emit(EapReceived(sa, payloads.require(PayloadType.EAP)))
        case State.EAP_DONE if sa.auth is not None:
            _finish_eap(sa, sa.auth, Auth.parse(payloads.require(PayloadType.AUTH)), notifies)
        case _:
            raise InvalidSyntax(f"IKE_AUTH in state {sa.state.value!r}")


# --- The first request --------------------------------------------------------------------------------------


def _begin(sa: IkeSa, payloads: Payloads, notifies: Notifies) -> None:
    if sa.intermediate is not None and sa.intermediate.pending:
        raise InvalidSyntax("IKE_AUTH before the additional key exchanges that were agreed on")
    state = sa.auth = _parse_first(sa, payloads, notifies)
    extensions.begin(sa, payloads)
    redeemed = sa.resumption.redeemed
    if redeemed is not None:
        _begin_resumed(sa, state, redeemed, payloads)
        return
    if sa.config.ppk_required and not sa.peer_takes_ppk:
        raise PpkRefused("the client uses no post-quantum pre-shared key, and one is required")
    if state.by_eap:
        sa.move(Input.EAP_WANTED)
        sa.emit(EapStarted(sa, mutual=state.eap_only))
        return
    auth = Auth.parse(payloads.require(PayloadType.AUTH))
    if auth.method == AuthMethod.SHARED_KEY_MIC:
        _begin_site(sa, state, auth, notifies)
    else:
        _begin_certificate(sa, state, auth, payloads, notifies)


def _parse_first(sa: IkeSa, payloads: Payloads, notifies: Notifies) -> IkeAuth:
    idi_body = payloads.require(PayloadType.IDI)
    sa.peer_identity = str(Identification.parse(idi_body))
    childless = all(payloads.first(payload) is None for payload in _CHILD_PAYLOADS)
    by_eap = payloads.first(PayloadType.AUTH) is None
    proposals = () if childless else parse_proposals(payloads.require(PayloadType.SA))
    cp_body = payloads.first(PayloadType.CP)
    configuration = Configuration.parse(cp_body) if cp_body is not None else None
    if configuration is not None and configuration.cfg_type != CfgType.REQUEST:
        configuration = None
    sa.client = from_ike_auth(sa.client, proposals, configuration)
    wanted_body = payloads.first(PayloadType.IDR)
    if sa.trace is not None:
        sa.trace.asked_identity = wanted_body or b""
    return IkeAuth(
        idi_body=idi_body,
        idr_body=_choose_identity(sa, wanted_body),
        proposals=proposals,
        initiator_selectors=() if childless else parse_selectors(payloads.require(PayloadType.TSI)),
        responder_selectors=() if childless else parse_selectors(payloads.require(PayloadType.TSR)),
        childless=childless,
        configuration=configuration,
        initial_contact=notifies.has(NotifyType.INITIAL_CONTACT),
        wish=_proof_wish(sa, payloads, notifies),
        by_eap=by_eap,
        eap_only=by_eap and sa.config.eap_only and notifies.has(NotifyType.EAP_ONLY_AUTHENTICATION),
        another_follows=not by_eap and notifies.has(NotifyType.ANOTHER_AUTH_FOLLOWS),
    )


def _choose_identity(sa: IkeSa, wanted_body: bytes | None) -> bytes:
    """Exactly what the client asked for, where that is a name of ours: Android compares the two."""
    if wanted_body is not None and Identification.parse(wanted_body) in sa.config.identities:
        return wanted_body
    return sa.config.identity.to_bytes()


def _proof_wish(sa: IkeSa, payloads: Payloads, notifies: Notifies) -> ProofWish:
    requests = [CertificateRequest.parse(body) for body in payloads.all(PayloadType.CERTREQ)]
    announced = notifies.data(NotifyType.SUPPORTED_AUTH_METHODS)
    return ProofWish(
        client=sa.client,
        hashes=sa.peer_hashes,
        announcements=parse_announcements(announced) if announced is not None else (),
        authorities=tuple(
            authority
            for request in requests
            if request.encoding == CertEncoding.X509_SIGNATURE
            for authority in request.authorities
        ),
        ocsp=any(request.encoding == CertEncoding.OCSP_CONTENT for request in requests),
    )


# --- A pre-shared key ---------------------------------------------------------------------------------------


def _begin_site(sa: IkeSa, state: IkeAuth, auth: Auth, notifies: Notifies) -> None:
    sites = sa.config.site_peers
    if not sites:
        raise PskRefused("the client wants a pre-shared key, which is not accepted")
    if state.another_follows:
        raise AuthenticationFailed("the client wants a second authentication after a pre-shared key")
    identity = Identification.parse(state.idi_body)
    named = next((site for site in sites if site.identity == identity), None)
    site = verify_site(sa, state, auth, notifies, named)
    sa.move(Input.SHARED_KEY)
    sa.emit(SitePeerProved(sa, site.name))


# --- A ticket -----------------------------------------------------------------------------------------------


def _begin_resumed(sa: IkeSa, state: IkeAuth, ticket: Ticket, payloads: Payloads) -> None:
    """Both sides are who they were (RFC 5723 section 4.3.3)."""
    asked = payloads.first(PayloadType.IDR)
    if state.idi_body != ticket.idi_body or asked not in (None, ticket.idr_body):
        raise AuthenticationFailed("the client resumes an SA of other identities")
    if payloads.first(PayloadType.CERT) is not None or state.another_follows:
        raise AuthenticationFailed("the client resumes an SA and wants to prove itself anew")
    state.idr_body = ticket.idr_body
    verify_ticket(sa, state, Auth.parse(payloads.require(PayloadType.AUTH)))
    if sa.config.tickets is None or not sa.config.tickets.use(ticket):
        raise AuthenticationFailed("the client's ticket was used before")
    sa.move(Input.TICKET)
    sa.emit(TicketRedeemed(sa, ticket.grant))


# --- Certificate --------------------------------------------------------------------------------------------


def _begin_certificate(sa: IkeSa, state: IkeAuth, auth: Auth, payloads: Payloads, notifies: Notifies) -> None:
    certificates = [Certificate.parse(body) for body in payloads.all(PayloadType.CERT)]

    def of(encoding: CertEncoding) -> tuple[bytes, ...]:
        return tuple(certificate.data for certificate in certificates if certificate.encoding == encoding)

    state.chain_der = of(CertEncoding.X509_SIGNATURE)
    if not state.chain_der:
        raise AuthenticationFailed("the client signed, but sent no X.509 certificate")
    # Before AAA looks at it: nobody makes us ask about the certificate of somebody else, or blame its holder.
    verify_signature(sa, state, auth, notifies)
    sa.move(Input.CERTIFICATE)
    sa.emit(
        CertificateReceived(
            sa,
            state.chain_der,
            ocsp_responses=of(CertEncoding.OCSP_CONTENT),
            crls=of(CertEncoding.CRL),
            another_follows=state.another_follows,
        )
    )


def authorised(sa: IkeSa) -> None:
    """AAA lets in the peer, which has proved itself.

    Raises:
        AuthenticationFailed: the peer can't verify what any key of ours can make.
    """
    if sa.auth is not None:
        _authenticated(sa, sa.auth)


# --- EAP ----------------------------------------------------------------------------------------------------


def _begin_second(sa: IkeSa, state: IkeAuth, payloads: Payloads) -> None:
    """The certificate was the device's; now its user (RFC 4739)."""
    state.idi_body, state.by_eap = payloads.require(PayloadType.IDI), True
    Identification.parse(state.idi_body)
    if payloads.first(PayloadType.AUTH) is not None:
        raise AuthenticationFailed("the client's second authentication is not by EAP")
    sa.move(Input.EAP_WANTED)
    sa.emit(EapStarted(sa, mutual=False))


def send_eap_request(sa: IkeSa, packet: bytes) -> None:
    """The next EAP-Request; the first one goes with our proof of identity."""
    if sa.auth is None:
        return
    payloads = () if sa.auth.introduced else introduction(sa, sa.auth)
    sa.auth.introduced = True
    sa.respond(ExchangeType.IKE_AUTH, [*payloads, (PayloadType.EAP, packet)])


def _finish_eap(sa: IkeSa, state: IkeAuth, auth: Auth, notifies: Notifies) -> None:
    if notifies.has(NotifyType.ANOTHER_AUTH_FOLLOWS):
        raise AuthenticationFailed(
            "the client wants another authentication after EAP; a certificate has to come first"
        )
    verify_eap(sa, state, auth, notifies)
    _authenticated(sa, state)


# --- All ----------------------------------------------------------------------------------------------------


def _authenticated(sa: IkeSa, state: IkeAuth) -> None:
    # Before anything is set up: a key of ours that the peer can't verify ends the handshake here.
    state.proof = proof(sa, state)
    if state.another_follows and not state.is_second:
        sa.move(Input.ANOTHER_FOLLOWS)
        payloads, state.proof = state.proof, ()
        state.introduced = state.is_second = True
        sa.respond(ExchangeType.IKE_AUTH, payloads)
        return
    sa.move(Input.AUTHENTICATED)
    request = state.configuration
    sa.emit(
        AssignmentWanted(
            sa,
            wants_ipv4=request is not None and request.has(CfgAttribute.INTERNAL_IP4_ADDRESS),
            wants_ipv6=request is not None and request.has(CfgAttribute.INTERNAL_IP6_ADDRESS),
            initial_contact=state.initial_contact,
            asked_ipv4=_asked(request, CfgAttribute.INTERNAL_IP4_ADDRESS),
            asked_ipv6=_asked(request, CfgAttribute.INTERNAL_IP6_ADDRESS),
        )
    )


def _asked(request: Configuration | None, kind: CfgAttribute) -> IPv4Address | IPv6Address | None:
    """The address that a client would like to have, usually the one that it had before."""
    size = 4 if kind is CfgAttribute.INTERNAL_IP4_ADDRESS else 16
    for attribute in request.attributes if request is not None else ():
        if attribute.type == kind and len(attribute.value) >= size and any(attribute.value[:size]):
            return ip_address(attribute.value[:size])
    return None
