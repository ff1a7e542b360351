"""The demonstration and the benchmark run to their ends."""

from __future__ import annotations

import json

import pytest

from tests import demo
from tests.bench.__main__ import main as bench

pytestmark = [pytest.mark.interop, pytest.mark.slow]


def test_demo(capsys: pytest.CaptureFixture[str]) -> None:
    status = demo.main()
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert "the thief tries to connect again, and is refused" in printed.out


@pytest.mark.timeout(300)
def test_bench(capsys: pytest.CaptureFixture[str]) -> None:
    """Figures of a moment, so none is judged here."""
    status = bench(["--rounds", "1", "--handshakes", "50", "--concurrency", "16", "--seconds", "1", "--json"])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    found = json.loads(printed.out)
    assert [row["name"] for row in found["handshakes"]] == ["ostiary", "strongswan"]
    assert all(row["per_cpu_s"] > 0 for row in found["handshakes"])
    for part in ("throughput", "kernel_throughput"):
        assert [row["name"] for row in found[part]] == ["ostiary", "strongswan"]
        assert all(row["upload_mbit_per_s"] > 0 and row["download_mbit_per_s"] > 0 for row in found[part])
