"""An IKEv2 initiator for tests and load, sans-IO, on the product's own codec. Not a product feature.

It speaks IKE_SA_INIT (with COOKIE and INVALID_KE_PAYLOAD), IKE_INTERMEDIATE with additional key exchanges, IKE_AUTH
(`sign_in.py`), INFORMATIONAL, and fragmentation. What a stock client does in a corner case is for strongSwan
to show, in the interop tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from gateway.ike import authentication
from gateway.ike.channel import Channel, OutPayloads
from gateway.ike.constants import (
    ADDITIONAL_KE_TYPES,
    IKE_HEADER_BYTES,
    Encr,
    ExchangeType,
    Flag,
    Group,
    Integ,
    NotifyType,
    PayloadType,
    Prf,
    ProtocolId,
    TransformType,
)
from gateway.ike.crypto import key_exchange
from gateway.ike.exchanges.ike_intermediate import Intermediate
from gateway.ike.fragments import Fragment
from gateway.ike.keymat import (
    ChildKeys,
    IkeKeys,
    derive_ike_keys,
    derive_intermediate_ike_keys,
)
from gateway.ike.message import Header, Payloads, chain, clear_message, parse_payloads
from gateway.ike.path import Path, nat_detection_hash
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.auth_methods import Announcement
from gateway.ike.payloads.certificate import Certificate
from gateway.ike.payloads.delete import Delete
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.payloads.security_association import Proposal, parse_proposals, proposals_to_bytes
from gateway.ike.proposals import ChildSuite, IkeSuite, ike_transforms
from gateway.ike.selectors import TrafficSelector
from tests.peers.sign_in import SignIn


class EapPeer(Protocol):
    """The peer side of an EAP method (`tests.peers.eap`)."""

    msk: bytes | None

    def receive(self, packet: bytes) -> bytes | None:
        """Answer a request."""


class Phase(Enum):
    """Where the initiator stands."""

    IDLE = "idle"
    INIT = "IKE_SA_INIT"
    AUTH = "IKE_AUTH"
    ESTABLISHED = "established"
    FAILED = "failed"
    CLOSED = "closed"


USUAL_SUITE = IkeSuite(Encr.AES_GCM_16, 256, Integ.NONE, Prf.HMAC_SHA2_256, Group.CURVE25519)
USUAL_CHILD_SUITE = ChildSuite(Encr.AES_GCM_16, 256, Integ.NONE, False)


@dataclass(slots=True)
class InitiatorConfig:
    """What to offer and how to sign in."""

    identity: Identification = field(default_factory=lambda: Identification.fqdn("alice"))
    gateway_identity: Identification | None = None
    suite: IkeSuite = USUAL_SUITE
    proposals: tuple[Proposal, ...] | None = None
    """Instead of the one of `suite`."""
    child_suite: ChildSuite = USUAL_CHILD_SUITE
    ke_group: Group | None = None
    """Of the first KE payload, where it is not the suite's."""
    eap: EapPeer | None = None
    chain_der: tuple[bytes, ...] = ()
    private_key: authentication.PrivateKey | None = None
    """With `eap` as well, the certificate is the device's, and its user comes after it (RFC 4739)."""
    user_identity: Identification | None = None
    """IDi of the second authentication; None: the same as of the first."""
    stapled: tuple[Certificate, ...] = ()
    """Sent along with the certificates: OCSP responses, CRLs."""
    pre_shared_key: bytes = field(default=b"", repr=False)
    ppk: tuple[bytes, bytes] | None = field(default=None, repr=False)
    """A post-quantum pre-shared key: name and secret."""
    ppk_required: bool = False
    authorities: tuple[bytes, ...] | None = None
    """Of a CERTREQ; None: there is none."""
    ask_ocsp: bool = False
    announcements: tuple[Announcement, ...] = ()
    """SUPPORTED_AUTH_METHODS; none of it is sent where there are none."""
    announce_eap_only: bool = False
    childless: bool = False
    announce_hashes: bool = True
    announce_intermediate: bool | None = None
    """Whether IKE_INTERMEDIATE is announced; None: where the suite has additional key exchanges."""
    fragment_size_bytes: int | None = 1280
    initial_contact: bool = False
    ask_ipv4: bool = True
    ask_ipv6: bool = False
    initiator_selectors: tuple[TrafficSelector, ...] = (TrafficSelector(7, 0, 0, 65535, 0, 2**32 - 1),)
    responder_selectors: tuple[TrafficSelector, ...] = (TrafficSelector(7, 0, 0, 65535, 0, 2**32 - 1),)
    verify_gateway: bool = True


