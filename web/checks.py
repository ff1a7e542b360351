"""The portal's part of `ostiary check`: its port, and its certificate's dates."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

from core import migrations
from core.checks import Check
from core.clock import utc_now
from core.database import Database
from core.errors import OstiaryError
from core.settings import Settings
from pki.certificates import list_certificates, state_of
from web.server import PortalError, listen


def checks(settings: Settings) -> list[Check]:
    """What the portal needs of this machine."""
    return [_port(settings), _certificate(settings)]


def _port(settings: Settings) -> Check:
    name, where = "web: port", f"{settings.web.host} port {settings.web.port}"
    try:
        listen(settings.web).close()
    except PortalError as error:
        return Check(name, False, error.message, error.fix or "")
    return Check(name, True, f"{where} is free")


def _certificate(settings: Settings) -> Check:
    name, later = "web: certificate", "will be issued at the first start"
    try:
        if _is_missing(settings) or migrations.current_revision(settings) is None:
            return Check(name, True, later)
        database = Database.open(settings)
        try:
            with database.reading() as session:
                rows = list_certificates(session, profile="portal", limit=1)
        finally:
            database.close()
    except OstiaryError as error:
        return Check(name, False, error.message, error.fix or "")
    if not rows:
        return Check(name, True, later)
    state = state_of(rows[0], utc_now())
    if state == "valid":
        return Check(name, True, f"valid until {rows[0].not_after:%Y-%m-%d %H:%M} UTC, renewed by itself before")
    return Check(name, None, f"{state}; a new one is issued at the next start", "ostiary web")


def _is_missing(settings: Settings) -> bool:
    """Whether there is no database yet; to look into an SQLite file that is not there would make it."""
    url = make_url(settings.database_url)
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()
