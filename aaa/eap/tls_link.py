"""One TLS connection inside EAP: its fragments, its handshake, its alerts, its keys.

What the methods that are made of TLS have in common; each of them says for itself what the handshake is followed by.
"""

from __future__ import annotations

from OpenSSL import SSL, crypto

from aaa.eap.errors import FailureCode, MalformedPacket
from aaa.eap.method import MethodContinue, MethodFailure, MethodStep
from aaa.eap.tls_failures import VerifyRecord, explain
from aaa.eap.tls_fragments import ACKNOWLEDGEMENT, START, Fragmenter, Reassembler, split_fragment
from aaa.eap.tls_server import TlsServer, TlsVersion

MAX_RECEIVED_BYTES = 64 * 1024
"""TLS data taken of a peer in one conversation; a client with a long RSA chain sends some 6 KiB."""
KEY_MATERIAL_BYTES = 128
"""What the key derivations of RFC 5216, 5281, 9190 and 9427 export: MSK, then EMSK."""

_READ_BYTES = 32 * 1024
_TLS_1_3_LABEL = b"EXPORTER_EAP_TLS_Key_Material"


class TlsLink:
    """The server's end.

    Args:
        server: what all connections share.
    """

    __slots__ = ("_connection", "_incoming", "_outgoing", "_record", "_refusal", "_refused", "_server", "established")

    def __init__(self, server: TlsServer) -> None:
        self._server = server
        self._record = VerifyRecord()
        self._connection = server.connect(self._record)
        self._incoming = Reassembler(MAX_RECEIVED_BYTES)
        self._outgoing: Fragmenter | None = None
        self._refusal: MethodFailure | None = None
        self._refused = False
        self.established = False
        """Whether the handshake is complete."""

    def start(self) -> MethodContinue:
        """The TLS Start."""
        return MethodContinue(bytes((START,)))

    @property
    def is_tls_1_3(self) -> bool:
        """Which of the two versions it became."""
        return self._connection.get_protocol_version() == TlsVersion.TLS_1_3

    def take(self, data: bytes) -> bytes | MethodContinue | MethodFailure:
        """The type data of a response: the peer's whole TLS message, which may be empty, or what comes before
        there is one: our next fragment, an acknowledgement, the verdict after our alert.

        Raises:
            MalformedPacket: fragments that don't fit, or an answer where an acknowledgement is due.
            LimitExceeded: more than `MAX_RECEIVED_BYTES`.
        """
        flags, total, part = split_fragment(data)
        if flags & START:
            raise MalformedPacket("TLS Start from the peer")
        if self._outgoing is not None and not self._outgoing.done:
            if part:
                raise MalformedPacket("TLS data where the acknowledgement of a fragment is due")
            return self._next_fragment(self._outgoing)
        if self._refusal is not None:
            if self._refused:
                raise MalformedPacket("TLS data after the end")
            # Whatever it says to our alert, the verdict is out.
            self._refused = True
            return self._refusal
        message = self._incoming.add(flags, total, part)
        return MethodContinue(ACKNOWLEDGEMENT) if message is None else message

    def handshake(self, message: bytes) -> MethodStep | None:
        """Carry the handshake on: what to answer, or None once it is complete, when `send` sends what is left of it.

        Raises:
            MalformedPacket: an empty message.
        """
        if not message:
            raise MalformedPacket("empty TLS message where one of the handshake is due")
        try:
            self._connection.bio_write(message)
            self._connection.do_handshake()
        except SSL.WantReadError:
            return self.send()
        except SSL.Error as error:
            return self.refuse(self.explain(error))
        self.established = True
        return None

    def read(self, message: bytes = b"") -> bytes | MethodFailure:
        """The peer's application data: of this message, or what came along with the last one of the handshake."""
        parts: list[bytes] = []
        try:
            if message:
                self._connection.bio_write(message)
            while True:
                parts.append(self._connection.recv(_READ_BYTES))
        except SSL.WantReadError:
            return b"".join(parts)
        except SSL.ZeroReturnError:
            return MethodFailure(FailureCode.CLIENT_REFUSED_SERVER, "the client closed the TLS tunnel")
        except SSL.Error as error:
            return self.explain(error)

    def send(self, application_data: bytes = b"", *, refusal: MethodFailure | None = None) -> MethodContinue:
        """What TLS has to say, and this under its protection.

        Nothing to send means that the peer stopped in the middle of its flight, and may go on.

        Args:
            application_data: of ours.
            refusal: the verdict that this only tells the peer about; `take` brings it after the peer's answer.
        """
        self._refusal = refusal
        if application_data:
            self._connection.sendall(application_data)
        self._outgoing = Fragmenter(self._drain(), self._server.fragment_bytes)
        return self._next_fragment(self._outgoing)

    def refuse(self, failure: MethodFailure) -> MethodStep:
        """Tell the peer by the alert that OpenSSL made, if it made one (RFC 5216 section 2.1.3)."""
        alert = self._drain()
        if not alert:
            return failure
        self._refusal = failure
        self._outgoing = Fragmenter(alert, self._server.fragment_bytes)
        return self._next_fragment(self._outgoing)

    def export(self, label: bytes, size: int, context: bytes | None = None) -> bytes:
        """Keying material (RFC 5705; RFC 8446 section 7.5, where `size` is part of what it is derived from)."""
        return self._connection.export_keying_material(label, size, context)

    def key_material(self, eap_type: int, tls_1_2_label: bytes) -> bytes:
        """MSK and EMSK: by the label with TLS 1.3, as RFC 9190 section 2.3 and RFC 9427 section 2.1 have it.

        Args:
            eap_type: of the method.
            tls_1_2_label: the method's own, for TLS 1.2.
        """
        if self.is_tls_1_3:
            return self.export(_TLS_1_3_LABEL, KEY_MATERIAL_BYTES, bytes((eap_type,)))
        return self.export(tls_1_2_label, KEY_MATERIAL_BYTES)

    def verified_chain(self) -> tuple[bytes, ...]:
        """OpenSSL's path from the client's certificate up, without the anchor; encoded, for others to read."""
        path = self._connection.get_verified_chain() or ()
        encoded = [crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) for certificate in path]
        anchors = self._server.trust_anchors_der
        return (*encoded[:1], *(der for der in encoded[1:] if der not in anchors))

    def explain(self, error: SSL.Error) -> MethodFailure:
        """What a failure of TLS means."""
        return explain(error, self._record)

    def _drain(self) -> bytes:
        parts = []
        while True:
            try:
                parts.append(self._connection.bio_read(_READ_BYTES))
            except SSL.WantReadError:
                return b"".join(parts)

    def _next_fragment(self, outgoing: Fragmenter) -> MethodContinue:
        return MethodContinue(outgoing.next(), self._refusal)
