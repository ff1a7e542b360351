"""Grants, clients, remembered answers, what a client says of who calls."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.interface import Access
from aaa.radius.circumstances import station
from aaa.radius.clients import RadiusClient, RadiusClients
from aaa.radius.duplicates import REMEMBERED_S, Duplicates
from aaa.radius.grant import GrantSealer
from core.secrets import Secret

KEY = Secret(b"k" * 32)


def access(user_name: str = "alice", rule: str = "staff") -> Access:
    return Access(
        user_name=user_name,
        device_id="5a3f9f4e-7d0b-4ff1-a5d1-3c3f0c8b1e11",
        device_name="alice-laptop",
        method="eap-tls",
        rule=rule,
        reason="",
        pool=None,
        networks=(),
        dns=(),
        session_lifetime_s=0.0,
        interim_interval_s=0.0,
        certificate_serial="ab12",
    )


class TestGrant:
    @given(st.text(max_size=128), st.text(max_size=64))
    def test_comes_back_as_it_was(self, user_name: str, rule: str) -> None:
        granted = access(user_name, rule)
        values = GrantSealer(KEY).seal(granted, "wifi")
        assert GrantSealer(KEY).open(values, "wifi") == granted
        assert all(0 < len(value) <= 253 for value in values)

    def test_an_ordinary_one_needs_one_attribute(self) -> None:
        """Some clients keep no more than that."""
        assert len(GrantSealer(KEY).seal(access("firstname.lastname@example.com"), "wifi")) == 1

    def test_every_changed_byte_is_noticed(self) -> None:
        [value] = GrantSealer(KEY).seal(access(), "wifi")
        for at in range(len(value)):
            assert GrantSealer(KEY).open([value[:at] + bytes((value[at] ^ 1,)) + value[at + 1 :]], "wifi") is None

    @pytest.mark.parametrize("values", [[], [b""], [b"ost1"], [b"ost1" + bytes(16)], [b"somebody else's"]])
    def test_what_is_none(self, values: list[bytes]) -> None:
        assert GrantSealer(KEY).open(values, "wifi") is None

    def test_of_another_client_or_key(self) -> None:
        values = GrantSealer(KEY).seal(access(), "wifi")
        assert GrantSealer(KEY).open(values, "office") is None
        assert GrantSealer(Secret(b"other")).open(values, "wifi") is None


class TestClients:
    CLIENTS = RadiusClients(
        [
            RadiusClient("one", (ip_network("10.0.0.1/32"), ip_network("2001:db8::1/128")), Secret(b"1")),
            RadiusClient("many", (ip_network("10.1.0.0/16"), ip_network("2001:db8:1::/48")), Secret(b"2")),
        ]
    )

    @pytest.mark.parametrize(
        ("host", "name"),
        [
            ("10.0.0.1", "one"),
            ("2001:db8::1", "one"),
            ("10.1.255.255", "many"),
            ("2001:db8:1:ffff::9", "many"),
            ("10.0.0.2", None),
            ("10.2.0.0", None),
            ("2001:db8:2::", None),
            ("::10.0.0.1", None),
            ("", None),
            ("fe80::1%eth0", None),
        ],
    )
    def test_by_address(self, host: str, name: str | None) -> None:
        found = self.CLIENTS.find(host)
        assert (found.name if found else None) == name


class TestDuplicates:
    def test_a_flood_makes_room_by_forgetting_the_oldest(self) -> None:
        known = Duplicates(most=3)
        for number in range(10):
            assert not known.is_known(number, b"a", 0.0)
        assert len(known) <= 3
        assert known.is_known(9, b"a", 0.0)
        assert not known.is_known(0, b"a", 0.0)

    def test_time(self) -> None:
        known = Duplicates()
        known.is_known("key", b"a", 0.0)
        known.answered("key", b"a", b"answer")
        assert known.is_known("key", b"a", REMEMBERED_S - 1)
        assert known.answer("key") == b"answer"
        assert not known.is_known("key", b"a", REMEMBERED_S)
        assert known.answer("key") is None

    def test_a_late_answer_to_an_earlier_request_of_the_identifier(self) -> None:
        known = Duplicates()
        known.is_known("key", b"a", 0.0)
        known.is_known("key", b"b", 1.0)
        known.answered("key", b"a", b"old")
        assert known.answer("key") is None
        known.drop("key", b"a")
        assert known.is_known("key", b"b", 2.0)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("198.51.100.2[4500]", "198.51.100.2"),
        ("198.51.100.2", "198.51.100.2"),
        ("2001:DB8::7[4500]", "2001:db8::7"),
        ("[2001:db8::7][4500]", "2001:db8::7"),
        ("02-00-00-00-00-0A", "02-00-00-00-00-0a"),
        ("", ""),
        ("x\x1b[2J", "x?[2j"),
        ("a" * 200, "a" * 64),
    ],
)
def test_who_calls(text: str, shown: str) -> None:
    assert station(text) == shown
