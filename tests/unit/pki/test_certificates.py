from __future__ import annotations

import uuid
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import event, select

from core.clock import utc_now
from core.errors import NotFoundError
from core.runtime import Runtime
from pki.authority import CertificateAuthority
from pki.certificates import Revocation, list_certificates, revocation_of, revoke_certificate, state_of
from pki.devices import revoke_device_certificates
from pki.models import Certificate
from pki.names import serial_text
from tests.unit.pki.issue import ALICE, events, fail_after, issue


class TestRevocation:
    def test_revokes_all_of_a_device_once(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        device_id, other_id = str(uuid.uuid4()), str(uuid.uuid4())
        mine = [serial_text(issue(runtime, authority, device_id)) for _ in range(3)]
        other = serial_text(issue(runtime, authority, other_id))
        with runtime.database.transaction() as session:
            assert revoke_device_certificates(session, device_id, "laptop stolen", ALICE) == 3
        with runtime.database.transaction() as session:
            assert revoke_device_certificates(session, device_id, "again", ALICE) == 0
        with runtime.database.reading() as session:
            for serial in mine:
                revocation = revocation_of(session, serial)
                assert revocation is not None
                assert revocation.reason == "laptop stolen"
                assert revocation.revoked_at is not None
                assert abs(revocation.revoked_at - utc_now()) < timedelta(seconds=30)
            assert revocation_of(session, other) is None
        revoked = events(runtime, "certificate.revoke")
        assert {event.target for event in revoked} == {f"certificate:{serial}" for serial in mine}
        assert {(event.actor, event.reason) for event in revoked} == {("user:alice", "laptop stolen")}
        assert {event.detail["device_id"] for event in revoked} == {device_id}

    def test_leaves_what_has_ended_by_itself(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        device_id = str(uuid.uuid4())
        issue(runtime, authority, device_id)
        with runtime.database.transaction() as session:
            session.scalars(select(Certificate)).one().not_after = utc_now() - timedelta(seconds=1)
        with runtime.database.transaction() as session:
            assert revoke_device_certificates(session, device_id, "", ALICE) == 0

    def test_revokes_one(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        serial = serial_text(issue(runtime, authority))
        written = ":".join(a + b for a, b in zip(f"{serial:0>40}"[::2], f"{serial:0>40}"[1::2], strict=True)).upper()
        with runtime.database.transaction() as session:
            assert revoke_certificate(session, written, "test", ALICE)
            assert not revoke_certificate(session, f"0x{serial}", "other", ALICE)
            revocation = revocation_of(session, serial)
        assert revocation is not None
        assert revocation.reason == "test"
        assert len(events(runtime, "certificate.revoke")) == 1

    @pytest.mark.parametrize("serial", ["", "0", "beef", "zz", "f" * 10_000])
    def test_an_unknown_serial_can_not_be_revoked(self, runtime: Runtime, serial: str) -> None:
        with runtime.database.transaction() as session, pytest.raises(NotFoundError):
            revoke_certificate(session, serial, "test", ALICE)

    def test_rolls_back_with_the_transaction(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        device_id = str(uuid.uuid4())
        serial = serial_text(issue(runtime, authority, device_id))
        fail_after(runtime, lambda session: revoke_device_certificates(session, device_id, "test", ALICE))
        with runtime.database.reading() as session:
            assert revocation_of(session, serial) is None
        assert events(runtime, "certificate.revoke") == []

    def test_an_unknown_certificate_counts_as_revoked(
        self, runtime: Runtime, authority: CertificateAuthority
    ) -> None:
        with runtime.database.reading() as session:
            assert revocation_of(session, "beef") == Revocation(
                None, "the certificate is not in the register of issued certificates"
            )

    def test_is_one_indexed_query(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        serial = serial_text(issue(runtime, authority))
        statements: list[str] = []
        with runtime.database.reading() as session:
            session.connection()
            engine = runtime.database.engine
            event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
            revocation_of(session, serial)
            assert len(statements) == 1
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statements[0]}", (serial,)).all()
        assert "SEARCH certificate USING INDEX" in str(plan)


class TestList:
    def test_filters_and_order(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        device_id = str(uuid.uuid4())
        for _ in range(2):
            issue(runtime, authority, device_id)
        issue(runtime, authority)
        with runtime.database.reading() as session:
            assert len(list_certificates(session)) == 3
            assert len(list_certificates(session, device_id=device_id)) == 2
            assert len(list_certificates(session, profile="device", limit=1)) == 1
            assert list_certificates(session, profile="gateway") == []
            times = [row.not_before for row in list_certificates(session)]
        assert all(a >= b for a, b in pairwise(times))

    def test_states(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        issue(runtime, authority)
        with runtime.database.transaction() as session:
            row = session.scalars(select(Certificate)).one()
            assert state_of(row, utc_now()) == "valid"
            assert state_of(row, row.not_after + timedelta(seconds=1)) == "expired"
            assert state_of(row, row.not_before - timedelta(seconds=1)) == "not yet valid"
            revoke_certificate(session, row.serial, "test", ALICE)
            assert state_of(row, utc_now()) == "revoked"
