"""Explanations of handshakes and their counters, from the gateway's call to what console and command line read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import func, select

from aaa.backend.handshake_log import COUNTERS_KEPT, PRUNE_AFTER_ROWS, SAME_AGAIN_WITHIN, HandshakeLog
from aaa.backend.requests import CountHandshakes, WriteReport
from aaa.handshakes import (
    HandshakeFilter,
    HandshakeTotal,
    count_handshakes,
    counted_since,
    get_handshake,
    known_values,
    recent_handshakes,
)
from aaa.interface import HandshakeKind, HandshakeReport, SignInContext
from aaa.models import HandshakeCounter, HandshakeRecord
from core.errors import NotFoundError
from core.runtime import Runtime
from core.settings import GatewaySettings
from tests.unit.aaa.driver import Driver, context

MAY = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
REPORT = HandshakeReport(
    outcome="failed",
    code="no-proposal-chosen",
    cause="proposal",
    remote_port=500,
    proven=False,
    duration_s=0.0123,
    explanation="Windows offered no key exchange that is allowed.",
    advice=("Run this.", "Or that."),
    offered="[AES_CBC_256 MODP_1024]",
    allowed="AES_GCM_16_256 CURVE25519",
    facts=(("NAT", "in front of the client"), ("asked for", "vpn.example.com")),
    timeline=((0.0, "IKE_SA_INIT on port 500"), (0.012, "refused")),
)
FAILED = HandshakeKind("failed", "proposal", "no-proposal-chosen", "Windows")
ESTABLISHED = HandshakeKind("established", "", "", "Windows")
ALL = HandshakeFilter()


class Desk:
    """The log on a database of its own, told what to write as the database thread would tell it."""

    def __init__(self, runtime: Runtime, **settings: int) -> None:
        self.runtime = runtime
        self.log = HandshakeLog(GatewaySettings(**settings))

    def write(self, *reports: tuple[SignInContext, HandshakeReport, datetime]) -> None:
        """In one transaction, pruned at the time of the last one."""
        with self.runtime.database.transaction() as session:
            self.log.write(session.connection(), [WriteReport(*report) for report in reports])
            self.log.prune(session.connection(), "gateway-1", reports[-1][2])

    def count(self, counts: dict[HandshakeKind, int], at: datetime) -> None:
        """Add."""
        with self.runtime.database.transaction() as session:
            self.log.count(session.connection(), "gateway-1", [CountHandshakes(counts, at)])

    def rows(self, wanted: HandshakeFilter = ALL) -> list[HandshakeRecord]:
        """What a reader finds."""
        with self.runtime.database.reading() as session:
            return list(recent_handshakes(session, wanted, limit=100_000))


@pytest.fixture
def desk(runtime: Runtime) -> Desk:
    """With the default settings."""
    return Desk(runtime)


@pytest.fixture
def driver(runtime: Runtime) -> Iterator[Driver]:
    """The whole backend."""
    with Driver(runtime) as driver:
        yield driver


def test_a_report_is_kept_as_it_came(driver: Driver) -> None:
    where = context(sign_in_id="0a0b0c0d0e0f1011", client="Windows")
    driver.backend.handshake_reported(where, REPORT)
    driver.backend.alive({})
    driver.backend.goodbye()
    with driver.runtime.database.reading() as session:
        row = get_handshake(session, "0a0b0c0d0e0f1011")
        assert get_handshake(session, str(row.id)) is row
    assert (row.gateway, row.client, row.remote_address, row.remote_port) == (
        "gateway-1",
        "Windows",
        "192.0.2.7",
        500,
    )
    assert (row.outcome, row.code, row.cause, row.identity) == (
        "failed",
        "no-proposal-chosen",
        "proposal",
        "10.0.0.5",
    )
    assert (row.times, row.duration_ms, row.proven) == (1, 12, False)
    assert row.first_at == row.last_at
    assert row.explanation == REPORT.explanation
    assert row.advice == ["Run this.", "Or that."]
    assert (row.offered, row.allowed) == (REPORT.offered, REPORT.allowed)
    assert row.facts == [["NAT", "in front of the client"], ["asked for", "vpn.example.com"]]
    assert row.timeline == [[0, "IKE_SA_INIT on port 500"], [12, "refused"]]
    # Strangers can cause it: it is no part of the hash chain, which can't be pruned.
    assert not [event for event in driver.events() if event["action"].startswith("sign-in")]


def test_counts_reach_the_database(driver: Driver) -> None:
    driver.backend.alive({FAILED: 2, ESTABLISHED: 5})
    driver.backend.alive({FAILED: 1})
    driver.backend.goodbye()
    with driver.runtime.database.reading() as session:
        first = counted_since(session)
        assert first is not None
        totals = count_handshakes(session, first)
    assert totals == [
        HandshakeTotal("established", "", "", "Windows", 5),
        HandshakeTotal("failed", "proposal", "no-proposal-chosen", "Windows", 3),
    ]


def test_trying_again_makes_one_row_that_counts(desk: Desk) -> None:
    where = context(sign_in_id="first")
    soon = MAY + SAME_AGAIN_WITHIN - timedelta(seconds=1)
    desk.write((where, REPORT, MAY))
    desk.write((replace(where, sign_in_id="second"), replace(REPORT, explanation="the newest counts"), soon))
    [row] = desk.rows()
    assert (row.times, row.first_at, row.last_at) == (2, MAY, soon)
    assert (row.sign_in_id, row.explanation) == ("second", "the newest counts")


@pytest.mark.parametrize(
    ("where", "report", "at"),
    [
        ({"remote_address": "192.0.2.8"}, {}, MAY),
        ({"ike_identity": "bob"}, {}, MAY),
        ({"client": "Apple"}, {}, MAY),
        ({}, {"code": "handshake-timeout"}, MAY),
        ({}, {"cause": "network"}, MAY),
        ({}, {"outcome": "slow"}, MAY),
        ({}, {}, MAY + SAME_AGAIN_WITHIN + timedelta(seconds=1)),
    ],
    ids=["address", "identity", "client", "code", "cause", "outcome", "much later"],
)
def test_what_differs_has_a_row_of_its_own(
    desk: Desk, where: dict[str, str], report: dict[str, str], at: datetime
) -> None:
    desk.write((context(), REPORT, MAY), (context(**where), replace(REPORT, **report), at))  # type: ignore[arg-type]
    assert [row.times for row in desk.rows()] == [1, 1]


def test_each_text_has_an_end_and_commands_no_terminal(desk: Desk) -> None:
    nasty = "\x1b[2J\u202e\0" + "x" * 100_000
    report = HandshakeReport(
        outcome="failed",
        code="no-proposal-chosen",
        cause="proposal",
        remote_port=500,
        proven=False,
        duration_s=1.0,
        explanation=nasty,
        advice=(nasty,) * 100,
        offered=nasty,
        allowed=nasty,
        facts=((nasty, nasty),) * 100,
        timeline=((1.0, nasty),) * 1000,
    )
    desk.write((context(ike_identity=nasty, client=nasty), report, MAY))
    [row] = desk.rows()
    texts = [row.explanation, row.offered, row.allowed, row.identity, row.client, *row.advice]
    texts += [text for pair in row.facts for text in pair] + [text for _, text in row.timeline]
    assert all(text.isprintable() for text in texts)
    assert sum(len(text) for text in texts) < 40_000


def test_old_ones_go_and_so_do_old_counters(desk: Desk) -> None:
    desk.count({FAILED: 1}, MAY)
    desk.write((context(), REPORT, MAY))
    desk.write((context(remote_address="192.0.2.8"), REPORT, MAY + timedelta(days=29)))
    assert len(desk.rows()) == 2
    desk.write((context(remote_address="192.0.2.9"), REPORT, MAY + timedelta(days=31)))
    assert [row.remote_address for row in desk.rows()] == ["192.0.2.9", "192.0.2.8"]
    desk.write((context(), REPORT, MAY + COUNTERS_KEPT + timedelta(days=1)))
    with desk.runtime.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(HandshakeCounter)) == 0


def test_a_flood_pushes_out_nothing_of_peers_that_proved_their_address(runtime: Runtime) -> None:
    desk = Desk(runtime, handshake_reports_kept=10)
    real = replace(REPORT, proven=True, code="wrong-credential")
    desk.write(*((context(remote_address=f"192.0.2.{n}"), real, MAY + timedelta(seconds=n)) for n in range(10)))
    for batch in range(5):
        desk.write(
            *(
                (context(remote_address=f"198.51.{batch}.{n}"), REPORT, MAY + timedelta(minutes=batch, seconds=n / 2))
                for n in range(PRUNE_AFTER_ROWS)
            )
        )
    assert len(desk.rows(HandshakeFilter(code="wrong-credential"))) == 10
    spoofed = desk.rows(HandshakeFilter(code="no-proposal-chosen"))
    assert 10 <= len(spoofed) < 10 + PRUNE_AFTER_ROWS
    assert spoofed[0].remote_address == f"198.51.4.{PRUNE_AFTER_ROWS - 1}"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (HandshakeFilter(), [3, 2, 1]),
        (HandshakeFilter(since=MAY + timedelta(hours=1)), [3, 2]),
        (HandshakeFilter(client="wind"), [1]),
        (HandshakeFilter(identity="BOB"), [2]),
        (HandshakeFilter(identity="%"), []),
        (HandshakeFilter(remote="192.0.2.7"), [3, 1]),
        (HandshakeFilter(remote="2001:db8:*"), [2]),
        (HandshakeFilter(remote="192.0.2."), []),
        (HandshakeFilter(code="handshake-timeout"), [2]),
        (HandshakeFilter(cause="proposal"), [3, 1]),
        (HandshakeFilter(outcome="slow"), [3]),
        (HandshakeFilter(gateway="gateway-2"), []),
    ],
)
def test_filters(desk: Desk, wanted: HandshakeFilter, found: list[int]) -> None:
    timeout = replace(REPORT, code="handshake-timeout", cause="network")
    desk.write(
        (context(client="Windows 10 or 11"), REPORT, MAY),
        (context(ike_identity="bob@x", remote_address="2001:db8::7", client="iOS"), timeout, MAY + timedelta(1)),
        (context(client="strongSwan"), replace(REPORT, outcome="slow"), MAY + timedelta(2)),
    )
    assert [row.id for row in desk.rows(wanted)] == found
    with desk.runtime.database.reading() as session:
        assert [row.id for row in recent_handshakes(session, HandshakeFilter(), limit=1, offset=1)] == [2]
        assert known_values(session) == (["network", "proposal"], ["Windows 10 or 11", "iOS", "strongSwan"])


@pytest.mark.parametrize("reference", ["", "1", "99999999999", "²", "no-such-id", "-1"])
def test_what_is_not_there_is_said(desk: Desk, reference: str) -> None:
    desk.write((replace(context(), sign_in_id=""), REPORT, MAY))
    with desk.runtime.database.transaction() as session:
        session.get_one(HandshakeRecord, 1).id = 7
    with desk.runtime.database.reading() as session, pytest.raises(NotFoundError, match="no handshake is explained"):
        get_handshake(session, reference)


def test_counters_are_by_day_and_gateway(desk: Desk) -> None:
    desk.count({FAILED: 1}, MAY)
    desk.count({FAILED: 2, ESTABLISHED: 1}, MAY + timedelta(days=1))
    with desk.runtime.database.reading() as session:
        assert counted_since(session) == date(2026, 5, 4)
        assert [total.count for total in count_handshakes(session, date(2026, 5, 4))] == [3, 1]
        assert [total.count for total in count_handshakes(session, date(2026, 5, 5))] == [2, 1]
        assert count_handshakes(session, date(2026, 5, 6)) == []
        assert count_handshakes(session, date(2026, 5, 4), "gateway-2") == []
