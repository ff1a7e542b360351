"""Sign-in and look-up against OpenLDAP, two servers of it.

directory (a namespace, loopback only):  slapd 127.0.0.1, slapd 127.0.0.2, each with ports 389 and 636
"""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from aaa import users
from aaa.backend.passwords import Prompt
from aaa.backend.requests import DecideSignIn, Proof
from aaa.directory.accounts import AccountState
from aaa.directory.directory import Directory
from aaa.directory.errors import DirectoryUnavailable, PartialAnswer
from aaa.directory.model import DirectoryUser
from aaa.directory.worker import DirectoryPasswords
from aaa.interface import Access, Refusal
from core.audit import SYSTEM
from core.runtime import Runtime
from core.settings import DirectorySettings, RuleSettings
from tests.lab.certificates import LabAuthority, certificate_pem
from tests.lab.namespaces import Lab, Namespace
from tests.lab.slapd import GROUPS, PEOPLE, SERVICE_DN, SERVICE_PASSWORD, SUFFIX, Slapd
from tests.unit.aaa.driver import Driver, context
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import enrol

pytestmark = pytest.mark.interop

T = TypeVar("T")


@dataclass
class Company:
    """The directory, and what is needed to ask it."""

    namespace: Namespace
    folder: Path
    first: Slapd
    second: Slapd

    def directory(self, *servers: str, **changes: Any) -> Directory:
        """A directory by these servers; the first one's `ldaps` where none is named."""
        values: dict[str, Any] = {
            "name": "corp",
            "servers": servers or (self.first.ldaps,),
            "ca_file": self.folder / "ca.pem",
            "bind_dn": SERVICE_DN,
            "bind_password_file": self.folder / "password",
            "user_base": PEOPLE,
            "group_base": GROUPS,
            "timeout_s": 2.0,
            "page_size": 10,
            **changes,
        }
        return Directory(DirectorySettings(**values))

    def ask(self, question: Callable[[], T]) -> T:
        """Ask from inside the namespace."""
        return self.namespace.call(question)

    def sign_in(self, directory: Directory, name: str, password: str) -> DirectoryUser | Refusal:
        """Sign in from inside the namespace."""
        return self.ask(lambda: directory.sign_in(name, password))


@pytest.fixture(scope="module")
def company(lab: Lab) -> Iterator[Company]:
    """Alice is in a group that is in another one, Bob in none; the groups know each other in a circle."""
    namespace = lab.namespace("directory")
    authority = LabAuthority.root()
    folder = lab.directory
    (folder / "ca.pem").write_text(certificate_pem(authority.certificate))
    (folder / "stranger.pem").write_text(certificate_pem(LabAuthority.root("Stranger").certificate))
    (folder / "password").write_text(SERVICE_PASSWORD + "\n")
    (folder / "password").chmod(0o600)
    with (
        Slapd(namespace, folder / "one", authority, address="127.0.0.1") as first,
        Slapd(namespace, folder / "two", authority, address="127.0.0.2") as second,
    ):
        for server in (first, second):
            alice = server.add_person("alice", "alice's password")
            server.add_person("bob", "bob's password")
            engineers = server.add_group("engineers", alice)
            vpn = server.add_group("vpn users", engineers)
            server.modify(f"dn: {engineers}\nchangetype: modify\nadd: member\nmember: {vpn}\n")
        yield Company(namespace, folder, first, second)


def code(answer: DirectoryUser | Refusal) -> str:
    """The code of a refusal."""
    assert isinstance(answer, Refusal), answer
    return answer.code


@pytest.mark.parametrize("way", ["ldaps", "starttls"])
def test_the_right_password_is_taken_under_tls(company: Company, way: str) -> None:
    directory = company.directory(company.first.ldaps if way == "ldaps" else company.first.starttls)
    user = company.sign_in(directory, "ALICE", "alice's password")
    assert isinstance(user, DirectoryUser)
    assert (user.name, user.dn) == ("alice", f"uid=alice,{PEOPLE}")
    assert (user.mail, user.display_name) == ("alice@lab.test", "Alice Lab")
    assert len(user.id) == 36
    assert user.groups == ("engineers", "vpn users")
    assert user.states == frozenset()
    assert code(company.sign_in(directory, "alice", "bob's password")) == "wrong-credential"
    assert code(company.sign_in(directory, "nobody", "alice's password")) == "unknown-user"


