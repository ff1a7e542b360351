"""Debian's chromium, on this machine's network or inside a namespace."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Playwright, ViewportSize

from tests.lab.namespaces import Namespace

CHROMIUM = Path("/usr/bin/chromium")
WIDE = ViewportSize(width=1360, height=860)
NARROW = ViewportSize(width=360, height=740)


@contextlib.contextmanager
def running_chromium(playwright: Playwright, executable: Path = CHROMIUM) -> Iterator[Browser]:
    """A browser, until the block ends."""
    arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with playwright.chromium.launch(executable_path=executable, args=arguments) as browser:
        yield browser


def chromium_inside(namespace: Namespace, directory: Path) -> Path:
    """An executable that is chromium in this namespace.

    Playwright speaks to the browser over inherited descriptors, which know no namespace: the test stays outside.
    """
    executable = directory / "chromium"
    command = shlex.join(namespace.inside(str(CHROMIUM)))
    executable.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    executable.chmod(0o700)
    return executable
