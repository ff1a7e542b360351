from __future__ import annotations

from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from pki.errors import PkiError
from pki.names import (
    _MAILBOX,
    canonical,
    device_names,
    is_device_uri,
    is_host_name,
    is_mailbox,
    server_names,
    subject,
)


@pytest.mark.parametrize("text", ["a", "localhost", "vpn.example.com", "A-1.b", "1.2.3.4", "a" * 63 + ".de"])
def test_host_names(text: str) -> None:
    assert is_host_name(text)


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "a b", "ü.de", "a\n", "a" * 64, "a." * 127 + "a"]
)
def test_no_host_names(text: str) -> None:
    assert not is_host_name(text)


def test_mailboxes() -> None:
    assert is_mailbox("alice.b+c@example.com")
    assert is_mailbox("!#$%&'*+/=?^_`{|}~-@b")
    for text in (
        "alice",
        "@example.com",
        "a@",
        "a@b@c",
        "a b@c",
        "ä@example.com",
        ".a@b",
        "a.@b",
        "a..b@c",
        "a@b\n",
        "a" * 65 + "@b",
    ):
        assert not is_mailbox(text)


def test_server_names_put_addresses_where_every_client_looks() -> None:
    names = server_names(["vpn.example.com", "192.0.2.1", "2001:DB8::1", "192.0.2.1"], address_as_dns_name=True)
    assert names == (
        x509.DNSName("vpn.example.com"),
        x509.IPAddress(ip_address("192.0.2.1")),
        x509.DNSName("192.0.2.1"),
        x509.IPAddress(ip_address("2001:db8::1")),
        x509.DNSName("2001:db8::1"),
    )
    assert server_names(["192.0.2.1"], address_as_dns_name=False) == (x509.IPAddress(ip_address("192.0.2.1")),)


def test_server_names_refuse_what_is_neither() -> None:
    with pytest.raises(PkiError, match=r"foo\.\.bar"):
        server_names(["foo..bar"], address_as_dns_name=False)


def test_device_names() -> None:
    uri = x509.UniformResourceIdentifier("urn:uuid:some-id")
    assert device_names("some-id", "Alice-Laptop", "alice@example.com") == (
        uri,
        x509.DNSName("alice-laptop.devices.ostiary.internal"),
        x509.RFC822Name("alice@example.com"),
    )
    assert device_names("some-id", "Alice's laptop", "alice") == (uri,)


@pytest.mark.parametrize(
    ("uri", "good"),
    [
        ("urn:uuid:0b8e7a3c-5d0e-4a57-9d0b-3c1f0a2b4c5d", True),
        ("urn:uuid:0B8E7A3C-5D0E-4A57-9D0B-3C1F0A2B4C5D", False),
        ("urn:uuid:0b8e7a3c5d0e4a579d0b3c1f0a2b4c5d", False),
        ("urn:uuid:{0b8e7a3c-5d0e-4a57-9d0b-3c1f0a2b4c5d}", False),
        ("0b8e7a3c-5d0e-4a57-9d0b-3c1f0a2b4c5d", False),
        ("urn:uuid:", False),
    ],
)
def test_device_uri(uri: str, good: bool) -> None:
    assert is_device_uri(uri) is good


def test_subject_refuses_what_x520_does_not_allow() -> None:
    with pytest.raises(PkiError):
        subject("Example", "a" * 65)
    with pytest.raises(PkiError):
        subject("Example", "")


def test_canonical_names_keep_bit_strings_apart_from_text() -> None:
    identifier = x509.Name(
        [x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\x01", x509.name._ASN1Type.BitString)]
    )
    text = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "01")])
    assert canonical(identifier) == (frozenset({("2.5.4.45", "#01")}),)
    assert canonical(text) == (frozenset({("2.5.4.3", "01")}),)


@given(st.from_regex(_MAILBOX))
def test_every_mailbox_can_stand_in_a_certificate(text: str) -> None:
    if is_mailbox(text):
        assert x509.RFC822Name(text).value == text
