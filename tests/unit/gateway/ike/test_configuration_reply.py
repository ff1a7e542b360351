from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings.values import MOST_DNS_DOMAINS, MOST_DNS_SERVERS, MOST_NETWORKS
from gateway.ike.child import Assignment
from gateway.ike.configuration_reply import configuration_reply
from gateway.ike.constants import CfgAttribute, CfgType
from gateway.ike.payloads.configuration import MAX_ATTRIBUTES, Configuration, ConfigurationAttribute

ALL = Assignment(
    IPv4Address("10.99.0.7"),
    IPv6Address("fd99::7"),
    (IPv4Network("10.1.0.0/16"), IPv6Network("fd01::/48")),
    (IPv4Address("10.1.0.53"), IPv6Address("fd01::53")),
    dns_domains=("corp.example", "xn--mnchen-3ya.example"),
)
IPV6 = bytes.fromhex("fd990000000000000000000000000007")


def asked(*wanted: int | tuple[int, bytes]) -> Configuration:
    """A CFG_REQUEST of these attributes, empty where only the type is given."""
    attributes = ((one, b"") if isinstance(one, int) else one for one in wanted)
    return Configuration(CfgType.REQUEST, tuple(ConfigurationAttribute(*one) for one in attributes))


def answers(request: Configuration, assignment: Assignment = ALL) -> list[tuple[int, bytes]]:
    """The reply's attributes, after a round trip."""
    reply = Configuration.parse(configuration_reply(request, assignment).to_bytes())
    assert reply.cfg_type == CfgType.REPLY
    return [(attribute.type, attribute.value) for attribute in reply.attributes]


@pytest.mark.parametrize(
    ("wanted", "values"),
    [
        (CfgAttribute.INTERNAL_IP4_ADDRESS, [bytes((10, 99, 0, 7))]),
        (CfgAttribute.INTERNAL_IP4_NETMASK, [b"\xff\xff\xff\xff"]),
        (CfgAttribute.INTERNAL_IP6_ADDRESS, [IPV6 + b"\x80"]),
        (CfgAttribute.INTERNAL_IP4_DNS, [bytes((10, 1, 0, 53))]),
        (CfgAttribute.INTERNAL_IP6_DNS, [bytes.fromhex("fd010000000000000000000000000053")]),
        (CfgAttribute.INTERNAL_DNS_DOMAIN, [b"corp.example", b"xn--mnchen-3ya.example"]),
        (CfgAttribute.INTERNAL_IP4_SUBNET, [bytes((10, 1, 0, 0, 255, 255, 0, 0))]),
        (CfgAttribute.INTERNAL_IP6_SUBNET, [bytes.fromhex("fd010000000000000000000000000000") + b"\x30"]),
        (CfgAttribute.SUPPORTED_ATTRIBUTES, [b"\0\1\0\2\0\x08\0\3\0\x0a\0\x19\0\x0d\0\x0f\0\x0e"]),
    ],
)
def test_each_attribute_where_it_is_asked_for(wanted: CfgAttribute, values: list[bytes]) -> None:
    assert answers(asked(wanted)) == [(wanted, value) for value in values]


@pytest.mark.parametrize(
    "unanswered",
    [
        CfgAttribute.APPLICATION_VERSION,
        CfgAttribute.INTERNAL_IP4_NBNS,
        CfgAttribute.INTERNAL_IP4_DHCP,
        CfgAttribute.INTERNAL_IP6_DHCP,
        CfgAttribute.MS_INTERNAL_IP4_SERVER,
        CfgAttribute.MS_INTERNAL_IP6_SERVER,
        0,
        9999,
        0x7FFF,
    ],
)
def test_what_is_not_answered(unanswered: int) -> None:
    assert answers(asked(unanswered)) == []


def test_asking_twice_gets_it_once() -> None:
    twice = asked(*[CfgAttribute.INTERNAL_IP4_ADDRESS, CfgAttribute.INTERNAL_IP4_DNS] * 3)
    assert answers(twice) == answers(asked(CfgAttribute.INTERNAL_IP4_ADDRESS, CfgAttribute.INTERNAL_IP4_DNS))


@pytest.mark.parametrize("value", [b"", IPV6 + b"\x40", bytes(17), b"\x01", bytes(40)])
def test_a_suggestion_of_any_length_is_no_more_than_that(value: bytes) -> None:
    """As Windows sends it, and as nobody should."""
    request = asked(CfgAttribute.INTERNAL_IP4_ADDRESS, (CfgAttribute.INTERNAL_IP6_ADDRESS, value))
    assert answers(request) == [
        (CfgAttribute.INTERNAL_IP4_ADDRESS, bytes((10, 99, 0, 7))),
        (CfgAttribute.INTERNAL_IP6_ADDRESS, IPV6 + b"\x80"),
    ]


def test_no_netmask_and_no_subnet_without_an_address_of_the_family() -> None:
    both = asked(
        CfgAttribute.INTERNAL_IP4_NETMASK, CfgAttribute.INTERNAL_IP4_SUBNET, CfgAttribute.INTERNAL_IP6_SUBNET
    )
    assert [kind for kind, _ in answers(both, replace(ALL, virtual_ipv4=None))] == [CfgAttribute.INTERNAL_IP6_SUBNET]
    assert CfgAttribute.INTERNAL_IP6_SUBNET not in dict(answers(both, replace(ALL, virtual_ipv6=None)))


def test_no_domain_without_a_server_for_it() -> None:
    """RFC 8598 section 3.2: a reply with a domain has a name server as well."""
    assert answers(asked(CfgAttribute.INTERNAL_DNS_DOMAIN), replace(ALL, dns=())) == []


def test_a_suggested_domain_is_not_taken() -> None:
    request = asked((CfgAttribute.INTERNAL_DNS_DOMAIN, b"bank.example"))
    assert [value for _, value in answers(request)] == [b"corp.example", b"xn--mnchen-3ya.example"]


@given(st.lists(st.tuples(st.integers(0, 0x7FFF), st.binary(max_size=20)), max_size=MAX_ATTRIBUTES))
def test_nothing_is_sent_that_was_not_asked_for(wanted: list[tuple[int, bytes]]) -> None:
    assert {kind for kind, _ in answers(asked(*wanted))} <= {kind for kind, _ in wanted}


def test_the_most_that_settings_allow_fits_into_one_payload() -> None:
    most = replace(
        ALL,
        networks=tuple(IPv4Network((number << 24, 8)) for number in range(MOST_NETWORKS)),
        dns=tuple(IPv4Address(number) for number in range(MOST_DNS_SERVERS)),
        dns_domains=("a.example",) * MOST_DNS_DOMAINS,
    )
    assert len(answers(asked(*CfgAttribute), most)) == 2 + 1 + MOST_NETWORKS + MOST_DNS_SERVERS + MOST_DNS_DOMAINS + 1
