"""Whole paths, against sources that answer by script: what is asked, how often, how long, and what comes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from structlog.testing import capture_logs

from core.settings import RevocationSettings
from pki.revocation import checker as checker_module
from pki.revocation.checker import FETCHES_AT_ONCE, MOST_WAITING_FETCHES, RETRY_AFTER, PathChecker, Sources
from pki.revocation.destinations import Destinations
from pki.revocation.evidence import NOTHING_STAPLED, NotUsable, PathStatus, RevocationState, Stapled
from tests.unit.pki.foreign_forge import Company, access, points, user_certificate
from tests.unit.pki.forge import DAY, NOW, Signer
from tests.unit.pki.revocation.responder import HOUR, OCSP_SIGNING, crl, delegate, ocsp_response, scope
from tests.unit.pki.revocation.scripted_web import Answer, ScriptedWeb, after

T = TypeVar("T")
OCSP, OCSP_2, CRL = "http://ocsp.corp.example/", "http://ocsp2.corp.example/", "http://pki.corp.example/issuing.crl"
ROOT_CRL = "http://pki.corp.example/root.crl"
GOOD, REVOKED, UNKNOWN = RevocationState.GOOD, RevocationState.REVOKED, RevocationState.UNKNOWN

CORP = Company()
BELOW_ROOT = user_certificate(CORP.root, access(OCSP), points(ROOT_CRL))
"""The shortest path: the root's own client."""
PATH = (BELOW_ROOT, CORP.root.certificate)


class Scene:
    """A checker with its web and its clock."""

    def __init__(self, **settings: Any) -> None:
        self.web = ScriptedWeb()
        self.time = NOW
        self.checker = PathChecker(
            RevocationSettings(**{"timeout_s": 1.0, **settings}),
            self.web,
            lambda: self.time,
            bytes,
        )
        self.sources = self.sources_of("corporate")

    @staticmethod
    def sources_of(name: str, ocsp_urls: tuple[str, ...] = (), crl_urls: tuple[str, ...] = ()) -> Sources:
        return Sources(name, ocsp_urls, crl_urls, Destinations((), (80, 443), (), lambda address: False))

    async def check(
        self, path: tuple[x509.Certificate, ...] = PATH, stapled: Stapled = NOTHING_STAPLED
    ) -> PathStatus:
        begin = time.monotonic()
        try:
            return await self.checker.check(self.sources, path, stapled)
        finally:
            assert time.monotonic() - begin < 1.5, "a sign-in was held up"

    async def state(self, *arguments: Any, **changes: Any) -> RevocationState:
        return (await self.check(*arguments, **changes)).state


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker_module, "NEXT_SOURCE_AFTER_S", 0.05)
    monkeypatch.setattr(checker_module, "REFRESH_WAIT_S", 0.1)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def respond(status: str = "good", **changes: Any) -> bytes:
    return ocsp_response(BELOW_ROOT, CORP.root, status, **changes)


