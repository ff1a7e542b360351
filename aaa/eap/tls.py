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
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from OpenSSL import SSL

from aaa.eap.errors import FailureCode, MalformedPacket, SetupError, WrongState
from aaa.eap.method import MSK_BYTES, MethodContinue, MethodFailure, MethodLabel, MethodStep, MethodSuccess
from aaa.eap.packet import EapType
from aaa.eap.questions import Answer
from aaa.eap.tls_link import MAX_RECEIVED_BYTES, TlsLink
from aaa.eap.tls_server import FRAGMENT_BYTES, TlsPrivateKey, TlsServer, TlsVersion

__all__ = [
    "FRAGMENT_BYTES",
    "MAX_RECEIVED_BYTES",
    "EapTlsMethod",
    "EapTlsServer",
    "TlsPrivateKey",
    "TlsVersion",
]

TLS_1_2_LABEL = b"client EAP encryption"
"""RFC 5216 section 2.3."""
_PROTECTED_SUCCESS = b"\x00"


class EapTlsServer(TlsServer):
    """What all conversations share: our certificate and key, and whose clients we trust.

    The verified chain comes back in the verdict, so that the caller can judge for itself, by revocation too, before
    it lets anyone in.

    Args:
        chain_der: as for `TlsServer`, and so the rest.
        private_key: of the first.
        trust_anchors_der: at least one.
        intermediates_der: CAs below the anchors.
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
        if not trust_anchors_der:
            raise SetupError("EAP-TLS needs at least one trust anchor")
        super().__init__(
            chain_der,
            private_key,
            trust_anchors_der,
            intermediates_der=intermediates_der,
            min_version=min_version,
            max_version=max_version,
            fragment_bytes=fragment_bytes,
        )

    def open(self) -> EapTlsMethod:
        """A new conversation."""
        return EapTlsMethod(self)


class _Phase(Enum):
    HANDSHAKE = 1
    CONFIRM = 2
    """All is said, and the peer has to acknowledge it."""
    ENDED = 3


class EapTlsMethod:
    """The server's side of one conversation; made by `EapTlsServer.open`."""

    __slots__ = ("_link", "_phase", "_success")

    eap_type = EapType.TLS
    label: MethodLabel = "eap-tls"

    def __init__(self, server: EapTlsServer) -> None:
        self._link = TlsLink(server)
        self._phase = _Phase.HANDSHAKE
        self._success: MethodSuccess | None = None

    def start(self) -> MethodContinue:
        """The TLS Start."""
        return self._link.start()

    def answer(self, answer: Answer) -> MethodStep:
        """Never called: this method asks nothing.

        Raises:
            WrongState: always.
        """
        raise WrongState("EAP-TLS asks its caller nothing")

    def process(self, data: bytes) -> MethodStep:
        """A fragment of the peer, or its acknowledgement of one of ours.

        Raises:
            MalformedPacket: fragments that don't fit, or data where none is due.
            LimitExceeded: more TLS data than `MAX_RECEIVED_BYTES`.
        """
        message = self._link.take(data)
        if not isinstance(message, bytes):
            return message
        if self._phase is _Phase.CONFIRM:
            return self._confirm(message)
        if self._phase is _Phase.ENDED:
            raise MalformedPacket("TLS data after the end")
        return self._handshake(message)

    def _handshake(self, message: bytes) -> MethodStep:
        link = self._link
        step = link.handshake(message)
        if step is not None:
            return step
        chain = link.verified_chain()
        if not chain:
            return link.refuse(MethodFailure(FailureCode.NO_CLIENT_CERTIFICATE, "the client sent no certificate"))
        try:
            msk = link.key_material(EapType.TLS, TLS_1_2_LABEL)[:MSK_BYTES]
            # TLS 1.3: the promise that no more handshake messages follow (RFC 9190 section 2.5).
            last = link.send(_PROTECTED_SUCCESS if link.is_tls_1_3 else b"")
        except SSL.Error as error:
            return link.refuse(link.explain(error))
        self._success = MethodSuccess(msk, None, chain)
        self._phase = _Phase.CONFIRM
        return last

    def _confirm(self, message: bytes) -> MethodStep:
        self._phase = _Phase.ENDED
        # An alert may still come, where the client objects to something at the last moment.
        late = self._link.read(message)
        if isinstance(late, MethodFailure) and message:
            return late
        if message or late or self._success is None:
            raise MalformedPacket("TLS data after the handshake")
        return self._success
