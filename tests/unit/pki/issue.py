"""What the tests of devices and of the register share."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.audit import Actor, AuditEvent, verify_chain
from core.runtime import Runtime
from pki.authority import CertificateAuthority
from pki.devices import issue_device_certificate

ALICE = Actor("user", "alice")
KEY = ec.generate_private_key(ec.SECP256R1())


def issue(
    runtime: Runtime,
    authority: CertificateAuthority,
    device_id: str | None = None,
    public_key: CertificatePublicKeyTypes | None = None,
    *,
    name: str = "alice-laptop",
    user: str = "alice",
) -> x509.Certificate:
    with runtime.database.transaction() as session:
        return issue_device_certificate(
            session, authority, device_id or str(uuid.uuid4()), name, user, public_key or KEY.public_key(), ALICE
        )


def events(runtime: Runtime, action: str) -> list[AuditEvent]:
    """The events of one action, from a chain that is whole."""
    with runtime.database.reading() as session:
        found = list(session.scalars(select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id)))
        verify_chain(session)
        session.expunge_all()
        return found


def fail_after(runtime: Runtime, change: Callable[[Session], object]) -> None:
    """Make a change in a transaction that then fails."""

    def attempt() -> None:
        with runtime.database.transaction() as session:
            change(session)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        attempt()