class TestOneCertificate:
    def test_good_by_ocsp(self) -> None:
        async def story() -> None:
            scene = Scene()
            scene.web.answers[OCSP] = respond()
            status = await scene.check()
            assert (status.state, scene.web.asked) == (GOOD, [OCSP])
            assert status.reason == "the certificate 1234567890abcdef is good by OCSP of 2026-06-01 11:00 UTC"

        run(story())

    def test_the_request_is_about_the_certificate(self) -> None:
        async def story() -> None:
            scene = Scene()
            asked: list[ocsp.OCSPRequest] = []

            async def answer(body: bytes) -> bytes:
                asked.append(ocsp.load_der_ocsp_request(body))
                return respond(nonce=bytes(16))

            scene.web.answers[OCSP] = answer
            assert await scene.state() is GOOD
            [request] = asked
            assert request.serial_number == BELOW_ROOT.serial_number
            assert request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == bytes(16)

        run(story())

    def test_revoked_by_ocsp(self) -> None:
        async def story() -> None:
            scene = Scene()
            scene.web.answers[OCSP] = respond("revoked", reason=x509.ReasonFlags.key_compromise)
            status = await scene.check()
            assert status.state is REVOKED
            assert "revoked at 2026-05-31 12:00 UTC (keyCompromise)" in status.reason

        run(story())

    @pytest.mark.parametrize(
        "answer",
        [
            NotUsable("it answers HTTP 500"),
            b"nonsense",
            respond("unknown"),
            respond(this_update=NOW - 3 * DAY, next_update=NOW - 2 * DAY),
            respond(signer=delegate(CORP.issuing)),
            ocsp_response(user_certificate(CORP.root, serial=7), CORP.root),
            respond(nonce=b"another 16 bytes"),
        ],
        ids=["down", "nonsense", "not-known", "old", "stranger", "other-certificate", "other-nonce"],
    )
    def test_the_crl_where_ocsp_says_nothing(self, answer: Answer) -> None:
        async def story() -> None:
            for revoked, expected in (([], GOOD), ([BELOW_ROOT.serial_number], REVOKED)):
                scene = Scene()
                scene.web.answers = {OCSP: answer, ROOT_CRL: crl(CORP.root, revoked)}
                assert await scene.state() is expected
                assert scene.web.asked == [OCSP, ROOT_CRL]

        run(story())

    def test_unknown_where_nobody_answers(self) -> None:
        async def story() -> None:
            status = await Scene().check()
            assert status.state is UNKNOWN
            assert f"OCSP {OCSP}: it can't be reached" in status.reason
            assert f"CRL {ROOT_CRL}: it can't be reached" in status.reason

        run(story())

    def test_unknown_where_it_names_nobody(self) -> None:
        async def story() -> None:
            status = await Scene().check((user_certificate(CORP.root), CORP.root.certificate))
            assert status.state is UNKNOWN
            assert "names no OCSP responder" in status.reason

        run(story())

    def test_the_operators_sources_take_the_place_of_those_named(self) -> None:
        async def story() -> None:
            scene = Scene()
            scene.sources = scene.sources_of("corporate", (OCSP_2,), (CRL,))
            scene.web.answers = {OCSP: respond("revoked"), OCSP_2: NotUsable("down"), CRL: crl(CORP.root)}
            assert await scene.state() is GOOD
            assert scene.web.asked == [OCSP_2, CRL]

        run(story())


class TestPaths:
    ISSUING = Signer(
        CORP.root.certify(
            CORP.issuing.certificate.subject,
            CORP.issuing.key.public_key(),
            [(x509.BasicConstraints(ca=True, path_length=0), True), points(ROOT_CRL)],
            serial=77,
        ),
        CORP.issuing.key,
    )
    ALICE = user_certificate(CORP.issuing, access(OCSP))
    LONG = (ALICE, ISSUING.certificate, CORP.root.certificate)

    def test_every_certificate_but_the_root_is_checked(self) -> None:
        async def story() -> None:
            scene = Scene()
            scene.web.answers = {OCSP: ocsp_response(self.ALICE, self.ISSUING), ROOT_CRL: crl(CORP.root)}
            status = await scene.check(self.LONG)
            assert status.state is GOOD
            assert sorted(scene.web.asked) == [OCSP, ROOT_CRL]
            assert "1234567890abcdef is good by OCSP" in status.reason
            assert "the certificate 4d is good by CRL" in status.reason

        run(story())

    def test_a_revoked_ca_revokes_what_it_signed(self) -> None:
        async def story() -> None:
            scene = Scene()
            scene.web.answers = {OCSP: ocsp_response(self.ALICE, self.ISSUING), ROOT_CRL: crl(CORP.root, [77])}
            status = await scene.check(self.LONG)
            assert (status.state, "certificate 4d was revoked" in status.reason) == (REVOKED, True)

        run(story())

    def test_unknown_where_only_the_ca_is_unknown(self) -> None:
        async def story() -> None:
            scene = Scene()
            scene.web.answers = {OCSP: ocsp_response(self.ALICE, self.ISSUING)}
            assert await scene.state(self.LONG) is UNKNOWN

        run(story())

    def test_a_list_for_each_ca_from_the_operator(self) -> None:
        async def story() -> None:
            scene = Scene(cache_lifetime_s=600)
            scene.sources = scene.sources_of("corporate", (), (CRL, ROOT_CRL))
            scene.web.answers = {
                CRL: crl(self.ISSUING, next_update=NOW + DAY),
                ROOT_CRL: crl(CORP.root, next_update=NOW + DAY),
            }
            path = (user_certificate(CORP.issuing), self.ISSUING.certificate, CORP.root.certificate)
            assert await scene.state(path) is GOOD
            # Each list once, though each CA had to look at both to find its own.
            assert sorted(scene.web.asked) == [CRL, ROOT_CRL]
            for minutes in range(1, 9):
                scene.time = NOW + timedelta(minutes=minutes)
                assert await scene.state(path) is GOOD
            assert sorted(scene.web.asked) == [CRL, ROOT_CRL]

        run(story())


