"""What a ticket says of its holder, for AAA to decide anew (RFC 5723): written at sign-in, read at the return."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from aaa.interface import Access, Resumed
from gateway.ike.ticket import Grant


@dataclass(frozen=True, slots=True)
class Holder:
    """Who comes back, and to which session."""

    resumed: Resumed
    session_id: str
    """Of the session that the ticket is of; if it is still there, the new one takes its place."""


def grant_for(access: Access, session_id: str, unix_s: float) -> Grant | None:
    """What a session may get tickets for.

    None where nobody could decide anew without a new proof: another CA would have to be asked about its certificate,
    and a site peer has a key that is as quick.

    Args:
        access: as AAA has just given it.
        session_id: of the session.
        unix_s: now; the session's lifetime runs from here, over however many returns.
    """
    if access.certificate_authority or not access.managed:
        return None
    resumed = Resumed(
        access.user_name,
        access.device_id,
        access.device_name,
        access.method,
        access.rule,
        access.certificate_serial,
    )
    holder = {**asdict(resumed), "session_id": session_id}
    return Grant(json.dumps(holder, separators=(",", ":")).encode(), int(unix_s + access.session_lifetime_s))


def holder_of(grant: Grant) -> Holder:
    """Read what `grant_for` wrote; the ticket that it came in was authentic."""
    values = json.loads(grant.holder)
    session_id = values.pop("session_id")
    return Holder(Resumed(**values), session_id)
