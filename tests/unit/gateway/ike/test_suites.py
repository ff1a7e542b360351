"""Whole negotiations: every algorithm of the policy, and both ends with the same keys in the end."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest

from gateway.ike.constants import (
    IKE_HEADER_BYTES,
    Encr,
    ExchangeType,
    Group,
    Integ,
    NotifyType,
    PayloadType,
    Prf,
)
from gateway.ike.message import Header, parse_payloads
from gateway.ike.payloads.notify import Notify
from gateway.ike.policy import MODERN
from gateway.ike.proposals import ChildSuite, IkeSuite
from gateway.ike.selectors import TrafficSelector
from tests.peers.initiator import Phase
from tests.unit.gateway.ike.offers import ike_proposal
from tests.unit.gateway.ike.wire import Client, Wire, mschapv2, responder_config

ANY6 = TrafficSelector.from_network(IPv6Network("::/0"))
AEADS = [cipher for cipher in MODERN.encr if cipher[0] is not Encr.AES_CBC]
IKE_SUITES = [
    *(IkeSuite(*cipher, Integ.NONE, prf, Group.CURVE25519) for cipher in AEADS for prf in MODERN.prf),
    *(
        IkeSuite(Encr.AES_CBC, bits, integ, prf, Group.CURVE25519)
        for bits in (128, 192, 256)
        for integ, prf in zip(MODERN.integ, MODERN.prf, strict=True)
    ),
    *(IkeSuite(Encr.AES_GCM_16, 128, Integ.NONE, Prf.HMAC_SHA2_384, group) for group in MODERN.groups),
]
CHILD_SUITES = [
    ChildSuite(encr, bits, integ, esn)
    for encr, bits in MODERN.encr
    for integ in (MODERN.integ if encr is Encr.AES_CBC else (Integ.NONE,))
    for esn in (False, True)
]


def assert_both_ends_agree(wire: Wire, client: Client) -> None:
    """Up, with the same keys, SPIs and selectors, and able to talk both ways."""
    sa, initiator = wire.sa, client.initiator
    child = wire.child
    assert (client.phase, wire.established, wire.failures) == (Phase.ESTABLISHED, [sa], [])
    assert wire.children == {child.spi_in: child}
    assert initiator.keys == sa.keys
    assert initiator.child_keys == child.keys
    assert (initiator.spi_in, initiator.spi_out) == (child.spi_out, child.spi_in)
    assert initiator.selectors == (child.remote_selectors, child.local_selectors)
    initiator.request(ExchangeType.INFORMATIONAL, [])
    wire.run()
    assert sa.peer.next_id == initiator.message_id
    wire.advance(wire.config.dpd_interval_s + 1)
    assert initiator.requests_seen == 1
    assert sa.own.message_id is None


@pytest.mark.parametrize("suite", IKE_SUITES, ids=str)
def test_ike_suites(suite: IkeSuite) -> None:
    wire, config = Wire(), mschapv2()
    config.suite = suite
    client = wire.connect(config)
    assert wire.sa.suite == suite
    assert_both_ends_agree(wire, client)


@pytest.mark.parametrize("suite", CHILD_SUITES, ids=str)
def test_child_suites(suite: ChildSuite) -> None:
    wire, config = Wire(), mschapv2()
    config.child_suite = suite
    client = wire.connect(config)
    assert wire.child.suite == suite
    assert_both_ends_agree(wire, client)


def test_a_ke_payload_of_another_group_costs_a_round_trip() -> None:
    wire, config = Wire(), mschapv2()
    config.proposals = (
        ike_proposal(1, [(Encr.AES_GCM_16, 256)], [], [Prf.HMAC_SHA2_256], [Group.ECP_384, Group.ECP_256]),
    )
    config.ke_group = Group.CURVE25519
    client = wire.connect(config)
    assert wire.sa.suite.group is Group.ECP_256
    # The refusal left nothing behind.
    assert wire.responder.statistics.initiated == 1
    assert_both_ends_agree(wire, client)


def test_a_cookie_costs_a_round_trip() -> None:
    wire = Wire(responder_config(cookie_threshold=0))
    client = wire.connect()
    assert wire.responder.statistics.cookies_sent == 1
    assert_both_ends_agree(wire, client)


def test_a_cookie_and_another_group() -> None:
    wire, config = Wire(responder_config(cookie_threshold=0)), mschapv2()
    config.proposals = (ike_proposal(1, [(Encr.AES_GCM_16, 256)], [], [Prf.HMAC_SHA2_256], [Group.ECP_256]),)
    config.ke_group = Group.CURVE25519
    client = wire.connect(config)
    # RFC 7296 section 2.6.1: the retry has the same nonce, so the cookie still holds.
    assert wire.responder.statistics.cookies_sent == 1
    assert_both_ends_agree(wire, client)


def test_addresses_of_both_families() -> None:
    wire, config = Wire(), mschapv2()
    config.ask_ipv6 = True
    config.initiator_selectors += (ANY6,)
    config.responder_selectors += (ANY6,)
    client = wire.connect(config)
    assert client.initiator.virtual_ipv4 == bytes((10, 99, 0, 2))
    assert client.initiator.virtual_ipv6 == bytes.fromhex("fd99" + "00" * 13 + "02" + "80")
    assert client.initiator.dns == [bytes((10, 99, 0, 1)), bytes.fromhex("fd99" + "00" * 13 + "01")]
    assert [str(s) for s in client.initiator.selectors[0]] == ["10.99.0.2-10.99.0.2", "fd99::2-fd99::2"]
    assert_both_ends_agree(wire, client)


def test_dns_only_where_it_is_asked_for() -> None:
    wire = Wire()
    client = wire.connect()
    assert client.initiator.dns == [bytes((10, 99, 0, 1))]


def test_the_gateways_networks_narrow_what_the_client_reaches() -> None:
    wire = Wire()
    wire.aaa.networks = (IPv4Network("10.1.0.0/16"), IPv4Network("192.168.7.0/24"), IPv6Network("fd00::/8"))
    client = wire.connect()
    assert [str(s) for s in client.initiator.selectors[1]] == ["10.1.0.0-10.1.255.255", "192.168.7.0-192.168.7.255"]


@pytest.mark.parametrize("speaks", [True, False])
def test_extensions_are_answered_only_to_who_announced_them(speaks: bool) -> None:
    wire, config = Wire(), mschapv2()
    config.announce_hashes = speaks
    config.fragment_size_bytes = 1280 if speaks else None
    client = wire.connect(config)
    response, _ = wire.from_gateway[0]
    payloads = parse_payloads(Header.parse(response).next_payload, response[IKE_HEADER_BYTES:])
    kinds = {Notify.parse(body).type for body in payloads.all(PayloadType.NOTIFY)}
    extensions = {NotifyType.IKEV2_FRAGMENTATION_SUPPORTED, NotifyType.SIGNATURE_HASH_ALGORITHMS}
    assert kinds & extensions == (extensions if speaks else set())
    # Our trust anchors, by the hash of their keys.
    assert payloads.require(PayloadType.CERTREQ) == b"\x04" + b"\xca" * 20
    assert_both_ends_agree(wire, client)
