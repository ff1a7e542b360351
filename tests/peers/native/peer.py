"""Drives a native client's messages: the client's bytes, `Initiator`'s handshake, and the client's own demands."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.ike import authentication
from gateway.ike.channel import OutPayloads
from gateway.ike.constants import AuthMethod, ExchangeType, Group, NotifyType, PayloadType
from gateway.ike.crypto import key_exchange
from gateway.ike.errors import IkeError
from gateway.ike.message import Header, Payloads
from gateway.ike.path import Path, nat_detection_hash
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.configuration import Configuration
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.security_association import Proposal, parse_proposals
from tests.peers.eap import MsChapV2Peer
from tests.peers.initiator import Initiator, InitiatorConfig, Phase
from tests.peers.native import encoding as e
from tests.peers.native.client import FirstAuth, Init, NativeClient

_IP_UDP_AND_MARKER_BYTES = 32
_MODP_1024_BYTES = 128
MS_STATUS, INVALID_SITUATION = 12345, (13863).to_bytes(4, "big")
"""An error of Microsoft's own, and the one with which Windows answers a rekeying to its side of a NAT."""


@dataclass(slots=True)
class NativeConfig(InitiatorConfig):
    """A native client, and how its user signs in."""

    client: NativeClient = field(kw_only=True)


class DomainMsChapV2Peer(MsChapV2Peer):
    """As Windows does it where a domain is typed: the name goes as it is, the hash covers what follows the backslash.

    That is MSCHAPv2's own rule (RFC 2759 section 8.2), written down here once more.
    """

    def respond(self, challenge: bytes) -> bytes:
        """The Response packet."""
        typed = self.identity
        self.identity = typed.rpartition("\\")[2]
        answer = super().respond(challenge)
        self.identity = typed
        name = typed.encode()
        value = answer[4 : 5 + answer[4]]
        return answer[:2] + (4 + len(value) + len(name)).to_bytes(2, "big") + value + name


