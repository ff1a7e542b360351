"""A certificate authority of the lab, for strongSwan gateways and for certificates that the product must refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.lab.processes import LabError

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
KeyKind = Literal["p256", "p384", "rsa2048", "rsa4096", "ed25519"]
_DAY = timedelta(days=1)
_PURPOSES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "ocsp": ExtendedKeyUsageOID.OCSP_SIGNING,
}


def new_key(kind: KeyKind = "p256") -> PrivateKey:
    """A fresh private key."""
    match kind:
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "rsa2048":
            return rsa.generate_private_key(65537, 2048)
        case "rsa4096":
            return rsa.generate_private_key(65537, 4096)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()


def key_pem(key: PrivateKey) -> str:
    """PKCS#8, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def certificate_pem(certificate: x509.Certificate) -> str:
    """PEM text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key and the certificates between it and the root."""

    certificate: x509.Certificate
    key: PrivateKey
    intermediates: tuple[x509.Certificate, ...] = ()


def load_identity(certificate_file: Path, key_file: Path) -> Identity:
    """The identity in two PEM files: the certificates, end entity first, and the private key."""
    certificate, *intermediates = x509.load_pem_x509_certificates(certificate_file.read_bytes())
    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    if not isinstance(key, PrivateKey):
        raise LabError(f"{key_file}: a key of another kind")
    return Identity(certificate, key, tuple(intermediates))


@dataclass(frozen=True, slots=True)
class LabAuthority:
    """A root, or an authority below one."""

    certificate: x509.Certificate
    key: PrivateKey
    chain: tuple[x509.Certificate, ...] = ()
    """From this authority up to, but without, the root."""

    @classmethod
    def root(cls, name: str = "Lab Root", kind: KeyKind = "p256") -> Self:
        """A new self-signed root."""
        key = new_key(kind)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = _builder(subject, subject, key, now() - _DAY, now() + 365 * _DAY)
        return cls(_as_authority(certificate).sign(key, _hash_for(key)), key)

    def below(self, name: str, *extensions: x509.ExtensionType, kind: KeyKind = "p256") -> Self:
        """A new authority that this one certifies."""
        key = new_key(kind)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self.certificate.subject, key, now() - _DAY, now() + 365 * _DAY)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        certificate = _as_authority(builder).sign(self.key, _hash_for(self.key))
        return type(self)(certificate, key, (certificate, *self.chain))

    def issue(
        self,
        common_name: str,
        names: Sequence[x509.GeneralName],
        *extensions: x509.ExtensionType,
        usage: Literal["server", "client", "ocsp"],
        key: PrivateKey | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Identity:
        """An end-entity certificate, valid from yesterday for a year unless dates are given.

        Args:
            common_name: of the subject.
            names: alternative names.
            extensions: more of them, not critical.
            usage: what it is for; `ocsp` is a responder of this authority.
            key: an old one.
            not_before: when it begins.
            not_after: when it ends.
        """
        key = key or new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        start = not_before or now() - _DAY
        builder = _builder(subject, self.certificate.subject, key, start, not_after or start + 365 * _DAY)
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_PURPOSES[usage]]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return Identity(builder.sign(self.key, _hash_for(self.key)), key, self.chain)


def now() -> datetime:
    """The time now, as certificates count it."""
    return datetime.now(UTC).replace(microsecond=0)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _as_authority(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).add_extension(
        _key_usage(digital_signature=False, sign_certificates=True), critical=True
    )


def _key_usage(*, digital_signature: bool, sign_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _hash_for(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
