"""Initiators that do one thing otherwise than the usual one."""

from __future__ import annotations

import os
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gateway.ike.channel import OutPayloads
from gateway.ike.constants import AuthMethod, ExchangeType, PayloadType
from gateway.ike.message import Header, Payloads
from gateway.ike.path import Path
from gateway.ike.payloads.auth import Auth
from tests.peers.initiator import Initiator, InitiatorConfig

Payload = tuple[PayloadType, bytes]
Change = Callable[[Initiator, list[Payload]], list[Payload]]

PSS_SHA256 = bytes.fromhex(
    "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d0609608648016503"
    "0402010500a203020120"
)
"""RSASSA-PSS with SHA2-256 for hash and mask, 32 bytes of salt (RFC 7427 appendix A.4.2)."""


def first_auth(change: Change) -> type[Initiator]:
    """An initiator whose first IKE_AUTH request is changed before it is encrypted."""

    class Changed(Initiator):
        def first_auth_payloads(self) -> list[Payload]:
            return change(self, super().first_auth_payloads())

    return Changed


def without(*types: PayloadType) -> type[Initiator]:
    """An initiator that leaves payloads out of its first IKE_AUTH request."""
    return first_auth(lambda _, payloads: [item for item in payloads if item[0] not in types])


def replaced(payload_type: PayloadType, body: bytes) -> type[Initiator]:
    """An initiator with another body for one payload of its first IKE_AUTH request."""
    return first_auth(lambda _, payloads: [(t, body if t is payload_type else b) for t, b in payloads])


def added(*payloads: Payload) -> type[Initiator]:
    """An initiator with more payloads in its first IKE_AUTH request."""
    return first_auth(lambda _, usual: [*usual, *payloads])


def _sign_with_pss(initiator: Initiator, payloads: list[Payload]) -> list[Payload]:
    key = initiator.config.private_key
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = key.sign(initiator.own_octets(), padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    auth = Auth(AuthMethod.DIGITAL_SIGNATURE, bytes((len(PSS_SHA256),)) + PSS_SHA256 + signature)
    return [(t, auth.to_bytes() if t is PayloadType.AUTH else b) for t, b in payloads]


PssInitiator = first_auth(_sign_with_pss)
"""Signs with RSASSA-PSS, as Apple's RSA-PSS certificate type and strongSwan's `rsa/pss` do."""


class Corrupted(Initiator):
    """Changes the last byte of each AUTH payload."""

    def request(self, exchange: ExchangeType, payloads: OutPayloads) -> list[bytes]:
        """Send a request."""
        return super().request(exchange, [(t, _corrupted(b) if t is PayloadType.AUTH else b) for t, b in payloads])


def _corrupted(body: bytes) -> bytes:
    return body[:-1] + bytes((body[-1] ^ 1,))


UNKNOWN_PAYLOAD = 200


def send_unknown_critical(initiator: Initiator, exchange: ExchangeType) -> None:
    """Send a request with one unknown payload whose critical bit is set."""
    channel = initiator.channel
    assert channel is not None
    plain = b"\0\x80\0\x05?"
    initiator.send(channel.seal_plain(exchange, initiator.message_id, UNKNOWN_PAYLOAD, plain, response=False))


class Listening(Initiator):
    """Keeps what the gateway answers to its later requests."""

    def __init__(self, config: InitiatorConfig, path: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        super().__init__(config, path, random)
        self.answers: list[Payloads] = []

    def receive_answer(self, header: Header, payloads: Payloads) -> None:
        """Any answer to an encrypted request has come."""
        self.answers.append(payloads)
