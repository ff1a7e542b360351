"""IKE_AUTH (RFC 7296 sections 1.2, 2.15, 2.16, 2.19), by certificate or by EAP.

certificate:  IDi, CERT+, [IDr], AUTH, [CP], SA, TSi, TSr  ->  IDr, CERT+, AUTH, [CP], SA, TSi, TSr
EAP:          IDi, [IDr], [CP], SA, TSi, TSr               ->  IDr, CERT+, AUTH, EAP
              EAP                                          ->  EAP       (as often as the method needs)
              AUTH (from the MSK)                          ->  AUTH (from the MSK), [CP], SA, TSi, TSr
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from gateway.ike import authentication
from gateway.ike.admission import admit
from gateway.ike.child import Assignment, Child
from gateway.ike.configuration_reply import configuration_reply
from gateway.ike.constants import (
    AuthMethod,
    CertEncoding,
    CfgAttribute,
    CfgType,
    ExchangeType,
    NotifyType,
    PayloadType,
)
from gateway.ike.errors import AuthenticationFailed, FailedCpRequired, IkeError, InvalidSyntax
from gateway.ike.events import (
    AssignmentWanted,
    CertificateReceived,
    EapReceived,
    EapStarted,
    SaEstablished,
)
from gateway.ike.exchanges.child_sa import narrow_selectors
from gateway.ike.fingerprint import from_ike_auth
from gateway.ike.keymat import derive_child_keys
from gateway.ike.message import Payloads
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.certificate import Certificate
from gateway.ike.payloads.configuration import Configuration
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.payloads.security_association import Proposal, parse_proposals, proposals_to_bytes
from gateway.ike.proposals import choose_first_child
from gateway.ike.selectors import TrafficSelector, parse_selectors, selectors_to_bytes
from gateway.ike.states import Input, State

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa


@dataclass(slots=True)
class IkeAuth:
    """What the first request brought, kept until the SA is established."""

    idi_body: bytes
    idr_body: bytes
    """Of our answer."""
    proposals: tuple[Proposal, ...]
    initiator_selectors: tuple[TrafficSelector, ...]
    responder_selectors: tuple[TrafficSelector, ...]
    configuration: Configuration | None
    initial_contact: bool
    auth: Auth | None
    """The peer's, by signature; None where it wants EAP."""
    chain_der: tuple[bytes, ...] = ()
    introduced: bool = False
    """Our IDr, CERT and AUTH are out (EAP)."""
    msk: bytes = field(default=b"", repr=False)
    proof: tuple[tuple[PayloadType, bytes], ...] = ()
    """Our side of the authentication for the last response, made when the peer has proved itself."""
    child: Child | None = None
    answer: Proposal | None = None


def handle_request(sa: IkeSa, payloads: Payloads) -> None:
    """A verified IKE_AUTH request; where it stands in the exchange, the SA's state says."""
    payloads = admit(ExchangeType.IKE_AUTH, payloads, response=False, encrypted=True)
    _check_for_errors(payloads)
    match sa.state:
        case State.HALF_OPEN:
            _begin(sa, payloads)
        case State.EAP:
            sa.emit(EapReceived(sa, payloads.require(PayloadType.EAP)))
        case State.EAP_DONE if sa.auth is not None:
            _verify_eap_auth(sa, sa.auth, Auth.parse(payloads.require(PayloadType.AUTH)))
        case _:
            raise InvalidSyntax(f"IKE_AUTH in state {sa.state.value!r}")


def _check_for_errors(payloads: Payloads) -> None:
    """The peer may answer with an error itself, for instance because it does not trust our certificate."""
    for body in payloads.all(PayloadType.NOTIFY):
        notify = Notify.parse(body)
        if notify.is_known_error:
            raise AuthenticationFailed(f"the client gave up: {notify}")


