"""Celery's filesystem broker, made fit for several processes: a message appears whole or not at all.

kombu's own transport opens a message's file under its final name before it writes it, and a reader that is
quick enough finds it empty and dies of that. Here it is written under another name and then renamed.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.transport.virtual import BrokerState
from kombu.utils.json import dumps

URL = "ostiary-files://localhost"
POLLING_INTERVAL_S = 0.2
LONGEST_WAIT_S = 0.4

TRANSPORT_ALIASES["ostiary-files"] = "core.file_queue:Transport"


class Channel(filesystem.Channel):
    """A channel whose messages appear atomically."""

    def _put(self, queue: str, payload: dict[str, Any], **_kwargs: Any) -> None:  # type: ignore[override]
        name = f"{time.monotonic_ns() // 1_000_000}_{uuid.uuid4()}"
        temporary = Path(self.data_folder_out) / f".{name}"
        temporary.write_text(dumps(payload), encoding="utf-8")  # type: ignore[no-untyped-call]
        os.rename(temporary, Path(self.data_folder_out) / f"{name}.{queue}.msg")

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        del timeout  # a look into the folder never blocks
        try:
            return super()._get(queue)  # type: ignore[no-untyped-call]
        except ValueError:
            # Cut short by a power failure. The file is out of the folder already; the sweep asks again.
            raise Empty from None


class Transport(filesystem.Transport):
    """The transport behind `URL`."""

    Channel = Channel

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)  # type: ignore[no-untyped-call]
        # kombu's is shared by all connections of the process, and takes a queue that is bound in one folder for
        # bound in every other: messages into those would vanish.
        self.state = BrokerState()  # type: ignore[no-untyped-call]

    def drain_events(  # type: ignore[override]
        self, connection: Any, timeout: float | None = None
    ) -> Any:
        """Wait for a message. A worker waits seconds at a time, and looks only in between whether it shall stop."""
        wait_s = LONGEST_WAIT_S if timeout is None else min(timeout, LONGEST_WAIT_S)
        return super().drain_events(connection, timeout=wait_s)  # type: ignore[no-untyped-call]


def transport_options(folder: Path) -> dict[str, Any]:
    """Make the folders, private to this user, and name them to kombu.

    Raises:
        OSError: they can't be made.
    """
    messages, control = folder / "messages", folder / "control"
    for path in (folder, messages, control):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        "polling_interval": POLLING_INTERVAL_S,
    }
