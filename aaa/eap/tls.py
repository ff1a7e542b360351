"""EAP-TLS (RFC 5216) with TLS 1.2 and 1.3 (RFC 9190).

    server                                          peer
    TLS Start                                       ->
                                                    <- ClientHello
    ServerHello, ..., CertificateRequest, ...       ->      (in fragments, each acknowledged)
                                                    <- Certificate, CertificateVerify, ..., Finished
    1.2: ChangeCipherSpec, Finished                 ->
    1.3: application data 00, the promise that
         no more handshake messages follow          ->
                                                    <- (empty)

TLS itself is OpenSSL's, through memory buffers. It brings its own random numbers and reads the clock itself
for the dates of certificates; nothing else here does.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from OpenSSL import SSL, crypto

from aaa.eap.errors import FailureCode, MalformedPacket, SetupError
from aaa.eap.method import MSK_BYTES, MethodContinue, MethodFailure, MethodLabel, MethodStep, MethodSuccess
from aaa.eap.packet import EapType
from aaa.eap.tls_failures import VerifyRecord, explain
from aaa.eap.tls_fragments import ACKNOWLEDGEMENT, START, Fragmenter, Reassembler, split_fragment

TlsPrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

MAX_RECEIVED_BYTES = 64 * 1024
"""TLS data taken of a peer in one conversation; a client with a long RSA chain sends some 6 KiB."""
FRAGMENT_BYTES = 1024
"""TLS data in one packet: with IKE, UDP and IPv6 around it, it still fits the 1280 bytes of the smallest path."""

_MAX_CHAIN_DEPTH = 5
_READ_BYTES = 32 * 1024
# Ephemeral key exchange and AEAD; security level 2 refuses RSA below 2048 bits and SHA-1 signatures.
_TLS_1_2_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
_TLS_1_3_CIPHERS = b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"

_KEY_MATERIAL_BYTES = 128
_TLS_1_2_LABEL = b"client EAP encryption"
_TLS_1_3_LABEL = b"EXPORTER_EAP_TLS_Key_Material"
_TLS_1_3_CONTEXT = bytes((EapType.TLS,))
_PROTECTED_SUCCESS = b"\x00"


class TlsVersion(IntEnum):
    """Those that EAP-TLS is spoken with here."""

    TLS_1_2 = SSL.TLS1_2_VERSION
    TLS_1_3 = SSL.TLS1_3_VERSION


class EapTlsServer:
    """What all conversations share: our certificate and key, and whose clients we trust.

    A client certificate is demanded, and has to verify to a trust anchor, be within its dates and be meant
    for clients: that is OpenSSL's judgement, without which no conversation succeeds. The verified chain comes
    back in the verdict, so that the caller can judge for itself, by revocation too, before it lets anyone in.

    There is no resumption: TLS 1.2 tickets are off, and those that OpenSSL insists on sending with TLS 1.3
    name a session that is not kept, so that the client's certificate is checked every time.

    Args:
        chain_der: our certificate and its intermediates, end entity first, without the root.
        private_key: of the first.
        trust_anchors_der: the roots that client certificates have to come from; their names are sent to the client.
        intermediates_der: CAs below the anchors, for clients that send no more than their own certificate.
        min_version: the oldest TLS version that is spoken.
        max_version: the newest.
        fragment_bytes: TLS data in one packet at most.

    Raises:
        SetupError: a certificate or key that OpenSSL can't use, a key of another certificate, or no anchor.
    """

    def __init__(
        self,
        chain_der: Sequence[bytes],
        private_key: TlsPrivateKey,
        trust_anchors_der: Sequence[bytes],
        *,
        intermediates_der: Sequence[bytes] = (),
        min_version: TlsVersion = TlsVersion.TLS_1_2,
        max_version: TlsVersion = TlsVersion.TLS_1_3,
        fragment_bytes: int = FRAGMENT_BYTES,
    ) -> None:
        if not chain_der or not trust_anchors_der:
            raise SetupError("EAP-TLS needs a certificate of its own and at least one trust anchor")
        if fragment_bytes < 1:
            raise SetupError("EAP-TLS fragments hold at least one byte")
        self.fragment_bytes = fragment_bytes
        self.trust_anchors_der = frozenset(trust_anchors_der)
        try:
            self._context = _make_context(chain_der, private_key, trust_anchors_der, intermediates_der)
            self._context.set_min_proto_version(min_version)
            self._context.set_max_proto_version(max_version)
        except (SSL.Error, crypto.Error, ValueError) as error:
            raise SetupError(f"EAP-TLS can't use its certificate, key or trust anchors: {error}") from error

    def open(self) -> EapTlsMethod:
        """A new conversation."""
        return EapTlsMethod(self, SSL.Connection(self._context, None))


def _make_context(
    chain_der: Sequence[bytes],
    private_key: TlsPrivateKey,
    trust_anchors_der: Sequence[bytes],
    intermediates_der: Sequence[bytes],
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    end_entity, *intermediates = (x509.load_der_x509_certificate(der) for der in chain_der)
    context.use_certificate(end_entity)
    for certificate in intermediates:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(private_key)
    context.check_privatekey()
    store = context.get_cert_store()
    if store is None:
        raise ValueError("no certificate store")
    # What is in the store but not self-signed helps to build a chain, and is no trust anchor.
    for der in (*trust_anchors_der, *intermediates_der):
        certificate = x509.load_der_x509_certificate(der)
        store.add_cert(crypto.X509.from_cryptography(certificate))
        context.add_client_ca(certificate)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _note_verification)
    context.set_verify_depth(_MAX_CHAIN_DEPTH)
    context.set_cipher_list(_TLS_1_2_CIPHERS)
    context.set_tls13_ciphersuites(_TLS_1_3_CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(
        SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def _note_verification(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """OpenSSL's verdict on one certificate stands as it is; an objection is written down for the operator."""
    record = connection.get_app_data()
    if not ok and isinstance(record, VerifyRecord) and record.error == SSL.X509VerificationCodes.OK:
        record.error = error
        record.depth = depth
        record.certificate_der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
    return bool(ok)


