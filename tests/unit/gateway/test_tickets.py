"""The keeper of tickets: what it seals it opens again, for a time and once; and nothing else."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from aaa.interface import TicketKeys
from gateway.ike.constants import Encr, Group, Integ, Prf
from gateway.ike.proposals import IkeSuite
from gateway.ike.ticket import Grant, Ticket, TicketRefused
from gateway.tickets import MAX_TICKET_BYTES, Tickets

EPOCH_S = 3600
SUITE = IkeSuite(Encr.AES_CBC, 192, Integ.HMAC_SHA2_384_192, Prf.HMAC_SHA2_384, Group.ECP_384, (Group.ML_KEM_768,))
NOW = 1_700_000_000.0


class Clock:
    """Seconds since 1970, as tests want them."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def keys(*epochs: int) -> TicketKeys:
    """Of epochs counted from the one of now."""
    this = int(NOW // EPOCH_S)
    return TicketKeys(EPOCH_S, {this + epoch: bytes((epoch + 10,)) * 32 for epoch in epochs})


def ticket(until: float = NOW + 10 * EPOCH_S, number: int = 1) -> Ticket:
    """Of somebody."""
    return Ticket(
        bytes((number,)) * 16, b"\x02\0\0\0alice", b"\x02\0\0\0gateway", SUITE, b"d" * 48, Grant(b"{}", int(until))
    )


class TestCodec:
    def test_round_trip(self) -> None:
        for suite in (SUITE, IkeSuite(Encr.CHACHA20_POLY1305, 0, Integ.NONE, Prf.HMAC_SHA2_256, Group.CURVE25519)):
            one = replace(ticket(), suite=suite)
            assert Ticket.parse(one.to_bytes()) == one

    def test_the_bytes(self) -> None:
        one = Ticket(
            bytes(range(16)),
            b"i",
            b"rr",
            IkeSuite(Encr.AES_GCM_16, 256, Integ.NONE, Prf.HMAC_SHA2_256, Group.CURVE25519),
            b"ddd",
            Grant(b"", 5),
        )
        assert one.to_bytes().hex() == (
            "01" "0014" "0100" "0000" "0005" "001f" "00" "0000000000000005" "000102030405060708090a0b0c0d0e0f"
            "0001" "69" "0002" "7272" "0003" "646464" "0000"
        )  # fmt: skip

    def test_every_truncation(self) -> None:
        whole = ticket().to_bytes()
        for size in range(len(whole)):
            with pytest.raises(TicketRefused):
                Ticket.parse(whole[:size])
        with pytest.raises(TicketRefused):
            Ticket.parse(whole + b"\0")

    @pytest.mark.parametrize("position", range(11))
    def test_unknown_values(self, position: int) -> None:
        whole = ticket().to_bytes()
        for value in (99, 255):
            changed = whole[:position] + bytes((value,)) + whole[position + 1 :]
            if changed == whole or position in (3, 4):
                continue
            with pytest.raises(TicketRefused):
                Ticket.parse(changed)

    def test_secrets_are_not_shown(self) -> None:
        assert "dddd" not in repr(ticket())
        assert "holder" not in repr(ticket())


class TestSealing:
    def test_round_trip(self) -> None:
        tickets = Tickets(keys(0), 600.0, Clock())
        lifetime_s, data = tickets.issue(ticket()) or (0, b"")
        assert lifetime_s == 600
        assert tickets.redeem(data) == ticket()
        assert b"alice" not in data
        assert len(data) < 300

    def test_another_gateway_of_the_same_keys(self) -> None:
        _, data = Tickets(keys(0), 600.0, Clock()).issue(ticket()) or (0, b"")
        assert Tickets(keys(-1, 0, 1), 600.0, Clock()).redeem(data) == ticket()

    def test_each_change_is_seen(self) -> None:
        tickets = Tickets(keys(0, 1), 600.0, Clock())
        _, data = tickets.issue(ticket()) or (0, b"")
        for position in range(len(data)):
            changed = data[:position] + bytes((data[position] ^ 1,)) + data[position + 1 :]
            with pytest.raises(TicketRefused):
                tickets.redeem(changed)

    @pytest.mark.parametrize("size", [0, 1, 16, 31, 32, 33, 100, MAX_TICKET_BYTES, MAX_TICKET_BYTES + 1, 60_000])
    def test_anything_of_any_length(self, size: int) -> None:
        tickets, random = Tickets(keys(0), 600.0, Clock()), Random(size)
        epoch = int(NOW // EPOCH_S).to_bytes(4, "big")
        for data in (random.randbytes(size), (epoch + random.randbytes(size))[:size]):
            with pytest.raises(TicketRefused):
                tickets.redeem(data)

    def test_two_of_the_same_are_different(self) -> None:
        tickets = Tickets(keys(0), 600.0, Clock())
        assert tickets.issue(ticket()) != tickets.issue(ticket())


class TestTime:
    def test_a_ticket_ends(self) -> None:
        clock = Clock()
        tickets = Tickets(keys(0, 1), 600.0, clock)
        _, data = tickets.issue(ticket()) or (0, b"")
        clock.now += 599
        tickets.redeem(data)
        clock.now += 1
        with pytest.raises(TicketRefused, match="too old"):
            tickets.redeem(data)

    def test_with_the_sign_in_at_the_latest(self) -> None:
        clock = Clock()
        tickets = Tickets(keys(0), 600.0, clock)
        lifetime_s, data = tickets.issue(ticket(until=NOW + 100)) or (0, b"")
        assert lifetime_s == 100
        clock.now += 100
        with pytest.raises(TicketRefused):
            tickets.redeem(data)
        assert tickets.issue(ticket(until=NOW + 100)) is None

    def test_keys_come_and_go(self) -> None:
        clock = Clock()
        tickets = Tickets(keys(0, 1), EPOCH_S, clock)
        _, old = tickets.issue(ticket(number=1)) or (0, b"")
        clock.now += EPOCH_S - 1
        tickets.renew(keys(0, 1, 2))
        _, new = tickets.issue(ticket(number=2)) or (0, b"")
        assert old[:4] != new[:4]
        tickets.redeem(old)
        tickets.renew(keys(1, 2))
        tickets.redeem(new)
        with pytest.raises(TicketRefused, match="gone"):
            tickets.redeem(old)

    def test_without_the_key_of_now_there_are_none(self) -> None:
        clock = Clock()
        tickets = Tickets(keys(0), 600.0, clock)
        clock.now += EPOCH_S
        assert tickets.issue(ticket()) is None


class TestUse:
    def test_once(self) -> None:
        tickets = Tickets(keys(0), 600.0, Clock())
        _, data = tickets.issue(ticket()) or (0, b"")
        one = tickets.redeem(data)
        # Who has only seen it can present it, and has used nothing up by that.
        assert tickets.redeem(data) == one
        assert tickets.use(one)
        assert not tickets.use(one)
        with pytest.raises(TicketRefused, match="used"):
            tickets.redeem(data)

    def test_the_memory_has_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateway.tickets.MAX_USED", 3)
        clock = Clock()
        tickets = Tickets(keys(0), 600.0, clock)
        assert [tickets.use(ticket(number=number)) for number in range(5)] == [True, True, True, False, False]
        clock.now += 601
        assert tickets.use(ticket(number=7))
