"""What all TLS conversations of the EAP server share: the certificate, the key, and the rules of the handshake.

TLS itself is OpenSSL's, through memory buffers. It brings its own random numbers and reads the clock itself
for the dates of certificates; nothing else in this package does.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from OpenSSL import SSL, crypto

from aaa.eap.errors import SetupError
from aaa.eap.tls_failures import VerifyRecord

TlsPrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

FRAGMENT_BYTES = 1024
"""TLS data in one packet: with IKE, UDP and IPv6 around it, it still fits the 1280 bytes of the smallest path."""

_MAX_CHAIN_DEPTH = 5
# Ephemeral key exchange and AEAD; security level 2 refuses RSA below 2048 bits and SHA-1 signatures.
_TLS_1_2_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
_TLS_1_3_CIPHERS = b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"


class TlsVersion(IntEnum):
    """Those that TLS inside EAP is spoken with here."""

    TLS_1_2 = SSL.TLS1_2_VERSION
    TLS_1_3 = SSL.TLS1_3_VERSION


class TlsServer:
    """Our certificate and key, and whose clients we trust, if clients are to have certificates.

    With trust anchors, a client certificate is demanded, and has to verify to one of them, be within its dates and
    be meant for clients: that is OpenSSL's judgement, without which no handshake succeeds. Without them, as for the
    methods that only want a tunnel, the client is asked for none.

    There is no resumption: TLS 1.2 tickets are off, and those that OpenSSL insists on sending with TLS 1.3
    name a session that is not kept, so that who the client is, is asked every time.

    Args:
        chain_der: our certificate and its intermediates, end entity first, without the root.
        private_key: of the first.
        trust_anchors_der: the roots that client certificates have to come from; their names are sent to the client.
        intermediates_der: CAs below the anchors, for clients that send no more than their own certificate.
        min_version: the oldest TLS version that is spoken.
        max_version: the newest.
        fragment_bytes: TLS data in one packet at most.

    Raises:
        SetupError: a certificate or key that OpenSSL can't use, or a key of another certificate.
    """

    def __init__(
        self,
        chain_der: Sequence[bytes],
        private_key: TlsPrivateKey,
        trust_anchors_der: Sequence[bytes] = (),
        *,
        intermediates_der: Sequence[bytes] = (),
        min_version: TlsVersion = TlsVersion.TLS_1_2,
        max_version: TlsVersion = TlsVersion.TLS_1_3,
        fragment_bytes: int = FRAGMENT_BYTES,
    ) -> None:
        if not chain_der:
            raise SetupError("TLS inside EAP needs a certificate of its own")
        if fragment_bytes < 1:
            raise SetupError("fragments of TLS inside EAP hold at least one byte")
        self.fragment_bytes = fragment_bytes
        self.trust_anchors_der = frozenset(trust_anchors_der)
        try:
            self._context = _make_context(chain_der, private_key)
            if trust_anchors_der:
                _demand_certificate(self._context, trust_anchors_der, intermediates_der)
            self._context.set_min_proto_version(min_version)
            self._context.set_max_proto_version(max_version)
        except (SSL.Error, crypto.Error, ValueError) as error:
            raise SetupError(f"TLS inside EAP can't use its certificate, key or trust anchors: {error}") from error

    def connect(self, record: VerifyRecord) -> SSL.Connection:
        """A new connection, which writes into `record` what it objects to in a client's certificate."""
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(record)
        connection.set_accept_state()
        return connection


def _make_context(chain_der: Sequence[bytes], private_key: TlsPrivateKey) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    end_entity, *intermediates = (x509.load_der_x509_certificate(der) for der in chain_der)
    context.use_certificate(end_entity)
    for certificate in intermediates:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(private_key)
    context.check_privatekey()
    context.set_cipher_list(_TLS_1_2_CIPHERS)
    context.set_tls13_ciphersuites(_TLS_1_3_CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(
        SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def _demand_certificate(
    context: SSL.Context, trust_anchors_der: Sequence[bytes], intermediates_der: Sequence[bytes]
) -> None:
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


def _note_verification(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """OpenSSL's verdict on one certificate stands as it is; an objection is written down for the operator."""
    record = connection.get_app_data()
    if not ok and isinstance(record, VerifyRecord) and record.error == SSL.X509VerificationCodes.OK:
        record.error = error
        record.depth = depth
        record.certificate_der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
    return bool(ok)
