"""The gateway's certificates and OCSP responses over time, with a database that is away now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from gateway.credentials import RENEW_S, DatedCredential, GatewayCredentials
from gateway.ike.config import Credential
from tests.unit.gateway.ike.credentials import gateway_credential
from tests.unit.gateway.shell import Loop

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
LIFE_S = 4 * 3600.0
MARGIN_S = 30.0


class ThreadedLoop(Loop):
    """With one thread, which works when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_slow = False
        self._work: list[Callable[[], None]] = []

    def run_in_executor(self, _executor: None, call: Callable[[], Any]) -> Future[Any]:
        """At once, unless it is slow; an asyncio future would call back a moment later."""
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(call())
            except OSError as error:
                future.set_exception(error)

        self._work.append(work)
        if not self.is_slow:
            self.finish()
        return future

    def finish(self) -> None:
        """Do what was asked for."""
        work, self._work = self._work, []
        for one in work:
            one()


@dataclass
class Aaa:
    """What gives credentials, unless its database is away."""

    loop: ThreadedLoop
    is_away: bool = False
    asked_s: list[float] = field(default_factory=list)
    """When."""

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.loop.now)

    def load(self) -> tuple[DatedCredential, ...]:
        self.asked_s.append(self.loop.now)
        if self.is_away:
            raise OSError("no database")
        credential = replace(gateway_credential(), ocsp_response_der=f"of {self.loop.now}".encode())
        return (DatedCredential(credential, self.now() + timedelta(seconds=LIFE_S)),)


class Gateway:
    """Shows what it was told last."""

    def __init__(self) -> None:
        self.loop = ThreadedLoop()
        self.aaa = Aaa(self.loop)
        self.credentials = GatewayCredentials(
            cast(asyncio.AbstractEventLoop, self.loop), self.aaa.load, self._changed, MARGIN_S, self.aaa.now
        )
        self.shown = self.credentials.current()

    def _changed(self) -> None:
        self.shown = self.credentials.current()

    @property
    def response(self) -> bytes:
        (credential,) = self.shown
        assert isinstance(credential, Credential)
        assert credential.chain_der == gateway_credential().chain_der
        return credential.ocsp_response_der


def test_renewed_every_hour() -> None:
    gateway = Gateway()
    begin = gateway.loop.now
    gateway.loop.advance(2 * RENEW_S + 1)
    assert gateway.aaa.asked_s == [begin, begin + RENEW_S, begin + 2 * RENEW_S]
    assert gateway.response == f"of {begin + 2 * RENEW_S}".encode()


def test_a_response_that_has_run_out_is_not_shown() -> None:
    gateway = Gateway()
    gateway.aaa.is_away = True
    gateway.loop.advance(LIFE_S - MARGIN_S - 1)
    assert gateway.response == b"of 1000.0"
    gateway.loop.advance(2)
    assert gateway.response == b""


def test_nor_while_the_database_makes_us_wait() -> None:
    gateway = Gateway()
    gateway.aaa.is_away = True
    gateway.loop.advance(LIFE_S - MARGIN_S - 1)
    gateway.loop.is_slow = True
    gateway.loop.advance(2)
    assert gateway.response == b""
    gateway.loop.finish()
    assert gateway.response == b""


def test_tries_again_in_ever_longer_intervals() -> None:
    gateway = Gateway()
    gateway.aaa.is_away = True
    gateway.loop.advance(RENEW_S + 1 + 60 + 120 + 240)
    first, *later = gateway.aaa.asked_s[1:]
    assert [at - first for at in later] == [60, 180, 420]
    gateway.loop.advance(24 * RENEW_S)
    intervals = [after - before for before, after in zip(gateway.aaa.asked_s, gateway.aaa.asked_s[1:], strict=False)]
    assert max(intervals) == intervals[-1] == RENEW_S


def test_there_again_as_soon_as_the_database_is() -> None:
    gateway = Gateway()
    gateway.aaa.is_away = True
    gateway.loop.advance(6 * RENEW_S)
    gateway.aaa.is_away = False
    gateway.loop.advance(RENEW_S)
    assert gateway.response == f"of {gateway.aaa.asked_s[-1]}".encode()
    gateway.aaa.is_away = True
    gateway.loop.advance(RENEW_S + 61)
    first, second = gateway.aaa.asked_s[-2:]
    assert second - first == 60


def test_one_try_at_a_time() -> None:
    gateway = Gateway()
    gateway.loop.is_slow = True
    gateway.credentials.renew()
    gateway.credentials.renew()
    gateway.loop.finish()
    assert len(gateway.aaa.asked_s) == 2


def test_none_at_start_is_an_error() -> None:
    loop = ThreadedLoop()
    with pytest.raises(OSError, match="no database"):
        GatewayCredentials(
            cast(asyncio.AbstractEventLoop, loop), Aaa(loop, is_away=True).load, lambda: None, MARGIN_S
        )


def test_no_more_when_closed() -> None:
    gateway = Gateway()
    gateway.credentials.close()
    gateway.loop.advance(10 * RENEW_S)
    assert len(gateway.aaa.asked_s) == 1