@pytest.mark.parametrize("way", ["walk", "member-of"])
def test_groups_in_groups_are_found_and_circles_end(company: Company, way: str) -> None:
    directory = company.directory(nested_groups=way)
    found = company.ask(lambda: directory.lookup("alice"))
    assert isinstance(found, DirectoryUser)
    assert found.groups == ("engineers", "vpn users")
    alone = company.ask(lambda: directory.lookup("bob"))
    assert isinstance(alone, DirectoryUser)
    assert alone.groups == ()
    everybody = company.ask(lambda: list(directory.everybody()))
    assert {user.name: user.groups for user in everybody if user.name in ("alice", "bob")} == {
        "alice": found.groups,
        "bob": (),
    }


def test_groups_deeper_than_allowed_are_an_error_and_no_shorter_list(company: Company) -> None:
    for depth, expected in ((1, "directory-error"), (3, "")):
        answer = company.ask(lambda depth=depth: company.directory(group_depth=depth).lookup("alice"))  # type: ignore[misc]
        assert (answer.code if isinstance(answer, Refusal) else "") == expected


def test_a_name_is_no_filter_and_no_dn(company: Company) -> None:
    by_search, by_template = company.directory(), company.directory(bind_template=f"uid={{name}},{PEOPLE}")
    for name in (
        "*",
        "al*",
        "alice)(uid=*",
        "*)(objectClass=*",
        "alice\\",
        "a\x00",
        "",
        " ",
        "alice,ou=people",
        "é" * 300,
    ):
        for directory in (by_search, by_template):
            answer = company.sign_in(directory, name, "alice's password")
            assert code(answer) in ("unknown-user", "wrong-credential"), name


def test_an_empty_password_is_not_asked_about(company: Company) -> None:
    for directory in (company.directory(), company.directory(bind_template=f"uid={{name}},{PEOPLE}")):
        assert code(company.sign_in(directory, "alice", "")) == "wrong-credential"


def test_strange_passwords_are_wrong_ones_and_harm_no_server(company: Company) -> None:
    """What the library would refuse to prepare must not count as a server that is down: anybody can type it."""
    directory = company.directory()
    strange = ["a\x07b", "\u00ad", "\u0627a", "\U0001f511" * 300, "strange's password\u00ad"]
    for number, password in enumerate(strange):
        company.first.add_person(f"strange{number}", "strange's password")
        assert code(company.sign_in(directory, f"strange{number}", password)) == "wrong-credential"
    assert [state.failure for state in directory.servers.states()] == [""]


def test_nobody_and_somebody_cost_the_same_questions(company: Company) -> None:
    asked = {}
    for name in ("alice", "nobody"):
        before = len(company.first.operations())
        company.sign_in(company.directory(), name, "wrong")
        asked[name] = company.first.operations()[before:]
    company.sign_in(company.directory(), "alice", "alice's password")
    assert asked["alice"] == asked["nobody"] == ["BIND", "SRCH", "BIND"]


def test_template_binds_with_and_without_a_service_account(company: Company) -> None:
    template = f"uid={{name}},{PEOPLE}"
    for changes in ({}, {"bind_dn": None, "bind_password_file": None}):
        directory = company.directory(bind_template=template, **changes)
        user = company.sign_in(directory, "alice", "alice's password")
        assert isinstance(user, DirectoryUser)
        assert user.groups == ("engineers", "vpn users")
        assert code(company.sign_in(directory, "alice", "wrong")) == "wrong-credential"


