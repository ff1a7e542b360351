"""The messages that stand for native clients are what the logs say: so many bytes, these payloads in this order."""

from __future__ import annotations

import pytest

from gateway.ike.constants import IKE_HEADER_BYTES
from gateway.ike.message import Header
from gateway.ike.payloads.security_association import parse_proposals
from tests.peers.native import android, apple, linux, windows
from tests.peers.native import encoding as e
from tests.peers.native.client import Init, NativeClient

PUBLIC_BYTES = {2: 128, 5: 192, 14: 256, 15: 384, 16: 512, 19: 64, 20: 96, 31: 32}
CLIENTS = [
    windows.PLAIN_OLD,
    windows.PLAIN,
    windows.REGISTRY,
    windows.PROFILE,
    windows.BEFORE_1803,
    apple.IOS,
    apple.MACOS,
    apple.NEWER,
    android.ANDROID_11,
    android.ANDROID_12,
    linux.STRONGSWAN_APP,
    linux.LIBRESWAN,
]


def init_request(client: NativeClient, group: int | None = None) -> bytes:
    """Its IKE_SA_INIT, with random parts of zeroes."""
    group = client.groups[0] if group is None else group
    facts = Init(e.key_exchange(group, bytes(PUBLIC_BYTES[group])), bytes(client.nonce_bytes), b"\1" * 20, b"\2" * 20)
    return e.message(b"\3" * 8, client.init(facts))


def shape(message: bytes) -> list[str]:
    """The payloads in order, notifies with their numbers."""
    names = {33: "SA", 34: "KE", 40: "Ni", 43: "V"}
    kind, offset, found = Header.parse(message).next_payload, IKE_HEADER_BYTES, []
    while kind:
        body = message[offset + 4 : offset + int.from_bytes(message[offset + 2 : offset + 4], "big")]
        found.append(f"N{int.from_bytes(body[2:4], 'big')}" if kind == 41 else names[kind])
        kind, offset = message[offset], offset + 4 + len(body)
    assert offset == len(message)
    return found


@pytest.mark.parametrize(
    ("client", "group", "size"),
    [
        # strongSwan's documentation: an EAP client, and one with a certificate, both with MODP-2048 by the registry.
        (windows.REGISTRY, 14, 612),
        (windows.REGISTRY_CERTIFICATE, 14, 632),
        # Windows 10 of 2017, one suite by PowerShell with ECP-256.
        (windows.BEFORE_1803, 19, 344),
        # An iPhone with five proposals, and once more with the group that the server asked for.
        (apple.IOS, 14, 604),
        (apple.IOS, 2, 476),
        # One proposal by profile, MODP-2048.
        (apple.MACOS, 14, 432),
    ],
    ids=lambda value: value.name if isinstance(value, NativeClient) else None,
)
def test_as_many_bytes_as_in_the_logs(client: NativeClient, group: int, size: int) -> None:
    assert len(init_request(client, group)) == size


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (windows.PROFILE, "SA KE Ni N16430 N16388 N16389 V V V"),
        (windows.PROFILE_CERTIFICATE, "SA KE Ni N16430 N16388 N16389 V V V V"),
        (windows.BEFORE_1803, "SA KE Ni N16388 N16389 V V V V"),
        (apple.IOS, "SA KE Ni N16406 N16388 N16389 N16430"),
        (android.ANDROID_11, "SA KE Ni N16388 N16389 N16430 N16431"),
        (android.ANDROID_12, "SA KE Ni N16388 N16389 N16430 N16431"),
        (linux.STRONGSWAN_APP, "SA KE Ni N16388 N16389 N16430 N16431 N16406"),
        (linux.LIBRESWAN, "SA KE Ni N16430 N16431 N16388 N16389"),
    ],
    ids=lambda value: value.name if isinstance(value, NativeClient) else None,
)
def test_payloads_in_the_clients_order(client: NativeClient, expected: str) -> None:
    assert shape(init_request(client)) == expected.split()


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_the_products_parser_reads_every_offer_as_it_was_written(client: NativeClient) -> None:
    """`encoding` shares nothing with it, so neither checks itself."""
    message = init_request(client)
    length = int.from_bytes(message[IKE_HEADER_BYTES + 2 : IKE_HEADER_BYTES + 4], "big")
    offer = message[IKE_HEADER_BYTES + 4 : IKE_HEADER_BYTES + length]
    for body in (offer, client.child_offer(b"\0\0\x10\1")):
        proposals = parse_proposals(body)
        assert b"".join(one.to_bytes(last=one is proposals[-1]) for one in proposals) == body


def test_what_plain_windows_offers() -> None:
    """Twelve suites with CBC, six with GCM, and one group for all of them."""
    message = init_request(windows.PLAIN)
    length = int.from_bytes(message[IKE_HEADER_BYTES + 2 : IKE_HEADER_BYTES + 4], "big")
    proposals = parse_proposals(message[IKE_HEADER_BYTES + 4 : IKE_HEADER_BYTES + length])
    assert len(proposals) == 18
    assert {t.id for p in proposals for t in p.transforms if t.type == e.KE} == {2}
