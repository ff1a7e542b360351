"""Another company's PKI for tests: a root, an issuing CA, clients, and whatever a peer may send instead of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from core.settings import TrustedAuthoritySettings
from pki.foreign import ForeignAuthorities, TrustedAuthority
from pki.peer_certificate import UPN
from tests.unit.pki.forge import DEVICE_KEY, Extension, Signer, key_usage, name, self_signed

CLIENT_AUTH: Extension = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
END_ENTITY: Extension = (x509.BasicConstraints(ca=False, path_length=None), True)
SIGNS: Extension = (key_usage(digital_signature=True), True)


def principal(text: str) -> x509.OtherName:
    """A user principal name."""
    encoded = text.encode()
    return x509.OtherName(UPN, b"\x0c" + bytes((len(encoded),)) + encoded)


def alternative(*names: x509.GeneralName) -> Extension:
    """A subjectAltName."""
    return x509.SubjectAlternativeName(names), False


def access(*urls: str) -> Extension:
    """An authorityInfoAccess with OCSP responders."""
    return (
        x509.AuthorityInformationAccess(
            [
                x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))
                for url in urls
            ]
        ),
        False,
    )


def points(*urls: str) -> Extension:
    """A cRLDistributionPoints, one point for each URL."""
    return (
        x509.CRLDistributionPoints(
            [x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None) for url in urls]
        ),
        False,
    )


def user_certificate(
    signer: Signer,
    *extra: Extension,
    names: Sequence[x509.GeneralName] = (principal("alice@corp.example"),),
    common_name: str = "Alice Adams",
    public_key: CertificatePublicKeyTypes | None = None,
    usual: Sequence[Extension] = (END_ENTITY, SIGNS, CLIENT_AUTH),
    **changes: Any,
) -> x509.Certificate:
    """A client's certificate as a company's CA issues it."""
    extensions = [*usual, *([alternative(*names)] if names else []), *extra]
    key = public_key or DEVICE_KEY.public_key()
    return signer.certify(name(common_name), key, extensions, **changes)


def ca_below(signer: Signer, common_name: str, *extensions: Extension) -> Signer:
    """A CA with exactly these extensions."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Signer(signer.certify(name(common_name), key.public_key(), extensions), key)


def der(*certificates: x509.Certificate | Signer) -> list[bytes]:
    """A chain as it is sent."""
    plain = (one.certificate if isinstance(one, Signer) else one for one in certificates)
    return [certificate.public_bytes(Encoding.DER) for certificate in plain]


def trusted(root: Signer, *intermediates: Signer, name: str = "corporate", **settings: Any) -> TrustedAuthority:
    """An authority as `pki.trust` would load it."""
    settings = {"user_from": "upn", "domains": ("corp.example",), **settings}
    return TrustedAuthority(
        TrustedAuthoritySettings(name=name, file=Path("/corporate.pem"), **settings),
        (root.certificate,),
        tuple(ca.certificate for ca in intermediates),
    )


def authorities(*trusted_authorities: TrustedAuthority) -> ForeignAuthorities:
    """Several of them."""
    return ForeignAuthorities(trusted_authorities)


def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """A PEM file."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


class Company:
    """A root and an issuing CA."""

    def __init__(self, title: str = "Corporate") -> None:
        self.root = self_signed(f"{title} Root", None)
        self.issuing = self.root.ca(f"{title} Issuing", 0)