def test_domains_that_are_not_ours_are_nobodys(company: Company) -> None:
    directory = company.directory(domains=("LAB", "lab.test"))
    for name in ("LAB\\alice", "alice@lab.test"):
        assert isinstance(company.sign_in(directory, name, "alice's password"), DirectoryUser), name
    for name in ("OTHER\\alice", "alice@other.test"):
        assert code(company.sign_in(directory, name, "alice's password")) == "unknown-user"
    by_mail = company.directory(login_attributes=("mail",))
    assert isinstance(company.sign_in(by_mail, "alice@lab.test", "alice's password"), DirectoryUser)


def test_account_locked_by_ppolicy(company: Company) -> None:
    dn = company.first.add_person("carol", "carol's password")
    directory = company.directory()
    for _ in range(3):
        assert code(company.sign_in(directory, "carol", "wrong")) == "wrong-credential"
    assert code(company.sign_in(directory, "carol", "carol's password")) == "locked-user"
    found = company.ask(lambda: directory.lookup("carol"))
    assert isinstance(found, DirectoryUser)
    assert found.states == {AccountState.LOCKED}
    company.first.set(dn, "pwdAccountLockedTime", "000001010000Z")
    found = company.ask(lambda: directory.lookup("carol"))
    assert isinstance(found, DirectoryUser)
    assert found.states == {AccountState.DISABLED}
    company.first.set(dn, "pwdAccountLockedTime")
    assert isinstance(company.sign_in(directory, "carol", "carol's password"), DirectoryUser)


def test_password_that_has_to_be_changed_and_account_that_has_ended(company: Company) -> None:
    dn = company.first.add_person("dave", "dave's password")
    directory = company.directory()
    company.first.set(dn, "pwdReset", "TRUE")
    assert code(company.sign_in(directory, "dave", "dave's password")) == "password-must-change"
    company.first.set(dn, "pwdReset")
    company.first.modify(
        f"dn: {dn}\nchangetype: modify\nadd: objectClass\nobjectClass: shadowAccount\n-\nadd: shadowExpire\n"
        "shadowExpire: 18000\n"
    )
    assert code(company.sign_in(directory, "dave", "dave's password")) == "expired-user"
    assert code(company.sign_in(directory, "dave", "wrong")) == "wrong-credential"


def test_a_killed_server_is_passed_over_and_left_alone(company: Company) -> None:
    directory = company.directory(company.first.ldaps, company.second.ldaps, dead_time_s=1.0)
    assert isinstance(company.sign_in(directory, "alice", "alice's password"), DirectoryUser)
    company.first.kill()
    try:
        started = time.monotonic()
        assert isinstance(company.sign_in(directory, "alice", "alice's password"), DirectoryUser)
        assert time.monotonic() - started < 2.0
        [dead, alive] = directory.servers.states()
        assert "Connection refused" in dead.failure
        assert alive.failure == ""
        company.second.kill()
        answer = company.sign_in(directory, "alice", "alice's password")
        assert code(answer) == "directory-unavailable"
        assert isinstance(answer, Refusal)
        assert company.first.ldaps in answer.reason
        assert company.second.ldaps in answer.reason
    finally:
        company.first.start()
        company.second.start()
    time.sleep(1.1)
    assert isinstance(company.sign_in(directory, "alice", "alice's password"), DirectoryUser)


@pytest.mark.parametrize("way", ["ldaps", "starttls"])
def test_a_server_that_cannot_be_trusted_gets_no_password(company: Company, way: str) -> None:
    url = company.first.ldaps if way == "ldaps" else company.first.starttls
    stranger = company.directory(url, ca_file=company.folder / "stranger.pem")
    answer = company.sign_in(stranger, "alice", "alice's password")
    assert isinstance(answer, Refusal)
    assert answer.code == "directory-unavailable"
    assert "certificate verify failed" in answer.reason
    # The right CA, and a name that its certificate does not carry.
    other_name = company.directory(url.replace("127.0.0.1", "127.0.0.3"))
    answer = company.sign_in(other_name, "alice", "alice's password")
    assert isinstance(answer, Refusal)
    assert answer.code == "directory-unavailable"
    assert "127.0.0.3" in answer.reason


