"""EAP peers for tests and the load generator: what a laptop does, as sans-IO as the server.

`receive(packet)` takes the server's packet and gives the answer, or None where the conversation is over; then
`succeeded` and `msk` say how it went. A peer that is to misbehave overrides one of the small methods.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto

from aaa.eap.md4 import md4
from aaa.eap.mschapv2 import OpCode
from aaa.eap.mschapv2_keys import (
    authenticator_response,
    challenge_hash,
    nt_password_hash,
    nt_response,
    session_key,
)
from aaa.eap.packet import EapCode, EapPacket, EapType, request, response
from aaa.eap.peap_tlvs import CompoundKeys, Result, Subtype, parse_result, parse_tlvs
from aaa.eap.tls import FRAGMENT_BYTES, TlsPrivateKey, TlsVersion
from aaa.eap.tls_fragments import ACKNOWLEDGEMENT, START, Fragmenter, Reassembler, split_fragment
from aaa.eap.ttls_avps import Avp, AvpCode, parse_avps


class EapPeer:
    """Identity, Nak and the end; the method is the subclass's.

    Args:
        identity: the EAP identity.
    """

    eap_type: EapType

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.succeeded: bool | None = None
        """None while it is going on."""
        self.msk: bytes | None = None
        """64 bytes, from the end of the method on."""

    def receive(self, packet: bytes) -> bytes | None:
        """The answer to a packet of the server; None to Success and Failure.

        Raises:
            EapError: the server's packet is malformed.
        """
        request = EapPacket.parse(packet)
        if request.code in (EapCode.SUCCESS, EapCode.FAILURE):
            # A Success before the method is done is somebody else's (RFC 3748 section 4.2).
            self.succeeded = request.code == EapCode.SUCCESS and self.msk is not None
            return None
        if request.type == EapType.IDENTITY:
            return response(request.identifier, EapType.IDENTITY, self.identity.encode())
        if request.type != self.eap_type:
            return response(request.identifier, EapType.NAK, self.wanted_types())
        return response(request.identifier, self.eap_type, self.answer(request.data))

    def wanted_types(self) -> bytes:
        """The types of the Nak."""
        return bytes((self.eap_type,))

    def answer(self, data: bytes) -> bytes:
        """Type data in, type data out."""
        raise NotImplementedError


class MsChapV2Peer(EapPeer):
    """EAP-MSCHAPv2 with a password.

    Args:
        identity: the EAP identity, and the name in the response.
        password: the password.
        random: gives so many bytes.
    """

    eap_type = EapType.MSCHAPV2

    def __init__(self, identity: str, password: str, random: Callable[[int], bytes] = os.urandom) -> None:
        super().__init__(identity)
        self._nt_hash = nt_password_hash(password)
        self._random = random
        self._proof = b""
        self._pending_msk = b""
        self.server_name = ""
        """What the challenge says."""

    def answer(self, data: bytes) -> bytes:
        """Response to the Challenge, Success Response to the Success Request."""
        if data[0] == OpCode.CHALLENGE:
            return self.respond(data)
        if data[0] == OpCode.SUCCESS and data[4 : 4 + len(self._proof)] == self._proof:
            self.msk = self._pending_msk
            return bytes((OpCode.SUCCESS,))
        return bytes((OpCode.FAILURE,))

    def respond(self, challenge: bytes) -> bytes:
        """The Response packet."""
        identifier, size = challenge[1], challenge[4]
        self.server_name = challenge[5 + size :].decode()
        name = self.identity.encode()
        peer_challenge = self._random(16)
        hashed = challenge_hash(peer_challenge, challenge[5 : 5 + size], name)
        answer = nt_response(self._nt_hash, hashed)
        hash_hash = md4(self._nt_hash)
        self._proof = authenticator_response(hash_hash, answer, hashed)
        self._pending_msk = session_key(hash_hash, answer)
        value = peer_challenge + bytes(8) + answer + b"\0"
        length = 5 + len(value) + len(name)
        return struct.pack("!BBHB", OpCode.RESPONSE, identifier, length, len(value)) + value + name


class _Progress(Enum):
    HANDSHAKE = 1
    DONE = 2
    FAILED = 3


class TlsPeer(EapPeer):
    """EAP-TLS with a client certificate.

    Args:
        identity: the EAP identity.
        chain: our certificate and intermediates, DER, end entity first; empty for a peer without one.
        key: of the first.
        anchors: roots that the server's certificate has to come from, DER.
        tls_version: the one to speak; None for what the server likes best.
        fragment_bytes: TLS data in one packet at most.
        security_level: of OpenSSL; 0 lets the peer use weak keys, for the server to refuse.
    """

    eap_type = EapType.TLS

    def __init__(
        self,
        identity: str,
        chain: Sequence[bytes],
        key: TlsPrivateKey | None,
        anchors: Sequence[bytes],
        tls_version: TlsVersion | int | None = None,
        *,
        fragment_bytes: int = FRAGMENT_BYTES,
        security_level: int = 2,
    ) -> None:
        super().__init__(identity)
        self._connection = SSL.Connection(_client_context(chain, key, anchors, tls_version, security_level), None)
        self._connection.set_connect_state()
        self._fragment_bytes = fragment_bytes
        self._incoming = Reassembler(1 << 20)
        self._outgoing: Fragmenter | None = None
        self._progress = _Progress.HANDSHAKE
        self.error = ""
        """OpenSSL's words where the handshake failed."""

    def answer(self, data: bytes) -> bytes:
        """A fragment of ours, or the acknowledgement of one of the server's."""
        flags, total, part = split_fragment(data)
        if self._outgoing is not None and not self._outgoing.done:
            return self._outgoing.next()
        message = self._incoming.add(flags & ~START, total, part)
        if message is None:
            return ACKNOWLEDGEMENT
        self._outgoing = Fragmenter(self.advance(message), self._fragment_bytes)
        return self._outgoing.next()

    def advance(self, message: bytes) -> bytes:
        """Feed a whole TLS message of the server; what TLS has to say to it, often nothing."""
        if message:
            self._connection.bio_write(message)
        try:
            if self._progress is _Progress.HANDSHAKE:
                self._connection.do_handshake()
                self._progress = _Progress.DONE
            # TLS 1.3 ends with one byte of application data; 1.2 with the handshake, and has nothing to read.
            if self._connection.get_protocol_version() != TlsVersion.TLS_1_3 or self._connection.recv(1) == b"\0":
                self.msk = self._export()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self._progress = _Progress.FAILED
            self.error = self.error or str(error)
        return self._drain()

    def _export(self) -> bytes:
        if self._connection.get_protocol_version() == TlsVersion.TLS_1_3:
            return self._connection.export_keying_material(b"EXPORTER_EAP_TLS_Key_Material", 128, b"\x0d")[:64]
        return self._connection.export_keying_material(b"client EAP encryption", 128)[:64]

    def _drain(self) -> bytes:
        try:
            return self._connection.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""


