"""Who is behind a session, looked up anew while it is about to start or as long as it lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from aaa.backend import lookups
from aaa.backend.lookups import NOTHING, Known
from aaa.backend.vouched import unmanaged
from aaa.decision import Subject, is_two_factors


@dataclass(frozen=True, slots=True)
class SessionOf:
    """Whose a session is, as it was decided."""

    user_name: str
    device_id: str
    device_name: str
    method: str
    managed: bool
    """The device is in the inventory."""

    @property
    def user_is_not_the_owner(self) -> bool:
        """Whether the user has to be looked up by name: the device's owner may be somebody else, or is not known."""
        return not self.managed or is_two_factors(self.method)


def session_facts(connection: Connection, sessions: Sequence[SessionOf], *, lock: bool = False) -> list[Known]:
    """What is known of each session's user and device now.

    Args:
        connection: the transaction.
        sessions: which.
        lock: keep devices from being revoked, and those users from being disabled, before the end of the transaction.
    """
    devices = lookups.devices(connection, {session.device_id for session in sessions}, lock=lock)
    users: Mapping[str, Subject] = {}
    if any(session.user_is_not_the_owner for session in sessions):
        # All of the batch, in one order with the limit of devices, so that two gateways don't wait for each other.
        users = lookups.users(connection, {session.user_name for session in sessions}, lock=lock)
    return [_facts(session, devices, users) for session in sessions]


def _facts(session: SessionOf, devices: Mapping[str, Known], users: Mapping[str, Subject]) -> Known:
    user = users.get(session.user_name)
    if not session.managed:
        return unmanaged(user, session.device_id, session.device_name)
    known = devices.get(session.device_id, NOTHING)
    if not session.user_is_not_the_owner:
        return known
    return Known(user, known.device, known.posture, None)
