"""What the workers do for AAA: the handlers of its outbox items, and what recurs."""

from __future__ import annotations

from aaa import enforcement, rules_change
from aaa.directory import sync
from core.jobs import Handler, LongHandler, Recurring
from core.settings import Settings

HANDLERS: dict[str, Handler] = {
    enforcement.DISCONNECT: enforcement.deliver,
    enforcement.CHANGE: enforcement.deliver_change,
    rules_change.APPLY: rules_change.apply,
    rules_change.TELL_AGAIN: rules_change.tell_again,
    sync.SYNC: LongHandler(sync.handle, sync.LONGEST_S),
}
"""By the kind of item."""


def recurring(settings: Settings) -> list[Recurring]:
    """A look at the access rules, and a sync of each directory that has a service account."""
    return [
        Recurring(rules_change.APPLY, {}, rules_change.LOOK_INTERVAL_S),
        *(
            Recurring(sync.SYNC, {"directory": directory.name}, directory.sync_interval_s)
            for directory in settings.aaa.directories
            if directory.has_service_account
        ),
    ]
