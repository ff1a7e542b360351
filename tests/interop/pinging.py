"""A ping that runs while something else happens; every packet of it must come back.

But for the very last one: ping ends without waiting for it.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.namespaces import Namespace
from tests.lab.processes import wait_for
from tests.lab.topology import INSIDE_IPV4

INTERVAL_S = 0.05
FEWEST = 5


class Pings:
    """How many there were."""

    sent = 0


@contextmanager
def pinging(
    namespace: Namespace, directory: Path, address: str = INSIDE_IPV4, *, interval_s: float = INTERVAL_S
) -> Iterator[Pings]:
    """Ping all the while; where the block ends well, none may be missing.

    Args:
        namespace: from where.
        directory: for what ping writes.
        address: whom.
        interval_s: between two.
    """
    pings = Pings()
    log_file = directory / f"ping-{time.monotonic_ns()}.log"
    process = namespace.start("ping", "-i", str(interval_s), "-W", "2", address, log_file=log_file)
    try:
        yield pings
        time.sleep(FEWEST * interval_s)
    finally:
        process.send(signal.SIGINT)
        wait_for(lambda: process.returncode is not None, 5.0, "the end of ping")
    counts = re.search(r"(\d+) packets transmitted, \d+ received", process.log())
    assert counts is not None, process.log()
    pings.sent = int(counts[1])
    assert pings.sent >= FEWEST
    answered = {int(number) for number in re.findall(r"bytes from .*icmp_seq=(\d+)", process.log())}
    lost = sorted(set(range(1, pings.sent)) - answered)
    assert not lost, f"of {pings.sent} these were lost: {lost}"