def _client_context(
    chain: Sequence[bytes],
    key: TlsPrivateKey | None,
    anchors: Sequence[bytes],
    tls_version: TlsVersion | int | None,
    security_level: int,
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=%d" % security_level)
    if tls_version is not None:
        context.set_min_proto_version(tls_version)
        context.set_max_proto_version(tls_version)
    certificates = [x509.load_der_x509_certificate(der) for der in chain]
    if certificates and key is not None:
        context.use_certificate(certificates[0])
        for certificate in certificates[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(key)
    store = context.get_cert_store()
    if store is not None:
        for der in anchors:
            store.add_cert(crypto.X509.from_cryptography(x509.load_der_x509_certificate(der)))
    context.set_verify(SSL.VERIFY_PEER)
    return context


class TunnelPeer(TlsPeer):
    """A TLS tunnel, and what a subclass says inside it.

    Args:
        outer_identity: the EAP identity outside.
        inner: the peer inside; its `identity` is the one that counts.
        anchors: roots that the server's certificate has to come from, DER.
        tls_version: the one to speak; None for what the server likes best.
    """

    tls_1_2_label: bytes

    def __init__(
        self, outer_identity: str, inner: EapPeer, anchors: Sequence[bytes], tls_version: TlsVersion | None = None
    ) -> None:
        super().__init__(outer_identity, [], None, anchors, tls_version)
        self.inner = inner

    def advance(self, message: bytes) -> bytes:
        """The handshake, then what is said inside."""
        if message:
            self._connection.bio_write(message)
        try:
            fresh = self._progress is _Progress.HANDSHAKE
            if fresh:
                self._connection.do_handshake()
                self._progress = _Progress.DONE
            heard = self._hear()
            said = self.say(heard, first=fresh)
            if said:
                self._connection.sendall(said)
        except SSL.WantReadError:
            pass
        return self._drain()

    def say(self, heard: bytes, *, first: bool) -> bytes:
        """What to say inside; `first` with the end of the handshake."""
        raise NotImplementedError

    def material(self) -> bytes:
        """What TLS exports for this method."""
        if self._connection.get_protocol_version() == TlsVersion.TLS_1_3:
            label, context = b"EXPORTER_EAP_TLS_Key_Material", bytes((self.eap_type,))
            return self._connection.export_keying_material(label, 128, context)
        return self._connection.export_keying_material(self.tls_1_2_label, 128)

    def _hear(self) -> bytes:
        try:
            return self._connection.recv(1 << 16)
        except SSL.WantReadError:
            return b""


class GtcPeer(EapPeer):
    """EAP-GTC: an answer to each prompt, in turn."""

    eap_type = EapType.GTC

    def __init__(self, identity: str, *answers: str) -> None:
        super().__init__(identity)
        self._answers = list(answers)
        self.prompts: list[bytes] = []

    def answer(self, data: bytes) -> bytes:
        """The next one."""
        self.prompts.append(data)
        return self._answers.pop(0).encode()


class TtlsPeer(TunnelPeer):
    """EAP-TTLS with EAP inside, or with AVPs that are given."""

    eap_type = EapType.TTLS
    tls_1_2_label = b"ttls keying material"

    def __init__(self, *arguments: Any, avps: bytes | None = None) -> None:
        super().__init__(*arguments)
        self.avps = avps

    def say(self, heard: bytes, *, first: bool) -> bytes:
        """With EAP inside, the peer begins."""
        self.msk = self.material()[:64]
        if self.avps is not None:
            said, self.avps = self.avps, b""
            return said
        if first:
            packet = response(0, EapType.IDENTITY, self.inner.identity.encode())
        elif heard:
            packet = self.inner.receive(parse_avps(heard)[0].data) or b""
        else:
            return b""
        return Avp(AvpCode.EAP_MESSAGE, packet).to_bytes()


class PeapPeer(TunnelPeer):
    """PEAP with EAP inside; `binds` says whether it does cryptobinding."""

    eap_type = EapType.PEAP
    tls_1_2_label = b"client EAP encryption"
    binds = True
    result: Result | None = None
    """What the server said of it."""

    def say(self, heard: bytes, *, first: bool) -> bytes:
        """Without headers, but for the result."""
        if not heard:
            return b""
        if len(heard) > 4 and heard[4] == EapType.TLV:
            return self.conclude(EapPacket.parse(heard))
        packet = self.inner.receive(request(0, heard[0], heard[1:])) or b""
        return packet[4:]

    def conclude(self, packet: EapPacket) -> bytes:
        """Our result, and our half of the cryptobinding."""
        tlvs = parse_tlvs(packet.data)
        self.result = parse_result(tlvs[0].value)
        answer = tlvs[0].to_bytes()
        self.msk = self.material()[:64]
        if self.result is Result.SUCCESS and self.binds:
            keys = CompoundKeys.derive(self.material(), self.inner.msk or b"")
            assert keys.is_bound(tlvs[1], Subtype.REQUEST)
            answer += self.binding(keys)
            self.msk = keys.msk
        return response(packet.identifier, EapType.TLV, answer)

    def binding(self, keys: CompoundKeys) -> bytes:
        """Our Cryptobinding TLV."""
        return keys.binding(Subtype.RESPONSE, bytes(32)).to_bytes()
