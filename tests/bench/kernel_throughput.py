"""Mbit/s with the kernel's ESP on both ends: the same measurement, made inside the test kernel."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence

from tests.bench.throughput import Throughput, ThroughputResult
from tests.kernel.machine import Guest
from tests.lab.processes import LabError

_RESULT = "bench.json"
_LIMIT_PER_STREAM_S = 60.0


def measure_kernel_throughput(names: Sequence[str], *, rounds: int, seconds: int) -> list[ThroughputResult]:
    """Have the contenders measured in a guest, whose one CPU is shared by the gateway's and the client's kernel.

    Args:
        names: of the contenders.
        rounds: how often each one gets its turn.
        seconds: of each TCP stream.

    Raises:
        LabError: the guest or the measurement in it failed.
    """
    options = ["throughput", "--esp", "kernel", "--json", "--rounds", str(rounds), "--seconds", str(seconds)]
    if len(names) == 1:
        options += ["--only", *names]
    command = shlex.join([sys.executable, "-m", "tests.bench", *options])
    with Guest(["sh", "-c", f'{command} > "$GUEST_RESULTS/{_RESULT}"']) as guest:
        status = guest.wait(len(names) * rounds * 2 * (seconds + _LIMIT_PER_STREAM_S))
        if status != 0:
            raise LabError(f"the benchmark in the test kernel failed:\n{guest.console()}")
        found = json.loads((guest.results / _RESULT).read_text(encoding="utf-8"))
    return [
        ThroughputResult(row["name"], tuple(Throughput(**one) for one in row["rounds"]))
        for row in found["throughput"]
    ]
