"""EAP-TLS against another TLS: Python's own `ssl`, on the system's OpenSSL, which knows nothing of exporters.

The MSK is worked out here from its key log, by the formulas of the RFCs, without any exporter.
"""

import hashlib
import hmac
import ssl
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from aaa.eap.packet import EapPacket, EapType
from aaa.eap.tls import EapTlsServer
from aaa.eap.tls_fragments import Reassembler, split_fragment
from tests.peers.eap import TlsPeer
from tests.unit.aaa.eap.authority import House, house
from tests.unit.aaa.eap.conversation import Conversation, tls_server, tls_sign_in


class StandardLibraryPeer(TlsPeer):
    """EAP-TLS by `ssl.SSLObject`; it has no exporter, so that `msk` is only a sign that it is content."""

    def __init__(self, here: House, version: ssl.TLSVersion, folder: Path) -> None:
        super().__init__("x", [], None, [here.root.der])
        self.key_log = folder / "keys"
        certificates, key = folder / "chain.pem", folder / "key.pem"
        certificates.write_bytes(
            b"".join(c.public_bytes(Encoding.PEM) for c in (here.laptop.certificate, here.issuing.certificate))
        )
        key.write_bytes(here.laptop.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(certificates, key)
        context.load_verify_locations(cadata=here.root.certificate.public_bytes(Encoding.PEM).decode())
        context.check_hostname = False
        context.keylog_filename = str(self.key_log)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out)

    def advance(self, message: bytes) -> bytes:
        self._in.write(message)
        try:
            self._tls.do_handshake()
            if self._tls.version() == "TLSv1.2" or self._tls.read(10) == b"\0":
                self.msk = b"content"
        except ssl.SSLWantReadError:
            pass
        return self._out.read()

    def logged(self, label: str) -> bytes:
        lines = [line.split() for line in self.key_log.read_text().splitlines()]
        (secret,) = [line[2] for line in lines if line[0] == label]
        return bytes.fromhex(secret)


def hello_random(packets: list[bytes]) -> bytes:
    """The random value in the ClientHello or ServerHello with which the TLS data of these packets begins.

    Layout: record header 5, handshake header 4, version 2, random 32 (RFC 5246 section 7.4.1).
    """
    reassembler = Reassembler(65536)
    for packet in map(EapPacket.parse, packets):
        if packet.type == EapType.TLS and len(packet.data) > 1:
            message = reassembler.add(*split_fragment(packet.data))
            if message is not None:
                return message[11:43]
    raise AssertionError("no hello")


def sign_in(version: ssl.TLSVersion, folder: Path, server: EapTlsServer) -> tuple[Conversation, StandardLibraryPeer]:
    peer = StandardLibraryPeer(house(), version, folder)
    done = tls_sign_in(peer, server)
    assert peer.succeeded
    assert done.authenticated.chain_der == (house().laptop.der, house().issuing.der)
    return done, peer


def test_msk_of_tls_1_2(tmp_path: Path) -> None:
    done, peer = sign_in(ssl.TLSVersion.TLSv1_2, tmp_path, tls_server())
    assert peer._tls.cipher() == ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2", 256)
    master = peer.logged("CLIENT_RANDOM")
    # RFC 5216 section 2.3: PRF(master secret, label, client random | server random), here with SHA-384.
    seed = b"client EAP encryption" + hello_random(done.responses) + hello_random(done.requests)
    a, stream = seed, b""
    while len(stream) < 128:
        a = hmac.digest(master, a, "sha384")
        stream += hmac.digest(master, a + seed, "sha384")
    assert done.authenticated.msk == stream[:64]


def test_msk_of_tls_1_3(tmp_path: Path) -> None:
    done, peer = sign_in(ssl.TLSVersion.TLSv1_3, tmp_path, tls_server())
    assert peer._tls.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)

    def expand_label(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
        """HKDF-Expand-Label (RFC 8446 section 7.1)."""
        label = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes((len(label),)) + label + bytes((len(context),)) + context
        return HKDFExpand(hashes.SHA384(), length, info).derive(secret)

    # RFC 9190 section 2.3 and RFC 8446 section 7.5: the context is the method's type.
    exporter = peer.logged("EXPORTER_SECRET")
    secret = expand_label(exporter, b"EXPORTER_EAP_TLS_Key_Material", hashlib.sha384(b"").digest(), 48)
    material = expand_label(secret, b"exporter", hashlib.sha384(b"\x0d").digest(), 128)
    assert done.authenticated.msk == material[:64]
