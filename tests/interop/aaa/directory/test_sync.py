"""A sync with people at work: who leaves the company's directory loses the tunnel, by the worker's Celery job.

The picture of `tests.lab.topology`, and slapd on the loopback of the gateway's namespace.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pytest
from sqlalchemy import select

from aaa.directory import sync
from aaa.models import User
from core import jobs, outbox
from pki.models import Certificate
from tests.interop.clients import Clients, use_tunnel
from tests.lab.certificates import LabAuthority, certificate_pem
from tests.lab.enrolment import Enrolment
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import LabError, wait_for
from tests.lab.slapd import GROUPS, PEOPLE, SERVICE_DN, SERVICE_PASSWORD, Slapd
from tests.lab.topology import Site

pytestmark = pytest.mark.interop

OTHERS = [f"other{number:02}" for number in range(20)]


@pytest.fixture(scope="module")
def slapd(lab: Lab, site: Site) -> Iterator[Slapd]:
    """Alice, Bob and twenty others, all of them in a group of `vpn users`."""
    authority = LabAuthority.root()
    (lab.directory / "ca.pem").write_text(certificate_pem(authority.certificate))
    (lab.directory / "password").write_text(SERVICE_PASSWORD)
    (lab.directory / "password").chmod(0o600)
    with Slapd(site.gateway, lab.directory / "slapd", authority, address="127.0.0.1") as slapd:
        people = [slapd.add_person(name, f"{name}'s password") for name in ("alice", "bob", *OTHERS)]
        slapd.add_group("vpn users", slapd.add_group("staff", *people))
        yield slapd


@pytest.fixture(scope="module")
def gateway_settings(lab: Lab, slapd: Slapd) -> Mapping[str, Mapping[str, TomlValue]]:
    """Who is in `vpn users` may enter."""
    directory: dict[str, TomlValue] = {
        "name": "corp",
        "servers": [slapd.ldaps],
        "ca_file": str(lab.directory / "ca.pem"),
        "bind_dn": SERVICE_DN,
        "bind_password_file": str(lab.directory / "password"),
        "user_base": PEOPLE,
        "group_base": GROUPS,
        "page_size": 10,
    }
    rule: dict[str, TomlValue] = {"name": "vpn", "groups": ["VPN Users"]}
    return {"aaa": {"directories": [directory], "rules": [rule]}, "jobs": {"sweep_interval_s": 1.0}}


@pytest.fixture(scope="module")
def ostiary(
    lab: Lab, site: Site, gateway_settings: Mapping[str, Mapping[str, TomlValue]], slapd: Slapd
) -> Iterator[Ostiary]:
    """Gateway and worker; the worker's first sync is done."""
    parts = ("gateway", "worker")
    with Ostiary(site.gateway, lab.directory / "ostiary", settings=gateway_settings, parts=parts) as ostiary:  # type: ignore[arg-type]
        ostiary.wait_for_audit(0, lambda event: event.action == "directory.sync", "of the first sync")
        yield ostiary
        # It was started anew in between, and is none of the product's own processes.
        slapd.stop()


def user(ostiary: Ostiary, name: str) -> User:
    """As it is stored."""
    with ostiary.runtime.database.reading() as session:
        return session.get_one(User, name)


def have_worker_sync(ostiary: Ostiary) -> None:
    """Make the sync that recurs due now."""
    with ostiary.runtime.database.transaction() as session:
        item = outbox.add(session, sync.SYNC, {"directory": "corp"})
    jobs.wake(ostiary.settings, item.id)


def test_first_sync_has_everybody_with_their_groups(ostiary: Ostiary) -> None:
    with ostiary.runtime.database.reading() as session:
        people = {user.name: user for user in session.scalars(select(User))}
    assert set(people) == {"alice", "bob", *OTHERS}
    assert {(user.source, tuple(user.groups), user.disabled) for user in people.values()} == {
        ("corp", ("staff", "vpn users"), False)
    }
    assert people["alice"].display_name == "Alice Lab"
    [row] = ostiary.command_json("directory", "sync")
    assert (row["added"], row["updated"], row["disabled"], row["unchanged"]) == (0, 0, 0, 22)
    shown = ostiary.command_json("directory", "show", "alice")
    assert shown["groups"] == ["staff", "vpn users"]
    assert all(check["ok"] for check in ostiary.command_json("directory", "check"))