class _Phase(Enum):
    HANDSHAKE = 1
    CONFIRM = 2
    """All is said, and the peer has to acknowledge it."""
    REFUSED = 3
    """Our alert is on its way (RFC 5216 section 2.1.3)."""
    ENDED = 4


class EapTlsMethod:
    """The server's side of one conversation; made by `EapTlsServer.open`."""

    __slots__ = ("_connection", "_incoming", "_outgoing", "_phase", "_record", "_refusal", "_server", "_success")

    eap_type = EapType.TLS
    label: MethodLabel = "eap-tls"

    def __init__(self, server: EapTlsServer, connection: SSL.Connection) -> None:
        self._server = server
        self._record = VerifyRecord()
        connection.set_app_data(self._record)
        connection.set_accept_state()
        self._connection = connection
        self._incoming = Reassembler(MAX_RECEIVED_BYTES)
        self._outgoing: Fragmenter | None = None
        self._phase = _Phase.HANDSHAKE
        self._success: MethodSuccess | None = None
        self._refusal: MethodFailure | None = None

    def start(self) -> MethodContinue:
        """The TLS Start."""
        return MethodContinue(bytes((START,)))

    def process(self, data: bytes) -> MethodStep:
        """A fragment of the peer, or its acknowledgement of one of ours.

        Raises:
            MalformedPacket: a fragment that can't be, or one where an acknowledgement is due.
            LimitExceeded: too much TLS data.
        """
        flags, total, part = split_fragment(data)
        if flags & START:
            raise MalformedPacket("TLS Start from the peer")
        if self._outgoing is not None and not self._outgoing.done:
            if part:
                raise MalformedPacket("TLS data where an acknowledgement of a fragment is due")
            return self._next_fragment(self._outgoing)
        if self._phase is _Phase.REFUSED and self._refusal is not None:
            # Whatever it says to our alert, the verdict is out.
            self._phase = _Phase.ENDED
            return self._refusal
        if self._phase is _Phase.ENDED:
            raise MalformedPacket("TLS data after the end")
        message = self._incoming.add(flags, total, part)
        if message is None:
            return MethodContinue(ACKNOWLEDGEMENT)
        if self._phase is _Phase.CONFIRM:
            return self._confirm(message)
        if not message:
            raise MalformedPacket("empty TLS message where one of the handshake is due")
        return self._handshake(message)

    def _handshake(self, message: bytes) -> MethodStep:
        connection = self._connection
        try:
            connection.bio_write(message)
            connection.do_handshake()
        except SSL.WantReadError:
            return self._send(self._drain())
        except SSL.Error as error:
            return self._refuse(explain(error, self._record))
        chain = self._verified_chain()
        if not chain:
            return self._refuse(MethodFailure(FailureCode.NO_CLIENT_CERTIFICATE, "the client sent no certificate"))
        try:
            self._success = MethodSuccess(self._export_msk(), None, chain)
            if connection.get_protocol_version() == TlsVersion.TLS_1_3:
                connection.send(_PROTECTED_SUCCESS)
        except SSL.Error as error:
            return self._refuse(explain(error, self._record))
        self._phase = _Phase.CONFIRM
        return self._send(self._drain())

    def _export_msk(self) -> bytes:
        """RFC 5216 section 2.3, RFC 9190 section 2.3; the length asked for is part of what TLS 1.3 derives from."""
        if self._connection.get_protocol_version() == TlsVersion.TLS_1_3:
            material = self._connection.export_keying_material(_TLS_1_3_LABEL, _KEY_MATERIAL_BYTES, _TLS_1_3_CONTEXT)
        else:
            material = self._connection.export_keying_material(_TLS_1_2_LABEL, _KEY_MATERIAL_BYTES)
        return material[:MSK_BYTES]

    def _verified_chain(self) -> tuple[bytes, ...]:
        """OpenSSL's path from the client's certificate up, without the anchor; encoded, for others to read."""
        path = self._connection.get_verified_chain() or ()
        encoded = [crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) for certificate in path]
        anchors = self._server.trust_anchors_der
        return (*encoded[:1], *(der for der in encoded[1:] if der not in anchors))

    def _confirm(self, message: bytes) -> MethodStep:
        self._phase = _Phase.ENDED
        if not message:
            if self._success is None or self._pending():
                raise MalformedPacket("TLS data after the handshake")
            return self._success
        # An alert may still come, where the client objects to something at the last moment.
        try:
            self._connection.bio_write(message)
            self._connection.recv(1)
        except SSL.Error as error:
            if error.args:
                return explain(error, self._record)
        raise MalformedPacket("TLS data after the handshake")

    def _pending(self) -> bool:
        """Whether the peer has sent more than its handshake."""
        try:
            self._connection.recv(1)
        except SSL.WantReadError:
            return False
        except SSL.Error:
            return True
        return True

    def _refuse(self, failure: MethodFailure) -> MethodStep:
        alert = self._drain()
        if not alert:
            self._phase = _Phase.ENDED
            return failure
        self._phase = _Phase.REFUSED
        self._refusal = failure
        self._success = None
        return self._send(alert)

    def _drain(self) -> bytes:
        parts = []
        while True:
            try:
                parts.append(self._connection.bio_read(_READ_BYTES))
            except SSL.WantReadError:
                return b"".join(parts)

    def _send(self, message: bytes) -> MethodContinue:
        """Nothing to send means that the peer stopped in the middle of its flight, and may go on."""
        self._outgoing = Fragmenter(message, self._server.fragment_bytes)
        return self._next_fragment(self._outgoing)

    def _next_fragment(self, outgoing: Fragmenter) -> MethodContinue:
        return MethodContinue(outgoing.next(), self._refusal)
