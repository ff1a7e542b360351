"""Where a certificate says that its revocation can be looked up: URLs, few of them, for `http` and `https` only."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from pki.peer_certificate import find_extension

MOST_URLS = 3
"""Of each kind; more are not asked."""
LONGEST_URL = 1024

_SCHEMES = ("http://", "https://")


def ocsp_urls(certificate: x509.Certificate) -> tuple[str, ...]:
    """The OCSP responders of a certificate (RFC 5280 section 4.2.2.1)."""
    try:
        access = find_extension(certificate.extensions, x509.AuthorityInformationAccess) or ()
        locations = [
            item.access_location for item in access if item.access_method == AuthorityInformationAccessOID.OCSP
        ]
    except ValueError:
        return ()
    return _usable(locations)


def crl_urls(certificate: x509.Certificate) -> tuple[str, ...]:
    """The CRLs of a certificate (RFC 5280 section 4.2.1.13): whole ones, of the CA itself."""
    try:
        points = find_extension(certificate.extensions, x509.CRLDistributionPoints) or ()
    except ValueError:
        return ()
    # A point with reasons is for these only, and one with an issuer is for an indirect CRL: neither is enough.
    whole = [point for point in points if not point.reasons and not point.crl_issuer]
    return _usable(name for point in whole for name in point.full_name or ())


def _usable(names: Iterable[x509.GeneralName]) -> tuple[str, ...]:
    urls = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    usable = [url for url in urls if len(url) <= LONGEST_URL and url.lower().startswith(_SCHEMES)]
    return tuple(dict.fromkeys(usable))[:MOST_URLS]
