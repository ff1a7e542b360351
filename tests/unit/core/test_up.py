"""`ostiary up`: what its processes are."""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Network
from pathlib import Path

from core.cli.up import command, processes
from core.settings import RadiusClientSettings, RadiusSettings, Settings


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


def test_radius_runs_only_for_clients(tmp_path: Path) -> None:
    """Nobody could ask it otherwise, and its ports would be open for nothing."""
    assert processes(Settings()) == ["web", "gateway", "worker"]
    client = RadiusClientSettings(name="wifi", addresses=(IPv4Network("10.0.0.1/32"),), secret_file=tmp_path / "s")
    with_client = Settings(radius=RadiusSettings(clients=(client,)))
    assert processes(with_client) == ["web", "gateway", "radius", "worker"]
