"""`ostiary gateway explain` and `ostiary gateway counters`, on a database that has something to tell."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aaa.backend.handshake_log import HandshakeLog
from aaa.backend.requests import CountHandshakes, WriteReport
from aaa.interface import HandshakeKind, HandshakeReport, SignInContext
from core.cli import root
from core.clock import utc_now
from core.runtime import Runtime

WINDOWS = SignInContext("0a0b0c", "gateway-1", "198.51.100.7", "10.0.0.5", "Windows 10 or 11")
PHONE = SignInContext("0d0e0f", "gateway-1", "2001:db8::7", "alice", "iOS")
REFUSED = HandshakeReport(
    outcome="failed",
    code="no-proposal-chosen",
    cause="proposal",
    remote_port=500,
    proven=False,
    duration_s=0.001,
    explanation="Windows 10 or 11 offers for IKE no key exchange group that is allowed.",
    advice=("Run this: Set-VpnConnectionIPsecConfiguration -Force", "Or that."),
    offered="[AES_CBC_256 MODP_1024]",
    allowed="policy modern: CURVE25519",
    facts=(("from", "198.51.100.7:500"), ("NAT", "none")),
    timeline=((0.0, "IKE_SA_INIT on port 500: failed: no-proposal-chosen"),),
)
SLOW = replace(
    REFUSED, outcome="slow", code="slow-handshake", cause="backend", explanation="It took 7.0 s.", advice=()
)


@pytest.fixture(autouse=True)
def _state(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two refusals of one client, a slow one of another, and some counts."""
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(runtime.settings.state_dir))
    log, now = HandshakeLog(runtime.settings.gateway), utc_now()
    with runtime.database.transaction() as session:
        connection = session.connection()
        log.write(connection, [WriteReport(WINDOWS, REFUSED, now - timedelta(minutes=50))])
        log.write(connection, [WriteReport(PHONE, SLOW, now - timedelta(hours=3))])
        log.write(connection, [WriteReport(WINDOWS, REFUSED, now - timedelta(minutes=5))])
        counts = {
            HandshakeKind("established", "", "", "iOS"): 40,
            HandshakeKind("failed", "proposal", "no-proposal-chosen", "Windows 10 or 11"): 2,
        }
        log.count(connection, "gateway-1", [CountHandshakes(counts, now)])
        log.count(connection, "gateway-1", [CountHandshakes(counts, now - timedelta(days=1))])


def ostiary(*arguments: str) -> Result:
    """Run it."""
    return CliRunner().invoke(root, ["gateway", *arguments])


def ok(*arguments: str) -> str:
    """What it printed."""
    result = ostiary(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def rows(*arguments: str) -> Any:
    """What it printed for programs."""
    return json.loads(ok(*arguments, "--json"))


def test_the_list_is_for_reading() -> None:
    phone, phone_why, windows, windows_why = ok("explain").splitlines()
    assert phone.endswith("iOS from 2001:db8::7, alice: slow-handshake (backend)")
    assert phone_why == "    It took 7.0 s."
    assert "Windows 10 or 11 from 198.51.100.7, 10.0.0.5: no-proposal-chosen (proposal), 2 times" in windows
    assert windows_why == f"    {REFUSED.explanation}"


def test_one_in_detail() -> None:
    for reference in ("0a0b0c", "1"):
        text = ok("explain", reference)
        assert text.startswith("Handshake 1 at gateway-1: failed, no-proposal-chosen (proposal)\n2 times, from ")
        parts = text.split("\n\n")[1:]
        assert [part.splitlines()[0] for part in parts] == [
            "What happened",
            "What to do",
            "Offered or asked for",
            "Allowed",
            "Facts",
            "In the order of time",
        ]
        # A command is a line of its own, to be copied.
        assert "  1. Run this:\n         Set-VpnConnectionIPsecConfiguration -Force\n  2. Or that." in text
        assert "  from  198.51.100.7:500\n  NAT   none" in text
        assert "         0 ms  IKE_SA_INIT on port 500" in text


def test_one_that_happened_once_and_has_no_advice() -> None:
    text = ok("explain", "0d0e0f")
    assert "times" not in text
    assert "What to do" not in text


def test_one_that_is_not_there() -> None:
    result = ostiary("explain", "7")
    assert result.exit_code == 1
    assert "no handshake is explained under '7'" in result.output


def test_for_programs() -> None:
    newest, _ = rows("explain")
    assert (newest["id"], newest["times"], newest["address_proven"]) == (1, 2, False)
    assert newest["facts"] == {"from": "198.51.100.7:500", "NAT": "none"}
    assert newest["timeline"][0]["after_ms"] == 0
    assert datetime.fromisoformat(newest["first_at"]) < datetime.fromisoformat(newest["last_at"])
    assert rows("explain", "1") == [newest]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--client", "windows"], [1]),
        (["--remote", "2001:db8:*"], [2]),
        (["--identity", "alice"], [2]),
        (["--code", "slow-handshake"], [2]),
        (["--cause", "proposal"], [1]),
        (["--outcome", "slow"], [2]),
        (["--gateway", "gateway-2"], []),
        (["--since", "1h"], [1]),
        (["--since", "9000s"], [1]),
        (["--since", "2000-01-01"], [1, 2]),
        (["--since", "2000-01-01T10:00+02:00", "--limit", "1"], [1]),
    ],
)
def test_filters(filters: list[str], found: list[int]) -> None:
    assert [row["id"] for row in rows("explain", *filters)] == found


def test_nothing_fits() -> None:
    assert ok("explain", "--client", "libreswan") == "(none)\n"


@pytest.mark.parametrize("since", ["yesterday", "2h30m", "-1h", "1w", "2026-13-01", ""])
def test_a_time_that_makes_no_sense(since: str) -> None:
    result = ostiary("explain", "--since", since)
    assert result.exit_code == 2
    assert "neither 30m, 2h or 7d nor a date" in result.output


def test_what_a_client_wrote_commands_no_terminal(runtime: Runtime) -> None:
    nasty = replace(REFUSED, explanation="\x1b[2J wiped", facts=(("name", "\x07"),))
    with runtime.database.transaction() as session:
        log = HandshakeLog(runtime.settings.gateway)
        log.write(session.connection(), [WriteReport(replace(PHONE, ike_identity="\x1b]0;"), nasty, utc_now())])
    for text in (ok("explain"), ok("explain", "3")):
        assert "\x1b" not in text
        assert "\x07" not in text


class TestCounters:
    def test_for_reading(self) -> None:
        title, heads, established, failed = ok("counters").splitlines()
        assert title == f"handshakes since {datetime.now(UTC):%Y-%m-%d} 00:00 UTC"
        assert heads.split() == ["COUNT", "OUTCOME", "CAUSE", "CODE", "CLIENT"]
        assert established.split() == ["40", "established", "-", "-", "iOS"]
        assert failed.split(maxsplit=4) == ["2", "failed", "proposal", "no-proposal-chosen", "Windows 10 or 11"]

    def test_of_more_days_than_there_are(self) -> None:
        text = ok("counters", "--days", "30")
        assert f"since {datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}" in text
        assert [row["count"] for row in rows("counters", "--days", "30")] == [80, 4]

    def test_of_another_gateway(self) -> None:
        assert rows("counters", "--gateway", "gateway-2") == []


def test_without_a_command_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Runtime] = []
    monkeypatch.setattr("gateway.daemon.run", served.append)
    ok()
    assert len(served) == 1
