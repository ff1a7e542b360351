from __future__ import annotations

import re
from math import log2

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sqlalchemy import select

from aaa import devices, users
from aaa.devices import CODE_ALPHABET, CODE_GROUP_LENGTH, CODE_GROUPS, device_overview, new_access_code
from aaa.eap.mschapv2 import nt_password_hash
from aaa.models import AccessCode
from core.audit import SYSTEM, AuditEvent, verify_chain
from core.errors import ConflictError, NotFoundError
from core.runtime import Runtime
from pki.authority import CertificateAuthority
from pki.names import serial_text
from posture import devices as inventory
from tests.unit.aaa.people import certify, enrol


def _actions(runtime: Runtime) -> list[str]:
    with runtime.database.reading() as session:
        verify_chain(session)
        return list(session.scalars(select(AuditEvent.action).where(AuditEvent.target.like("device:%"))))


def test_an_access_code_can_be_typed_and_not_guessed() -> None:
    codes = {new_access_code() for _ in range(200)}
    assert len(codes) == 200
    for code in codes:
        assert re.fullmatch(
            f"([{CODE_ALPHABET}]{{{CODE_GROUP_LENGTH}}}-){{{CODE_GROUPS - 1}}}[{CODE_ALPHABET}]{{5}}", code
        )
    assert CODE_GROUPS * CODE_GROUP_LENGTH * log2(len(CODE_ALPHABET)) >= 100
    assert not set(CODE_ALPHABET) & set("01ilo")
    assert CODE_ALPHABET.lower() == CODE_ALPHABET


def test_only_the_encrypted_hash_of_a_code_is_kept(runtime: Runtime) -> None:
    laptop = enrol(runtime)
    with runtime.database.reading() as session:
        (row,) = session.scalars(select(AccessCode))
        assert row.device_id == laptop.id
        assert row.user_name == "alice"
        assert nt_password_hash(laptop.code) not in row.encrypted_nt_hash
        assert runtime.box.decrypt(row.encrypted_nt_hash).reveal() == nt_password_hash(laptop.code)
    database = (runtime.settings.state_dir / "ostiary.db").read_bytes()
    wal = (runtime.settings.state_dir / "ostiary.db-wal").read_bytes()
    assert laptop.code.encode() not in database + wal
    assert _actions(runtime) == ["device.add", "device.issue-code"]


def test_a_device_needs_an_owner_who_may_sign_in(runtime: Runtime) -> None:
    with pytest.raises(NotFoundError, match="no user 'bob'"):
        devices.add_device(runtime, "bob", "bob-laptop", "", SYSTEM)
    with runtime.database.transaction() as session:
        users.set_disabled(session, users.create_user(session, "bob", actor=SYSTEM), True, SYSTEM)
    with pytest.raises(ConflictError, match="bob is disabled"):
        devices.add_device(runtime, "Bob", "bob-laptop", "", SYSTEM)
    assert _actions(runtime) == []


def test_a_name_that_is_taken_leaves_nothing_behind(runtime: Runtime) -> None:
    laptop = enrol(runtime)
    with pytest.raises(ConflictError):
        devices.add_device(runtime, "alice", laptop.name, "", SYSTEM)
    assert _actions(runtime) == ["device.add", "device.issue-code"]


def test_revoked_devices_and_disabled_owners_get_nothing_new(runtime: Runtime) -> None:
    laptop = enrol(runtime)
    authority = CertificateAuthority.open(runtime)
    with runtime.database.transaction() as session:
        users.set_disabled(session, users.get_user(session, "alice"), True, SYSTEM)
    with pytest.raises(ConflictError, match="disabled"):
        devices.renew_access_code(runtime, laptop.id, SYSTEM)
    with pytest.raises(ConflictError, match="disabled"):
        devices.issue_certificate(runtime, authority, laptop.id, "ecdsa-p256", SYSTEM)
    with runtime.database.transaction() as session:
        users.set_disabled(session, users.get_user(session, "alice"), False, SYSTEM)
        inventory.set_state(session, inventory.get(session, laptop.id), "revoked", "", SYSTEM)
    with pytest.raises(ConflictError, match="revoked"):
        devices.renew_access_code(runtime, laptop.id, SYSTEM)
    with pytest.raises(ConflictError, match="revoked"):
        devices.issue_certificate(runtime, authority, laptop.id, "ecdsa-p256", SYSTEM)
    with pytest.raises(NotFoundError):
        devices.renew_access_code(runtime, "another", SYSTEM)


def test_a_certificate_of_either_kind(runtime: Runtime) -> None:
    laptop = enrol(runtime)
    authority = CertificateAuthority.open(runtime)
    p256 = devices.issue_certificate(runtime, authority, laptop.id, "ecdsa-p256", SYSTEM)
    assert isinstance(p256.private_key, ec.EllipticCurvePrivateKey)
    assert p256.certificate.public_key() == p256.private_key.public_key()
    assert "private_key" not in repr(p256)
    rsa_one = devices.issue_certificate(runtime, authority, laptop.id, "rsa-3072", SYSTEM)
    assert isinstance(rsa_one.private_key, rsa.RSAPrivateKey)


def test_overview(runtime: Runtime) -> None:
    laptop = enrol(runtime)
    issued, _ = certify(runtime, laptop.id)
    with runtime.database.reading() as session:
        overview = device_overview(session, laptop.id)
        assert overview.device.name == "alice-laptop"
        assert overview.owner is not None
        assert overview.owner.name == "alice"
        assert [row.serial for row in overview.certificates] == [serial_text(issued.certificate)]
        assert (overview.live_sessions, overview.recent_sessions) == ([], [])
        with pytest.raises(NotFoundError):
            device_overview(session, "another")


def test_secrets_do_not_show(runtime: Runtime) -> None:
    enrol(runtime)
    new = devices.add_device(runtime, "alice", "phone", "", SYSTEM)
    issued = devices.renew_access_code(runtime, new.device.id, SYSTEM)
    assert new.access_code not in repr(new)
    assert issued.code not in repr(issued)
