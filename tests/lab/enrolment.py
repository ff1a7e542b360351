"""Users and laptops of a deployment under test, enrolled by its own functions."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from aaa import users
from aaa.devices import add_device
from core.audit import Actor
from core.errors import ConflictError
from core.runtime import Runtime
from pki import certificates
from pki.authority import CertificateAuthority
from pki.devices import issue_device_certificate
from pki.issuance import Request
from pki.names import DEVICE_DOMAIN, device_names, subject
from pki.profiles import BACKDATE, DEVICE
from tests.lab.certificates import Identity, KeyKind, new_key

ACTOR = Actor("system", "lab")


@dataclass(frozen=True, slots=True)
class Laptop:
    """An enrolled device."""

    user_name: str
    device_id: str
    device_name: str
    access_code: str

    @property
    def host_name(self) -> str:
        """The dNSName of its certificates, with which it presents itself."""
        return f"{self.device_name}.{DEVICE_DOMAIN}"


class Enrolment:
    """Enrols into one deployment."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.authority = CertificateAuthority.open(runtime)

    def laptop(self, user_name: str, device_name: str) -> Laptop:
        """A new device of this user, who is put into the directory where they are new."""
        with self._runtime.database.transaction() as session, contextlib.suppress(ConflictError):
            users.create_user(session, user_name, actor=ACTOR)
        added = add_device(self._runtime, user_name, device_name, "Debian 12", ACTOR)
        return Laptop(user_name, added.device.id, added.device.name, added.access_code)

    def certificate(self, laptop: Laptop, kind: KeyKind = "p256") -> Identity:
        """A certificate for this device and a new key."""
        key = new_key(kind)
        with self._runtime.database.transaction() as session:
            certificate = issue_device_certificate(
                session,
                self.authority,
                laptop.device_id,
                laptop.device_name,
                laptop.user_name,
                key.public_key(),
                ACTOR,
            )
        return Identity(certificate, key, (self.authority.issuing,))

    def expired_certificate(self, laptop: Laptop) -> Identity:
        """A certificate of this device that has just ended."""
        key = new_key()
        # A certificate begins a little in the past; one that lives for half of that has ended already.
        request = Request(
            DEVICE,
            subject(self.authority.settings.organization, laptop.device_name),
            key.public_key(),
            BACKDATE / 2,
            device_names(laptop.device_id, laptop.device_name, laptop.user_name),
        )
        certificate = self.authority.sign(request)
        with self._runtime.database.transaction() as session:
            certificates.store(
                session,
                certificate,
                profile=DEVICE.name,
                subject=laptop.device_name,
                actor=ACTOR,
                device_id=laptop.device_id,
            )
        return Identity(certificate, key, (self.authority.issuing,))
