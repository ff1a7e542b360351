"""Takes accounting records that come by RADIUS to the database thread, and says when they are written.

Not before: a client repeats a record until it is answered, and has it no longer after that (RFC 2866 section 2).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from aaa.backend.refusals import Submit
from aaa.backend.requests import (
    BROKEN,
    UNAVAILABLE,
    CloseGatewaySessions,
    CloseSession,
    OpenSession,
    UpdateSession,
)
from aaa.interface import Refusal, SessionStart, SessionUsage, TerminateCause
from core.clock import utc_now

Written = Callable[[], None]
"""Called on the caller's thread, after the commit; never, where the record could not be written."""


class AccountingIntake:
    """Implements `aaa.radius.server.Accounts`.

    Args:
        submit: hands a request to the database thread.
    """

    def __init__(self, submit: Submit) -> None:
        self._submit = submit

    def started(self, start: SessionStart, written: Written) -> None:
        """A session began. Where its device may not have one any more, the audit log says that."""

        def opened(refusal: Refusal | None) -> None:
            if refusal not in (UNAVAILABLE, BROKEN):
                written()

        self._submit(OpenSession(start, opened, may_be_repeated=True))

    def updated(self, usage: SessionUsage, delay_s: int, written: Written) -> None:
        """Counters of a session, some seconds old."""
        self._submit(UpdateSession(usage, utc_now() - timedelta(seconds=delay_s), written))

    def ended(self, usage: SessionUsage, cause: TerminateCause, delay_s: int, written: Written) -> None:
        """A session ended, some seconds ago."""
        self._submit(CloseSession(usage, cause, utc_now() - timedelta(seconds=delay_s), written))

    def none_left(self, gateway: str, cause: TerminateCause, written: Written) -> None:
        """A network access server has started or stops: it has none of the sessions that are open here."""
        self._submit(CloseGatewaySessions(gateway, cause, written))
