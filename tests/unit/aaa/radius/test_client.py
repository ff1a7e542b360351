"""The RADIUS client: which answers are believed, how often is asked, and who is asked next."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.radius.client import RadiusRequester, Upstream, Verdict
from aaa.radius.constants import Attribute, Code
from core.secrets import Secret
from tests.peers.radius import (
    ACCEPT,
    CHALLENGE,
    EAP,
    MAC,
    PROXY_STATE,
    REJECT,
    SESSION_TIMEOUT,
    STATE,
    USER_NAME,
    answer_to,
    decode,
    eap_attributes,
)

SECRETS = (b"of the first server", b"of the second server")
SUCCESS, MSK = b"\x03\x05\x00\x04", bytes(range(64))
TIMEOUTS_S, DEAD_S = (1.0, 2.0), 60.0


class Servers:
    """The requester, and what it sends."""

    def __init__(self, count: int = 2) -> None:
        self.sent: list[tuple[int, bytes]] = []
        self.verdicts: list[Verdict | None] = []
        upstreams = [Upstream(f"radius-{index}", Secret(SECRETS[index])) for index in range(count)]
        self.requester = RadiusRequester(
            upstreams, TIMEOUTS_S, DEAD_S, os.urandom, lambda server, data: self.sent.append((server, data))
        )

    def ask(self, now: float = 0.0, server: int | None = None) -> bytes:
        """One request; what was sent."""
        self.requester.ask([(Attribute.USER_NAME, b"alice")], b"eap" * 200, server, now, self.verdicts.append)
        return self.sent[-1][1]

    def answer(self, data: bytes, server: int = 0, now: float = 0.0) -> bool:
        """A datagram of a server."""
        return self.requester.receive_datagram(server, data, now)


@pytest.fixture
def servers() -> Servers:
    return Servers()


class TestRequest:
    def test_what_stands_in_it(self, servers: Servers) -> None:
        items = decode(servers.ask())
        assert items[0][0] == MAC
        assert (USER_NAME, b"alice") in items
        assert b"".join(value for kind, value in items if kind == EAP) == b"eap" * 200
        assert [len(value) for kind, value in items if kind == EAP] == [253, 253, 94]

    def test_no_two_are_alike(self, servers: Servers) -> None:
        requests = [servers.ask() for _ in range(256)]
        assert len({request[1] for request in requests}) == 256
        assert len({request[4:20] for request in requests}) == 256

    def test_as_many_wait_as_there_are_identifiers(self) -> None:
        """The 257th would take the answer of another; it is told at once that nobody answers."""
        servers = Servers(1)
        for _ in range(256):
            servers.ask()
        servers.ask()
        assert len(servers.sent) == 256
        assert servers.verdicts == [None]
        assert servers.answer(answer_to(servers.sent[7][1], ACCEPT, SECRETS[0]))
        servers.ask()
        assert servers.sent[-1][1][1] == servers.sent[7][1][1]


class TestAnswers:
    def test_accept(self, servers: Servers) -> None:
        items = [(USER_NAME, b"bob"), (SESSION_TIMEOUT, (900).to_bytes(4, "big")), (EAP, SUCCESS)]
        assert servers.answer(answer_to(servers.ask(), ACCEPT, SECRETS[0], items, msk=MSK))
        assert servers.verdicts == [Verdict(0, Code.ACCESS_ACCEPT, SUCCESS, None, MSK, "bob", 900)]
        assert len(servers.requester) == 0

    def test_challenge(self, servers: Servers) -> None:
        eap = b"\x01\x02" + (600).to_bytes(2, "big") + bytes(596)
        assert servers.answer(answer_to(servers.ask(), CHALLENGE, SECRETS[0], [(STATE, b"s"), *eap_attributes(eap)]))
        [verdict] = servers.verdicts
        assert verdict is not None
        assert (verdict.eap, verdict.state, verdict.msk) == (eap, b"s", b"")

    @pytest.mark.parametrize(
        "forged",
        [
            lambda asked: answer_to(asked, ACCEPT, SECRETS[0], macs=0),
            lambda asked: answer_to(asked, ACCEPT, SECRETS[0], macs=2),
            lambda asked: answer_to(asked, ACCEPT, SECRETS[1]),
            lambda asked: answer_to(asked, ACCEPT, SECRETS[0], identifier=asked[1] ^ 1),
            lambda asked: answer_to(asked[:4] + bytes(16) + asked[20:], ACCEPT, SECRETS[0]),
            lambda asked: answer_to(asked, 5, SECRETS[0]),
            lambda asked: answer_to(asked, 1, SECRETS[0]),
            lambda asked: answer_to(asked, ACCEPT, SECRETS[0], [(PROXY_STATE, b"the collision of CVE-2024-3596")]),
            lambda asked: asked,
            lambda asked: b"",
        ],
        ids=range(10),
    )
    def test_what_is_none(self, servers: Servers, forged: Callable[[bytes], bytes]) -> None:
        asked = servers.ask()
        assert not servers.answer(forged(asked))
        assert servers.verdicts == []
        # And the right one still counts.
        assert servers.answer(answer_to(asked, REJECT, SECRETS[0]))

    def test_every_changed_byte_is_noticed(self, servers: Servers) -> None:
        asked = servers.ask()
        good = answer_to(asked, ACCEPT, SECRETS[0], [(EAP, SUCCESS)], msk=MSK)
        for at in range(len(good)):
            assert not servers.answer(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])

    def test_from_another_server(self, servers: Servers) -> None:
        assert not servers.answer(answer_to(servers.ask(), ACCEPT, SECRETS[0]), server=1)

    def test_twice(self, servers: Servers) -> None:
        good = answer_to(servers.ask(), ACCEPT, SECRETS[0])
        assert servers.answer(good)
        assert not servers.answer(good)

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        servers = Servers()
        servers.ask()
        assert not servers.answer(data)


class TestKeys:
    @pytest.mark.parametrize("size", [32, 64])
    def test_of_both_lengths(self, servers: Servers, size: int) -> None:
        """MSCHAPv2's are half as long, and zeros follow."""
        servers.answer(answer_to(servers.ask(), ACCEPT, SECRETS[0], msk=MSK[:size]))
        [verdict] = servers.verdicts
        assert verdict is not None
        assert verdict.msk == MSK[:size].ljust(64, b"\0")

    @pytest.mark.parametrize("size", [2, 30, 62, 66, 120])
    def test_of_no_length_that_there_is(self, servers: Servers, size: int) -> None:
        servers.answer(answer_to(servers.ask(), ACCEPT, SECRETS[0], msk=bytes(range(1, 1 + size))))
        [verdict] = servers.verdicts
        assert verdict is not None
        assert verdict.msk == b""

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"\0\0\1\x37",
            b"\0\0\1\x37\x11\x24",
            b"\0\0\1\x37\x11\xff" + bytes(34),
            b"\0\0\1\x37\x11\x14" + bytes(18),
        ],
    )
    def test_attributes_that_are_cut(self, servers: Servers, value: bytes) -> None:
        servers.answer(answer_to(servers.ask(), ACCEPT, SECRETS[0], [(26, value)]))
        [verdict] = servers.verdicts
        assert verdict is not None
        assert verdict.msk == b""


