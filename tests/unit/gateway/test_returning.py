"""Clients that come back with a ticket: what AAA is asked, what becomes of the old session, and how long it lasts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from aaa.interface import Refusal, Resumed, TerminateCause, TicketKeys
from gateway.ike.ticket import Grant
from gateway.resumption import grant_for, holder_of
from gateway.tickets import Tickets
from tests.peers.initiator import InitiatorConfig, Phase
from tests.peers.resumption import ResumingInitiator, SavedSession, TicketInitiator
from tests.unit.gateway.shell import LAPTOP, Shell

NOW = 1_700_000_000.0
KEYS = TicketKeys(3600, {int(NOW // 3600): b"k" * 32})


class Clock:
    """Seconds since 1970."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def shell(clock: Clock, **changes: Any) -> Shell:
    """A gateway that gives out tickets."""
    made = Shell(tickets=Tickets(KEYS, 1800.0, clock), **changes)
    made.engine._authenticator._unix_clock = clock
    return made


def sign_in(made: Shell) -> tuple[TicketInitiator, SavedSession]:
    """A client with a ticket."""
    client = made.client(initiator=TicketInitiator)
    client.start()
    made.run()
    assert isinstance(client, TicketInitiator)
    assert client.phase is Phase.ESTABLISHED
    assert client.saved is not None
    return client, client.saved


def come_back(made: Shell, saved: SavedSession) -> ResumingInitiator:
    """The client with its ticket."""
    client = made.client(InitiatorConfig(), initiator=partial(ResumingInitiator, saved=saved))
    client.start()
    made.run()
    assert isinstance(client, ResumingInitiator)
    return client


class TestGrant:
    def test_round_trip(self) -> None:
        access = replace(LAPTOP, certificate_serial="0f", method="eap-tls")
        grant = grant_for(access, "session-1", NOW)
        assert grant is not None
        assert grant.until == int(NOW) + 3600
        holder = holder_of(grant)
        assert holder.resumed == Resumed("alice", "device-7", "laptop", "eap-tls", "staff", "0f")
        assert holder.session_id == "session-1"

    @pytest.mark.parametrize("changes", [{"certificate_authority": "partner"}, {"managed": False}])
    def test_not_for_everybody(self, changes: dict[str, Any]) -> None:
        assert grant_for(replace(LAPTOP, **changes), "session-1", NOW) is None


class TestReturn:
    def test_takes_the_place_of_the_old_session(self) -> None:
        made = shell(Clock())
        first, saved = sign_in(made)
        back = come_back(made, saved)
        assert back.phase is Phase.ESTABLISHED
        assert made.aaa.resumed == [Resumed("alice", "device-7", "laptop", "eap-mschapv2", "staff", "")]
        assert [cause for _, cause in made.aaa.ended] == [TerminateCause.NAS_REQUEST]
        assert (len(made.sessions), len(made.plane.installed)) == (1, 1)
        assert back.virtual_ipv4 == first.virtual_ipv4
        # The old SA went without a word: its peer is the one that has come back.
        assert first.requests_seen == 0
        assert len(made.aaa.conversations) == 1

    def test_but_not_of_another_one_of_the_device(self) -> None:
        made = shell(Clock())
        _, saved = sign_in(made)
        sign_in(made)
        assert come_back(made, saved).phase is Phase.ESTABLISHED
        assert len(made.sessions) == 2

    def test_after_the_old_session_has_ended(self) -> None:
        made = shell(Clock())
        first, saved = sign_in(made)
        first.delete()
        made.run()
        assert come_back(made, saved).phase is Phase.ESTABLISHED
        assert len(made.sessions) == 1

    def test_aaa_says_no(self) -> None:
        made = shell(Clock())
        _, saved = sign_in(made)
        made.aaa.resumption = Refusal("revoked-device", "device laptop was revoked")
        back = come_back(made, saved)
        assert (back.phase, back.error) == (Phase.FAILED, "AUTHENTICATION_FAILED")
        # What was there before, revocation ends on its own path.
        assert len(made.sessions) == 1

    def test_what_aaa_says_now_counts(self) -> None:
        made = shell(Clock())
        _, saved = sign_in(made)
        made.aaa.resumption = replace(LAPTOP, rule="staff", interim_interval_s=5.0, session_lifetime_s=60.0)
        come_back(made, saved)
        assert made.aaa.started[-1].access.session_lifetime_s == 60.0
        assert made.aaa.started[-1].access.interim_interval_s == 5.0

    def test_nobody_stays_longer_by_it(self) -> None:
        clock = Clock()
        made = shell(clock)
        _, saved = sign_in(made)
        for _ in range(3):
            clock.now += 1000
            made.engine.responder.config.tickets.renew(  # type: ignore[union-attr]
                TicketKeys(3600, {int(clock.now // 3600): b"k" * 32, int(clock.now // 3600) - 1: b"k" * 32})
            )
            back = come_back(made, saved)
            assert back.phase is Phase.ESTABLISHED
            assert back.saved is not None
            saved = back.saved
        assert made.aaa.started[-1].access.session_lifetime_s == 600.0
        assert saved.lifetime_s == 600
        clock.now += 600
        assert come_back(made, saved).error == "TICKET_NACK"

    def test_an_answer_that_comes_too_late(self) -> None:
        made = shell(Clock())
        _, saved = sign_in(made)
        made.aaa.thinks = True
        come_back(made, saved)
        made.advance(40.0)
        made.aaa.answer_all()
        made.run()
        assert len(made.sessions) == 1


def test_the_holder_is_not_for_anybodys_eyes() -> None:
    assert "alice" not in repr(Grant(b"alice", 1))
