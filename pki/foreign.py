"""Certificate authorities that are not ours, and the clients that they certify: pure, bounded, for hostile input.

Unlike with our own CA, what a client sends beside its certificate is used: the intermediates of a company's CA
are seldom all known beforehand. Paths are built and checked by `cryptography.x509.verification`: signatures,
dates, CA flags, path length, key usage and extended key usage of each CA, critical extensions, and name constraints
on host names, mail addresses and IP addresses. What it leaves out is done here: it ignores constraints of other
forms unless they are critical, and tries every order of what a hostile peer sends, up to 128 signatures.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from core.settings import TrustedAuthoritySettings
from pki.errors import CertificateRefused
from pki.keys import kind_of
from pki.names import DEVICE_URI_PREFIX, is_device_uri
from pki.peer_certificate import (
    Names,
    PeerCertificate,
    check_critical_extensions,
    check_end_entity,
    check_strength,
    find_extension,
    names_of,
    parse_chain,
)

MOST_INTERMEDIATES = 4
"""Between a client's certificate and the root."""

_PURPOSES = frozenset(
    {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        ExtendedKeyUsageOID.IPSEC_IKE,
    }
)
_CHECKED_CONSTRAINTS = (x509.DNSName, x509.RFC822Name, x509.IPAddress)
"""Forms of name constraints that the library applies."""
_HOLDERS = uuid.UUID("7d8f6f0e-2f0b-4c9c-9a55-0a1d3c1b7e52")
"""The namespace of the ids that holders get whose device is not in the inventory (RFC 9562 section 5.5)."""


@dataclass(frozen=True, slots=True)
class ForeignClient:
    """A certificate that chains to a trusted authority, is in date and may be used. Not yet: revocation."""

    authority: str
    """By its name in the settings."""
    serial: str
    identities: tuple[str, ...]
    subject_der: bytes
    not_after: datetime
    names_user: bool
    user_names: tuple[str, ...]
    """What its user may be called in our directory, the most specific first; empty where it names none."""
    device_names: tuple[str, ...]
    """What its device may be called in our inventory."""
    device_id: str
    """Its device's id in our inventory, where the authority puts that into its certificates; else empty."""
    holder_id: str
    """A UUID that the key of this certificate always gets, for sessions of a device that we don't know."""
    path: tuple[x509.Certificate, ...]
    """From the certificate to the root."""


@dataclass(frozen=True)
class TrustedAuthority:
    """One of `pki.trusted_authorities`, its file read."""

    settings: TrustedAuthoritySettings
    anchors: tuple[x509.Certificate, ...]
    """Its roots."""
    intermediates: tuple[x509.Certificate, ...]
    """CAs below them, for clients that don't send them."""

    @property
    def name(self) -> str:
        """By which settings, audit log and commands call it."""
        return self.settings.name

    @cached_property
    def _policy(self) -> PolicyBuilder:
        """The part of the path check that does not change from sign-in to sign-in."""
        return (
            PolicyBuilder()
            .store(Store(list(self.anchors)))
            .max_chain_depth(MOST_INTERMEDIATES)
            .extension_policies(
                ca_policy=ExtensionPolicy.webpki_defaults_ca(),
                # The end entity's extensions are checked below, where each mistake gets its own code.
                ee_policy=ExtensionPolicy.permit_all(),
            )
        )

    def build_path(
        self, certificate: x509.Certificate, sent: Sequence[x509.Certificate], now: datetime
    ) -> tuple[x509.Certificate, ...]:
        """The path from a certificate to a root.

        Args:
            certificate: the client's own.
            sent: CA certificates that came with it, as `usable_intermediates` leaves them.
            now: the time to judge dates by, aware.

        Raises:
            VerificationError: there is none.
        """
        verifier = self._policy.time(now).build_client_verifier()
        return tuple(verifier.verify(certificate, [*self.intermediates, *sent]).chain)


