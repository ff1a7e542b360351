"""The settings of directories."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from core.settings import AaaSettings, DirectorySettings

GOOD: dict[str, Any] = {
    "name": "corp",
    "servers": ["ldaps://ldap.example.test"],
    "ca_file": "ca.pem",
    "bind_dn": "cn=ostiary,dc=test",
    "bind_password_file": "password",
    "user_base": "ou=people,dc=test",
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "local"}, "come from no directory"),
        ({"servers": []}, "at least 1"),
        ({"servers": ["http://ldap.example.test"]}, "pattern"),
        ({"servers": ["ldap://user:pw@ldap.example.test"]}, "pattern"),
        ({"servers": ["ldapi:///run/slapd"]}, "pattern"),
        ({"bind_dn": None}, "belong together"),
        ({"bind_password_file": None}, "belong together"),
        ({"bind_dn": None, "bind_password_file": None}, "or bind_template"),
        ({"bind_template": "uid=alice,dc=test"}, "once"),
        ({"bind_template": "uid={name}{name},dc=test"}, "once"),
        ({"user_filter": "objectClass=person"}, "in parentheses"),
        ({"user_filter": "(a=b)(c=d)"}, "in parentheses"),
        ({"user_filter": "(&(a=b)"}, "in parentheses"),
        ({"group_filter": "(a=b))"}, "in parentheses"),
        ({"group_filter": "(a=" + "b" * 1100 + ")"}, "in parentheses"),
        ({"name_attribute": "uid)(a"}, "name_attribute"),
        ({"timeout_s": 0}, "greater than 0"),
        ({"sync_interval_s": 1}, "60"),
        ({"disable_limit_percent": 101}, "100"),
    ],
)
def test_what_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        DirectorySettings(**{**GOOD, **change})


@pytest.mark.parametrize("url", ["ldaps://192.0.2.1:1636", "ldap://dc1.corp.example", "ldaps://[2001:db8::1]:636"])
def test_servers(url: str) -> None:
    assert DirectorySettings(**{**GOOD, "servers": [url]}).servers == (url,)


def test_defaults_of_each_kind() -> None:
    openldap, ad = DirectorySettings(**GOOD), DirectorySettings(**GOOD, kind="active-directory")
    assert [d.effective_name_attribute for d in (openldap, ad)] == ["uid", "sAMAccountName"]
    assert [d.effective_nested_groups for d in (openldap, ad)] == ["walk", "in-chain"]
    assert [d.effective_login_attributes for d in (openldap, ad)] == [(), ("userPrincipalName",)]
    assert ad.effective_user_filter == "(&(objectCategory=person)(objectClass=user))"
    assert openldap.effective_group_base == "ou=people,dc=test"


def test_names_are_unique() -> None:
    one = DirectorySettings(**GOOD)
    with pytest.raises(ValidationError, match="a name of its own"):
        AaaSettings(directories=(one, one))
