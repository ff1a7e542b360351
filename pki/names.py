"""Names in certificates: the forms we write, and the canonical form in which two are compared."""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Iterable
from ipaddress import ip_address

from cryptography import x509
from cryptography.x509.oid import NameOID

from pki.errors import PkiError

MAXIMUM_COMMON_NAME = 64
"""ub-common-name of X.520."""
DEVICE_DOMAIN = "devices.ostiary.internal"
DEVICE_URI_PREFIX = "urn:uuid:"

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_MAILBOX = re.compile(rf"(?=.{{1,254}}\Z)(?=.{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")

CanonicalName = tuple[frozenset[tuple[str, str]], ...]


def is_host_name(text: str) -> bool:
    """Letters, digits and hyphens in labels of at most 63, 253 in all (RFC 1123 section 2.1); one label will do."""
    return _HOST_NAME.fullmatch(text) is not None


def is_mailbox(text: str) -> bool:
    """An address that an rfc822Name can hold without quoting (RFC 5280 section 4.2.1.6)."""
    return _MAILBOX.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_device_uri(uri: str) -> bool:
    """Whether this is `urn:uuid:` and a UUID in its usual lower-case form (RFC 9562 section 4)."""
    device_id = uri.removeprefix(DEVICE_URI_PREFIX)
    try:
        return device_id != uri and str(uuid.UUID(device_id)) == device_id
    except ValueError:
        return False


def serial_text(certificate: x509.Certificate) -> str:
    """The serial number as the register writes it: lower-case hexadecimal without leading zeros."""
    return f"{certificate.serial_number:x}"


def server_names(names: Iterable[str], *, address_as_dns_name: bool) -> tuple[x509.GeneralName, ...]:
    """The subjectAltName of a server: host names as dNSName, addresses as iPAddress, each once.

    Args:
        names: host names and addresses.
        address_as_dns_name: write each address as a dNSName too.

    Raises:
        PkiError: a name is neither a host name nor an address.
    """
    result: dict[x509.GeneralName, None] = {}
    for name in names:
        if is_address(name):
            address = ip_address(name)
            result[x509.IPAddress(address)] = None
            if address_as_dns_name:
                result[x509.DNSName(str(address))] = None
        elif is_host_name(name):
            result[x509.DNSName(name)] = None
        else:
            raise PkiError(f"{name!r} can't stand in a certificate", fix="use a host name or an IP address")
    return tuple(result)


def device_names(device_id: str, device_name: str, user_name: str) -> tuple[x509.GeneralName, ...]:
    """The subjectAltName of a device: its id, its host name, and its owner's address.

    A device name that is no host name, and a user name that is no mail address, are left out: the id alone
    says which device it is.
    """
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"{DEVICE_URI_PREFIX}{device_id}")]
    host = f"{device_name}.{DEVICE_DOMAIN}".lower()
    if is_host_name(host):
        names.append(x509.DNSName(host))
    if is_mailbox(user_name):
        names.append(x509.RFC822Name(user_name))
    return tuple(names)


def subject(organization: str, common_name: str) -> x509.Name:
    """A subject of ours: organization and common name.

    Raises:
        PkiError: one of them is empty or longer than X.520 allows.
    """
    try:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            ]
        )
    except ValueError as error:
        raise PkiError(f"{common_name!r} can't be the name in a certificate: {error}") from None


def canonical(name: x509.Name) -> CanonicalName:
    """A distinguished name in the form in which equal names are equal (RFC 5280 section 7.1).

    String types don't count, nor does case, nor how much white space stands between words. The order of the
    relative names counts, that of the attributes inside one does not.
    """
    return tuple(
        frozenset((attribute.oid.dotted_string, _fold(attribute.value)) for attribute in rdn) for rdn in name.rdns
    )


def _fold(value: str | bytes) -> str:
    if isinstance(value, bytes):
        # BIT STRING attributes (x500UniqueIdentifier) have no case: compare them exactly, apart from all text.
        return f"#{value.hex()}"
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())
