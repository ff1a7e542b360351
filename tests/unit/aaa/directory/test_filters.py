"""What anyone may have typed gets into filters and DNs as a value alone: ldap3's own parsers are asked."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.directory import filters
from tests.unit.aaa.directory.people import directory

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from ldap3.operation.search import search_operation
    from ldap3.utils.dn import parse_dn

HOSTILE = ["*", "a)(uid=*", "\\", "\\2a", "a\x00b", "(", ")", "&", "|", "!", "=", "~=", "é", "\ud800", " a ", "a*b"]


def sent(text: str) -> tuple[str, Any]:
    """The one component of the filter as it goes to a server: its kind, and what it has."""
    request = search_operation("dc=test", text, "SUBTREE", "NEVER", ["cn"], 0, 0, False, False, False)
    return request["filter"].getName(), request["filter"].getComponent()


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_value_stays_a_value(value: str) -> None:
    kind, component = sent(filters.equals("uid", value))
    assert kind == "equalityMatch"
    assert bytes(component["assertionValue"]) == value.encode("utf-8", "surrogatepass")


@given(st.text(min_size=1))
def test_any_value_stays_one_value(value: str) -> None:
    kind, component = sent(filters.equals("uid", value))
    assert kind == "equalityMatch"
    assert str(component["attributeDesc"]) == "uid"
    assert bytes(component["assertionValue"]) == value.encode()


def test_matching_rule() -> None:
    kind, component = sent(filters.equals("member", "cn=a,dc=b", rule=filters.IN_CHAIN))
    assert kind == "extensibleMatch"
    assert str(component["matchingRule"]) == filters.IN_CHAIN
    assert bytes(component["matchValue"]) == b"cn=a,dc=b"


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_name_in_a_template_is_one_value_of_one_rdn(name: str) -> None:
    dn = filters.fill_template("uid={name},ou=people,dc=test", name)
    if dn is None:
        assert not name.isprintable()
        return
    parts = parse_dn(dn)
    assert len(parts) == 3
    assert [attribute for attribute, _value, _separator in parts] == ["uid", "ou", "dc"]


def test_template_that_is_no_dn_takes_plain_names_only() -> None:
    assert filters.fill_template("{name}@corp.example", "alice.b-c_1") == "alice.b-c_1@corp.example"
    assert filters.fill_template("CORP\\{name}", "alice") == "CORP\\alice"
    for name in ("alice@other.example", "OTHER\\alice", "", "a b", "-alice", "alice\n", "a" * 65):
        assert filters.fill_template("{name}@corp.example", name) is None, name


@pytest.mark.parametrize(
    ("typed", "bare"),
    [
        ("alice", "alice"),
        ("CORP\\alice", "alice"),
        ("corp\\Alice", "Alice"),
        ("alice@CORP.example", "alice"),
        ("OTHER\\alice", None),
        ("alice@other.example", None),
        ("OTHER\\alice@corp.example", None),
        ("CORP\\", None),
        ("@corp.example", None),
    ],
)
def test_domain_of_a_name(typed: str, bare: str | None) -> None:
    assert filters.bare_name(directory(domains=("CORP", "corp.example")), typed) == bare


def test_login_filter() -> None:
    settings = directory(login_attributes=("mail",))
    assert filters.login_filter(settings, "alice") == "(&(objectClass=inetOrgPerson)(|(uid=alice)(mail=alice)))"
    assert filters.login_filter(settings, "a@b") == "(&(objectClass=inetOrgPerson)(mail=a\\40b))"
    assert filters.login_filter(directory(), "a@b") is None
    for nobody in ("", "  ", "a\nb", "a" * 254):
        assert filters.login_filter(settings, nobody) is None


def test_spellings_of_a_dn() -> None:
    assert filters.normal_dn("CN=A B, OU = x,DC=Test") == filters.normal_dn("cn=a b,ou=x,dc=test")
    assert filters.normal_dn("cn=a\\, b,dc=test") != filters.normal_dn("cn=a,b,dc=test")
