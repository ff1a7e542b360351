"""Disconnect-Requests over real UDP, to a responder built on pyrad alone, and retried by a real Celery worker.

test process                        127.0.0.1:PORT
revoke_device --Disconnect-Request-> Responder (thread, pyrad)
ostiary worker --the same, later---> Responder
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyrad import packet as radius

from aaa.accounting import gateway_started
from aaa.dynamic_authorization import Answer, NoAnswer, Peer, Selector, ask, control_secret_name
from aaa.enforcement import DISCONNECT, revoke_device
from aaa.interface import GatewayHello
from core.audit import SYSTEM
from core.outbox import OutboxItem
from core.runtime import Runtime
from core.secrets import Secret, get_or_create_secret
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import enrol

pytestmark = pytest.mark.interop

SECRET = Secret(b"a shared secret of thirty-two bytes")
DEVICE = Selector(device_id="0b8e7a3c-5d0e-4a57-9d0b-3c1f0a2b4c5d")


class Responder:
    """A NAS that speaks RADIUS by pyrad: checks both authenticators, then answers as it was told."""

    def __init__(self, secret: bytes, *, port: int = 0) -> None:
        self._secret = secret
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self._socket.settimeout(0.1)
        self.port: int = self._socket.getsockname()[1]
        self.received: list[bytes] = []
        self.drop = 0
        """How many datagrams to ignore before the first answer."""
        self.code = radius.DisconnectACK
        self.from_elsewhere = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Responder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                data, source = self._socket.recvfrom(4096)
                self.received.append(data)
                if len(self.received) > self.drop:
                    self._answer(data, source)

    def _answer(self, data: bytes, source: tuple[str, int]) -> None:
        request = radius.CoAPacket(packet=data, secret=self._secret)
        if not request.VerifyCoARequest() or not request.verify_message_authenticator():
            return
        reply = request.CreateReply(message_authenticator=True)
        reply.code = self.code
        if self.code == radius.DisconnectNAK:
            reply[101] = [(503).to_bytes(4)]
        else:
            reply[18] = [b"1 ended"]
        answer = reply.ReplyPacket()
        if self.from_elsewhere:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(answer, source)
        else:
            self._socket.sendto(answer, source)


def _peer(responder: Responder, secret: Secret = SECRET) -> Peer:
    return Peer("gateway-1", "127.0.0.1", responder.port, secret)


@pytest.fixture
def responder() -> Iterator[Responder]:
    with Responder(SECRET.reveal()) as responder:
        yield responder


def test_pyrad_understands_and_answers(responder: Responder) -> None:
    started = time.monotonic()
    assert ask(_peer(responder), DEVICE) == Answer(True, None, "1 ended")
    assert time.monotonic() - started < 0.15
    responder.code = radius.DisconnectNAK
    answer = ask(_peer(responder), Selector(session_id="7"))
    assert (answer.acknowledged, answer.error_cause, answer.settled) == (False, 503, True)


def test_a_lost_datagram_is_sent_again_as_it_was(responder: Responder) -> None:
    responder.drop = 2
    started = time.monotonic()
    assert ask(_peer(responder), DEVICE).acknowledged
    assert 0.6 <= time.monotonic() - started < 1.2
    assert len(responder.received) == 3
    assert len(set(responder.received)) == 1


def test_another_secret_gets_no_answer(responder: Responder) -> None:
    with pytest.raises(NoAnswer, match="no answer"):
        ask(_peer(responder, Secret(b"wrong")), DEVICE, timeouts_s=(0.1, 0.1))


def test_an_answer_from_another_port_is_none(responder: Responder) -> None:
    responder.from_elsewhere = True
    with pytest.raises(NoAnswer, match="no answer"):
        ask(_peer(responder), DEVICE, timeouts_s=(0.1, 0.1))
    assert len(responder.received) == 2


def test_nobody_listens(responder: Responder) -> None:
    closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    closed.bind(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    with pytest.raises(NoAnswer, match="nobody listens there"):
        ask(Peer("gateway-1", "127.0.0.1", port, SECRET), DEVICE, timeouts_s=(0.05, 0.05))
    with pytest.raises(NoAnswer):
        ask(Peer("gateway-1", "255.255.255.255", port, SECRET), DEVICE)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with open_runtime(tmp_path / "state") as opened:
        yield opened


def _register(runtime: Runtime, name: str, port: int) -> bytes:
    with runtime.database.transaction() as session:
        gateway_started(session, GatewayHello(name, "127.0.0.1", port, "userspace"))
        return get_or_create_secret(session, runtime.box, control_secret_name(name)).reveal()


def test_all_gateways_are_told_at_once(runtime: Runtime) -> None:
    laptop = enrol(runtime)
    with contextlib.ExitStack() as stack:
        responders = []
        for number in range(1, 9):
            name = f"gateway-{number}"
            with runtime.database.transaction() as session:
                secret = get_or_create_secret(session, runtime.box, control_secret_name(name)).reveal()
            responder = stack.enter_context(Responder(secret))
            responder.drop = 1  # each needs one retransmission: 0.2 s, 1.6 s if it were one after the other
            _register(runtime, name, responder.port)
            responders.append(responder)
        result = revoke_device(runtime, laptop.id, "stolen", SYSTEM)
    assert [answer.acknowledged for answer in result.answers] == [True] * 8
    assert result.elapsed_ms < 1000
    assert all(len(responder.received) == 2 for responder in responders)


def test_a_revocation_reaches_a_gateway_that_was_away(runtime: Runtime) -> None:
    """The gateway's port is dead when the device is revoked; a real worker asks until it is back."""
    laptop = enrol(runtime)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    secret = _register(runtime, "gateway-1", port)
    environment = {
        "OSTIARY_STATE_DIR": str(runtime.settings.state_dir),
        "OSTIARY_JOBS__SWEEP_INTERVAL_S": "0.5",
        "PATH": os.environ["PATH"],
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "core.cli", "worker"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        result = revoke_device(runtime, laptop.id, "stolen", SYSTEM)
        (answer,) = result.answers
        assert not answer.acknowledged
        assert "nobody listens there" in answer.detail
        _wait_until(lambda: _item(runtime).attempts >= 2, 30)
        assert _item(runtime).done_at is None
        with Responder(secret, port=port) as responder:
            _wait_until(lambda: _item(runtime).done_at is not None, 30)
            assert len(responder.received) == 1
    finally:
        worker.terminate()
        _, log = worker.communicate(timeout=20)
    assert "job failed, will be tried again" in log
    assert secret.decode() not in log


def _item(runtime: Runtime) -> OutboxItem:
    with runtime.database.reading() as session:
        item = session.query(OutboxItem).where(OutboxItem.kind == DISCONNECT).one()
        session.expunge(item)
        return item


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)