class TestTime:
    def test_a_silent_source_does_not_hold_up_the_next_one(self) -> None:
        async def story() -> None:
            scene = Scene()
            scene.web.answers = {OCSP: after(60, b""), ROOT_CRL: crl(CORP.root)}
            begin = time.monotonic()
            assert await scene.state() is GOOD
            assert time.monotonic() - begin < 0.6

        run(story())

    def test_everything_ends_in_time(self) -> None:
        async def story() -> None:
            scene = Scene(timeout_s=0.3)
            scene.web.answers = {OCSP: after(60, b""), ROOT_CRL: after(60, b"")}
            status = await scene.check()
            assert status.state is UNKNOWN
            assert status.reason.count("no answer in time") == 2

        run(story())

    def test_what_comes_too_late_is_there_for_the_next_sign_in(self) -> None:
        async def story() -> None:
            scene = Scene(timeout_s=0.1)
            scene.web.answers = {OCSP: after(0.3, respond())}
            assert await scene.state() is UNKNOWN
            await asyncio.sleep(0.3)
            assert await scene.state() is GOOD
            assert scene.web.asked.count(OCSP) == 1

        run(story())

    def test_one_question_for_many_sign_ins(self) -> None:
        async def story() -> None:
            scene = Scene()
            scene.web.answers = {OCSP: after(0.1, respond())}
            states = await asyncio.gather(*(scene.state() for _ in range(50)))
            assert set(states) == {GOOD}
            assert scene.web.asked.count(OCSP) == 1

        run(story())

    def test_few_fetches_at_once_and_few_that_wait(self) -> None:
        async def story() -> None:
            scene = Scene(timeout_s=0.5)
            certificates = [user_certificate(CORP.root, access(OCSP), serial=number) for number in range(1, 200)]
            scene.web.answers = {OCSP: after(60, b"")}
            paths = [(certificate, CORP.root.certificate) for certificate in certificates]
            findings = await asyncio.gather(*(scene.check(path) for path in paths))
            assert {finding.state for finding in findings} == {UNKNOWN}
            assert scene.web.most_at_once == FETCHES_AT_ONCE
            busy = [finding for finding in findings if "too much is being fetched" in finding.reason]
            assert len(busy) == 199 - MOST_WAITING_FETCHES
            # Another authority has places of its own.
            other = scene.sources_of("partner", (OCSP_2,))
            scene.web.answers[OCSP_2] = respond()
            assert (await scene.checker.check(other, PATH, NOTHING_STAPLED)).state is GOOD

        run(story())