class TestPatience:
    def test_repeats_the_same_and_then_asks_the_next(self, servers: Servers) -> None:
        first = servers.ask()
        assert servers.requester.get_timer() == 1.0
        servers.requester.handle_timer(1.0)
        assert servers.sent[-1] == (0, first)
        servers.requester.handle_timer(3.0)
        index, second = servers.sent[-1]
        assert index == 1
        assert second[4:20] != first[4:20]
        assert servers.answer(answer_to(second, ACCEPT, SECRETS[1]), server=1, now=3.1)
        [verdict] = servers.verdicts
        assert verdict is not None
        assert verdict.server == 1

    def test_a_silent_server_is_asked_after_the_others_for_a_while(self, servers: Servers) -> None:
        servers.ask()
        servers.requester.handle_timer(1.0)
        servers.requester.handle_timer(3.0)
        servers.ask(now=4.0)
        assert servers.sent[-1][0] == 1
        servers.ask(now=3.0 + DEAD_S)
        assert servers.sent[-1][0] == 0

    def test_one_that_answers_is_no_longer_dead(self, servers: Servers) -> None:
        servers.ask()
        servers.requester.handle_timer(1.0)
        late = servers.ask(now=2.0, server=0)
        servers.requester.handle_timer(3.0)
        assert servers.answer(answer_to(late, REJECT, SECRETS[0]), now=3.5)
        servers.ask(now=4.0)
        assert servers.sent[-1][0] == 0

    def test_where_none_answers(self, servers: Servers) -> None:
        servers.ask()
        for now in (1.0, 3.0, 4.0, 6.0):
            servers.requester.handle_timer(now)
        assert servers.verdicts == [None]
        assert servers.requester.get_timer() is None
        # Dead or not, the next sign-in tries them: one may be back.
        servers.ask(now=7.0)
        assert len(servers.sent) == 5

    def test_a_conversation_stays_with_its_server(self, servers: Servers) -> None:
        """Another one would not know it."""
        servers.ask(server=0)
        servers.requester.handle_timer(1.0)
        servers.requester.handle_timer(3.0)
        assert servers.verdicts == [None]
        assert {server for server, _ in servers.sent} == {0}
