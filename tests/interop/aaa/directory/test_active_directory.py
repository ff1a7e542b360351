"""Sign-in and look-up against Active Directory, which is Samba's here.

domain (a namespace, loopback only):  Samba's domain controller, ports 88, 135, 389, 464, 636, ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from aaa.directory.accounts import AccountState
from aaa.directory.directory import Directory
from aaa.directory.model import DirectoryUser
from aaa.interface import Refusal
from core.settings import DirectorySettings
from tests.lab.certificates import LabAuthority, certificate_pem
from tests.lab.namespaces import Lab, Namespace
from tests.lab.samba_dc import ADMINISTRATOR_PASSWORD, BASE, DOMAIN, REALM, SambaDc

pytestmark = [pytest.mark.interop, pytest.mark.slow]

T = TypeVar("T")
PASSWORD = "A password, 2 use"
SERVICE = "ostiary"


@dataclass
class Company:
    """The domain, and what is needed to ask it."""

    namespace: Namespace
    folder: Path
    samba: SambaDc

    def directory(self, **changes: Any) -> Directory:
        """The domain as a directory."""
        values: dict[str, Any] = {
            "name": "ad",
            "kind": "active-directory",
            "servers": ("ldaps://localhost",),
            "ca_file": self.folder / "ca.pem",
            "bind_dn": f"{SERVICE}@{REALM.lower()}",
            "bind_password_file": self.folder / "password",
            "user_base": BASE,
            "domains": (DOMAIN, REALM),
            "page_size": 20,
            **changes,
        }
        return Directory(DirectorySettings(**values))

    def ask(self, question: Callable[[], T]) -> T:
        """Ask from inside the namespace."""
        return self.namespace.call(question)

    def code(self, name: str, password: str = PASSWORD, **changes: Any) -> str:
        """What comes of a sign-in: the code of the refusal, or `ok`."""
        answer = self.ask(lambda: self.directory(**changes).sign_in(name, password))
        return answer.code if isinstance(answer, Refusal) else "ok"


@pytest.fixture(scope="module")
def company(lab: Lab) -> Iterator[Company]:
    """Alice is in `engineers`, which are in `vpn users`; Bob is in no group."""
    namespace = lab.namespace("domain")
    authority = LabAuthority.root()
    folder = lab.directory
    (folder / "ca.pem").write_text(certificate_pem(authority.certificate))
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o600)
    with SambaDc(namespace, folder / "samba", authority) as samba:
        samba.tool("domain", "passwordsettings", "set", "--account-lockout-threshold=3", "--history-length=0")
        for name in ("alice", "bob", SERVICE):
            samba.add_person(name, PASSWORD)
        samba.add_group("engineers", "alice")
        samba.add_group("vpn users", "engineers")
        yield Company(namespace, folder, samba)


def test_by_every_name_that_windows_knows_a_user_by(company: Company) -> None:
    for name in ("alice", "ALICE", f"{DOMAIN}\\alice", f"alice@{REALM}", f"alice@{REALM.lower()}"):
        user = company.ask(lambda name=name: company.directory().sign_in(name, PASSWORD))  # type: ignore[misc]
        assert isinstance(user, DirectoryUser), (name, user)
        assert (user.name, user.mail) == ("alice", "alice@lab.test")
        assert len(user.id) == 32
    for name in ("OTHER\\alice", "alice@other.test", "alice*", "*)(objectClass=*"):
        assert company.code(name) == "unknown-user", name
    assert company.code("alice", "wrong") == "wrong-credential"
    assert company.code("bob", servers=("ldap://localhost",)) == "ok"


@pytest.mark.parametrize("template", [f"{{name}}@{REALM.lower()}", f"{DOMAIN}\\{{name}}"])
def test_template_binds(company: Company, template: str) -> None:
    changes: dict[str, Any] = {"bind_template": template, "bind_dn": None, "bind_password_file": None}
    assert company.code("bob", **changes) == "ok"
    assert company.code(f"{DOMAIN}\\bob", **changes) == "ok"
    assert company.code("bob", "wrong", **changes) == "wrong-credential"
    assert company.code("bob@other.test", **changes) == "unknown-user"


def test_a_principal_that_is_another_ones_account_lets_nobody_in(company: Company) -> None:
    """Active Directory takes `jsmith@corp.test` for Jane, whose principal that is; the account `jsmith` is John's."""
    company.samba.add_person("jsmith", PASSWORD + " of John")
    jane = company.samba.add_person("janes", PASSWORD)
    company.samba.set(jane, "userPrincipalName", "jsmith@corp.test")
    changes: dict[str, Any] = {
        "bind_template": "{name}@corp.test",
        "bind_dn": None,
        "bind_password_file": None,
    }
    assert company.code("jsmith", **changes) == "ambiguous-user"


@pytest.mark.parametrize("way", ["in-chain", "member-of", "walk"])
def test_groups_in_groups(company: Company, way: str) -> None:
    directory = company.directory(nested_groups=way)
    found = company.ask(lambda: directory.lookup("alice"))
    assert isinstance(found, DirectoryUser)
    assert found.groups == ("engineers", "vpn users")
    everybody = {user.name: user for user in company.ask(lambda: list(directory.everybody()))}
    assert everybody["alice"] == found
    assert everybody["bob"].groups == ()
    # No computers, and no accounts of the domain itself that nobody can use.
    assert "dc1$" not in everybody
    assert everybody["krbtgt"].states >= {AccountState.DISABLED}


def test_disabled(company: Company) -> None:
    company.samba.add_person("carol", PASSWORD)
    company.samba.tool("user", "disable", "carol")
    assert company.code("carol") == "disabled-user"
    assert states(company, "carol") == {AccountState.DISABLED}
    company.samba.tool("user", "enable", "carol")
    assert company.code("carol") == "ok"


def test_locked(company: Company) -> None:
    company.samba.add_person("dave", PASSWORD)
    for _ in range(4):
        company.code("dave", "wrong")
    assert company.code("dave") == "locked-user"
    assert states(company, "dave") == {AccountState.LOCKED}


def test_ended(company: Company) -> None:
    dn = company.samba.add_person("erin", PASSWORD)
    # A moment in 2020, in units of 100 ns since 1601.
    company.samba.set(dn, "accountExpires", "132223104000000000")
    assert company.code("erin") == "expired-user"
    assert states(company, "erin") == {AccountState.EXPIRED}
    company.samba.set(dn, "accountExpires", "9223372036854775807")
    assert company.code("erin") == "ok"


def test_must_change_the_password(company: Company) -> None:
    dn = company.samba.add_person("frank", PASSWORD)
    company.samba.set(dn, "pwdLastSet", "0")
    assert company.code("frank") == "password-must-change"
    assert states(company, "frank") == {AccountState.MUST_CHANGE}
    company.samba.set(dn, "pwdLastSet", "-1")
    assert company.code("frank") == "ok"


def test_the_administrator_is_no_exception(company: Company) -> None:
    assert company.code("administrator", ADMINISTRATOR_PASSWORD) == "ok"
    assert company.code("administrator", "") == "wrong-credential"


def states(company: Company, name: str) -> frozenset[AccountState]:
    """What the entry says."""
    found = company.ask(lambda: company.directory().lookup(name))
    assert isinstance(found, DirectoryUser)
    return found.states