class TestMemory:
    def test_an_answer_is_asked_for_once_in_its_time(self) -> None:
        async def story() -> None:
            scene = Scene(cache_lifetime_s=600)
            scene.web.answers[OCSP] = respond(next_update=NOW + DAY)
            for minutes, asked in ((0, 1), (9, 1), (11, 2), (20, 2)):
                scene.time = NOW + timedelta(minutes=minutes)
                assert await scene.state() is GOOD
                assert len(scene.web.asked) == asked

        run(story())

    def test_a_list_is_fetched_once_for_all_that_stand_in_it(self) -> None:
        async def story() -> None:
            scene = Scene()
            scene.web.answers[ROOT_CRL] = crl(CORP.root, [3])
            for serial in range(1, 6):
                path = (user_certificate(CORP.root, points(ROOT_CRL), serial=serial), CORP.root.certificate)
                assert await scene.state(path) is (REVOKED if serial == 3 else GOOD)
            assert scene.web.asked == [ROOT_CRL]

        run(story())

    def test_the_old_answer_counts_while_the_source_is_down_until_its_end(self) -> None:
        async def story() -> None:
            scene = Scene(cache_lifetime_s=600)
            scene.web.answers[OCSP] = respond(next_update=NOW + 2 * HOUR)
            assert await scene.state() is GOOD
            scene.web.answers = {}
            scene.time = NOW + HOUR
            status = await scene.check()
            assert (status.state, "nothing newer" in status.reason) == (GOOD, True)
            scene.time = NOW + 3 * HOUR
            assert await scene.state() is UNKNOWN

        run(story())

    def test_a_slow_source_is_waited_for_only_briefly_where_an_old_answer_counts(self) -> None:
        async def story() -> None:
            scene = Scene(cache_lifetime_s=600)
            scene.web.answers[OCSP] = respond(next_update=NOW + DAY)
            assert await scene.state() is GOOD
            scene.web.answers = {OCSP: after(60, b""), ROOT_CRL: after(60, b"")}
            scene.time = NOW + HOUR
            begin = time.monotonic()
            assert await scene.state() is GOOD
            assert time.monotonic() - begin < 0.5

        run(story())

    def test_a_revocation_is_seen_after_the_lifetime(self) -> None:
        async def story() -> None:
            scene = Scene(cache_lifetime_s=600)
            scene.web.answers[OCSP] = respond(next_update=NOW + DAY)
            assert await scene.state() is GOOD
            scene.web.answers[OCSP] = respond("revoked", this_update=NOW, next_update=NOW + DAY)
            scene.time = NOW + timedelta(minutes=5)
            assert await scene.state() is GOOD
            scene.time = NOW + timedelta(minutes=11)
            assert await scene.state() is REVOKED

        run(story())

    def test_revoked_for_good_is_not_asked_again(self) -> None:
        async def story() -> None:
            scene = Scene(cache_lifetime_s=0)
            scene.web.answers[OCSP] = respond("revoked", next_update=NOW + DAY)
            assert await scene.state() is REVOKED
            scene.web.answers[OCSP] = respond(this_update=NOW)
            scene.time = NOW + timedelta(minutes=1)
            assert await scene.state() is REVOKED
            assert len(scene.web.asked) == 1

        run(story())

    def test_on_hold_is_asked_again(self) -> None:
        async def story() -> None:
            scene = Scene(cache_lifetime_s=0)
            scene.web.answers[OCSP] = respond("revoked", reason=x509.ReasonFlags.certificate_hold)
            assert await scene.state() is REVOKED
            scene.web.answers[OCSP] = respond(this_update=NOW)
            scene.time = NOW + timedelta(minutes=1)
            assert await scene.state() is GOOD

        run(story())

    def test_a_source_that_failed_is_left_alone_for_a_while(self) -> None:
        async def story() -> None:
            scene = Scene()
            for _ in range(5):
                assert await scene.state() is UNKNOWN
            assert scene.web.asked == [OCSP, ROOT_CRL]
            # Nor by the sign-ins of others.
            other = (user_certificate(CORP.root, access(OCSP), serial=5), CORP.root.certificate)
            assert await scene.state(other) is UNKNOWN
            assert scene.web.asked == [OCSP, ROOT_CRL]
            scene.time = NOW + RETRY_AFTER
            scene.web.answers[OCSP] = respond()
            assert await scene.state() is GOOD

        run(story())

    def test_what_one_authority_may_not_ask_does_not_count_against_another(self) -> None:
        async def story() -> None:
            scene = Scene()
            assert await scene.state() is UNKNOWN
            scene.web.answers[OCSP] = respond()
            partner = scene.sources_of("partner")
            assert (await scene.checker.check(partner, PATH, NOTHING_STAPLED)).state is GOOD

        run(story())

    def test_a_certificate_that_the_responder_does_not_know_is_no_outage(self) -> None:
        async def story() -> None:
            scene = Scene()
            strange = (user_certificate(CORP.root, access(OCSP), serial=5), CORP.root.certificate)
            scene.web.answers[OCSP] = ocsp_response(strange[0], CORP.root, "unknown")
            with capture_logs() as logs:
                assert await scene.state(strange) is UNKNOWN
                scene.web.answers[OCSP] = respond()
                assert await scene.state() is GOOD
            assert logs == []

        run(story())

    @pytest.mark.parametrize("answer", [NotUsable("it answers HTTP 503"), b"nonsense"], ids=["down", "nonsense"])
    def test_an_outage_is_logged_once_and_so_is_its_end(self, answer: Answer) -> None:
        async def story() -> None:
            scene = Scene()
            scene.web.answers = {OCSP: answer, ROOT_CRL: crl(CORP.root)}
            with capture_logs() as logs:
                for minutes in range(5):
                    scene.time = NOW + timedelta(minutes=minutes)
                    path = (
                        user_certificate(CORP.root, access(OCSP), points(ROOT_CRL), serial=minutes + 1),
                        CORP.root.certificate,
                    )
                    assert await scene.state(path) is GOOD
                scene.web.answers[OCSP] = respond(this_update=NOW)
                path = (user_certificate(CORP.root, access(OCSP)), CORP.root.certificate)
                scene.time = NOW + timedelta(minutes=10)
                assert await scene.state(path) is GOOD
            events = ["a revocation source fails", "a revocation source works again"]
            assert [entry["event"] for entry in logs] == events
            assert logs[1]["failed_s"] == 600
            assert logs[0]["url"] == OCSP
            assert logs[0]["authority"] == "corporate"

        run(story())


