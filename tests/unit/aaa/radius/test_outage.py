"""Without its database the server says neither yes nor no, so that its clients ask another server, or again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import structlog

from aaa.radius.request import Service
from aaa.sessions import recent_sessions
from core.runtime import Runtime
from tests.peers.eap import MsChapV2Peer
from tests.peers.radius import ACCEPT, ACCOUNTED, ACCOUNTING, CLASS, SESSION_ID, STATUS_TYPE, packet, read_answer
from tests.unit.aaa.driver import Driver
from tests.unit.aaa.people import Enrolled, enrol
from tests.unit.aaa.radius.house import VPN, House, from_host, identity
from tests.unit.aaa.test_database_worker import unusable

BOX = from_host("10.0.3.1", service=Service.ACCOUNTING)
SECRET = VPN.secret.reveal()


@pytest.fixture
def house(runtime: Runtime) -> Iterator[House]:
    with Driver(runtime, hello=False) as driver:
        yield House(driver)


@pytest.fixture
def laptop(house: House) -> Enrolled:
    return enrol(house.driver.runtime)


def report(status: int, *items: tuple[int, bytes], identifier: int = 1) -> bytes:
    known = [(STATUS_TYPE, status.to_bytes(4, "big")), (SESSION_ID, b"0001"), *items]
    return packet(ACCOUNTING, SECRET, known, identifier=identifier)


def test_a_sign_in_gets_no_answer_and_its_repetition_is_tried_anew(house: House, laptop: Enrolled) -> None:
    nas = house.nas()
    request = nas.request(identity("alice"))
    with structlog.testing.capture_logs(), unusable(house.driver.runtime):
        assert house.give(request) is None
        house.driver.pump(lambda: len(house.conversations) == 0)
        assert house.sent == []
    assert house.ask(request) is not None


def test_records_are_answered_when_they_are_written(house: House, laptop: Enrolled) -> None:
    client = house.nas(peer=from_host("10.0.3.1"), client=VPN)
    peer = MsChapV2Peer("alice", laptop.code)
    accepted = client.sign_in(identity("alice"), peer.receive)
    assert accepted.code == ACCEPT
    granted = [(CLASS, value) for value in accepted.values(CLASS)]
    start, stop = report(1, *granted), report(2, identifier=2)
    house.sent.clear()
    with structlog.testing.capture_logs(), unusable(house.driver.runtime):
        for data in (start, stop, start):
            assert house.give(data, BOX) is None
        time.sleep(0.1)
        house.driver.run_posted()
        assert house.sent == []
    house.driver.pump(lambda: len(house.sent) == 2)
    for question, (answer, _) in zip((start, stop), house.sent, strict=True):
        assert read_answer(question, answer, SECRET).code == ACCOUNTED
    with house.driver.runtime.database.reading() as session:
        [record] = recent_sessions(session)
    assert record.ended_at is not None