def test_leaver_is_thrown_out_by_the_job_and_comes_back_with_a_new_certificate(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, slapd: Slapd
) -> None:
    laptop = enrolment.laptop("alice", "alice-laptop")
    client = clients.certificate(site.client, laptop, enrolment.certificate(laptop))
    client.connect()
    use_tunnel(client)
    mark, entry = ostiary.audit_mark(), user(ostiary, "alice").source_id
    slapd.set(f"uid=alice,{PEOPLE}", "pwdAccountLockedTime", "000001010000Z")
    asked_at = time.time()
    have_worker_sync(ostiary)
    elapsed_s = client.wait_until_told("received DELETE for IKE_SA", 10.0) - asked_at
    print(f"disabled in the directory: the client was told {1000 * elapsed_s:.0f} ms after the job was asked for")
    wait_for(lambda: client.list_sas() == [], 2.0, "the end of the client's SA")
    ostiary.wait_for_audit(mark, lambda event: event.action == "directory.sync", "of the sync")
    events = [(event.actor, event.action, event.target) for event in ostiary.audit_since(mark)]
    by_job = [(action, target) for actor, action, target in events if actor == "job:directory corp"]
    assert [action for action, _ in by_job] == ["user.disable", "certificate.revoke", "directory.sync"]
    assert by_job[0] == ("user.disable", "user:alice")
    with ostiary.runtime.database.reading() as session:
        of_device = select(Certificate).where(Certificate.device_id == laptop.device_id)
        assert all(certificate.revoked_at is not None for certificate in session.scalars(of_device))
    [session_row] = [row for row in ostiary.sessions() if row.device_id == laptop.device_id]
    assert session_row.terminate_cause == "ADMIN_RESET"
    mark = ostiary.audit_mark()
    assert not client.initiate().ok
    refused = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.refuse", "of the refusal")
    assert refused.detail["code"] == "disabled-user"

    slapd.set(f"uid=alice,{PEOPLE}", "pwdAccountLockedTime")
    ostiary.command("directory", "sync", "corp")
    assert not user(ostiary, "alice").disabled
    assert user(ostiary, "alice").source_id == entry
    again = clients.certificate(site.home, laptop, enrolment.certificate(laptop))
    again.connect()
    again.terminate()
    ostiary.verify_audit_chain()


def test_another_person_with_the_name_of_a_leaver_gets_nothing_of_it(ostiary: Ostiary, slapd: Slapd) -> None:
    slapd.delete(f"uid={OTHERS[0]},{PEOPLE}")
    [row] = ostiary.command_json("directory", "sync")
    assert row["disabled"] == 1
    assert user(ostiary, OTHERS[0]).disabled
    slapd.add_person(OTHERS[0], "somebody else's password", number=2)
    [row] = ostiary.command_json("directory", "sync")
    assert row["skipped"] == {OTHERS[0]: "the user of this name here was another person"}
    assert user(ostiary, OTHERS[0]).disabled


def test_who_leaves_a_group_loses_what_its_rule_gave(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, slapd: Slapd
) -> None:
    laptop = enrolment.laptop("bob", "bob-laptop")
    client = clients.eap_mschapv2(site.client, laptop)
    client.connect()
    bob = f"uid=bob,{PEOPLE}"
    slapd.modify(f"dn: cn=staff,{GROUPS}\nchangetype: modify\ndelete: member\nmember: {bob}\n")
    [row] = ostiary.command_json("directory", "sync")
    assert (row["updated"], row["disabled"], row["gateways_waiting"]) == (1, 0, 0)
    assert user(ostiary, "bob").groups == []
    wait_for(lambda: client.list_sas() == [], 2.0, "the end of the client's SA")
    slapd.modify(f"dn: cn=staff,{GROUPS}\nchangetype: modify\nadd: member\nmember: {bob}\n")
    ostiary.command("directory", "sync")
    client.connect()
    client.terminate()


def test_suddenly_few_people_and_a_dead_server_change_nothing(ostiary: Ostiary, slapd: Slapd) -> None:
    mark = ostiary.audit_mark()
    gone = OTHERS[1:6]
    for name in gone:
        slapd.delete(f"uid={name},{PEOPLE}")
    with pytest.raises(LabError, match="would have 5 of 21 users disabled, and 2 is the limit"):
        ostiary.command("directory", "sync")
    assert not any(user(ostiary, name).disabled for name in gone)
    slapd.kill()
    with pytest.raises(LabError, match="no server of directory corp answers"):
        ostiary.command("directory", "sync")
    with pytest.raises(LabError, match=r"NO directory corp: ldaps://127\.0\.0\.1: .*Connection refused"):
        ostiary.command("check")
    slapd.start()
    assert not any(user(ostiary, name).disabled for name in gone)
    failures = [event.reason for event in ostiary.audit_since(mark) if event.action == "directory.sync"]
    assert len(failures) == 2
    [row] = ostiary.command_json("directory", "sync", "--allow-mass-disable")
    assert row["disabled"] == 5
    assert all(user(ostiary, name).disabled for name in gone)
