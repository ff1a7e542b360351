"""Background work: the Celery application, and what it does with the outbox.

The row in the outbox is the truth. A message on the broker only says "look at item 7 now"; lost, late or
doubled messages do no harm, since an item is claimed in the database before it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import structlog
from celery import Celery
from sqlalchemy import select

from core import file_queue, outbox
from core.outbox import OutboxItem
from core.runtime import Runtime
from core.settings import Settings
from core.text import hide_url_password

DELIVER = "ostiary.deliver"
SWEEP = "ostiary.sweep"
QUEUE = "ostiary"
PUBLISH_TIMEOUT_S = 1.0

Handler = Callable[[Runtime, dict[str, Any]], None]
"""Does one item of the outbox, given its payload, or raises: then it is tried again later. Idempotent."""


@dataclass(frozen=True, slots=True)
class LongHandler:
    """A handler that may take longer than others: its item is left to it for so long."""

    handle: Handler
    lease_s: float

    def __call__(self, runtime: Runtime, payload: dict[str, Any]) -> None:
        """Do the item."""
        self.handle(runtime, payload)


@dataclass(frozen=True, slots=True)
class Recurring:
    """Work that is asked for again and again."""

    kind: str
    payload: dict[str, Any]
    interval_s: float


log = structlog.stdlib.get_logger(__name__)


def load_handlers() -> dict[str, Handler]:
    """The handlers of all parts by the `kind` of item they do: each module's `HANDLERS` (group `ostiary.tasks`)."""
    handlers: dict[str, Handler] = {}
    for entry in entry_points(group="ostiary.tasks"):
        handlers.update(entry.load().HANDLERS)
    return handlers


def load_recurring(settings: Settings) -> list[Recurring]:
    """What recurs by these settings: what each module's `recurring` returns (group `ostiary.tasks`)."""
    found: list[Recurring] = []
    for entry in entry_points(group="ostiary.tasks"):
        recurring = getattr(entry.load(), "recurring", None)
        found.extend(recurring(settings) if recurring is not None else ())
    return found


def make_celery(settings: Settings) -> Celery:
    """The Celery application on the configured broker, or on files in the state directory.

    It can send; `register_tasks` makes it one that works.
    """
    app = Celery("ostiary", set_as_current=False, broker=settings.jobs.broker_url or file_queue.URL)
    app.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        enable_utc=True,
        timezone="UTC",
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=PUBLISH_TIMEOUT_S,
        broker_transport_options=_transport_options(settings),
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        beat_schedule={
            SWEEP: {
                "task": SWEEP,
                "schedule": settings.jobs.sweep_interval_s,
                "options": {"expires": settings.jobs.sweep_interval_s},
            }
        },
    )
    return app


def register_tasks(
    app: Celery, runtime: Runtime, handlers: Mapping[str, Handler], recurring: Sequence[Recurring] = ()
) -> None:
    """Teach the application its two tasks."""

    def deliver(outbox_id: int) -> None:
        deliver_item(runtime, handlers, outbox_id)

    def sweep() -> None:
        for outbox_id in sweep_due(runtime, recurring):
            # Expired by the next sweep, which asks again: a long queue does not grow with repeated requests.
            deliver_task.apply_async((outbox_id,), expires=runtime.settings.jobs.sweep_interval_s)

    deliver_task = app.task(name=DELIVER)(deliver)
    app.task(name=SWEEP)(sweep)


def deliver_item(runtime: Runtime, handlers: Mapping[str, Handler], outbox_id: int) -> bool:
    """Claim one item, do it, and write down how it went.

    Returns:
        Whether the work was done now; False where it failed, or was not due, taken or done before.
    """
    with runtime.database.transaction() as session:
        kind = session.scalar(select(OutboxItem.kind).where(OutboxItem.id == outbox_id))
        handler = handlers.get(kind or "")
        lease_s = handler.lease_s if isinstance(handler, LongHandler) else outbox.LEASE_S
        item = outbox.claim(session, outbox_id, lease_s=lease_s)
    if item is None:
        return False
    try:
        if handler is None:
            raise LookupError(f"no handler for {item.kind!r} is installed")
        handler(runtime, item.payload)
    except Exception as error:  # whatever a handler raises, the item is tried again
        log.warning("job failed, will be tried again", job=item.kind, outbox_id=outbox_id, error=str(error))
        with runtime.database.transaction() as session:
            outbox.mark_failed(session, outbox_id, f"{type(error).__name__}: {error}")
        return False
    with runtime.database.transaction() as session:
        outbox.mark_done(session, outbox_id)
    return True


def sweep_due(runtime: Runtime, recurring: Sequence[Recurring] = ()) -> list[int]:
    """The items that are due now, what recurs among them; those done long ago are forgotten on the way."""
    with runtime.database.transaction() as session:
        for work in recurring:
            outbox.add_recurring(session, work.kind, work.payload, work.interval_s)
        outbox.forget_done(session)
    with runtime.database.reading() as session:
        return outbox.due_ids(session)


def wake(settings: Settings, outbox_id: int) -> bool:
    """Have a worker look at an item now rather than at the next sweep. Call it after the commit.

    Never raises, and never waits long: without a broker the sweep finds the item.

    Returns:
        Whether the message was handed to the broker.
    """
    try:
        _sender(settings).send_task(DELIVER, (outbox_id,), retry=False)
    except Exception as error:  # each broker has errors of its own, and none may hurt the caller
        log.warning("no worker could be woken; the next sweep will find the work", error=str(error))
        return False
    return True


@lru_cache(maxsize=4)
def _sender(settings: Settings) -> Celery:
    app = make_celery(settings)
    # A worker waits for its broker; whoever wakes one has something better to do.
    app.conf.broker_transport_options |= {"max_retries": 1, "interval_start": 0.0}
    return app


def shown_queue(settings: Settings) -> str:
    """Where the messages go, for messages to people: a folder, or the broker's URL without its password."""
    return hide_url_password(settings.jobs.broker_url or f"files in {_queue_folder(settings)}")


def _queue_folder(settings: Settings) -> Path:
    return settings.state_dir / "queue"


def _transport_options(settings: Settings) -> dict[str, Any]:
    return {} if settings.jobs.broker_url else file_queue.transport_options(_queue_folder(settings))