class NativePeer(Initiator):
    """One IKE SA of a native client."""

    config: NativeConfig

    def __init__(self, config: NativeConfig, path: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        super().__init__(config, path, random)
        self.client = client = config.client
        self.nonce_i = random(client.nonce_bytes)
        self._ke_group = self._tried = Group(client.groups[0])
        self.inits: list[bytes] = []
        """Its IKE_SA_INIT requests."""
        self.asked_for: list[int] = []
        """Groups that the gateway wanted instead of the one it got."""
        self.first_auths: list[bytes] = []
        """The datagrams of its first IKE_AUTH request."""
        self.before_auth: Callable[[], None] = lambda: None
        """Called when IKE_SA_INIT is done, which is when stock clients go over to port 4500."""
        self.answer: Payloads | None = None
        """To the last request after the handshake."""
        self.asked: list[int] = []
        """Exchange types of the gateway's requests."""
        self.offered: list[Payloads] = []
        """Those of them that were to make a child SA or an IKE SA; Windows' refusal is what they get."""
        self.last_auth: Payloads | None = None
        """The response that ended the handshake."""

    # --- What it sends --------------------------------------------------------------------------------------

    def start(self) -> None:
        """IKE_SA_INIT, again with another group where the gateway wants one that it offers."""
        self.phase = Phase.INIT
        group = self._ke_group
        if group != self._tried:
            self.asked_for.append(group)
            if group not in self.client.groups:
                self.fail(f"the gateway wants {group.name}, which is not offered")
                return
            self._tried = group
        facts = Init(
            key_exchange=e.key_exchange(group, self._public(group)),
            nonce=self.nonce_i,
            nat_source=nat_detection_hash(self.spi_i, bytes(8), self.path.local, self.path.local_port),
            nat_destination=nat_detection_hash(self.spi_i, bytes(8), self.path.remote, self.path.remote_port),
        )
        payloads = self.client.init(facts)
        if self._cookie:
            payloads = [e.notify(NotifyType.COOKIE, self._cookie), *payloads]
        self.init_request = e.message(self.spi_i, payloads)
        self.inits.append(self.init_request)
        self._outgoing.append(self.init_request)

    def _public(self, group: Group) -> bytes:
        if group is Group.MODP_1024:
            # Nothing of ours computes with it, and nobody answers it.
            return self.random(_MODP_1024_BYTES)
        self._key_pair = key_exchange.generate(group)
        return self._key_pair.public

    def _send_first_auth(self) -> None:
        assert self.channel is not None
        self.before_auth()
        limit = self.client.message_bytes
        if self.channel.fragmentation and limit is not None:
            self.channel.set_fragment_size(limit + _IP_UDP_AND_MARKER_BYTES, 4)
        self.first_auths = self.request(ExchangeType.IKE_AUTH, self.first_auth_payloads())

    def first_auth_payloads(self) -> list[tuple[PayloadType, bytes]]:
        """In the client's order."""
        config = self.config
        auth = b""
        if config.private_key is not None:
            auth = authentication.sign(config.private_key, self.own_octets(), self.gateway_hashes).to_bytes()
        facts = FirstAuth(
            idi=config.identity.to_bytes(),
            idr=config.gateway_identity.to_bytes() if config.gateway_identity is not None else b"",
            chain_der=config.chain_der,
            auth=auth,
            spi=self.spi_in.to_bytes(4, "big"),
        )
        return [(PayloadType(kind), body) for kind, body in self.client.first_auth(facts)]

    # --- What it demands ------------------------------------------------------------------------------------

    def verify_gateway(self, payloads: Payloads, auth: Auth) -> None:
        """As strictly as the client does."""
        super().verify_gateway(payloads, auth)
        client, config = self.client, self.config
        certificate = x509.load_der_x509_certificate(self.gateway_certificates[0])
        name = Identification.parse(self.gateway_identity_body)
        if client.compares_idr and (
            config.gateway_identity is None or self.gateway_identity_body != config.gateway_identity.to_bytes()
        ):
            raise IkeError(f"IDr is {name}, which is not what was asked for")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = map(str, names.get_values_for_type(x509.IPAddress))
        if str(name) not in (*names.get_values_for_type(x509.DNSName), *addresses):
            raise IkeError(f"the certificate does not name {name}")
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if ExtendedKeyUsageOID.SERVER_AUTH not in uses:
            raise IkeError("the certificate is not one of a server")
        if not client.ecdsa and not isinstance(certificate.public_key(), RSAPublicKey):
            raise IkeError("only RSA certificates are taken")
        if auth.method == AuthMethod.DIGITAL_SIGNATURE and not client.hashes:
            raise IkeError("a digital signature, which this client has not announced")

    def receive_auth(self, payloads: Payloads) -> None:
        """Keep it; the first one has to prove the gateway."""
        # Before the client's answer, since it may be the last message of the handshake.
        self.last_auth = payloads
        first = not self.gateway_identity_body
        super().receive_auth(payloads)
        if first and not self.gateway_identity_body and not self.error:
            self.fail("the gateway did not prove itself in its first response")

    @property
    def reply(self) -> dict[int, list[bytes]]:
        """The attributes of the CFG_REPLY, values by type."""
        assert self.last_auth is not None
        found: dict[int, list[bytes]] = {}
        for attribute in Configuration.parse(self.last_auth.require(PayloadType.CP)).attributes:
            found.setdefault(attribute.type, []).append(attribute.value)
        return found

    @property
    def child_proposal(self) -> Proposal:
        """The one that the gateway chose for the first child SA."""
        assert self.last_auth is not None
        (chosen,) = parse_proposals(self.last_auth.require(PayloadType.SA))
        return chosen

    # --- After the handshake --------------------------------------------------------------------------------

    def create_child(self, offer: bytes, *, rekeyed_spi: int | None = None, group: Group | None = None) -> None:
        """CREATE_CHILD_SA for a child SA: a new one, or in the place of one, with or without a KE payload.

        Args:
            offer: its SA payload.
            rekeyed_spi: inbound SPI of ours that it takes the place of.
            group: of the KE payload.
        """
        payloads: list[tuple[PayloadType, bytes]] = []
        if rekeyed_spi is not None:
            notify = Notify(NotifyType.REKEY_SA, b"", e.ESP, rekeyed_spi.to_bytes(4, "big"))
            payloads.append((PayloadType.NOTIFY, notify.to_bytes()))
        payloads += [(PayloadType.SA, offer), (PayloadType.NONCE, self.random(self.client.nonce_bytes))]
        if group is not None:
            body = e.key_exchange(group, key_exchange.generate(group).public)
            payloads.append((PayloadType.KE, body))
        everything = e.selectors(*self.client.ranges)
        payloads += [(PayloadType.TSI, everything), (PayloadType.TSR, everything)]
        self._ask(payloads)

    def rekey_ike(self, offer: bytes, group: Group) -> None:
        """CREATE_CHILD_SA for an IKE SA in the place of this one."""
        body = e.key_exchange(group, key_exchange.generate(group).public)
        self._ask(
            [
                (PayloadType.SA, offer),
                (PayloadType.NONCE, self.random(self.client.nonce_bytes)),
                (PayloadType.KE, body),
            ]
        )

    def delete_child(self, spi: int) -> None:
        """As Windows does where a child SA was idle: Delete with our inbound SPI, the IKE SA stays."""
        body = bytes((e.ESP, 4, 0, 1)) + spi.to_bytes(4, "big")
        self.request(ExchangeType.INFORMATIONAL, [(PayloadType.DELETE, body)])

    def _ask(self, payloads: OutPayloads) -> None:
        self.answer = None
        self.request(ExchangeType.CREATE_CHILD_SA, payloads)

    def answer_request(self, header: Header) -> list[bytes]:
        """Note what it is."""
        self.asked.append(header.exchange)
        if header.exchange != ExchangeType.CREATE_CHILD_SA:
            return super().answer_request(header)
        assert self.channel is not None
        assert self.gateways_request is not None
        self.offered.append(self.gateways_request)
        refusal = [(PayloadType.NOTIFY, Notify(MS_STATUS, INVALID_SITUATION).to_bytes())]
        return self.channel.seal(ExchangeType.CREATE_CHILD_SA, header.message_id, refusal, response=True)

    def receive_answer(self, header: Header, payloads: Payloads) -> None:
        """Keep it."""
        self.answer = payloads

    @property
    def answered_error(self) -> str:
        """The error notify in the last answer, empty where there is none."""
        assert self.answer is not None
        errors = [n for n in map(Notify.parse, self.answer.all(PayloadType.NOTIFY)) if n.is_error]
        return str(errors[0]) if errors else ""

    @property
    def answered_proposal(self) -> Proposal:
        """The one that the last answer chose."""
        assert self.answer is not None
        (chosen,) = parse_proposals(self.answer.require(PayloadType.SA))
        return chosen
