from __future__ import annotations

import pytest
from sqlalchemy import select

from core.audit import SYSTEM, AuditEvent, verify_chain
from core.database import Database
from core.errors import ConflictError, NotFoundError
from posture import devices
from posture.devices import DeviceError


def _actions(database: Database) -> list[str]:
    with database.reading() as session:
        verify_chain(session)
        return list(session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)))


def test_a_new_device_is_trusted_and_has_its_event(database: Database) -> None:
    with database.transaction() as session:
        device = devices.add(session, " Alice-Laptop ", "alice", "Debian 12", SYSTEM)
    with database.reading() as session:
        found = devices.get(session, device.id)
        assert (found.name, found.owner, found.state) == ("alice-laptop", "alice", "trusted")
        assert found.platform == "Debian 12"
        event = session.scalars(select(AuditEvent)).one()
        assert (event.action, event.target) == ("device.add", "device:alice-laptop")
        assert event.detail == {"device_id": device.id, "owner": "alice", "platform": "Debian 12"}


def test_a_name_is_given_once(database: Database) -> None:
    with database.transaction() as session:
        devices.add(session, "laptop", "alice", "", SYSTEM)
    with (
        pytest.raises(ConflictError, match="laptop exists already and belongs to alice"),
        database.transaction() as s,
    ):
        devices.add(s, "LAPTOP", "bob", "", SYSTEM)
    assert _actions(database) == ["device.add"]


@pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a.b", "a" * 64, "ä", "a\n"])
def test_a_name_is_a_dns_label(database: Database, name: str) -> None:
    # A line end around a name is whitespace of the one who types it; inside it is not.
    if name.strip() == "a":
        name = "a\nb"
    with pytest.raises(DeviceError, match="can't be used"), database.transaction() as session:
        devices.add(session, name, "alice", "", SYSTEM)
    assert _actions(database) == []


def test_a_platform_is_plain_text(database: Database) -> None:
    with pytest.raises(DeviceError, match="platform"), database.transaction() as session:
        devices.add(session, "laptop", "alice", "<script>", SYSTEM)


def test_states_change_with_their_events(database: Database) -> None:
    with database.transaction() as session:
        device = devices.add(session, "laptop", "alice", "", SYSTEM)
    with database.transaction() as session:
        devices.set_state(session, devices.get(session, device.id), "quarantined", "disk not encrypted", SYSTEM)
    with database.transaction() as session:
        devices.set_state(session, devices.get(session, device.id), "trusted", "encrypted again", SYSTEM)
        # What is so already is no change and no event.
        devices.set_state(session, devices.get(session, device.id), "trusted", "again", SYSTEM)
    with database.transaction() as session:
        devices.set_state(session, devices.get(session, device.id), "revoked", "stolen", SYSTEM, detail={"n": 1})
    assert _actions(database) == ["device.add", "device.quarantine", "device.trust", "device.revoke"]
    with database.reading() as session:
        last = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
        assert (last.reason, last.detail["before"], last.detail["n"]) == ("stolen", "trusted", 1)
        found = devices.get(session, device.id)
        assert (found.state, found.state_reason) == ("revoked", "stolen")


@pytest.mark.parametrize("state", ["trusted", "quarantined"])
def test_revoked_is_final(database: Database, state: str) -> None:
    with database.transaction() as session:
        device = devices.add(session, "laptop", "alice", "", SYSTEM)
        devices.set_state(session, device, "revoked", "stolen", SYSTEM)
    with pytest.raises(ConflictError, match="is revoked, and stays so"), database.transaction() as session:
        devices.set_state(session, devices.get(session, device.id), state, "found again", SYSTEM)


def test_there_is_no_other_state(database: Database) -> None:
    with database.transaction() as session:
        device = devices.add(session, "laptop", "alice", "", SYSTEM)
        with pytest.raises(DeviceError, match="no state"):
            devices.set_state(session, device, "Trusted", "", SYSTEM)


def test_find_and_list(database: Database) -> None:
    with database.transaction() as session:
        laptop = devices.add(session, "laptop", "alice", "", SYSTEM)
        devices.add(session, "desk", "bob", "", SYSTEM)
        devices.set_state(session, laptop, "quarantined", "", SYSTEM)
    with database.reading() as session:
        assert devices.find(session, "Laptop").id == laptop.id
        assert devices.find(session, laptop.id).name == "laptop"
        assert [device.name for device in devices.list(session)] == ["desk", "laptop"]
        assert [device.name for device in devices.list(session, owner="bob")] == ["desk"]
        assert [device.name for device in devices.list(session, state="quarantined")] == ["laptop"]
        with pytest.raises(NotFoundError):
            devices.find(session, "phone")
        with pytest.raises(NotFoundError):
            devices.get(session, "0")