def test_referrals_are_not_followed(company: Company) -> None:
    company.first.add(
        f"dn: ou=far,{SUFFIX}\nobjectClass: referral\nobjectClass: extensibleObject\nou: far\nref: ldap://192.0.2.99/\n"
    )
    try:
        whole = company.directory(user_base=SUFFIX)
        assert isinstance(company.sign_in(whole, "alice", "alice's password"), DirectoryUser)
        with pytest.raises(PartialAnswer, match="refers to another server"):
            company.ask(lambda: list(whole.everybody()))
    finally:
        company.first.delete(f"ou=far,{SUFFIX}")
    # What this server does not have, it says that 192.0.2.99 has. (To a bind it says that the password is wrong.)
    elsewhere = company.directory(user_base="dc=elsewhere,dc=test")
    assert code(company.sign_in(elsewhere, "alice", "alice's password")) == "directory-referral"
    template = company.directory(bind_template="uid={name},dc=elsewhere,dc=test")
    assert code(company.sign_in(template, "alice", "alice's password")) == "wrong-credential"


def test_more_people_than_the_server_gives_at_once(company: Company) -> None:
    names = {f"many{number:03}" for number in range(230)}
    company.first.add(
        "\n".join(
            f"dn: uid={name},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: Many\n"
            for name in sorted(names)
        )
    )
    # The server's limit is 100 entries without paging and 50 with it, so several pages it is.
    everybody = company.ask(lambda: list(company.directory(page_size=40).everybody()))
    assert names <= {user.name for user in everybody}
    with pytest.raises(PartialAnswer, match="limit of its own"):
        company.ask(lambda: list(company.directory(page_size=1000).everybody()))


def test_who_is_missing_because_the_base_is_wrong_has_not_left(company: Company) -> None:
    with pytest.raises(PartialAnswer, match="has no"):
        company.ask(lambda: list(company.directory(user_base=f"ou=nothing,{SUFFIX}").everybody()))


def test_a_service_account_that_is_not_taken(company: Company) -> None:
    (company.folder / "wrong").write_text("not it\n")
    (company.folder / "wrong").chmod(0o600)
    directory = company.directory(bind_password_file=company.folder / "wrong")
    answer = company.sign_in(directory, "alice", "alice's password")
    assert code(answer) == "directory-refused"
    assert "not it" not in str(answer)


def test_check_says_of_each_server_what_works(company: Company) -> None:
    directory = company.directory(company.first.ldaps, "ldaps://127.0.0.9")
    [(_, good), (_, bad)] = company.ask(lambda: list(directory.check()))
    assert good == "TLS and the service account are right, people are found"
    assert isinstance(bad, DirectoryUnavailable)


def test_a_server_that_never_answers_costs_its_timeout_and_no_more(company: Company) -> None:
    def listen() -> socket.socket:
        return socket.create_server(("127.0.0.4", 636))

    with company.ask(listen):
        directory = company.directory("ldaps://127.0.0.4", company.first.ldaps, timeout_s=0.5)
        started = time.monotonic()
        assert isinstance(company.sign_in(directory, "alice", "alice's password"), DirectoryUser)
        assert 0.4 < time.monotonic() - started < 1.5
        started = time.monotonic()
        assert isinstance(company.sign_in(directory, "alice", "alice's password"), DirectoryUser)
        assert time.monotonic() - started < 0.4


