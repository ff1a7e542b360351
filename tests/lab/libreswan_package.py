"""Debian's libreswan, unpacked into a folder of the cache: as a package it can't be installed beside strongSwan.

`python -m tests.lab.libreswan_package` fetches it where it is missing. The libraries that it needs are in
`deploy/setup/kernel.packages`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from core.errors import OstiaryError
from tests.lab.cache import cache_directory, only_one

PACKAGE = "libreswan"
_TIMEOUT_S = 120.0


def fetched() -> Path:
    """The folder with the newest version that was fetched; in it `usr/` of the package.

    Raises:
        OstiaryError: none was.
    """
    found = sorted(_folder().glob("[0-9]*"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise OstiaryError(f"{PACKAGE} was not fetched", fix="python -m tests.lab.libreswan_package")
    return found[-1]


def fetch() -> Path:
    """The folder with Debian's version of today, fetched first where it is missing.

    Raises:
        OstiaryError: apt does not have it.
    """
    version = re.search(r"^Version: (\S+)$", _run("apt-cache", "show", "--no-all-versions", PACKAGE), re.MULTILINE)
    if version is None:
        raise OstiaryError(f"apt knows no package {PACKAGE}", fix="apt-get update")
    folder = _folder() / version[1].replace(":", "-")
    if folder.exists():
        return folder
    _folder().mkdir(parents=True, exist_ok=True)
    with only_one(_folder() / "fetch.lock", f"fetching {PACKAGE}"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(prefix="fetching-", dir=_folder()) as scratch:
                _run("apt-get", "download", "--quiet", f"{PACKAGE}={version[1]}", cwd=scratch)
                [archive] = Path(scratch).glob("*.deb")
                _run("dpkg-deb", "--extract", str(archive), f"{scratch}/unpacked")
                os.rename(f"{scratch}/unpacked", folder)
    return folder


def _folder() -> Path:
    return cache_directory() / PACKAGE


def _run(*command: str, cwd: str | None = None) -> str:
    result = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
    )
    if result.returncode != 0:
        raise OstiaryError(f"`{' '.join(command)}` failed: {result.stderr.strip()}", fix="apt-get update")
    return result.stdout


def main() -> int:
    """Fetch it where it is missing; print where it is."""
    try:
        print(fetch())
    except OstiaryError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
