"""What each kind of certificate of ours is, declared once: issuance builds from it and lint checks against it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku

from pki.keys import KeyKind

ProfileName = Literal["root", "issuing", "gateway", "portal", "radius", "device"]
SystemProfileName = Literal["gateway", "portal", "radius"]

IKE_INTERMEDIATE = x509.ObjectIdentifier("1.3.6.1.5.5.8.2.2")
"""The old IPsec usage that some clients look for beside serverAuth."""

BACKDATE = timedelta(minutes=2)
"""A new certificate begins this much in the past, for clients whose clock is a little slow."""

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of certificate. A certificate of it has exactly the extensions that follow from these fields."""

    name: ProfileName
    key_kinds: frozenset[KeyKind]
    max_lifetime: timedelta
    """From not_before to not_after."""
    extended_key_usages: tuple[x509.ObjectIdentifier, ...] = ()
    """None means no such extension."""
    san_forms: tuple[type[x509.GeneralName], ...] = ()
    """Forms of subjectAltName that may occur; none means no such extension."""
    required_san_forms: tuple[type[x509.GeneralName], ...] = ()
    names_device: bool = False
    """Carries exactly one URI, `urn:uuid:` and the device's id."""
    address_as_dns_name: bool = False
    """Addresses stand in a dNSName too, where Windows looks for them."""
    path_length: int | None = None
    """Set for a CA: how many CAs may stand below it."""
    signs_ocsp: bool = False
    """Set for a CA that signs OCSP responses itself."""

    @property
    def is_ca(self) -> bool:
        """Whether certificates of this profile sign others."""
        return self.path_length is not None

    def key_usage(self, kind: KeyKind) -> x509.KeyUsage:
        """The key usage for a key of this kind."""
        return x509.KeyUsage(
            # The issuing CA signs OCSP responses too, which are neither certificates nor CRLs.
            digital_signature=not self.is_ca or self.signs_ocsp,
            # TLS 1.2 clients without (EC)DHE and some IKE clients want it of an RSA server key.
            key_encipherment=kind is KeyKind.RSA and Eku.SERVER_AUTH in self.extended_key_usages and not self.is_ca,
            key_cert_sign=self.is_ca,
            crl_sign=self.is_ca,
            content_commitment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )


_OWN_KEYS = frozenset({KeyKind.RSA, KeyKind.P256, KeyKind.P384})

ROOT = Profile(name="root", key_kinds=_OWN_KEYS, max_lifetime=7300 * _DAY, path_length=1)

ISSUING = Profile(
    name="issuing",
    key_kinds=_OWN_KEYS,
    max_lifetime=3650 * _DAY,
    # Bounds what a stolen issuing key is good for: nothing signs code or mail under a root that employees trust.
    extended_key_usages=(Eku.SERVER_AUTH, Eku.CLIENT_AUTH, IKE_INTERMEDIATE),
    path_length=0,
    signs_ocsp=True,
)

GATEWAY = Profile(
    name="gateway",
    key_kinds=_OWN_KEYS | {KeyKind.ED25519},
    max_lifetime=397 * _DAY,
    extended_key_usages=(Eku.SERVER_AUTH, IKE_INTERMEDIATE),
    san_forms=(x509.DNSName, x509.IPAddress),
    required_san_forms=(x509.DNSName,),
    address_as_dns_name=True,
)

PORTAL = Profile(
    name="portal",
    key_kinds=_OWN_KEYS,
    max_lifetime=397 * _DAY,
    extended_key_usages=(Eku.SERVER_AUTH,),
    san_forms=(x509.DNSName, x509.IPAddress),
)

RADIUS = Profile(
    name="radius",
    key_kinds=_OWN_KEYS,
    max_lifetime=397 * _DAY,
    extended_key_usages=(Eku.SERVER_AUTH,),
    san_forms=(x509.DNSName,),
    required_san_forms=(x509.DNSName,),
)

DEVICE = Profile(
    name="device",
    key_kinds=frozenset(KeyKind),
    max_lifetime=397 * _DAY,
    extended_key_usages=(Eku.CLIENT_AUTH,),
    san_forms=(x509.UniformResourceIdentifier, x509.DNSName, x509.RFC822Name),
    required_san_forms=(x509.UniformResourceIdentifier,),
    names_device=True,
)

SYSTEM_PROFILES: dict[SystemProfileName, Profile] = {"gateway": GATEWAY, "portal": PORTAL, "radius": RADIUS}
ALL_PROFILES = (ROOT, ISSUING, GATEWAY, PORTAL, RADIUS, DEVICE)