class ForeignAuthorities:
    """All trusted authorities. Safe to share between threads."""

    def __init__(self, authorities: Sequence[TrustedAuthority]) -> None:
        self._authorities = tuple(authorities)

    def __iter__(self) -> Iterator[TrustedAuthority]:
        return iter(self._authorities)

    def __len__(self) -> int:
        return len(self._authorities)

    @property
    def anchors(self) -> tuple[x509.Certificate, ...]:
        """The roots of all."""
        return tuple(root for authority in self._authorities for root in authority.anchors)

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        """The CAs below them that are known."""
        return tuple(ca for authority in self._authorities for ca in authority.intermediates)

    def named(self, name: str) -> TrustedAuthority:
        """The authority of this name, which a `ForeignClient` has given."""
        return next(authority for authority in self._authorities if authority.name == name)

    def verify(self, chain_der: Sequence[bytes], now: datetime) -> ForeignClient:
        """Check the certificate that a client showed.

        Args:
            chain_der: what the client sent, its own certificate first.
            now: the time to judge dates by, aware.

        Raises:
            CertificateRefused: and nothing else, whatever the bytes are.
        """
        try:
            peer = parse_chain(chain_der)
            check_critical_extensions(peer.extensions)
            # Before any signature is checked with it: what a weak or enormous key costs is bounded here.
            check_strength(peer.certificate.public_key())
            authority, path = self._find_path(peer.certificate, usable_intermediates(chain_der[1:]), now)
            check_end_entity(peer.extensions)
            _check_usage(peer.extensions)
            return _client(authority, peer, path)
        except CertificateRefused:
            raise
        except Exception as error:
            # The parsers have many ways to refuse hostile DER, some of them undocumented; all mean the same.
            raise CertificateRefused("malformed-certificate", f"the certificate can't be read: {error}") from error

    def _find_path(
        self, certificate: x509.Certificate, sent: Sequence[x509.Certificate], now: datetime
    ) -> tuple[TrustedAuthority, tuple[x509.Certificate, ...]]:
        problem = "none of the trusted authorities signed the certificate"
        for authority in self._authorities:
            try:
                path = authority.build_path(certificate, sent, now)
            except VerificationError as error:
                if _is_only_out_of_date(authority, certificate, sent, now):
                    raise _out_of_date(certificate, now) from None
                if _names_issuer(authority, certificate, sent):
                    problem = f"no path to a root of {authority.name}: {str(error)[:300]}"
                continue
            _check_constraints(path)
            return authority, path
        raise CertificateRefused("untrusted-certificate", problem)


def usable_intermediates(chain_der: Sequence[bytes]) -> list[x509.Certificate]:
    """CA certificates that a peer sent beside its own, as far as they may help.

    What can't be read, what is self-issued (roots, which nobody takes from a peer) and a second certificate of one
    name are left out, so that there is one order to try, and so are keys that make a signature check costly.
    """
    usable: dict[x509.Name, x509.Certificate] = {}
    for der in chain_der:
        try:
            certificate = x509.load_der_x509_certificate(der)
            key = certificate.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey):
                kind_of(key)
            if certificate.subject != certificate.issuer:
                usable.setdefault(certificate.subject, certificate)
        except Exception:  # noqa: S112 - see the docstring: what a peer adds may be anything
            continue
    return list(usable.values())[:MOST_INTERMEDIATES]


def own_names(text: str, domains: Sequence[str]) -> tuple[str, ...]:
    """What a name of another CA may be called here: the whole name, and what is left of it in a domain of ours.

    `alice@corp.example` is also `alice`, and `laptop.corp.example` also `laptop`, where `corp.example` is ours.
    """
    name = text.strip().lower()
    if not name or not name.isprintable():
        return ()
    found = [name]
    for domain in domains:
        local = name.removesuffix(f"@{domain}")
        host = name.removesuffix(f".{domain}")
        if local != name and local and "@" not in local:
            found.append(local)
        elif host != name and host and "." not in host and "@" not in host:
            found.append(host)
    return tuple(dict.fromkeys(found))


def _names_issuer(
    authority: TrustedAuthority, certificate: x509.Certificate, sent: Sequence[x509.Certificate]
) -> bool:
    """Whether the certificate, or a CA that was sent with it, says that this authority issued it."""
    issuers = {certificate.issuer, *(between.issuer for between in sent)}
    return any(ca.subject in issuers for ca in (*authority.anchors, *authority.intermediates))


