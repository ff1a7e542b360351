"""What takes long to get and is the same for all runs: kept outside the checkout, made once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

CACHE_VARIABLE = "TEST_CACHE"


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where it lies: `$TEST_CACHE`, or a folder of ours in the user's cache (`$XDG_CACHE_HOME`, `~/.cache`)."""
    if named := environment.get(CACHE_VARIABLE):
        return Path(named)
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ostiary"


@contextlib.contextmanager
def only_one(file: Path, what: str) -> Iterator[None]:
    """Let one process at a time into the block; the others wait, and say on stderr for what (`building it`)."""
    with file.open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"Another process is {what}; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def tell(text: str) -> None:
    """Say something to the person who waits, past what pytest or make do with standard output."""
    print(text, file=sys.stderr, flush=True)
