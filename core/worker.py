"""The worker process: a Celery worker with threads, and beat on a thread beside them."""

from __future__ import annotations

import warnings
from typing import Any

import structlog
from celery import bootsteps, signals
from celery.beat import EmbeddedService, Scheduler
from celery.signals import worker_ready

from core import ready
from core.file_queue import LONGEST_WAIT_S
from core.jobs import SWEEP, load_handlers, load_recurring, make_celery, register_tasks, shown_queue
from core.runtime import Runtime

CONCURRENCY = 4

log = structlog.stdlib.get_logger(__name__)


class _BeatThread(bootsteps.StartStopStep):  # type: ignore[misc]
    """Celery's embedded beat as a thread; its own `-B` forks a process, which outlives a killed worker."""

    def create(self, worker: Any) -> Any:
        """Make the service that the step starts and stops."""
        # Nothing to remember between starts, so the schedule is in memory: the first sweep is one interval away.
        return EmbeddedService(worker.app, thread=True, scheduler_cls=Scheduler)

    def stop(self, worker: Any) -> None:
        """Ask it to stop; it sleeps up to a second, and nothing depends on its last word."""
        del worker
        self.obj.service.stop()


def run(runtime: Runtime) -> int:
    """Work until SIGTERM or SIGINT; return the exit code."""
    app = make_celery(runtime.settings)
    handlers = load_handlers()
    register_tasks(app, runtime, handlers, load_recurring(runtime.settings))
    app.steps["worker"].add(_BeatThread)
    # Logging is configured already; a receiver keeps Celery from doing it again.
    signals.setup_logging.connect(_keep_logging)

    def on_ready(sender: Any, **_kwargs: Any) -> None:
        log.info("worker is ready")
        if sender.hub is not None:
            # Celery's loop over an AMQP connection notices a signal only when something else wakes it.
            sender.hub.call_repeatedly(LONGEST_WAIT_S, lambda: None)
        # What became due while no worker ran.
        app.send_task(SWEEP)
        ready.announce()

    worker_ready.connect(on_ready, weak=False)
    with warnings.catch_warnings():
        # Celery warns at each start by root, for fear of pickle; only JSON is accepted here.
        warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
        worker = app.Worker(
            pool="threads",
            concurrency=CONCURRENCY,
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
    log.info("worker starts", queue=shown_queue(runtime.settings), handlers=sorted(handlers))
    worker.start()
    return int(worker.exitcode or 0)


def _keep_logging(**_kwargs: Any) -> None:
    """Deliberately nothing."""
