"""What the gateway proves itself with, kept current: loaded at start, renewed every hour, sooner after a failure.

The database may be away for longer than an OCSP response lives. Such a response is left out from then on: a client
that asked for one decides by itself what to think of a gateway without, and would refuse one with a stale response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from core.clock import utc_now
from gateway.ike.config import Credential

RENEW_S = 3600.0
RETRY_S = 60.0
"""After the first failure; doubled with each further one, up to `RENEW_S`."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DatedCredential:
    """A credential, and until when its OCSP response may be shown."""

    credential: Credential
    ocsp_not_after: datetime


class GatewayCredentials:
    """Holds them, and renews them in the background.

    Args:
        loop: the event loop; all methods are called on its thread.
        load: gives those of now, and may block: it is called on a thread of its own, but for the first time.
        changed: called when `current` may give others.
        margin_s: so long before its end an OCSP response is not shown any more; handshakes that have begun with it
            are over by then.
        now: the time, for tests.

    Raises:
        Exception: what `load` raises, for nobody could sign in without.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        load: Callable[[], tuple[DatedCredential, ...]],
        changed: Callable[[], None],
        margin_s: float,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._loop = loop
        self._load = load
        self._changed = changed
        self._margin = timedelta(seconds=margin_s)
        self._now = now
        self._loaded = load()
        self._loading: asyncio.Future[tuple[DatedCredential, ...]] | None = None
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None
        self._wait(RENEW_S)

    def current(self) -> tuple[Credential, ...]:
        """With an OCSP response each, where there is one that may be shown."""
        until = self._now() + self._margin
        return tuple(
            one.credential if one.ocsp_not_after > until else replace(one.credential, ocsp_response_der=b"")
            for one in self._loaded
        )

    def renew(self) -> None:
        """Load them anew. `changed` is called now, for what there is has grown older, and when that is done."""
        self._changed()
        if self._loading is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._loading = self._loop.run_in_executor(None, self._load)
        self._loading.add_done_callback(self._renewed)

    def close(self) -> None:
        """Renew no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._loading is not None:
            self._loading.remove_done_callback(self._renewed)

    def _renewed(self, loading: asyncio.Future[tuple[DatedCredential, ...]]) -> None:
        self._loading = None
        error = loading.exception()
        if error is None:
            self._loaded, self._failures = loading.result(), 0
            self._wait(RENEW_S)
        else:
            self._failures += 1
            retry_s = min(RENEW_S, RETRY_S * 2 ** min(self._failures - 1, 10))
            _log.error(
                "certificate and ticket keys could not be renewed; the old ones stay in use",
                exc_info=error,
                retry_in_s=retry_s,
            )
            self._wait(retry_s)
        self._changed()

    def _wait(self, longest_s: float) -> None:
        """Until it is time for another try; or for an OCSP response to be left out, which is one as well."""
        until = self._now() + self._margin
        left = [(one.ocsp_not_after - until).total_seconds() for one in self._loaded if one.ocsp_not_after > until]
        self._timer = self._loop.call_later(min([longest_s, *left]), self.renew)
