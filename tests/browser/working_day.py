"""What a company's gateway has seen until today: people, their devices, a day of sign-ins, sessions that ended.

Written by the product's own functions, with times that are past, so that the pages have something to sum up.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import cycle

from aaa import accounting, users
from aaa.backend import events
from aaa.devices import add_device
from aaa.interface import Access, Refusal, SessionStart, SessionUsage, SignInContext, TerminateCause
from core.audit import Actor, Entry, record_many
from core.runtime import Runtime
from posture.models import Device

ACTOR = Actor("cli", "root")
GATEWAY = "gateway-1"
_ACCEPTED_BY_HOUR = (0, 0, 1, 0, 1, 2, 5, 11, 14, 9, 6, 5, 8, 7, 6, 5, 4, 5, 3, 2, 3, 1, 1, 0)
"""Of the clock, UTC."""
_REFUSED_BY_HOUR = (0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0)
_GUESSED_NAMES = ("admin", "vpn", "backup")
_REFUSAL = Refusal("unknown-user", "there is no such user")
_SESSIONS, _SESSION_EVERY = 8, 4
"""So many sessions are kept: of every so manyth of the last sign-ins."""
_SUITE = "AES_GCM_16_256"


@dataclass(frozen=True, slots=True)
class _Colleague:
    name: str
    full_name: str
    device: str
    platform: str
    client: str
    address: str
    enrolled_days_ago: int


_COLLEAGUES = (
    _Colleague("tomas", "Tomáš Novák", "tomas-thinkpad", "Windows", "Windows", "203.0.113.17", 61),
    _Colleague("tomas", "Tomáš Novák", "tomas-phone", "iOS", "Apple", "203.0.113.17", 44),
    _Colleague("lena", "Lena Hoffmann", "lena-macbook", "macOS", "Apple", "203.0.113.84", 58),
    _Colleague("amira", "Amira Haddad", "amira-pixel", "Android", "Android", "2001:db8:7::21", 12),
    _Colleague("jonas", "Jonas Berg", "jonas-desktop", "Linux", "strongSwan", "203.0.113.142", 30),
)


def write_working_day(runtime: Runtime, now: datetime) -> None:
    """Put it into the database of an installation whose gateway does not run yet."""
    devices = [_enrol(runtime, colleague, now) for colleague in _COLLEAGUES]
    people = list(zip(_COLLEAGUES, devices, strict=True))
    moments = list(_moments(_ACCEPTED_BY_HOUR, now))
    accepted = [_accepted(*people[index % len(people)], at) for index, at in enumerate(moments)]
    refused = [_refused(name, at) for name, at in zip(cycle(_GUESSED_NAMES), _moments(_REFUSED_BY_HOUR, now))]
    with runtime.database.transaction() as session:
        record_many(session, sorted(accepted + refused, key=lambda entry: entry.at or now))
        connection = session.connection()
        for number, (index, at) in enumerate(list(enumerate(moments))[-_SESSIONS * _SESSION_EVERY :: _SESSION_EVERY]):
            start, usage = _session(*people[index % len(people)], number)
            accounting.open_sessions(connection, [start], at)
            ended_at = at + (now - at) * (0.4 + 0.05 * number)
            accounting.close_sessions(connection, [(usage, TerminateCause.USER_REQUEST, ended_at)])


def _enrol(runtime: Runtime, colleague: _Colleague, now: datetime) -> Device:
    with runtime.database.transaction() as session:
        if colleague.name not in {user.name for user in users.list_users(session)}:
            users.create_user(session, colleague.name, display_name=colleague.full_name, actor=ACTOR)
    device = add_device(runtime, colleague.name, colleague.device, colleague.platform, ACTOR).device
    with runtime.database.transaction() as session:
        session.get_one(Device, device.id).created_at = now - timedelta(days=colleague.enrolled_days_ago)
    return device


def _moments(counts_by_hour: Sequence[int], now: datetime) -> Iterator[datetime]:
    """So many moments in each of the last 24 hours, evenly spread, in order."""
    this_hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    for hours_ago in range(23, -1, -1):
        hour = this_hour - timedelta(hours=hours_ago)
        count = counts_by_hour[hour.hour]
        for number in range(count):
            at = hour + timedelta(hours=1) * (number + 0.5) / count
            if at < now - timedelta(minutes=2):
                yield at


def _accepted(colleague: _Colleague, device: Device, at: datetime) -> Entry:
    context = SignInContext(uuid.uuid4().hex, GATEWAY, colleague.address, colleague.name, colleague.client)
    return replace(events.accepted(context, _access(device)), at=at)


def _refused(name: str, at: datetime) -> Entry:
    context = SignInContext(uuid.uuid4().hex, GATEWAY, "203.0.113.211", name, "")
    return events.refused(context, _REFUSAL, identity=name, method="eap-mschapv2", at=at)


def _session(colleague: _Colleague, device: Device, number: int) -> tuple[SessionStart, SessionUsage]:
    address = f"[{colleague.address}]:4500" if ":" in colleague.address else f"{colleague.address}:4500"
    start = SessionStart(
        str(uuid.uuid4()),
        _access(device),
        GATEWAY,
        address,
        colleague.client,
        f"10.99.0.{20 + number}",
        f"fd99::{20 + number:x}",
        f"{_SUITE} / PRF_HMAC_SHA2_384 / ECP_384",
        _SUITE,
    )
    bytes_in, bytes_out = 1_370_000 * (12 - number) ** 2, 9_100_000 * (11 - number) ** 2
    return start, SessionUsage(start.session_id, bytes_in, bytes_out, bytes_in // 700, bytes_out // 1100, address)


def _access(device: Device) -> Access:
    return Access(
        device.owner,
        device.id,
        device.name,
        "eap-mschapv2",
        "trusted-devices",
        "device is trusted",
        None,
        (),
        (),
        3600.0,
        60.0,
    )
