"""The devices pages: the list, one device, adding, new codes, revoking."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from flask import Flask

from aaa.devices import issue_certificate
from aaa.models import AccessCode, User
from core.audit import SYSTEM, recent_events
from core.clock import utc_now
from core.runtime import Runtime
from pki.authority import CertificateAuthority
from pki.certificates import list_certificates
from posture import devices as inventory
from posture.models import Device
from tests.unit.web import world
from tests.unit.web.visitor import Person, Visitor

_CODE = re.compile(r"<code>([2-9a-z]{5}(?:-[2-9a-z]{5}){4})</code>")


def _set_state(runtime: Runtime, device: Device, state: str, reason: str) -> None:
    with runtime.database.transaction() as session:
        inventory.set_state(session, session.get_one(Device, device.id), state, reason, SYSTEM)


def test_an_empty_list_says_what_to_do(administrator: Visitor) -> None:
    """Add the first one."""
    assert "Add the first device" in administrator.get("/devices").text


def test_the_list_is_filtered_by_state_name_and_owner(runtime: Runtime, administrator: Visitor) -> None:
    """And the counts stay those of all."""
    world.add_device(runtime, "ines", "ines-laptop")
    _set_state(runtime, world.add_device(runtime, "tobias", "pixel", "Android"), "quarantined", "disk not encrypted")
    _set_state(runtime, world.add_device(runtime, "tobias", "old"), "revoked", "retired")
    everything = administrator.get("/devices").text
    for part in ("ines-laptop", "pixel", "old", "disk not encrypted", "Quarantined", "Revoked"):
        assert part in everything
    for query, shown, hidden in (
        ("state=quarantined", "pixel", "ines-laptop"),
        ("q=INES", "ines-laptop", "pixel"),
        ("q=tobias&state=revoked", ">old<", "pixel"),
        ("q=%25", "No device fits", "ines-laptop"),
        ("state=%27+OR+1", "ines-laptop", "No device fits"),
    ):
        page = administrator.get(f"/devices?{query}").text
        assert shown in page, query
        assert hidden not in page, query


def test_adding_shows_code_and_steps_once(runtime: Runtime, administrator: Visitor) -> None:
    """The code is on this page and never again."""
    world.add_device(runtime, "ines", "other")
    answer = administrator.post("/devices/add", {"owner": "ines", "name": "Ines-Phone", "platform": "iOS"})
    found = _CODE.search(answer.text)
    assert found is not None
    assert answer.headers["Cache-Control"] == "no-store"
    for part in ("ines-phone", "gateway.ostiary.internal", "Device Management", "ostiary.mobileconfig"):
        assert part in answer.text
    with runtime.database.reading() as session:
        device = inventory.find(session, "ines-phone")
        assert recent_events(session, action="device.add", limit=1)[0].actor == "user:maria"
    assert found[1] not in administrator.get(f"/devices/{device.id}").text


@pytest.mark.parametrize("platform", ["Windows", "macOS", "iOS", "Android", "Linux"])
def test_every_platform_has_its_steps(runtime: Runtime, administrator: Visitor, platform: str) -> None:
    """With the server's name, and the CA in the form that it takes."""
    world.add_device(runtime, "ines", "other")
    page = administrator.post("/devices/add", {"owner": "ines", "name": "new", "platform": platform}).text
    assert f"On {platform}" in page
    profile = {"Windows": "ostiary.ps1", "macOS": "ostiary.mobileconfig", "iOS": "ostiary.mobileconfig"}.get(platform)
    assert ("/profile" in page) == (profile is not None)
    assert profile is None or profile in page
    # Apple's profile brings the root along.
    trust = {"Linux": "/ca.pem", "Windows": "/ca.crt", "Android": "/ca.crt"}.get(platform)
    assert ("Trust this gateway" in page) == (trust is not None)
    assert trust is None or trust in page
    assert ("--cert ostiary-root.pem" in page) == (platform == "Linux")
    assert page.count("<li>") >= 3


@pytest.mark.parametrize(
    ("platform", "media_type"), [("iOS", "application/x-apple-aspen-config"), ("Windows", "text/plain")]
)
def test_the_profile_is_a_file_without_a_secret(
    runtime: Runtime, administrator: Visitor, platform: str, media_type: str
) -> None:
    device = world.add_device(runtime, "ines", "ines-phone", platform)
    code = _CODE.search(administrator.post(f"/devices/{device.id}/access-code").text)
    answer = administrator.get(f"/devices/{device.id}/profile")
    assert (answer.status_code, answer.mimetype) == (200, media_type)
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    assert "gateway.ostiary.internal" in answer.text
    assert code is None or code[1] not in answer.text


def test_there_is_no_profile_for_who_is_set_up_by_hand(runtime: Runtime, administrator: Visitor) -> None:
    device = world.add_device(runtime, "ines", "pixel", "Android")
    assert administrator.get(f"/devices/{device.id}/profile").status_code == 404
    assert administrator.get("/devices/none/profile").status_code == 404


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"owner": "ines", "name": "other", "platform": "Linux"}, "exists already and belongs to ines"),
        ({"owner": "ines", "name": "no spaces", "platform": "Linux"}, "can&#39;t be used"),
        ({"owner": "nobody", "name": "new", "platform": "Linux"}, "there is no user"),
        ({"owner": "ines", "name": "new", "platform": "BeOS"}, "Choose one of the list"),
        ({"owner": "ines", "platform": "Linux"}, "Fill this in"),
    ],
)
def test_a_device_that_can_not_be_says_why(
    runtime: Runtime, administrator: Visitor, form: dict[str, str], words: str
) -> None:
    """Beside the field, with the rest of the form kept."""
    world.add_device(runtime, "ines", "other")
    answer = administrator.post("/devices/add", form)
    assert answer.status_code == 400
    assert words.lower() in answer.text.lower()
    with runtime.database.reading() as session:
        assert [device.name for device in inventory.list(session)] == ["other"]