class TestDelegates:
    RESPONDER_CRL = "http://pki.corp.example/responders.crl"

    def responder(self, *urls: str) -> Signer:
        return delegate(CORP.root, OCSP_SIGNING, *([points(*urls)] if urls else []))

    def test_its_own_revocation_is_looked_up_where_its_ca_names_a_list(self) -> None:
        async def story() -> None:
            signer = self.responder(self.RESPONDER_CRL)
            for revoked, expected in (([], GOOD), ([signer.certificate.serial_number], UNKNOWN)):
                scene = Scene()
                scene.web.answers = {
                    OCSP: respond(signer=signer),
                    self.RESPONDER_CRL: crl(CORP.root, revoked),
                }
                status = await scene.check((user_certificate(CORP.root, access(OCSP)), CORP.root.certificate))
                assert status.state is expected
                assert scene.web.asked == [OCSP, self.RESPONDER_CRL]

        run(story())

    def test_not_believed_where_its_list_is_out_of_reach(self) -> None:
        async def story() -> None:
            scene = Scene()
            scene.web.answers[OCSP] = respond(signer=self.responder(self.RESPONDER_CRL))
            status = await scene.check()
            assert status.state is UNKNOWN
            assert "responder's certificate was revoked" in status.reason

        run(story())

    def test_believed_where_its_ca_names_none(self) -> None:
        async def story() -> None:
            scene = Scene()
            scene.web.answers[OCSP] = respond(signer=self.responder())
            assert await scene.state() is GOOD

        run(story())