def suite_proposal(suite: IkeSuite, number: int = 1) -> Proposal:
    """A proposal of one IKE suite."""
    return Proposal(number, ProtocolId.IKE, b"", ike_transforms(suite))


class Initiator:
    """One IKE SA from the client's side."""

    def __init__(self, config: InitiatorConfig, path: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        self.config = config
        self.path = path
        self.phase = Phase.IDLE
        self.error: str = ""
        """Why it failed: the notify's name, or what did not verify."""
        self.spi_i, self.spi_r = random(8), bytes(8)
        self.random = random
        self.nonce_i, self.nonce_r = random(32), b""
        self.suite = config.suite
        self.keys: IkeKeys | None = None
        self.channel: Channel | None = None
        self.intermediate = Intermediate(config.suite.prf, ())
        self.virtual_ipv4: bytes = b""
        self.virtual_ipv6: bytes = b""
        self.dns: list[bytes] = []
        self.child_keys: ChildKeys | None = None
        self.spi_in = int.from_bytes(random(4), "big") | 0x1000
        self.spi_out = 0
        self.selectors: tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]] = ((), ())
        self.gateway_certificates: list[bytes] = []
        self.gateway_ocsp_responses: list[bytes] = []
        self.gateway_auth: Auth | None = None
        """By which it proved its certificate, or the pre-shared key."""
        self.gateway_identity_body = b""
        """Its IDr payload."""
        self.gateway_hashes: frozenset[int] = frozenset()
        self.gateway_announced: dict[int, bytes] = {}
        """Of its IKE_SA_INIT, by type."""
        self.session_lifetime_s: int | None = None
        """As the gateway announced it (RFC 4478)."""
        self.gateways_request: Payloads | None = None
        """The last one that was not a retransmission."""
        self.requests_seen = 0
        """Requests of the gateway that were answered (liveness checks)."""
        self.told_in_the_clear = 0
        """Answers that were not protected, though there are keys."""
        self._ke_group = config.ke_group or config.suite.group
        self._cookie = b""
        self.message_id = 0
        """Of the request that is outstanding, or comes next."""
        self._peer_next_id = 0
        self._cached: list[bytes] = []
        self._outgoing: list[bytes] = []
        self.init_request = self.init_response = b""
        """The two messages of IKE_SA_INIT, which AUTH covers."""
        self._gateway_fragments = False
        self.sign_in = SignIn(self)
        self.first_notifies: list[tuple[PayloadType, bytes]] = []
        """What IKE_SA_INIT says beside the usual."""

    # --- Driver surface ---

    def start(self) -> None:
        """Send IKE_SA_INIT."""
        self.phase = Phase.INIT
        self._key_pair = key_exchange.generate(self._ke_group)
        proposals = self.config.proposals or (suite_proposal(self.suite),)
        payloads: list[tuple[PayloadType, bytes]] = []
        if self._cookie:
            payloads.append(notify_payload(NotifyType.COOKIE, self._cookie))
        payloads += [
            (PayloadType.SA, proposals_to_bytes(proposals)),
            (PayloadType.KE, KeyExchange(self._ke_group, self._key_pair.public).to_bytes()),
            (PayloadType.NONCE, self.nonce_i),
        ]
        for kind, host, port in (
            (NotifyType.NAT_DETECTION_SOURCE_IP, self.path.local, self.path.local_port),
            (NotifyType.NAT_DETECTION_DESTINATION_IP, self.path.remote, self.path.remote_port),
        ):
            payloads.append(notify_payload(kind, nat_detection_hash(self.spi_i, bytes(8), host, port)))
        if self.config.fragment_size_bytes:
            payloads.append(notify_payload(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
        if self.config.announce_hashes:
            data = authentication.hash_algorithms_to_bytes(authentication.SUPPORTED_HASHES)
            payloads.append(notify_payload(NotifyType.SIGNATURE_HASH_ALGORITHMS, data))
        if self.config.ppk is not None:
            payloads.append(notify_payload(NotifyType.USE_PPK))
        announced = self.config.announce_intermediate
        if announced or (announced is None and self.suite.additional):
            payloads.append(notify_payload(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED))
        payloads += self.first_notifies
        self.init_request = clear_message(self.spi_i, bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0, payloads)
        self._outgoing.append(self.init_request)

    def receive_datagram(self, data: bytes) -> None:
        """One IKE message of the gateway."""
        header = Header.parse(data)
        if header.spi_i != self.spi_i:
            return
        if not header.is_response:
            self._receive_request(header, data)
            return
        if self.phase is Phase.INIT:
            self._receive_init(header, data)
        elif header.next_payload not in (PayloadType.SK, PayloadType.SKF):
            # Anybody can say in the clear that the gateway does not know the SA (RFC 7296 section 2.21.4).
            self.told_in_the_clear += 1
        elif self.channel is not None and header.message_id == self.message_id:
            payloads = self.channel.open(header, data)
            if payloads is None:
                return
            self.message_id += 1
            if header.exchange == ExchangeType.IKE_INTERMEDIATE:
                self._receive_intermediate(payloads)
            elif header.exchange == ExchangeType.IKE_AUTH:
                self.receive_auth(payloads)
            elif self.phase is Phase.CLOSED:
                self.channel = None
            self.receive_answer(header, payloads)

    def receive_answer(self, header: Header, payloads: Payloads) -> None:
        """Any answer to an encrypted request has come; for tests that look at it."""

    def datagrams_to_send(self) -> list[bytes]:
        """What has to go out."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def request(self, exchange: ExchangeType, payloads: OutPayloads) -> list[bytes]:
        """Send a request; returns its datagrams, for tests that send them again."""
        assert self.channel is not None
        datagrams = self.channel.seal(exchange, self.message_id, payloads, response=False)
        self.send(datagrams)
        return datagrams

    def send(self, datagrams: list[bytes]) -> None:
        """Queue datagrams as they are."""
        self._outgoing += datagrams

    def delete(self) -> None:
        """Say goodbye."""
        self.phase = Phase.CLOSED
        self.request(ExchangeType.INFORMATIONAL, [(PayloadType.DELETE, Delete(ProtocolId.IKE).to_bytes())])

    # --- Inside ---

    def fail(self, error: str) -> None:
        """Give up."""
        self.phase, self.error = Phase.FAILED, error

    def _receive_request(self, header: Header, data: bytes) -> None:
        if self.channel is None:
            return
        if header.message_id == self._peer_next_id - 1:
            self._outgoing += self._cached
            return
        payloads = self.channel.open(header, data)
        if payloads is None or header.message_id != self._peer_next_id:
            return
        self._peer_next_id += 1
        self.requests_seen += 1
        self.gateways_request = payloads
        self._cached = self.answer_request(header)
        self._outgoing += self._cached
        if payloads.first(PayloadType.DELETE) is not None:
            self.phase, self.error = Phase.CLOSED, "deleted by the gateway"

    def answer_request(self, header: Header) -> list[bytes]:
        """The answer to a request of the gateway; tests override it."""
        assert self.channel is not None
        return self.channel.seal(ExchangeType.INFORMATIONAL, header.message_id, [], response=True)

    def _receive_init(self, header: Header, data: bytes) -> None:
        payloads = parse_payloads(header.next_payload, data[IKE_HEADER_BYTES:])
        notifies = [Notify.parse(body) for body in payloads.all(PayloadType.NOTIFY)]
        for notify in notifies:
            if notify.type == NotifyType.COOKIE:
                self._cookie = notify.data
                self.start()
                return
            if notify.type == NotifyType.INVALID_KE_PAYLOAD:
                self._ke_group = Group(int.from_bytes(notify.data, "big"))
                self.start()
                return
            if notify.is_error:
                self.fail(str(notify))
                return
        self.spi_r, self.init_response = header.spi_r, data
        (chosen,) = parse_proposals(payloads.require(PayloadType.SA))
        self.suite = _suite_of(chosen)
        self.nonce_r = payloads.require(PayloadType.NONCE)
        ke = KeyExchange.parse(payloads.require(PayloadType.KE))
        shared = self._key_pair.shared_secret(ke.public)
        self._gateway_fragments = any(n.type == NotifyType.IKEV2_FRAGMENTATION_SUPPORTED for n in notifies)
        self._use_keys(derive_ike_keys(self.suite, shared, self.nonce_i, self.nonce_r, self.spi_i, self.spi_r))
        self.gateway_announced = {notify.type: notify.data for notify in notifies}
        hashes = self.gateway_announced.get(NotifyType.SIGNATURE_HASH_ALGORITHMS, b"")
        self.gateway_hashes = authentication.parse_hash_algorithms(hashes)
        self.message_id = 1
        self.intermediate = Intermediate(self.suite.prf, self.suite.additional)
        self.phase = Phase.AUTH
        self._begin_next_exchange()

    def _use_keys(self, keys: IkeKeys) -> None:
        self.keys = keys
        self.channel = Channel(self.suite, keys, self.spi_i, self.spi_r, is_initiator=True, random=self.random)
        if self.config.fragment_size_bytes and self._gateway_fragments:
            self.channel.set_fragment_size(self.config.fragment_size_bytes, self.path.ip_version)

    def _begin_next_exchange(self) -> None:
        """The next additional key exchange, or IKE_AUTH."""
        if not self.intermediate.pending or self.keys is None:
            self._send_first_auth()
            return
        payloads = self.intermediate_payloads(self.intermediate.pending[0])
        datagrams = self.request(ExchangeType.IKE_INTERMEDIATE, payloads)
        self.intermediate.cover_request(self.keys, Fragment(*chain(payloads), datagrams[0]))

    def intermediate_payloads(self, method: Group) -> list[tuple[PayloadType, bytes]]:
        """The next IKE_INTERMEDIATE request; tests override it."""
        self._key_pair = key_exchange.generate(method)
        return [(PayloadType.KE, KeyExchange(method, self._key_pair.public).to_bytes())]

    def _receive_intermediate(self, payloads: Payloads) -> None:
        errors = [n for n in map(Notify.parse, payloads.all(PayloadType.NOTIFY)) if n.is_error]
        if errors:
            self.fail(str(errors[0]))
            return
        assert self.keys is not None
        assert payloads.whole is not None
        ke = KeyExchange.parse(payloads.require(PayloadType.KE))
        self.intermediate.cover_response(self.keys, payloads.whole)
        shared, nonces = self._key_pair.shared_secret(ke.public), (self.nonce_i, self.nonce_r)
        self._use_keys(derive_intermediate_ike_keys(self.suite, self.keys.d, shared, *nonces, self.spi_i, self.spi_r))
        self._begin_next_exchange()

    def _send_first_auth(self) -> None:
        config = self.config
        knows_how = config.eap or config.chain_der or config.pre_shared_key
        self.request(ExchangeType.IKE_AUTH, self.first_auth_payloads() if knows_how else [])

    def first_auth_payloads(self) -> list[tuple[PayloadType, bytes]]:
        """The first IKE_AUTH request; tests override it."""
        return self.sign_in.first_payloads()

    def own_octets(self) -> bytes:
        """What our AUTH payload signs."""
        return self.sign_in.own_octets(self.current_keys)

    @property
    def current_keys(self) -> IkeKeys:
        """The keys, which are there from IKE_SA_INIT on."""
        assert self.keys is not None
        return self.keys

    @property
    def gateway_auth_method(self) -> int:
        """Of the AUTH payload by which the gateway proved its certificate; 0 where there was none."""
        return self.gateway_auth.method if self.gateway_auth is not None else 0

    def receive_auth(self, payloads: Payloads) -> None:
        """A response of IKE_AUTH; tests override it."""
        self.sign_in.receive(payloads)

    def verify_gateway(self, payloads: Payloads, auth: Auth) -> None:
        """The gateway's first proof, by certificate or pre-shared key; tests are stricter. Raises IkeError."""
        self.sign_in.verify_gateway(payloads, auth)

    def establish(self, payloads: Payloads) -> None:
        """The last response; tests look at it."""
        self.sign_in.establish(payloads)
        self.phase = Phase.ESTABLISHED


def _suite_of(proposal: Proposal) -> IkeSuite:
    encr = proposal.of_type(TransformType.ENCR)[0]
    integ = proposal.of_type(TransformType.INTEG)
    return IkeSuite(
        Encr(encr.id),
        encr.key_bits,
        Integ(integ[0].id) if integ else Integ.NONE,
        Prf(proposal.of_type(TransformType.PRF)[0].id),
        Group(proposal.of_type(TransformType.KE)[0].id),
        tuple(Group(t.id) for kind in ADDITIONAL_KE_TYPES for t in proposal.of_type(kind) if t.id != Group.NONE),
    )
