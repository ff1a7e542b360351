"""Settings and people for the tests of directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aaa.directory.accounts import AccountState
from aaa.directory.model import DirectoryUser
from core.settings import DirectorySettings


def directory(**changes: Any) -> DirectorySettings:
    """A directory with a service account."""
    values: dict[str, Any] = {
        "name": "corp",
        "servers": ("ldaps://ldap.example.test",),
        "ca_file": Path("ca.pem"),
        "bind_dn": "cn=ostiary,dc=test",
        "bind_password_file": Path("password"),
        "user_base": "ou=people,dc=test",
        **changes,
    }
    return DirectorySettings(**values)


def person(name: str, *groups: str, states: frozenset[AccountState] = frozenset(), **changes: Any) -> DirectoryUser:
    """Somebody in it."""
    values: dict[str, Any] = {
        "directory": "corp",
        "name": name,
        "dn": f"uid={name},ou=people,dc=test",
        "id": f"id-of-{name}",
        "mail": "",
        "display_name": name.title(),
        "groups": groups,
        "states": states,
        **changes,
    }
    return DirectoryUser(**values)
