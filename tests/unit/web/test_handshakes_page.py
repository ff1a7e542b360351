"""The pages about handshakes: counters, filters, pages, and one explanation with all that is known."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape

import pytest

from aaa.backend.events import refused
from aaa.backend.handshake_log import HandshakeLog
from aaa.backend.requests import CountHandshakes, WriteReport
from aaa.interface import HandshakeKind, Refusal
from core.audit import record_many
from core.clock import utc_now
from core.runtime import Runtime
from gateway.diagnosis.causes import Cause
from tests.unit.gateway.test_handshake_commands import PHONE, REFUSED, SLOW, WINDOWS
from tests.unit.web.visitor import Person, Visitor
from web.display import HANDSHAKE_CAUSES


@pytest.fixture
def log(runtime: Runtime) -> HandshakeLog:
    """Two refusals of a Windows, a slow handshake of a phone, and the counts of today and yesterday."""
    log, now = HandshakeLog(runtime.settings.gateway), utc_now()
    counts = {
        HandshakeKind("established", "", "", "iOS"): 40,
        HandshakeKind("slow", "backend", "slow-handshake", "iOS"): 1,
        HandshakeKind("failed", "proposal", "no-proposal-chosen", "Windows 10 or 11"): 2,
    }
    with runtime.database.transaction() as session:
        connection = session.connection()
        for context, report, minutes in ((WINDOWS, REFUSED, 50), (PHONE, SLOW, 20), (WINDOWS, REFUSED, 5)):
            log.write(connection, [WriteReport(context, report, now - timedelta(minutes=minutes))])
        for days in (0, 1):
            log.count(connection, "gateway-1", [CountHandshakes(counts, now - timedelta(days=days))])
    return log


def listed(page: str) -> list[str]:
    """The numbers of the explanations on a page."""
    return re.findall(r'id="handshake-(\d+)"', page)


def words(page: str) -> str:
    """What a person reads."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.mark.usefixtures("log")
class TestList:
    def test_what_it_shows(self, administrator: Visitor) -> None:
        page = administrator.get("/handshakes").text
        assert listed(page) == ["1", "2"]
        text = words(page)
        assert REFUSED.explanation in text
        assert "2 times" in text
        for part in ("Algorithms", "no-proposal-chosen", "Windows 10 or 11", "198.51.100.7", "10.0.0.5"):
            assert part in text
        assert "Connected 41 · slow 1 · failed 2" in text

    def test_counts_of_more_days(self, administrator: Visitor) -> None:
        text = words(administrator.get("/handshakes?days=7").text)
        assert "Connected 82 · slow 2 · failed 4" in text
        assert f"Since {utc_now() - timedelta(days=1):%Y-%m-%d}, 00:00 UTC" in text

    def test_from_a_count_to_its_explanations(self, administrator: Visitor) -> None:
        page = administrator.get("/handshakes").text
        link = unescape(re.findall(r'<a href="(/handshakes\?[^"]*cause=proposal[^"]*)">', page)[0])
        assert listed(administrator.get(link).text) == ["1"]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("client=windows", ["1"]),
            ("remote=2001:db8::*", ["2"]),
            ("identity=ALICE", ["2"]),
            ("code=no-proposal-chosen", ["1"]),
            ("cause=backend", ["2"]),
            ("outcome=failed", ["1"]),
            ("since=2000-01-01", ["1", "2"]),
            ("since=2999-01-01", []),
        ],
    )
    def test_filters(self, administrator: Visitor, query: str, found: list[str]) -> None:
        page = administrator.get(f"/handshakes?{query}").text
        assert listed(page) == found
        assert ("No handshake fits" in page) is not bool(found)
        assert ">Clear<" in page

    @pytest.mark.parametrize(
        "query", ["outcome=maybe", "since=yesterday", "page=0", "page=1001", "days=2", "client=%00", "q=" + "x" * 9]
    )
    def test_a_filter_that_makes_no_sense_is_left_out(self, administrator: Visitor, query: str) -> None:
        answer = administrator.get(f"/handshakes?{query}")
        assert answer.status_code == 200
        assert listed(answer.text) == ["1", "2"]
        assert ("That filter can&#39;t be used" in answer.text) is not query.startswith("q=")

    def test_pages_are_turned_within_the_filter(
        self, runtime: Runtime, log: HandshakeLog, administrator: Visitor
    ) -> None:
        with runtime.database.transaction() as session:
            requests = [
                WriteReport(replace(PHONE, remote_address=f"192.0.2.{number}"), REFUSED, utc_now())
                for number in range(65)
            ]
            log.write(session.connection(), requests)
        seen: list[str] = []
        path = "/handshakes?remote=192.0.2.*&days=7"
        for expected in (30, 30, 5):
            page = administrator.get(path).text
            assert len(listed(page)) == expected
            seen += listed(page)
            older = re.search(r'href="([^"]+)" rel="next"', page)
            path = unescape(older[1]) if older else ""
        assert path == ""
        assert len(set(seen)) == 65