class TestStapled:
    def test_a_fresh_answer_saves_the_question(self) -> None:
        async def story() -> None:
            for stapled, expected in (
                (Stapled([respond(this_update=NOW)]), GOOD),
                (Stapled([respond("revoked", this_update=NOW)]), REVOKED),
                (Stapled(crls=[crl(CORP.root, this_update=NOW)]), GOOD),
                (Stapled(crls=[crl(CORP.root, [BELOW_ROOT.serial_number], this_update=NOW)]), REVOKED),
            ):
                scene = Scene()
                assert await scene.state(stapled=stapled) is expected
                assert scene.web.asked == []

        run(story())

    def test_an_old_one_is_only_a_last_resort(self) -> None:
        async def story() -> None:
            scene = Scene(cache_lifetime_s=600)
            old = Stapled([respond(this_update=NOW - HOUR, next_update=NOW + DAY)])
            scene.web.answers[OCSP] = respond("revoked", this_update=NOW)
            assert await scene.state(stapled=old) is REVOKED
            scene = Scene(cache_lifetime_s=600)
            assert await scene.state(stapled=old) is GOOD
            assert scene.web.asked == [OCSP, ROOT_CRL]

        run(story())

    def test_it_does_not_push_aside_what_is_known(self) -> None:
        async def story() -> None:
            scene = Scene()
            scene.web.answers = {ROOT_CRL: crl(CORP.root, [BELOW_ROOT.serial_number], next_update=NOW + DAY)}
            assert await scene.state() is REVOKED
            stapled = Stapled([respond(this_update=NOW)], [crl(CORP.root, this_update=NOW)])
            assert await scene.state(stapled=stapled) is REVOKED
            # Nor does an older answer a newer one.
            scene = Scene(cache_lifetime_s=86_400)
            hold = x509.ReasonFlags.certificate_hold
            scene.web.answers = {OCSP: respond("revoked", reason=hold, this_update=NOW)}
            assert await scene.state() is REVOKED
            assert await scene.state(stapled=Stapled([respond(this_update=NOW - HOUR)])) is REVOKED

        run(story())

    @pytest.mark.parametrize(
        "stapled",
        [
            Stapled([b"", b"nonsense", bytes(100_000)], [b"", b"nonsense", bytes(100_000)]),
            Stapled([respond(this_update=NOW - 2 * DAY, next_update=NOW - DAY)]),
            Stapled([respond(signer=delegate(CORP.issuing))]),
            Stapled([ocsp_response(user_certificate(CORP.root, serial=9), CORP.root)]),
            Stapled([respond(signer=delegate(CORP.root, OCSP_SIGNING))]),
            Stapled(crls=[crl(CORP.issuing)]),
            Stapled(crls=[crl(CORP.root, key=CORP.issuing.key)]),
            Stapled(crls=[crl(CORP.root, [], scope(indirect_crl=True))]),
            Stapled([b"x"] * 8 + [respond(this_update=NOW)], [b"x"] * 8 + [crl(CORP.root, this_update=NOW)]),
        ],
        ids=["bytes", "old", "stranger", "other", "unchecked-delegate", "other-ca", "forged", "indirect", "too-many"],
    )
    def test_what_can_not_be_believed_is_passed_over(self, stapled: Stapled) -> None:
        async def story() -> None:
            assert await Scene().state(stapled=stapled) is UNKNOWN

        run(story())


def test_an_error_of_ours_is_unknown_and_logged() -> None:
    async def story() -> None:
        scene = Scene()
        scene.web.answers = {OCSP: RuntimeError("a bug"), ROOT_CRL: RuntimeError("a bug")}
        with capture_logs() as logs:
            status = await scene.check()
        assert (status.state, status.reason.count("internal error")) == (UNKNOWN, 2)
        assert "a revocation check stumbled" in [entry["event"] for entry in logs]

    run(story())


def test_dates_are_of_the_clock_that_was_given() -> None:
    async def story(now: datetime) -> RevocationState:
        scene = Scene()
        scene.time = now
        scene.web.answers = {OCSP: respond()}
        return await scene.state()

    assert run(story(NOW)) is GOOD
    assert run(story(NOW + DAY)) is UNKNOWN
    assert run(story(NOW - DAY)) is UNKNOWN
