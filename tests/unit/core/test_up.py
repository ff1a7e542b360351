"""`ostiary up`: what its processes are."""

from __future__ import annotations

import subprocess
from pathlib import Path

from core.cli.up import command


def test_no_code_is_taken_from_the_working_directory(tmp_path: Path) -> None:
    """Started where somebody else may write, it must not run, as root, what lies there."""
    for name in ("core", "click", "web"):
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text("raise SystemExit('code of the working directory')\n")
    argv = command("version").argv
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ostiary" in done.stdout.lower()