def test_nothing_to_tell(administrator: Visitor) -> None:
    text = words(administrator.get("/handshakes").text)
    assert "Every handshake went well" in text
    assert "None failed, and none was slow." in text


@pytest.mark.usefixtures("log")
class TestOne:
    @pytest.mark.parametrize("reference", ["1", "0a0b0c"])
    def test_all_that_is_known(self, administrator: Visitor, reference: str) -> None:
        page = administrator.get(f"/handshakes/{reference}").text
        text = words(page)
        for part in (
            REFUSED.explanation,
            "10.0.0.5 from 198.51.100.7",
            "2 times from",
            "Run this:",
            "[AES_CBC_256 MODP_1024]",
            "policy modern: CURVE25519",
            "NAT none",
            "address proven no",
            "0 ms IKE_SA_INIT on port 500: failed: no-proposal-chosen",
        ):
            assert part in text
        assert 'data-copy="Set-VpnConnectionIPsecConfiguration -Force"' in page

    def test_without_advice_or_offer(self, administrator: Visitor) -> None:
        with_parts, without = (administrator.get(f"/handshakes/{number}").text for number in (1, 2))
        assert "What to do" in with_parts
        assert "What to do" not in without

    def test_one_that_is_not_there(self, administrator: Visitor) -> None:
        assert administrator.get("/handshakes/77").status_code == 404

    def test_an_auditor_may_see_it(self, runtime: Runtime, administrator: Visitor) -> None:
        auditor = Person(runtime, "ada", "auditor").signed_in(administrator.app)
        assert auditor.get("/handshakes/1").status_code == 200

    def test_the_audit_log_leads_there(self, runtime: Runtime, administrator: Visitor) -> None:
        refusal = Refusal(REFUSED.code, "offered [MODP_1024]")
        events = [
            refused(context, refusal, identity="") for context in (WINDOWS, replace(PHONE, sign_in_id="forgotten"))
        ]
        with runtime.database.transaction() as session:
            record_many(session, events)
        page = administrator.get("/audit").text
        assert 'href="/handshakes/0a0b0c"' in page
        assert "/handshakes/forgotten" not in page


def test_what_a_peer_wrote_is_no_markup(runtime: Runtime, log: HandshakeLog, administrator: Visitor) -> None:
    nasty = "<script>alert(1)</script>"
    report = replace(
        REFUSED, explanation=nasty, offered=nasty, facts=((nasty, nasty),), advice=(nasty, f"a: {nasty}")
    )
    with runtime.database.transaction() as session:
        where = replace(WINDOWS, ike_identity=nasty, client=nasty, sign_in_id="nasty")
        log.write(session.connection(), [WriteReport(where, report, utc_now())])
    for path in ("/handshakes", "/handshakes/nasty"):
        assert nasty not in administrator.get(path).text


def test_every_cause_has_words() -> None:
    assert set(HANDSHAKE_CAUSES) == {cause.value for cause in Cause}
