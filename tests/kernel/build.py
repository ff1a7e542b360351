"""The kernel of these tests: a user-mode Linux of our own configuration, built once from Debian's kernel source.

It is kept outside the checkout, under a name made of the source's version and the configuration, so that a change
of either builds a new one, and two checkouts share one. `python -m tests.kernel.build` builds it where it is missing,
and prints where it is.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from core.errors import OstiaryError
from tests.lab.cache import cache_directory, only_one, tell

SOURCE_PACKAGE = "linux-source-6.1"
SOURCE_ARCHIVE = Path("/usr/src") / f"{SOURCE_PACKAGE}.tar.xz"
CONFIGURATION = Path(__file__).with_name("linux.config")
BUILD_TIMEOUT_S = 3600.0
ROOM_BYTES = 3 << 30
"""What source and objects take while it is built; the kernel itself takes 8 MB."""
_BUILD_TOOLS = ("make", "gcc", "ld", "flex", "bison", "bc", "xz", "strip")
_INSTALL = "as root: deploy/setup/install-packages deploy/setup/kernel.packages"
_RECIPE = "1"
"""Part of the name of what is built; raise it when this file builds something else from the same source."""
_LOG_TAIL_CHARACTERS = 4000
_OPTION = re.compile(r"^(?:# )?(CONFIG_\w+)(?:=| is not set)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What determines the kernel."""

    source_version: str
    configuration: str

    @property
    def key(self) -> str:
        """Names this kernel among others."""
        digest = hashlib.sha256("\0".join((_RECIPE, self.source_version, self.configuration)).encode())
        return f"{re.sub('[^0-9A-Za-z.]+', '-', self.source_version)}-{digest.hexdigest()[:12]}"


def find_recipe() -> Recipe:
    """The recipe of this checkout with the kernel source of this machine.

    Raises:
        OstiaryError: the source is not installed.
    """
    found = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", SOURCE_PACKAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    status, _, version = found.stdout.partition(" ")
    if status != "installed" or not SOURCE_ARCHIVE.exists():
        raise OstiaryError(f"Debian's package {SOURCE_PACKAGE} is not installed", fix=_INSTALL)
    return Recipe(version, CONFIGURATION.read_text(encoding="utf-8"))


def ensure_kernel() -> Path:
    """The kernel, an executable file; built first where it is missing, which takes minutes and is told on stderr.

    Of several processes that need it at once, one builds and the others wait. What is half done is never seen.

    Raises:
        OstiaryError: it can't be built here; the message says why.
    """
    recipe = find_recipe()
    folder = cache_directory() / "kernel"
    kernel = folder / f"linux-{recipe.key}"
    if kernel.exists():
        return kernel
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder / "build.lock", "building the test kernel"):
        if not kernel.exists():
            _build(recipe, folder, kernel)
    return kernel


def _build(recipe: Recipe, folder: Path, kernel: Path) -> None:
    if missing := [tool for tool in _BUILD_TOOLS if shutil.which(tool) is None]:
        raise OstiaryError(f"building the test kernel needs {', '.join(missing)}", fix=_INSTALL)
    if shutil.disk_usage(folder).free < ROOM_BYTES:
        raise OstiaryError(
            f"building the test kernel takes {ROOM_BYTES >> 30} GiB for a while, and {folder} has less",
            fix="make room there, or name another folder in TEST_CACHE",
        )
    log = folder / f"build-{recipe.key}.log"
    tell(
        f"Building the test kernel from {SOURCE_PACKAGE} {recipe.source_version}, once; "
        f"it takes five minutes on two cores. Log: {log}"
    )
    started = time.monotonic()
    # Next to its final place, so that putting it there is a rename; what a killed build left goes first.
    for left in folder.glob("building-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="building-", dir=folder) as scratch, log.open("wb") as output:
        built = _compile(recipe, Path(scratch), log, output.fileno())
        os.replace(built, kernel)
    log.unlink()
    tell(f"Built {kernel} in {time.monotonic() - started:.0f} s.")


def _compile(recipe: Recipe, scratch: Path, log: Path, output: int) -> Path:
    with tarfile.open(SOURCE_ARCHIVE) as archive:
        archive.extractall(scratch, filter="tar")
    source, target = scratch / SOURCE_PACKAGE, scratch / "build"
    target.mkdir()
    configured = target / ".config"

    def make(*arguments: str) -> None:
        _run_make(["make", "-C", str(source), "ARCH=um", f"O={target}", *arguments], log, output)

    configured.write_text(recipe.configuration, encoding="utf-8")
    make("olddefconfig")
    if lost := lost_options(recipe.configuration, configured.read_text(encoding="utf-8")):
        raise OstiaryError(
            f"{SOURCE_PACKAGE} {recipe.source_version} does not take all options of {CONFIGURATION.name}: "
            + ", ".join(lost),
            fix="enable what each depends on, or remove it (scripts/kconfig of the source tells)",
        )
    make(f"-j{os.cpu_count() or 1}", "linux")
    stripped = scratch / "linux"
    subprocess.run(["strip", "-o", stripped, target / "linux"], check=True)
    return stripped


def _run_make(command: list[str], log: Path, output: int) -> None:
    try:
        # Standard input closed: a question of the configuration would wait for ever.
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # No variable of a make that this one runs in, nor of a developer's shell, may change what is built.
            env={
                "PATH": os.environ["PATH"],
                "LC_ALL": "C",
                "KBUILD_BUILD_USER": "ostiary",
                "KBUILD_BUILD_HOST": "tests",
            },
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
        ended = f"ended with status {result.returncode}"
        failed = result.returncode != 0
    except subprocess.TimeoutExpired:
        ended, failed = f"was not done after {BUILD_TIMEOUT_S:.0f} s", True
    if failed:
        tail = log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL_CHARACTERS:]
        raise OstiaryError(
            f"building the test kernel failed: `{' '.join(command)}` {ended}\n{tail}", fix=f"see {log}"
        )


def lost_options(wanted: str, configured: str) -> list[str]:
    """The options of the configuration `wanted` that are otherwise in the final one, in order."""
    final = _options(configured)
    return [name for name, value in _options(wanted).items() if final.get(name, "n") != value]


def _options(text: str) -> dict[str, str]:
    """Name to value; n where it is not set."""
    return {
        found[1]: line.partition("=")[2] if "=" in line else "n"
        for line in text.splitlines()
        if (found := _OPTION.match(line))
    }


def main() -> int:
    """Build it where it is missing; print where it is."""
    try:
        print(ensure_kernel())
    except OstiaryError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
