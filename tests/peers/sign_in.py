"""The initiator's side of IKE_AUTH: certificate, EAP, both, EAP alone, pre-shared key; PPK, childless.

It is strict with the gateway: a proof that is missing, or made with other keys than were agreed on, is a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cryptography import x509

from gateway.ike import authentication
from gateway.ike.constants import (
    AuthMethod,
    CertEncoding,
    CfgAttribute,
    CfgType,
    Esn,
    ExchangeType,
    Integ,
    NotifyType,
    PayloadType,
    ProtocolId,
    TransformType,
)
from gateway.ike.errors import AuthenticationFailed, IkeError
from gateway.ike.keymat import IkeKeys, derive_child_keys, mix_ppk
from gateway.ike.message import Payloads
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.auth_methods import announcements_to_bytes
from gateway.ike.payloads.certificate import Certificate, CertificateRequest
from gateway.ike.payloads.configuration import Configuration, ConfigurationAttribute
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.payloads.ppk import ppk_identity
from gateway.ike.payloads.security_association import Proposal, Transform, parse_proposals, proposals_to_bytes
from gateway.ike.selectors import parse_selectors, selectors_to_bytes

if TYPE_CHECKING:
    from tests.peers.initiator import Initiator

OutPayload = tuple[PayloadType, bytes]


class SignIn:
    """One IKE_AUTH, from the first request to the last response."""

    def __init__(self, initiator: Initiator) -> None:
        self._peer = initiator
        self._identity = initiator.config.identity
        """IDi of the authentication under way."""
        self._msk_sent = False
        self._mixed: IkeKeys | None = None
        """The keys with the PPK in them, while it is open whether the gateway has it too."""

    # --- Requests ---

    def first_payloads(self) -> list[OutPayload]:
        """The first request."""
        config = self._peer.config
        payloads = [(PayloadType.IDI, self._identity.to_bytes())]
        if config.gateway_identity is not None:
            payloads.append((PayloadType.IDR, config.gateway_identity.to_bytes()))
        payloads += self._certificates()
        if config.private_key is not None:
            payloads += self._auth(self._signature)
            if config.eap is not None:
                payloads.append(notify_payload(NotifyType.MULTIPLE_AUTH_SUPPORTED))
                payloads.append(notify_payload(NotifyType.ANOTHER_AUTH_FOLLOWS))
        elif config.pre_shared_key:
            payloads += self._auth(lambda octets: self._shared_key(config.pre_shared_key, octets))
        if config.initial_contact:
            payloads.append(notify_payload(NotifyType.INITIAL_CONTACT))
        if config.announce_eap_only:
            payloads.append(notify_payload(NotifyType.EAP_ONLY_AUTHENTICATION))
        if config.announcements:
            announced = announcements_to_bytes(config.announcements)
            payloads.append(notify_payload(NotifyType.SUPPORTED_AUTH_METHODS, announced))
        payloads += self._configuration_request()
        return payloads if config.childless else [*payloads, *self._child_request()]

    def _certificates(self) -> list[OutPayload]:
        config = self._peer.config
        sent = [Certificate(CertEncoding.X509_SIGNATURE, der) for der in config.chain_der]
        payloads = [(PayloadType.CERT, one.to_bytes()) for one in (*sent, *config.stapled)]
        if config.authorities is not None:
            wanted = CertificateRequest(CertEncoding.X509_SIGNATURE, config.authorities)
            payloads.append((PayloadType.CERTREQ, wanted.to_bytes()))
        if config.ask_ocsp:
            payloads.append((PayloadType.CERTREQ, CertificateRequest(CertEncoding.OCSP_CONTENT, ()).to_bytes()))
        return payloads

    def _configuration_request(self) -> list[OutPayload]:
        config, wanted = self._peer.config, []
        if config.ask_ipv4:
            wanted += [CfgAttribute.INTERNAL_IP4_ADDRESS, CfgAttribute.INTERNAL_IP4_DNS]
        if config.ask_ipv6:
            wanted += [CfgAttribute.INTERNAL_IP6_ADDRESS, CfgAttribute.INTERNAL_IP6_DNS]
        if not wanted:
            return []
        request = Configuration(CfgType.REQUEST, tuple(ConfigurationAttribute(kind) for kind in wanted))
        return [(PayloadType.CP, request.to_bytes())]

    def _child_request(self) -> list[OutPayload]:
        config = self._peer.config
        child = config.child_suite
        transforms = [Transform(TransformType.ENCR, child.encr, child.key_bits)]
        if child.integ is not Integ.NONE:
            transforms.append(Transform(TransformType.INTEG, child.integ))
        transforms.append(Transform(TransformType.ESN, Esn.ESN if child.esn else Esn.NO_ESN))
        offer = Proposal(1, ProtocolId.ESP, self._peer.spi_in.to_bytes(4, "big"), tuple(transforms))
        return [
            (PayloadType.SA, proposals_to_bytes((offer,))),
            (PayloadType.TSI, selectors_to_bytes(config.initiator_selectors)),
            (PayloadType.TSR, selectors_to_bytes(config.responder_selectors)),
        ]

    # --- Our proof ---

    def own_octets(self, keys: IkeKeys) -> bytes:
        """What our AUTH payload covers."""
        peer = self._peer
        return authentication.signed_octets(
            peer.init_request,
            peer.nonce_r,
            peer.suite.prf,
            keys.pi,
            self._identity.to_bytes(),
            peer.intermediate.int_auth,
        )

    def _auth(self, make: Callable[[bytes], Auth]) -> list[OutPayload]:
        """AUTH, and with a PPK also what the gateway needs that may not have it (RFC 8784 section 3)."""
        config, keys = self._peer.config, self._peer.current_keys
        if config.ppk is None or NotifyType.USE_PPK not in self._peer.gateway_announced or self._is_second:
            return [(PayloadType.AUTH, make(self.own_octets(keys)).to_bytes())]
        name, secret = config.ppk
        self._mixed = mix_ppk(self._peer.suite, keys, secret)
        payloads = [
            (PayloadType.AUTH, make(self.own_octets(self._mixed)).to_bytes()),
            notify_payload(NotifyType.PPK_IDENTITY, ppk_identity(name)),
        ]
        if not config.ppk_required:
            payloads.append(notify_payload(NotifyType.NO_PPK_AUTH, make(self.own_octets(keys)).data))
        return payloads

    @property
    def _is_second(self) -> bool:
        config = self._peer.config
        return config.private_key is not None and bool(self._peer.gateway_identity_body)

    def _signature(self, octets: bytes) -> Auth:
        key = self._peer.config.private_key
        assert key is not None
        return authentication.sign(key, octets, self._peer.gateway_hashes)

    def _shared_key(self, secret: bytes, octets: bytes) -> Auth:
        return Auth(AuthMethod.SHARED_KEY_MIC, authentication.shared_key_auth(self._peer.suite.prf, secret, octets))

    # --- Responses ---

    def receive(self, payloads: Payloads) -> None:
        """A response."""
        notifies = [Notify.parse(body) for body in payloads.all(PayloadType.NOTIFY)]
        error = next((notify for notify in notifies if notify.is_error), None)
        if error is not None:
            self._peer.fail(str(error))
            return
        try:
            self._receive(payloads, {notify.type: notify.data for notify in notifies})
        except IkeError as refusal:
            self._peer.fail(str(refusal))

    def _receive(self, payloads: Payloads, notifies: dict[int, bytes]) -> None:
        peer, config = self._peer, self._peer.config
        auth_body = payloads.first(PayloadType.AUTH)
        auth = Auth.parse(auth_body) if auth_body is not None else None
        if auth is not None:
            self._settle_ppk(notifies)
        if payloads.first(PayloadType.IDR) is not None:
            self._meet_gateway(payloads, auth)
        eap_body = payloads.first(PayloadType.EAP)
        if eap_body is not None and config.eap is not None:
            self._receive_eap(eap_body)
            return
        if auth is None:
            raise AuthenticationFailed("no AUTH")
        if config.eap is not None and not self._msk_sent:
            # The device is in; now its user (RFC 4739).
            self._identity = config.user_identity or config.identity
            peer.request(ExchangeType.IKE_AUTH, [(PayloadType.IDI, self._identity.to_bytes())])
            return
        if self._msk_sent and config.eap is not None and config.eap.msk is not None and config.verify_gateway:
            authentication.verify_shared_key(auth, peer.suite.prf, config.eap.msk, self._gateway_octets())
        lifetime = notifies.get(NotifyType.AUTH_LIFETIME)
        peer.session_lifetime_s = int.from_bytes(lifetime, "big") if lifetime is not None else None
        peer.establish(payloads)

    def _receive_eap(self, packet: bytes) -> None:
        eap = self._peer.config.eap
        assert eap is not None
        answer = eap.receive(packet)
        if answer is not None:
            self._peer.request(ExchangeType.IKE_AUTH, [(PayloadType.EAP, answer)])
        elif eap.msk is not None:
            msk, self._msk_sent = eap.msk, True
            self._peer.request(ExchangeType.IKE_AUTH, self._auth(lambda octets: self._shared_key(msk, octets)))
        else:
            raise AuthenticationFailed("EAP failure")

    def _settle_ppk(self, notifies: dict[int, bytes]) -> None:
        """The gateway's AUTH is there: with it, it says whether it used the PPK that we named."""
        if self._mixed is None:
            return
        if NotifyType.PPK_IDENTITY in notifies:
            self._peer.keys = self._mixed
        elif self._peer.config.ppk_required:
            raise AuthenticationFailed("the gateway used no PPK")
        self._mixed = None

    def _meet_gateway(self, payloads: Payloads, auth: Auth | None) -> None:
        peer, config = self._peer, self._peer.config
        peer.gateway_identity_body = payloads.require(PayloadType.IDR)
        if auth is None:
            if not config.announce_eap_only:
                raise AuthenticationFailed("no AUTH with IDr")
            return
        peer.gateway_auth = auth
        peer.verify_gateway(payloads, auth)

    def verify_gateway(self, payloads: Payloads, auth: Auth) -> None:
        """Check the proof that comes with IDr; raises AuthenticationFailed."""
        peer, config = self._peer, self._peer.config
        received = [Certificate.parse(body) for body in payloads.all(PayloadType.CERT)]
        peer.gateway_certificates = [c.data for c in received if c.encoding == CertEncoding.X509_SIGNATURE]
        peer.gateway_ocsp_responses = [c.data for c in received if c.encoding == CertEncoding.OCSP_CONTENT]
        if not config.verify_gateway:
            return
        if config.pre_shared_key:
            authentication.verify_shared_key(auth, peer.suite.prf, config.pre_shared_key, self._gateway_octets())
            return
        key = x509.load_der_x509_certificate(peer.gateway_certificates[0]).public_key()
        authentication.verify_signature(auth, key, self._gateway_octets(), config.announce_hashes)

    def _gateway_octets(self) -> bytes:
        peer = self._peer
        return authentication.signed_octets(
            peer.init_response,
            peer.nonce_i,
            peer.suite.prf,
            peer.current_keys.pr,
            peer.gateway_identity_body,
            peer.intermediate.int_auth,
        )

    def establish(self, payloads: Payloads) -> None:
        """Take what the last response gives; raises AuthenticationFailed."""
        peer, config = self._peer, self._peer.config
        reply = payloads.first(PayloadType.CP)
        for attribute in Configuration.parse(reply).attributes if reply is not None else ():
            if attribute.type == CfgAttribute.INTERNAL_IP4_ADDRESS:
                peer.virtual_ipv4 = attribute.value
            elif attribute.type == CfgAttribute.INTERNAL_IP6_ADDRESS:
                peer.virtual_ipv6 = attribute.value
            elif attribute.type in (CfgAttribute.INTERNAL_IP4_DNS, CfgAttribute.INTERNAL_IP6_DNS):
                peer.dns.append(attribute.value)
        if not config.childless:
            (chosen,) = parse_proposals(payloads.require(PayloadType.SA))
            peer.spi_out = int.from_bytes(chosen.spi, "big")
            peer.selectors = (
                parse_selectors(payloads.require(PayloadType.TSI)),
                parse_selectors(payloads.require(PayloadType.TSR)),
            )
            peer.child_keys = derive_child_keys(
                peer.suite, config.child_suite, peer.current_keys.d, peer.nonce_i, peer.nonce_r
            )
        elif payloads.first(PayloadType.SA) is not None:
            raise AuthenticationFailed("a child SA that nobody asked for")
