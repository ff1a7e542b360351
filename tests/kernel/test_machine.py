"""The guest itself: what comes back from it, and that nothing outlives it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.kernel.machine import Guest
from tests.lab.processes import LabError, process_tree, wait_for

pytestmark = pytest.mark.interop

LIMIT_S = 30.0


@pytest.mark.parametrize("status", [0, 1, 77])
def test_the_exit_status_comes_back(status: int) -> None:
    with Guest(["sh", "-c", f"exit {status}"]) as guest:
        assert guest.wait(LIMIT_S) == status


def test_what_is_written_into_the_results_comes_back_and_what_is_printed_too() -> None:
    with Guest(["sh", "-c", 'echo "$WORD" > "$GUEST_RESULTS/word"; echo said'], environment={"WORD": "a b"}) as guest:
        assert guest.wait(LIMIT_S) == 0
        assert (guest.results / "word").read_text(encoding="utf-8") == "a b\n"
        assert "said" in guest.console()
    assert not guest.results.exists()


def test_one_that_hangs_is_killed_with_all_that_runs_in_it() -> None:
    with Guest(["sh", "-c", "sleep 100 & while :; do :; done"]) as guest:
        # The kernel, and with it processes of the guest.
        wait_for(lambda: len(process_tree(guest.pid)) >= 6, LIMIT_S, "processes of the guest")
        contained = process_tree(guest.pid)
        with pytest.raises(LabError, match="killed"):
            guest.wait(0.5)
        assert not [pid for pid in contained if Path(f"/proc/{pid}").exists()]


def test_one_that_dies_says_so() -> None:
    with (
        Guest(["sh", "-c", "echo c > /proc/sysrq-trigger"]) as guest,
        pytest.raises(LabError, match="sysrq triggered crash"),
    ):
        guest.wait(LIMIT_S)


def test_time_travel_jumps_over_waiting() -> None:
    script = 'read a _ < /proc/uptime; sleep 36000; read b _ < /proc/uptime; echo $a $b > "$GUEST_RESULTS/uptime"'
    started = time.monotonic()
    with Guest(["sh", "-c", script], time_travel=True) as guest:
        assert guest.wait(LIMIT_S) == 0
        before, after = map(float, (guest.results / "uptime").read_text(encoding="ascii").split())
    assert after - before >= 36000
    assert time.monotonic() - started < LIMIT_S