def _is_only_out_of_date(
    authority: TrustedAuthority, certificate: x509.Certificate, sent: Sequence[x509.Certificate], now: datetime
) -> bool:
    """Whether there would be a path at a time within the certificate's dates."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begin <= now <= end or begin > end:
        return False
    try:
        authority.build_path(certificate, sent, end if now > end else begin)
    except VerificationError:
        return False
    return True


def _out_of_date(certificate: x509.Certificate, now: datetime) -> CertificateRefused:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        return CertificateRefused("expired-certificate", f"the certificate expired at {end:%Y-%m-%d %H:%M:%S} UTC")
    return CertificateRefused(
        "not-yet-valid-certificate", f"the certificate is valid from {begin:%Y-%m-%d %H:%M:%S} UTC"
    )


def _check_constraints(path: Sequence[x509.Certificate]) -> None:
    """Refuse below a CA with name constraints that nothing here applies (RFC 5280 section 4.2.1.10)."""
    for ca in path[1:]:
        constraints = _constraints(ca)
        if constraints is None:
            continue
        subtrees = (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ()))
        for subtree in subtrees:
            if not isinstance(subtree, _CHECKED_CONSTRAINTS):
                raise CertificateRefused(
                    "untrusted-certificate",
                    f"the CA {ca.subject.rfc4514_string()[:100]} has name constraints of the form "
                    f"{type(subtree).__name__}, which are not known here",
                )


def _constraints(ca: x509.Certificate) -> x509.NameConstraints | None:
    return find_extension(ca.extensions, x509.NameConstraints)


def _check_usage(extensions: x509.Extensions) -> None:
    """A certificate for signing in: RFC 4945 sections 5.1.3.2 and 5.1.3.12, and clientAuth as in TLS."""
    usage = find_extension(extensions, x509.KeyUsage)
    if usage is not None and not usage.digital_signature and not usage.content_commitment:
        raise CertificateRefused("wrong-usage", "the key usage is not that of a client (digitalSignature)")
    purposes = find_extension(extensions, x509.ExtendedKeyUsage)
    if purposes is not None and _PURPOSES.isdisjoint(purposes):
        raise CertificateRefused("wrong-usage", "the extended key usage is not that of a client (clientAuth)")


_FORMS: dict[str, Callable[[Names], tuple[str, ...]]] = {
    "upn": lambda names: names.principals,
    "mail": lambda names: names.mail,
    "dns": lambda names: names.dns,
    "cn": lambda names: names.common,
    "uri": lambda names: tuple(uri for uri in names.uris if uri.lower().startswith(DEVICE_URI_PREFIX)),
}


def _client(authority: TrustedAuthority, peer: PeerCertificate, path: tuple[x509.Certificate, ...]) -> ForeignClient:
    names = names_of(peer.certificate, peer.extensions)
    if any(_constraints(ca) is not None for ca in path[1:]):
        # A common name is bound by no constraint on host names or mail addresses: such a CA can't vouch for it.
        names = replace(names, common=(), in_order=names.in_order[len(names.common) :])
    settings = authority.settings
    user = _only(names, settings.user_from, "user")
    device = _only(names, settings.device_from, "device")
    if user is None and device is None:
        wanted = " and no ".join(form for form in (settings.user_from, settings.device_from) if form)
        raise CertificateRefused("wrong-usage", f"the certificate has no {wanted} that names its holder")
    device_id = ""
    if settings.device_from == "uri" and device is not None:
        if not is_device_uri(device):
            raise CertificateRefused("wrong-usage", "the certificate's urn:uuid: is no UUID")
        device_id = device.removeprefix(DEVICE_URI_PREFIX)
    spki = peer.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return ForeignClient(
        authority=authority.name,
        serial=peer.serial,
        identities=names.in_order,
        subject_der=peer.subject_der,
        not_after=peer.certificate.not_valid_after_utc,
        names_user=user is not None,
        user_names=own_names(user, settings.domains) if user is not None else (),
        device_names=own_names(device, settings.domains) if device is not None and not device_id else (),
        device_id=device_id,
        holder_id=str(uuid.uuid5(_HOLDERS, f"{authority.name}:{hashlib.sha256(spki).hexdigest()}")),
        path=path,
    )


def _only(names: Names, form: str | None, what: str) -> str | None:
    """The one name of a form; None where none is asked for, or there is none.

    Raises:
        CertificateRefused: there are several, and nobody could say which one counts.
    """
    if form is None:
        return None
    values = {value.strip().lower(): value for value in _FORMS[form](names)}
    if len(values) > 1:
        raise CertificateRefused("wrong-usage", f"the certificate names more than one {what} ({form})")
    return next(iter(values.values()), None)
