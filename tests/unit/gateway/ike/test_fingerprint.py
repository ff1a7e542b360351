"""What a client looks like by its marks alone; whole messages of each client are in `test_native_handshakes.py`."""

from __future__ import annotations

import pytest

from gateway.ike.constants import CfgAttribute, NotifyType, PayloadType
from gateway.ike.errors import InvalidSyntax
from gateway.ike.fingerprint import from_ike_auth, from_ike_sa_init
from gateway.ike.message import Payloads
from gateway.ike.payloads.configuration import Configuration, ConfigurationAttribute
from gateway.ike.payloads.notify import Notify

NAT = NotifyType.NAT_DETECTION_SOURCE_IP
FRAGMENTS = NotifyType.IKEV2_FRAGMENTATION_SUPPORTED
HASHES = NotifyType.SIGNATURE_HASH_ALGORITHMS
REDIRECT = NotifyType.REDIRECT_SUPPORTED


@pytest.mark.parametrize(
    ("vendor_id", "client"),
    [
        ("1e2b516905991c7d7c96fcbfb587e46100000009", "Windows"),
        ("fb1de3cdf341b7ea16b7e5be0855f120", "Windows"),
        ("01528bbbc00696121849ab9a1c5b2a5100000002", "Windows"),
        (b"OE-Libreswan-4.10".hex(), "libreswan"),
        ("4048b7d56ebce88525e7de7f00d6c2d3", ""),
        ("", ""),
    ],
)
def test_vendor_ids(vendor_id: str, client: str) -> None:
    payloads = Payloads({PayloadType.VENDOR_ID: [b"something", bytes.fromhex(vendor_id)]})
    assert from_ike_sa_init(payloads, []) == client


@pytest.mark.parametrize(
    ("order", "client"),
    [
        ([NAT, FRAGMENTS, HASHES, REDIRECT], "strongSwan"),
        ([REDIRECT, NAT, FRAGMENTS], "Apple"),
        ([FRAGMENTS, HASHES, NAT], "libreswan"),
        ([FRAGMENTS, REDIRECT, HASHES, NAT], "libreswan"),
        ([FRAGMENTS, NAT], ""),
        ([NAT, FRAGMENTS, HASHES], ""),
        ([REDIRECT], "strongSwan"),
        ([], ""),
    ],
)
def test_the_order_of_the_notifies(order: list[NotifyType], client: str) -> None:
    assert from_ike_sa_init(Payloads({}), [Notify(kind) for kind in order]) == client


@pytest.mark.parametrize(
    ("asked", "client"),
    [
        ([1, 3, 4, CfgAttribute.MS_INTERNAL_IP4_SERVER, 8, 10], "Windows"),
        ([8, CfgAttribute.MS_INTERNAL_IP6_SERVER], "Windows"),
        ([1, 2, 6, 3, 8, 12, 10, 25], "Apple"),
        ([1, 8, 3, 10, CfgAttribute.APPLICATION_VERSION], "Android"),
        ([1, 3], ""),
    ],
)
def test_what_is_asked_for(asked: list[int], client: str) -> None:
    request = Configuration(1, tuple(ConfigurationAttribute(kind) for kind in asked))
    assert from_ike_auth("", (), request) == client
    assert from_ike_auth("libreswan", (), request) == "libreswan"


def test_who_asks_for_nothing_stays_what_it_was() -> None:
    assert from_ike_auth("", (), None) == ""
    assert from_ike_auth("strongSwan", (), None) == "strongSwan"


@pytest.mark.parametrize("size", [4, 4000])
def test_a_malformed_offer_is_an_error_whatever_its_length(size: int) -> None:
    with pytest.raises(InvalidSyntax):
        from_ike_sa_init(Payloads({PayloadType.SA: [bytes(size)]}), [Notify(NAT)])
