"""How a process that `ostiary up` started says that it is ready, and how it ends with its supervisor.

The supervisor names a file descriptor in `OSTIARY_READY_FD`; the process writes one line of JSON to it:
`{"ready": true, "lines": ["Portal: https://...", ...]}`. The lines are shown to the person at the terminal.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import Sequence

READY_VARIABLE = "OSTIARY_READY_FD"
_PR_SET_PDEATHSIG = 1


def announce(lines: Sequence[str] = ()) -> None:
    """Say once that this process is ready; nothing happens where no supervisor listens.

    Args:
        lines: for the person who started it, as `Label: text`.
    """
    descriptor = os.environ.pop(READY_VARIABLE, "")
    if not descriptor.isdecimal():
        return
    try:
        with os.fdopen(int(descriptor), "w", encoding="utf-8") as pipe:
            pipe.write(json.dumps({"ready": True, "lines": list(lines)}) + "\n")
    except OSError:
        # The variable was inherited without its descriptor, or the supervisor has gone: nobody to tell.
        return


def end_with_supervisor() -> None:
    """Have the kernel send SIGTERM to this process when its supervisor dies, even by SIGKILL (prctl(2))."""
    if READY_VARIABLE in os.environ:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
