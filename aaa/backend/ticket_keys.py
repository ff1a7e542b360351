"""Keys for the tickets of clients (RFC 5723), the same for all gateways of a database.

Each epoch has a random key of its own, stored like every other secret of the installation and deleted when no ticket
under it is good any more: a database that is stolen later does not open old ones.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.database import Database
from core.secrets import SecretBox, StoredSecret, get_or_create_secret

EPOCH_S = 12 * 3600
_PREFIX = "ticket-key:"
_ATTEMPTS = 3


def ticket_keys(database: Database, box: SecretBox, now: datetime) -> dict[int, bytes]:
    """The keys of the last epoch, this one and the next, 32 bytes each; what is missing is made, what is old goes.

    May block. The next one is there early, so that a gateway that asks now and then is never without.
    """
    this = int(now.timestamp() // EPOCH_S)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with database.transaction() as session:
                return _in_transaction(session, box, this)
        except IntegrityError:
            # Another gateway made the same one at this moment.
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("not reached")


def _in_transaction(session: Session, box: SecretBox, this: int) -> dict[int, bytes]:
    stored = set(session.scalars(select(StoredSecret.name).where(StoredSecret.name.startswith(_PREFIX))))
    wanted = {epoch: f"{_PREFIX}{epoch}" for epoch in (this - 1, this, this + 1)}
    old = stored - set(wanted.values())
    if old:
        session.execute(delete(StoredSecret).where(StoredSecret.name.in_(old)))
    return {
        epoch: hashlib.sha256(get_or_create_secret(session, box, name).reveal()).digest()
        for epoch, name in wanted.items()
        if name in stored or epoch >= this
    }
