"""A small certificate authority for the tests of EAP-TLS, which can also make what a good one would not."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aaa.eap.tls import TlsPrivateKey

NOW = datetime.now(UTC)
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, and what was above it."""

    certificate: x509.Certificate
    key: TlsPrivateKey
    issuers: tuple[x509.Certificate, ...]

    @property
    def der(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def chain(self) -> list[bytes]:
        """The certificate and its intermediates, without the root."""
        return [self.der, *(c.public_bytes(Encoding.DER) for c in self.issuers[:-1])]


def issue(
    name: str,
    issuer: Issued | None = None,
    *,
    ca: bool = False,
    usage: x509.ObjectIdentifier | None = None,
    key: TlsPrivateKey | None = None,
    not_before: datetime = NOW - timedelta(days=1),
    not_after: datetime = NOW + timedelta(days=30),
    padding_bytes: int = 0,
    names: Sequence[x509.GeneralName] = (),
) -> Issued:
    """A certificate; self-signed without an issuer. `padding_bytes` makes it as long as one likes."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if ca:
        can_sign = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(can_sign, critical=True)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if padding_bytes:
        filler = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), bytes(padding_bytes))
        builder = builder.add_extension(filler, critical=False)
    if issuer is not None:
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(above, critical=False)
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    return Issued(certificate, key, (issuer.certificate, *issuer.issuers) if issuer else ())


@functools.cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Slow to make, so made once."""
    return rsa.generate_private_key(65537, bits)


@dataclass(frozen=True)
class House:
    """The certificates of one installation."""

    root: Issued
    issuing: Issued
    gateway: Issued
    laptop: Issued


@functools.cache
def house() -> House:
    """Root, issuing CA, gateway and one device, all ECDSA P-256."""
    root = issue("Test root", ca=True)
    issuing = issue("Test issuing CA", root, ca=True)
    return House(
        root,
        issuing,
        issue("gateway.example", issuing, usage=SERVER),
        issue("laptop-1", issuing, usage=CLIENT),
    )
