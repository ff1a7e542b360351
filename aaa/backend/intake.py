"""Takes accounting records that come by RADIUS to the database thread, and says when they are written.

Not before: a client repeats a record until it is answered, and has it no longer after that (RFC 2866 section 2).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from aaa.backend.refusals import Submit
from aaa.backend.requests import (
    BROKEN,
    CloseGatewaySessions,
    CloseSession,
    ReportedSession,
    UpdateSession,
)
from aaa.interface import SessionStart, SessionUsage, TerminateCause
from core.clock import utc_now

Recorded = Callable[[bool], None]
"""Called on the caller's thread: with True after the commit, with False where the record can't be written. Of one
that waits in the backlog, it is called when that is written, and until then not at all.
"""


class AccountingIntake:
    """Implements `aaa.radius.server.Accounts`.

    Args:
        submit: hands a request to the database thread.
    """

    def __init__(self, submit: Submit) -> None:
        self._submit = submit

    def started(self, start: SessionStart, recorded: Recorded) -> None:
        """A session began. Where its device may not have one any more, the audit log says that."""

        self._submit(ReportedSession(start, lambda refusal: recorded(refusal != BROKEN)))

    def updated(self, usage: SessionUsage, delay_s: int, recorded: Recorded) -> None:
        """Counters of a session, some seconds old."""
        self._submit(UpdateSession(usage, utc_now() - timedelta(seconds=delay_s), partial(recorded, True)))

    def ended(self, usage: SessionUsage, cause: TerminateCause, delay_s: int, recorded: Recorded) -> None:
        """A session ended, some seconds ago."""
        at = utc_now() - timedelta(seconds=delay_s)
        self._submit(CloseSession(usage, cause, at, partial(recorded, True)))

    def none_left(self, gateway: str, cause: TerminateCause, recorded: Recorded) -> None:
        """A network access server has started or stops: it has none of the sessions that are open here."""
        self._submit(CloseGatewaySessions(gateway, cause, recorded))