def test_the_question_that_sign_ins_ask(company: Company, runtime: Runtime) -> None:
    directories = (company.directory().settings,)
    settings = runtime.settings.model_copy(
        update={"aaa": runtime.settings.aaa.model_copy(update={"directories": directories})}
    )
    with runtime.database.transaction() as session:
        users.create_user(session, "bob", actor=SYSTEM)
    answers: queue.SimpleQueue[DirectoryUser | Refusal] = queue.SimpleQueue()

    def ask() -> list[DirectoryUser | Refusal]:
        passwords = DirectoryPasswords(Runtime(settings, runtime.database, runtime.box), lambda call: call())
        # A thread is in the network of the one that starts it.
        passwords.start()
        try:
            found = []
            for name, password in (
                ("alice", "alice's password"),
                ("alice", "wrong"),
                ("bob", "bob's password"),
                ("nobody", "x"),
            ):
                passwords.check(name, password, answers.put)
                found.append(answers.get(timeout=10))
            passwords.check("alice", "alice's password", answers.put, is_wanted=lambda: False)
            return found
        finally:
            passwords.stop()

    right, wrong, by_hand, nobody = company.ask(ask)
    assert isinstance(right, DirectoryUser)
    assert [code(answer) for answer in (wrong, by_hand, nobody)] == [
        "wrong-credential",
        "no-directory-user",
        "unknown-user",
    ]
    assert answers.empty()
    with runtime.database.reading() as session:
        alice = users.get_user(session, "alice")
    assert (alice.source, alice.source_id, alice.groups) == ("corp", right.id, ["engineers", "vpn users"])


def test_killed_in_the_middle_of_many_sign_ins(company: Company, runtime: Runtime) -> None:
    directories = (company.directory(company.first.ldaps, company.second.ldaps).settings,)
    settings = runtime.settings.model_copy(
        update={"aaa": runtime.settings.aaa.model_copy(update={"directories": directories})}
    )
    answers: queue.SimpleQueue[DirectoryUser | Refusal] = queue.SimpleQueue()
    total = 200

    def ask() -> list[DirectoryUser | Refusal]:
        passwords = DirectoryPasswords(Runtime(settings, runtime.database, runtime.box), lambda call: call())
        passwords.start()
        try:
            for _ in range(total):
                passwords.check("alice", "alice's password", answers.put)
            found = [answers.get(timeout=10) for _ in range(total // 4)]
            company.first.kill()
            return found + [answers.get(timeout=10) for _ in range(total - len(found))]
        finally:
            passwords.stop()

    started = time.monotonic()
    try:
        found = company.ask(ask)
    finally:
        company.first.start()
    print(f"{total / (time.monotonic() - started):.0f} sign-ins a second, one of two servers killed among them")
    assert [answer for answer in found if isinstance(answer, Refusal)] == []


def test_passwords_and_access_codes_by_the_way_of_eap(company: Company, tmp_path: Path) -> None:
    """What EAP-GTC and EAP-TTLS with PAP ask of the backend, as far as the decision."""
    rule = RuleSettings(name="by password", groups=("vpn users",), device_states=("unmanaged", "trusted"))
    with open_runtime(tmp_path / "state", rules=(rule,)) as runtime:
        directories = (company.directory().settings,)
        aaa = runtime.settings.aaa.model_copy(update={"directories": directories})
        settings = runtime.settings.model_copy(update={"aaa": aaa})

        def ask() -> list[str]:
            with Driver(Runtime(settings, runtime.database, runtime.box)) as driver:
                found = []
                for kind in ("wrong", "alice's password", "code"):
                    text = enrol(runtime, new_user=False).code if kind == "code" else kind
                    answers: list[Proof | Prompt | Refusal] = []
                    attempt = driver.backend._desk.passwords.open("alice", lambda: True)
                    attempt.answer(text, can_ask=False, reply=answers.append)
                    driver.pump(lambda answers=answers: bool(answers))  # type: ignore[misc]
                    (answer,) = answers
                    if not isinstance(answer, Proof):
                        assert isinstance(answer, Refusal)
                        found.append(answer.code)
                        continue
                    decided: list[Access | Refusal] = []
                    proof = replace(answer, method="eap-ttls")
                    driver.backend._desk.submit(DecideSignIn(context(), proof, decided.append, lambda: True))
                    driver.pump(lambda decided=decided: bool(decided))  # type: ignore[misc]
                    (access,) = decided
                    assert isinstance(access, Access), access
                    found.append(f"{access.user_name} on {access.device_name}")
                return found

        assert company.ask(ask) == ["wrong-credential", "alice on corp/alice", "alice on alice-laptop"]
