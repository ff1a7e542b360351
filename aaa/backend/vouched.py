"""From the names in a certificate of another CA to a user and a device of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy.engine import Connection

from aaa.backend import lookups
from aaa.backend.lookups import NOTHING, Known
from aaa.backend.requests import Proof, Vouched
from aaa.decision import UNMANAGED, DeviceIdentity, Posture, Subject

LONGEST_DEVICE_NAME = 64


class Directory:
    """What the database knows of everyone whom the certificates of a batch may name.

    Args:
        connection: the transaction.
        proofs: those of the batch.
        devices: what is known already, by id.
    """

    def __init__(self, connection: Connection, proofs: Iterable[Proof], devices: Mapping[str, Known]) -> None:
        vouched = [proof.vouched for proof in proofs if proof.vouched is not None]
        self._devices = devices
        self._by_name = lookups.devices_by_name(connection, {name for one in vouched for name in one.device_names})
        self._users = lookups.users(connection, {name for one in vouched for name in one.user_names})

    def facts(self, proof: Proof) -> Known:
        """The user and the device of a proof; whoever is not known is left out, and `aaa.decision` denies."""
        vouched = proof.vouched
        if vouched is None:
            return self._devices.get(proof.device_id, NOTHING)
        known = self._device(vouched)
        if not vouched.names_user:
            # A machine's certificate: its user is whoever owns the machine.
            return known
        user = next((self._users[name] for name in vouched.user_names if name in self._users), None)
        if known.device is not None:
            return Known(user, known.device, known.posture, None)
        return unmanaged(user, vouched.holder_id, _unmanaged_name(vouched, proof))

    def _device(self, vouched: Vouched) -> Known:
        if vouched.device_id:
            return self._devices.get(vouched.device_id, NOTHING)
        return next((self._by_name[name] for name in vouched.device_names if name in self._by_name), NOTHING)


def unmanaged(user: Subject | None, device_id: str, name: str) -> Known:
    """A device that is not in the inventory. It belongs to whoever the certificate names."""
    owner = user.user_name if user is not None else ""
    return Known(user, DeviceIdentity(device_id, name, owner), Posture(UNMANAGED), None)


def _unmanaged_name(vouched: Vouched, proof: Proof) -> str:
    """Without a certificate, somebody's password was right: then the name is the user's."""
    return device_name(vouched.authority, proof.certificate_serial or next(iter(vouched.user_names), ""))


def device_name(authority: str, serial: str) -> str:
    """What such a device is called: by its certificate, and with a character that no name in the inventory has."""
    return f"{authority}/{serial}"[:LONGEST_DEVICE_NAME]
