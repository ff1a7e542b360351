from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pki.revocation.destinations import Destinations, Target, is_public, parse_url
from pki.revocation.evidence import NotUsable

PRIVATE = ["10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "fd00::1", "fc00:1::1"]
NEVER_BY_NAME = [
    "127.0.0.1",
    "127.8.9.1",
    "::1",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "169.254.169.254",
    "fe80::1",
    "224.0.0.1",
    "239.1.1.1",
    "ff02::1",
    "255.255.255.255",
    "240.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "fec0::1",
]
TUNNELLED = [
    "2002:7f00:1::1",
    "2002:0a00:1::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
]
DOCUMENTATION = ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1"]
PUBLIC = [
    "8.8.8.8",
    "193.0.6.139",
    "2001:67c:2e8:22::c100:68b",
    "2a00:1450:4001::1",
    "64:ff9b::808:808",
    "::ffff:8.8.8.8",
]
TARGET = Target(False, "pki.corp.example", 80, "/")


def destinations(*allowed: str, own: frozenset[str] = frozenset(), **changes: Any) -> Destinations:
    entries = [ip_network(one) if one[0].isdigit() or ":" in one else one for one in allowed]
    arguments = {"ports": (80, 443), "chosen": (), **changes}
    return Destinations(entries, is_own=lambda address: str(address) in own, **arguments)


def allows(rules: Destinations, address: str, target: Target = TARGET) -> bool:
    try:
        rules.check_address(target, ip_address(address))
    except NotUsable:
        return False
    return True


class TestAddresses:
    @pytest.mark.parametrize("address", PUBLIC)
    def test_public_ones_may_be_asked(self, address: str) -> None:
        assert is_public(ip_address(address))
        assert allows(destinations(), address)

    @pytest.mark.parametrize("address", [*PRIVATE, *NEVER_BY_NAME, *TUNNELLED, *DOCUMENTATION])
    def test_others_may_not(self, address: str) -> None:
        assert not is_public(ip_address(address))
        assert not allows(destinations(), address)
        assert not allows(destinations("other.example", "10.99.0.0/24"), address)

    @pytest.mark.parametrize("address", PRIVATE)
    def test_a_listed_host_may_be_inside(self, address: str) -> None:
        assert allows(destinations("pki.corp.example"), address)

    @pytest.mark.parametrize("address", [*NEVER_BY_NAME, *(one for one in TUNNELLED if one != "::ffff:10.0.0.1")])
    def test_a_listed_host_is_not_this_machine_nor_a_trick(self, address: str) -> None:
        assert not allows(destinations("pki.corp.example"), address)

    @pytest.mark.parametrize(
        ("network", "address"),
        [
            ("10.0.0.0/8", "10.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("fe80::/10", "fe80::1"),
        ],
    )
    def test_a_listed_network_may_be_anything(self, network: str, address: str) -> None:
        assert allows(destinations(network), address)

    def test_a_network_of_the_other_family_matches_nothing(self) -> None:
        assert not allows(destinations("::/0"), "10.0.0.1")

    def test_our_own_addresses_may_not(self) -> None:
        own = frozenset({"8.8.8.8", "10.0.0.1"})
        assert not allows(destinations(own=own), "8.8.8.8")
        assert not allows(destinations("pki.corp.example", own=own), "10.0.0.1")
        assert not allows(destinations(own=own), "::ffff:8.8.8.8")
        assert allows(destinations("8.8.8.8", own=own), "8.8.8.8")

    @given(st.ip_addresses())
    def test_what_is_public_is_no_special_address(self, address: Any) -> None:
        if is_public(address) and address.version == 4:
            special = (address.is_private, address.is_loopback, address.is_link_local, address.is_multicast)
            assert not any(special)

    def test_what_the_operator_chose_counts_as_listed(self) -> None:
        chosen = ["http://ocsp.corp.example:8080/", "http://10.1.2.3/ca.crl", "http://[fd00::5]:81/"]
        rules = destinations(chosen=chosen)
        assert allows(rules, "10.9.9.9", Target(False, "ocsp.corp.example", 8080, "/"))
        assert allows(rules, "10.1.2.3", Target(False, "10.1.2.3", 80, "/"))
        assert allows(rules, "fd00::5", Target(False, "fd00::5", 81, "/"))
        assert not allows(rules, "10.1.2.4", Target(False, "10.1.2.4", 80, "/"))
        rules.check_port(Target(False, "ocsp.corp.example", 8080, "/"))
        rules.check_port(Target(False, "fd00::5", 81, "/"))
        with pytest.raises(NotUsable):
            rules.check_port(Target(False, "other.corp.example", 8080, "/"))


class TestPorts:
    def test_only_listed_ones(self) -> None:
        rules = destinations()
        for port in (80, 443):
            rules.check_port(Target(False, "a.example", port, "/"))
        for port in (22, 25, 81, 500, 6379, 8080):
            with pytest.raises(NotUsable, match=str(port)):
                rules.check_port(Target(False, "a.example", port, "/"))


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "expected", "host"),
        [
            ("http://A.example", Target(False, "a.example", 80, "/"), "a.example"),
            ("http://a.example./x", Target(False, "a.example", 80, "/x"), "a.example"),
            ("https://a.example/x/y?q=%20z#part", Target(True, "a.example", 443, "/x/y?q=%20z"), "a.example"),
            ("http://a.example:8080/", Target(False, "a.example", 8080, "/"), "a.example:8080"),
            ("http://a.example:80/", Target(False, "a.example", 80, "/"), "a.example"),
            ("https://a.example:80/", Target(True, "a.example", 80, "/"), "a.example:80"),
            ("http://192.0.2.1/", Target(False, "192.0.2.1", 80, "/"), "192.0.2.1"),
            ("http://[2001:DB8::1]:81/", Target(False, "2001:db8::1", 81, "/"), "[2001:db8::1]:81"),
            ("http://a_b.example/", Target(False, "a_b.example", 80, "/"), "a_b.example"),
        ],
    )
    def test_taken_apart(self, url: str, expected: Target, host: str) -> None:
        assert parse_url(url) == expected
        assert parse_url(url).host_header == host

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "http://",
            "http:///x",
            "ftp://a.example/",
            "HTTPX://a.example/",
            "javascript:alert(1)",
            "http://user@a.example/",
            "http://user:password@a.example/",
            "http://a.example@127.0.0.1/",
            "http://a.example:99999/",
            "http://a.example:http/",
            "http://a.example:-1/",
            "http://[::1/",
            "http://[fe80::1%25eth0]/",
            "http://a example/",
            "http://a.example/\r\nX: y",
            "http://a.example\t/",
            "http://a.example/\0",
            "http://bücher.example/",
            "http://a.example\\@b.example/",
            "http://a;b/",
            "http://" + "a." * 200 + "example/",
        ],
    )
    def test_refused(self, url: str) -> None:
        with pytest.raises(NotUsable):
            parse_url(url)

    @given(st.text(max_size=60))
    def test_any_text(self, text: str) -> None:
        for url in (text, f"http://{text}", f"https://a.example/{text}"):
            try:
                target = parse_url(url)
            except NotUsable:
                continue
            assert target.path.startswith("/")
            assert target.host.isascii()
            assert "\n" not in target.path