def test_without_users_there_is_a_way_on(app: Flask, runtime: Runtime, administrator: Visitor) -> None:
    """Disabled people can't own new devices."""
    with runtime.database.transaction() as session:
        world_user = User(name="gone", created_at=utc_now(), disabled=True)
        session.add(world_user)
    page = administrator.get("/devices/add").text
    assert 'value="maria"' in page
    assert 'value="gone"' not in page


def test_a_new_code_replaces_the_old_one(runtime: Runtime, administrator: Visitor) -> None:
    """Shown once, like the first."""
    device = world.add_device(runtime, "ines", "ines-laptop")
    with runtime.database.reading() as session:
        before = session.get_one(AccessCode, device.id).encrypted_nt_hash
    assert "The old code stops working" in administrator.get(f"/devices/{device.id}/access-code").text
    assert _CODE.search(administrator.post(f"/devices/{device.id}/access-code").text)
    with runtime.database.reading() as session:
        assert session.get_one(AccessCode, device.id).encrypted_nt_hash != before


def test_one_device_shows_its_ways_in(runtime: Runtime, administrator: Visitor) -> None:
    """Access code and certificates with their ends, and the events about it."""
    device = world.add_device(runtime, "ines", "ines-laptop")
    certificate = issue_certificate(
        runtime, CertificateAuthority.open(runtime), device.id, "ecdsa-p256", SYSTEM
    ).certificate
    page = administrator.get(f"/devices/{device.id}").text
    assert f"{certificate.serial_number:x}" in page
    assert "ends in" not in page.replace("ends <time", "")
    assert "in 24 h" in page
    assert "in 8 h" in page
    assert "device.issue-code" in page
    with runtime.database.transaction() as session:
        session.get_one(AccessCode, device.id).expires_at = utc_now() - timedelta(minutes=3)
    assert "Expired" in administrator.get(f"/devices/{device.id}").text


def test_revoking_says_what_will_happen_and_does_it(runtime: Runtime, administrator: Visitor) -> None:
    """Here its session is at a RADIUS client; with a gateway that answers it is in tests/browser."""
    device = world.add_device(runtime, "ines", "ines-laptop")
    issue_certificate(runtime, CertificateAuthority.open(runtime), device.id, "ecdsa-p256", SYSTEM)
    world.connect(runtime, device)
    question = administrator.get(f"/devices/{device.id}/revoke").text
    for part in ("1 tunnel ends", "10.99.0.2", "1 certificate is revoked", "The access code stops working", "final"):
        assert part in question, part
    nothing = administrator.post(f"/devices/{device.id}/revoke", {"cause": "because"})
    assert nothing.status_code == 400
    page = administrator.post(f"/devices/{device.id}/revoke", {"cause": "Compromised", "note": "malware found"}).text
    for part in (
        "ines-laptop is revoked",
        "1 certificate was revoked",
        "Not told",
        "Revoked because",
    ):
        assert part in page, part
    with runtime.database.reading() as session:
        event = recent_events(session, action="device.revoke", limit=1)[0]
        certificates = list_certificates(session, device_id=device.id)
    assert (event.actor, event.target) == ("user:maria", "device:ines-laptop")
    assert event.reason == "Compromised: malware found"
    assert all(row.revoked_at is not None for row in certificates)


def test_a_revoked_device_offers_nothing_more(runtime: Runtime, administrator: Visitor) -> None:
    """No button, and the addresses behind them lead back."""
    device = world.add_device(runtime, "ines", "ines-laptop")
    _set_state(runtime, device, "revoked", "retired")
    page = administrator.get(f"/devices/{device.id}").text
    assert "Revoke</a>" not in page
    assert "New access code" not in page
    assert administrator.get(f"/devices/{device.id}/revoke").location == f"/devices/{device.id}"
    answer = administrator.post(f"/devices/{device.id}/access-code")
    assert answer.status_code == 400
    assert "is revoked" in answer.text


def test_security_revokes_but_adds_nothing(runtime: Runtime, app: Flask) -> None:
    """The role between."""
    device = world.add_device(runtime, "ines", "ines-laptop")
    security = Person(runtime, "jude", "security").signed_in(app)
    page = security.get(f"/devices/{device.id}").text
    assert "Revoke</a>" in page
    assert "New access code" not in page
    assert security.post(f"/devices/{device.id}/revoke", {"cause": "Other"}).status_code == 200


def test_the_ca_certificate_is_for_everybody(runtime: Runtime, visitor: Visitor) -> None:
    """In both forms, the same one."""
    from cryptography import x509

    der, pem = visitor.get("/ca.crt"), visitor.get("/ca.pem")
    root = CertificateAuthority.open(runtime).root
    assert der.mimetype == "application/x-x509-ca-cert"
    assert x509.load_der_x509_certificate(der.data) == x509.load_pem_x509_certificate(pem.data) == root
    assert 'filename="ostiary-root.crt"' in der.headers["Content-Disposition"]
    assert 'filename="ostiary-root.pem"' in pem.headers["Content-Disposition"]
