"""The thread around the checker: answers come back to the caller's thread, once, and none after the end."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

import pytest
from structlog.testing import capture_logs

from core.clock import utc_now
from core.settings import RevocationSettings
from pki.foreign import ForeignAuthorities
from pki.revocation import service as service_module
from pki.revocation.evidence import NOTHING_STAPLED, PathStatus, RevocationState
from pki.revocation.service import RevocationService, is_own_address
from tests.unit.pki.foreign_forge import Company, access, trusted, user_certificate
from tests.unit.pki.revocation.responder import HOUR, ocsp_response
from tests.unit.pki.revocation.scripted_web import ScriptedWeb, after

URL = "http://ocsp.corp.example/"
CORP = Company()
ALICE = user_certificate(CORP.root, access(URL))
PATH = (ALICE, CORP.root.certificate)


class Runner:
    """A service, and the thread that its answers belong to: that of the test."""

    def __init__(self, **settings: float) -> None:
        self.web = ScriptedWeb()
        self.posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.answers: list[PathStatus] = []
        self.service = RevocationService(
            ForeignAuthorities([trusted(CORP.root)]),
            RevocationSettings(**settings),
            (),
            self.posted.put,
            self.web,
        )
        self.service.start()

    def check(self) -> None:
        self.service.check("corporate", PATH, NOTHING_STAPLED, self._answered)

    def _answered(self, status: PathStatus) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.answers.append(status)

    def pump(self, count: int = 1) -> None:
        for _ in range(count):
            self.posted.get(timeout=5)()


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner()
    now = utc_now()
    runner.web.answers[URL] = ocsp_response(ALICE, CORP.root, this_update=now, next_update=now + HOUR)
    yield runner
    runner.service.stop()


def test_answers_on_the_callers_thread(runner: Runner) -> None:
    for _ in range(3):
        runner.check()
    assert runner.answers == []
    runner.pump(3)
    assert [status.state for status in runner.answers] == [RevocationState.GOOD] * 3
    assert runner.web.asked == [URL]


def test_no_answer_after_the_end(runner: Runner) -> None:
    runner.web.answers[URL] = after(60, b"")
    runner.check()
    begin = time.monotonic()
    runner.service.stop()
    assert time.monotonic() - begin < 1
    while not runner.posted.empty():
        runner.posted.get()()
    assert runner.answers == []
    with pytest.raises(RuntimeError):
        runner.check()


def test_one_that_was_posted_already_is_held_back_too(runner: Runner) -> None:
    runner.check()
    answer = runner.posted.get(timeout=5)
    runner.service.stop()
    answer()
    assert runner.answers == []


def test_too_many_at_once_are_told(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "MOST_CHECKS", 2)
    runner.web.answers[URL] = after(0.3, b"")
    for _ in range(5):
        runner.check()
    runner.pump(5)
    assert [status.reason for status in runner.answers].count("too many certificates are being checked") == 3


def test_a_fault_of_ours_is_unknown(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as logs:
        runner.service.check("nobody", PATH, NOTHING_STAPLED, runner.answers.append)
        runner.pump()
    assert [status.state for status in runner.answers] == [RevocationState.UNKNOWN]
    assert logs[0]["event"] == "a revocation check failed"


def test_the_callers_loop_may_be_gone(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def post(call: Callable[[], None]) -> None:
        raise RuntimeError("Event loop is closed")

    monkeypatch.setattr(runner.service, "_post", post)
    with capture_logs() as logs:
        runner.check()
        time.sleep(0.2)
    assert logs == []


def test_stopping_one_that_was_never_started() -> None:
    service = RevocationService(ForeignAuthorities([trusted(CORP.root)]), RevocationSettings(), (), lambda call: None)
    service.stop()
    with pytest.raises(RuntimeError):
        service.check("corporate", PATH, NOTHING_STAPLED, lambda status: None)


def test_addresses_of_clients_are_our_own() -> None:
    """Which of the machine's own addresses are, the kernel says: see the tests in namespaces."""
    networks = [ip_network("10.99.0.0/20"), ip_network("fd99::/112")]
    assert is_own_address(networks, ip_address("10.99.1.2"))
    assert is_own_address(networks, ip_address("fd99::5"))
