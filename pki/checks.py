"""What `ostiary check` says about certificates; looks only, makes nothing."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from sqlalchemy import inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.checks import Check
from core.clock import utc_now
from core.database import Database
from core.errors import OstiaryError
from core.settings import Settings
from pki.authority import load_authority
from pki.models import Authority, Certificate
from pki.profiles import BACKDATE
from pki.system import gateway_names, portal_names
from pki.trust import load_authorities

ROOT_WARNING = timedelta(days=365)
"""Every client has to be given a new root: that takes a year."""
ISSUING_WARNING = timedelta(days=30)

_CLOCK_FIX = "set the clock right, and keep it right with chrony or systemd-timesyncd"


def checks(settings: Settings) -> list[Check]:
    """The authority, its dates, the dates of the system's certificates, and whether the clock agrees with them."""
    if _not_made_yet(settings):
        return [_at_first_start()]
    try:
        with closing(Database.open(settings)) as database:
            if not inspect(database.engine).has_table(Authority.__tablename__):
                return [_at_first_start()]
            with database.reading() as session:
                return _checks(session, settings, utc_now())
    except SQLAlchemyError as error:
        return [Check("pki: authority", None, f"the database can't be read: {type(error).__name__}")]
    except OstiaryError as error:
        return [Check("pki: authority", False, error.message, error.fix or "")]


def _not_made_yet(settings: Settings) -> bool:
    """Opening an SQLite database that is not there would make one."""
    url = make_url(settings.database_url)
    return url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).exists())


def _at_first_start() -> Check:
    return Check("pki: authority", True, "root and issuing CA will be made at the first start")


def _checks(session: Session, settings: Settings, now: datetime) -> list[Check]:
    stored = load_authority(session)
    if stored is None:
        return [_at_first_start()]
    root, issuing = (ca.certificate for ca in stored)
    return [
        Check("pki: authority", True, root.subject.rfc4514_string()),
        _clock(root, issuing, now),
        _ca_dates("root", root, ROOT_WARNING, "plan a new root: every client has to be given it", now),
        _ca_dates(
            "issuing CA", issuing, ISSUING_WARNING, "it is renewed at the next start, as far as the root lives", now
        ),
        _system_dates(session, "gateway", gateway_names(settings)[0], now),
        _system_dates(session, "portal", portal_names(settings)[0], now),
        *_trusted(settings, [root, issuing], now),
    ]


def _trusted(settings: Settings, own: list[x509.Certificate], now: datetime) -> list[Check]:
    """The CAs of others: whether their files can be used, and the first date on which one of them ends."""
    try:
        authorities = load_authorities(settings.pki.trusted_authorities, own)
    except OstiaryError as error:
        return [Check("pki: trusted authorities", False, error.message, error.fix or "")]
    checks = []
    for authority in authorities:
        first = min((*authority.anchors, *authority.intermediates), key=lambda ca: ca.not_valid_after_utc)
        name = f"trusted {authority.name}"
        fix = f"get its new certificate, and put it into {authority.settings.file}"
        checks.append(_ca_dates(name, first, ISSUING_WARNING, fix, now))
    return checks


def _clock(root: x509.Certificate, issuing: x509.Certificate, now: datetime) -> Check:
    begin = max(root.not_valid_before_utc, issuing.not_valid_before_utc)
    if now < begin:
        return Check(
            "pki: clock",
            False,
            f"{now:%Y-%m-%d %H:%M} UTC is before the CA was made ({begin:%Y-%m-%d %H:%M})",
            _CLOCK_FIX,
        )
    return Check("pki: clock", True, f"agrees with the CA, made {begin + BACKDATE:%Y-%m-%d}")


def _ca_dates(name: str, certificate: x509.Certificate, warning: timedelta, fix: str, now: datetime) -> Check:
    end = certificate.not_valid_after_utc
    if now > end:
        return Check(f"pki: {name}", False, f"ended {end:%Y-%m-%d}", fix)
    left = f"until {end:%Y-%m-%d} ({(end - now).days} days)"
    return Check(f"pki: {name}", None, left, fix) if end - now < warning else Check(f"pki: {name}", True, left)


def _system_dates(session: Session, profile: str, name: str, now: datetime) -> Check:
    title = f"pki: {profile} certificate"
    row = session.scalars(
        select(Certificate)
        .where(Certificate.profile == profile, Certificate.revoked_at.is_(None))
        .order_by((Certificate.subject == name).desc(), Certificate.not_after.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return Check(title, True, f"will be issued when the {profile} starts")
    if row.subject != name:
        return Check(title, None, f"is for {row.subject}, not {name}", f"start the {profile}: it issues another one")
    if now > row.not_after:
        return Check(title, None, f"ended {row.not_after:%Y-%m-%d}", f"start the {profile}: it renews at start")
    if now < row.not_before:
        return Check(title, False, f"begins only {row.not_before:%Y-%m-%d %H:%M} UTC", _CLOCK_FIX)
    return Check(title, True, f"{name}, until {row.not_after:%Y-%m-%d %H:%M} UTC")