def _begin(sa: IkeSa, payloads: Payloads) -> None:
    if sa.intermediate is not None and sa.intermediate.pending:
        raise InvalidSyntax("IKE_AUTH before the additional key exchanges that were agreed on")
    idi_body = payloads.require(PayloadType.IDI)
    identity = Identification.parse(idi_body)
    notifies = {Notify.parse(body).type for body in payloads.all(PayloadType.NOTIFY)}
    cp_body = payloads.first(PayloadType.CP)
    configuration = Configuration.parse(cp_body) if cp_body is not None else None
    if configuration is not None and configuration.cfg_type != CfgType.REQUEST:
        configuration = None
    auth_body = payloads.first(PayloadType.AUTH)
    sa.peer_identity = str(identity)
    if sa.trace is not None:
        sa.trace.asked_identity = payloads.first(PayloadType.IDR) or b""
    proposals = parse_proposals(payloads.require(PayloadType.SA))
    sa.client = from_ike_auth(sa.client, proposals, configuration)
    sa.auth = state = IkeAuth(
        idi_body=idi_body,
        idr_body=_choose_identity(sa, payloads.first(PayloadType.IDR)),
        proposals=proposals,
        initiator_selectors=parse_selectors(payloads.require(PayloadType.TSI)),
        responder_selectors=parse_selectors(payloads.require(PayloadType.TSR)),
        configuration=configuration,
        initial_contact=NotifyType.INITIAL_CONTACT in notifies,
        auth=Auth.parse(auth_body) if auth_body is not None else None,
    )
    if state.auth is None:
        sa.move(Input.EAP_WANTED)
        sa.emit(EapStarted(sa))
        return
    if state.auth.method == AuthMethod.SHARED_KEY_MIC:
        raise AuthenticationFailed("the client wants a pre-shared key, which is not accepted")
    certificates = [Certificate.parse(body) for body in payloads.all(PayloadType.CERT)]
    state.chain_der = tuple(c.data for c in certificates if c.encoding == CertEncoding.X509_SIGNATURE)
    if not state.chain_der:
        raise AuthenticationFailed("the client signed, but sent no X.509 certificate")
    sa.move(Input.CERTIFICATE)
    sa.emit(CertificateReceived(sa, state.chain_der))


def _choose_identity(sa: IkeSa, wanted_body: bytes | None) -> bytes:
    """Exactly what the client asked for, where that is a name of ours: Android compares the two."""
    if wanted_body is not None and Identification.parse(wanted_body) in sa.config.identities:
        return wanted_body
    return sa.config.identity.to_bytes()


# --- EAP ----------------------------------------------------------------------------------------------------


def send_eap_request(sa: IkeSa, packet: bytes) -> None:
    """The next EAP-Request; the first one goes with our proof of identity."""
    if sa.auth is None:
        return
    payloads = () if sa.auth.introduced else _introduction(sa, sa.auth)
    sa.auth.introduced = True
    sa.respond(ExchangeType.IKE_AUTH, [*payloads, (PayloadType.EAP, packet)])


def _verify_eap_auth(sa: IkeSa, state: IkeAuth, auth: Auth) -> None:
    authentication.verify_shared_key(auth, sa.suite.prf, state.msk, _peer_octets(sa, state))
    _authenticated(sa, state)


# --- Certificate --------------------------------------------------------------------------------------------


def verify_certificate_auth(sa: IkeSa) -> None:
    """The chain is trusted and its holder may enter: is this its holder? Raises AuthenticationFailed."""
    state = sa.auth
    if state is None or state.auth is None:
        return
    try:
        key = x509.load_der_x509_certificate(state.chain_der[0]).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise AuthenticationFailed("the client's certificate can't be read") from None
    authentication.verify_signature(state.auth, key, _peer_octets(sa, state), bool(sa.peer_hashes))
    _authenticated(sa, state)


# --- Both ---------------------------------------------------------------------------------------------------


def _authenticated(sa: IkeSa, state: IkeAuth) -> None:
    # Before anything is set up: a key of ours that the peer can't verify ends the handshake here.
    state.proof = _proof(sa, state)
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


