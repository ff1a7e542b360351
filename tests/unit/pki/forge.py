"""A CA for tests that signs whatever it is told to, right or wrong, and also bytes that are no certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificatePublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
DEVICE_ID = "0b8e7a3c-5d0e-4a57-9d0b-3c1f0a2b4c5d"
DEVICE_KEY = ec.generate_private_key(ec.SECP256R1())
Extension = tuple[x509.ExtensionType, bool]


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def key_usage(**changes: bool) -> x509.KeyUsage:
    flags = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
            "key_cert_sign",
            "digital_signature",
        ),
        False,
    )
    return x509.KeyUsage(**{**flags, **changes})


def ca_extensions(path_length: int | None) -> list[Extension]:
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (key_usage(key_cert_sign=True, crl_sign=True), True),
    ]


def device_san(*names: x509.GeneralName) -> Extension:
    uri = x509.UniformResourceIdentifier(f"urn:uuid:{DEVICE_ID}")
    return x509.SubjectAlternativeName([uri, *names]), False


def device_extensions(**replaced: Extension | None) -> list[Extension]:
    """Those of a good device certificate; `san=None` leaves one out, `san=...` replaces it."""
    usual: dict[str, Extension | None] = {
        "constraints": (x509.BasicConstraints(ca=False, path_length=None), True),
        "usage": (key_usage(digital_signature=True), True),
        "purposes": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        "san": device_san(),
    }
    return [extension for extension in {**usual, **replaced}.values() if extension is not None]


@dataclass
class Signer:
    """A key and the certificate that goes with it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def certify(
        self,
        subject: x509.Name,
        public_key: CertificatePublicKeyTypes,
        extensions: Sequence[Extension],
        *,
        begin: datetime = NOW - DAY,
        end: datetime = NOW + DAY,
        serial: int = 0x1234567890ABCDEF,
        key: CertificateIssuerPrivateKeyTypes | None = None,
    ) -> x509.Certificate:
        return certify(
            self.certificate.subject,
            key or self.key,
            subject,
            public_key,
            extensions,
            begin=begin,
            end=end,
            serial=serial,
        )

    def ca(
        self,
        common_name: str,
        path_length: int | None = None,
        *,
        begin: datetime = NOW - 9 * DAY,
        end: datetime = NOW + 9 * DAY,
    ) -> Signer:
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = ca_extensions(path_length)
        return Signer(self.certify(name(common_name), key.public_key(), extensions, begin=begin, end=end), key)

    def device(
        self,
        common_name: str = "alice-laptop",
        public_key: CertificatePublicKeyTypes | None = None,
        *,
        extra: Sequence[Extension] = (),
        begin: datetime = NOW - DAY,
        end: datetime = NOW + DAY,
        **replaced: Extension | None,
    ) -> bytes:
        return self.certify(
            name(common_name),
            public_key or DEVICE_KEY.public_key(),
            [*device_extensions(**replaced), *extra],
            begin=begin,
            end=end,
        ).public_bytes(Encoding.DER)

    def sign_bytes(self, to_be_signed: bytes) -> bytes:
        """Any bytes as a certificate with a right signature (ecdsa-with-SHA256)."""
        signature = self.key.sign(to_be_signed, ec.ECDSA(hashes.SHA256()))
        algorithm = bytes.fromhex("300a06082a8648ce3d040302")
        return der_tlv(0x30, to_be_signed + algorithm + der_tlv(0x03, b"\0" + signature))


def certify(
    issuer: x509.Name,
    key: CertificateIssuerPrivateKeyTypes,
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    extensions: Sequence[Extension],
    *,
    begin: datetime,
    end: datetime,
    serial: int = 0x1234567890ABCDEF,
) -> x509.Certificate:
    builder = x509.CertificateBuilder(issuer, subject, public_key, serial, begin, end)
    identifiers: list[Extension] = [(x509.SubjectKeyIdentifier.from_public_key(public_key), False)]
    for extension, critical in [*extensions, *identifiers]:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256())


def self_signed(common_name: str, path_length: int | None = 1) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    own = name(common_name)
    certificate = certify(
        own, key, own, key.public_key(), ca_extensions(path_length), begin=NOW - 9 * DAY, end=NOW + 9 * DAY
    )
    return Signer(certificate, key)


@dataclass
class Forge:
    """A root and an issuing CA."""

    root: Signer = field(default_factory=lambda: self_signed("Test Root"))
    issuing: Signer = field(init=False)

    def __post_init__(self) -> None:
        self.issuing = self.root.ca("Test Issuing", 0)


def der_tlv(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content