def _peer_octets(sa: IkeSa, state: IkeAuth) -> bytes:
    keys = sa.keys
    if keys is None:
        raise AuthenticationFailed("no keys")
    return authentication.signed_octets(
        sa.init_request, sa.nonce_r, sa.suite.prf, keys.pi, state.idi_body, _int_auth(sa)
    )


def _own_octets(sa: IkeSa, state: IkeAuth) -> bytes:
    keys = sa.keys
    if keys is None:
        raise AuthenticationFailed("no keys")
    return authentication.signed_octets(
        sa.init_response, sa.nonce_i, sa.suite.prf, keys.pr, state.idr_body, _int_auth(sa)
    )


def _int_auth(sa: IkeSa) -> bytes:
    return sa.intermediate.int_auth if sa.intermediate is not None else b""


def _introduction(sa: IkeSa, state: IkeAuth) -> tuple[tuple[PayloadType, bytes], ...]:
    """IDr, CERT+, AUTH. CERT is sent even where nobody asked: Apple and Android need it and do not ask."""
    credential = sa.config.credential
    auth = authentication.sign(credential.private_key, _own_octets(sa, state), sa.peer_hashes)
    return (
        (PayloadType.IDR, state.idr_body),
        *(
            (PayloadType.CERT, Certificate(CertEncoding.X509_SIGNATURE, der).to_bytes())
            for der in credential.chain_der
        ),
        (PayloadType.AUTH, auth.to_bytes()),
    )


def _proof(sa: IkeSa, state: IkeAuth) -> tuple[tuple[PayloadType, bytes], ...]:
    if not state.msk:
        return _introduction(sa, state)
    data = authentication.shared_key_auth(sa.suite.prf, state.msk, _own_octets(sa, state))
    return ((PayloadType.AUTH, Auth(AuthMethod.SHARED_KEY_MIC, data).to_bytes()),)


def negotiate_child(sa: IkeSa, state: IkeAuth, assignment: Assignment) -> None:
    """Suite, selectors and keys of the child SA, then ask the data plane.

    Raises:
        NoProposalChosen, TsUnacceptable, FailedCpRequired: no child SA is possible.
    """
    if assignment.virtual_ipv4 is None and assignment.virtual_ipv6 is None:
        raise FailedCpRequired(
            "the client asked for no virtual address of a family that its pool and its networks have"
        )
    keys = sa.keys
    if keys is None:
        raise AuthenticationFailed("no keys")
    # Before an SPI is taken, so that nothing has to be given back.
    remote, local = narrow_selectors(assignment, state.initiator_selectors, state.responder_selectors)
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
    )
    sa.install(
        child,
        outbound=True,
        installed=lambda now: _finish(sa, state, child, assignment, now),
        failed=sa.refuse_child,
    )


def _finish(sa: IkeSa, state: IkeAuth, child: Child, assignment: Assignment, now: float) -> None:
    """The last response: the child SA is up, and so is the session."""
    if state.answer is None:
        return
    payloads = [*state.proof]
    if state.configuration is not None:
        payloads.append((PayloadType.CP, configuration_reply(state.configuration, assignment).to_bytes()))
    payloads += [
        (PayloadType.SA, proposals_to_bytes((state.answer,))),
        (PayloadType.TSI, selectors_to_bytes(child.remote_selectors)),
        (PayloadType.TSR, selectors_to_bytes(child.local_selectors)),
    ]
    sa.established(now)
    sa.respond(ExchangeType.IKE_AUTH, payloads)
    sa.emit(SaEstablished(sa))


def finish_without_child(sa: IkeSa, state: IkeAuth, error: IkeError) -> None:
    """The peer is authentic, but gets no child SA: the proof, and the reason (RFC 7296 section 1.2)."""
    notify = error.notify or NotifyType.TEMPORARY_FAILURE
    sa.respond(ExchangeType.IKE_AUTH, [*state.proof, notify_payload(notify, error.data)])
