"""Message ids and retransmission, window size 1, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.path import Path
from gateway.ike.window import OwnRequest, PeerRequests, Verdict


class TestPeerRequests:
    @pytest.mark.parametrize(
        ("message_id", "verdict"),
        [
            (3, Verdict.STALE),
            (4, Verdict.STALE),
            (5, Verdict.NEW),
            (6, Verdict.STALE),
            (0, Verdict.STALE),
            (2**32 - 1, Verdict.STALE),
        ],
    )
    def test_verdicts(self, message_id: int, verdict: Verdict) -> None:
        assert PeerRequests(5).judge(message_id) is verdict

    def test_the_first_has_nothing_before_it(self) -> None:
        assert PeerRequests().judge(0) is Verdict.NEW
        assert PeerRequests().judge(2**32 - 1) is Verdict.STALE

    def test_while_one_is_worked_on(self) -> None:
        requests = PeerRequests(4)
        requests.begin(4, b"four")
        requests.answer(4, [b"answer"])
        requests.begin(5, b"five")
        assert (requests.in_progress, PeerRequests().in_progress) == (True, False)
        assert requests.judge(5) is Verdict.IN_PROGRESS
        assert requests.judge(4) is Verdict.ANSWERED
        assert requests.judge(6) is Verdict.STALE
        requests.answer(5, [b"one", b"two"])
        assert not requests.in_progress
        assert requests.response_to(5, b"five") == (b"one", b"two")
        assert requests.response_to(5, b"another") == ()
        assert requests.judge(5) is Verdict.ANSWERED
        assert requests.judge(4) is Verdict.STALE
        assert requests.judge(6) is Verdict.NEW

    def test_a_closed_sa_still_knows_the_request_that_it_answered(self) -> None:
        requests = PeerRequests()
        requests.begin(0, b"zero" * 1000)
        requests.answer(0, [b"answer"])
        requests.keep_only_answers()
        assert len(requests.answered[0].request) == 32
        assert requests.response_to(0, b"zero" * 1000) == (b"answer",)
        assert requests.response_to(0, b"zero") == ()

    def test_a_wider_window_takes_requests_in_any_order(self) -> None:
        requests = PeerRequests(5, window=3)
        assert [requests.judge(message_id) for message_id in (5, 7, 8)] == [Verdict.NEW, Verdict.NEW, Verdict.STALE]
        requests.begin(7, b"seven")
        requests.answer(7, [b"to seven"])
        # 5 is still not there, so nothing beyond its window is taken.
        assert (requests.next_id, requests.judge(8), requests.judge(7)) == (5, Verdict.STALE, Verdict.ANSWERED)
        requests.begin(5, b"five")
        assert (requests.judge(5), requests.judge(6), requests.judge(8)) == (
            Verdict.IN_PROGRESS,
            Verdict.NEW,
            Verdict.STALE,
        )
        requests.answer(5, [b"to five"])
        assert (requests.next_id, requests.judge(8)) == (6, Verdict.NEW)
        requests.begin(6, b"six")
        requests.answer(6, [b"to six"])
        assert (requests.next_id, requests.judge(4)) == (8, Verdict.STALE)
        assert [requests.response_to(m, r) for m, r in ((5, b"five"), (6, b"six"), (7, b"seven"))] == [
            (b"to five",),
            (b"to six",),
            (b"to seven",),
        ]

    @given(st.lists(st.integers(0, 8), max_size=40), st.integers(1, 4))
    def test_each_request_is_begun_once(self, arrivals: list[int], window: int) -> None:
        requests, begun = PeerRequests(window=window), []
        for message_id in arrivals:
            if requests.judge(message_id) is Verdict.NEW:
                requests.begin(message_id, b"request")
                begun.append(message_id)
                requests.answer(message_id, [str(message_id).encode()])
                assert len(requests.answered) <= 2 * window
        assert len(begun) == len(set(begun))
        if window == 1:
            assert begun == list(range(len(begun)))


class TestOwnRequest:
    def test_it_is_sent_again_and_given_up_by_the_schedule(self) -> None:
        own = OwnRequest((2.0, 3.0, 5.0))
        own.send([b"request"], 100.0)
        assert (own.message_id, own.deadline) == (0, 102.0)
        assert own.retransmit(102.0)
        assert own.deadline == 105.0
        assert own.retransmit(105.0)
        assert own.deadline == 110.0
        assert own.datagrams == (b"request",)
        assert not own.retransmit(110.0)
        assert own.deadline is None

    def test_an_answer_ends_it(self) -> None:
        own = OwnRequest((2.0,), next_id=7)
        own.send([b"request"], 100.0)
        assert own.answered(7)
        assert (own.message_id, own.deadline, own.datagrams, own.next_id) == (None, None, (), 8)

    def test_an_answer_to_something_else_does_not(self) -> None:
        own = OwnRequest((2.0,), next_id=7)
        assert not own.answered(7)
        own.send([b"request"], 100.0)
        assert not own.answered(6)
        assert not own.answered(8)
        assert own.message_id == 7

    def test_the_next_one_has_the_whole_schedule_again(self) -> None:
        own = OwnRequest((2.0, 3.0))
        own.send([b"one"], 0.0)
        own.retransmit(2.0)
        own.answered(0)
        own.send([b"two"], 10.0)
        assert (own.message_id, own.deadline) == (1, 12.0)
        assert own.retransmit(12.0)


class TestPatience:
    def test_the_last_wait_is_repeated_until_it_is_over(self) -> None:
        own = OwnRequest((2.0, 3.0))
        own.send([b"request"], 100.0)
        tries = []
        while own.deadline is not None:
            tries.append(own.deadline)
            if not own.retransmit(own.deadline, 10.0):
                break
        assert tries == [102.0, 105.0, 108.0, 111.0]

    def test_another_path_has_all_its_tries(self) -> None:
        own = OwnRequest((2.0, 3.0))
        own.send([b"request"], 100.0)
        assert own.retransmit(102.0)
        own.restart(104.0, 10.0)
        assert (own.deadline, own.message_id) == (106.0, 0)
        assert own.retransmit(106.0)
        assert not own.retransmit(109.0)

    def test_but_not_for_longer_than_the_peer_has_in_any_case(self) -> None:
        own = OwnRequest((2.0, 3.0))
        own.send([b"request"], 100.0)
        assert own.retransmit(102.0, 10.0)
        own.restart(110.0, 10.0)
        assert own.deadline == 105.0

    def test_a_window_grows_and_never_shrinks(self) -> None:
        requests = PeerRequests()
        requests.widen(3)
        requests.widen(2)
        assert [requests.judge(message_id) for message_id in (2, 3)] == [Verdict.NEW, Verdict.STALE]

    def test_an_answer_goes_where_its_request_came_from(self) -> None:
        here, there = Path("192.0.2.1", 500, "198.51.100.1", 500), Path("192.0.2.1", 500, "198.51.100.2", 500)
        requests = PeerRequests(window=2)
        requests.begin(0, b"zero", here)
        requests.begin(1, b"one", there)
        assert requests.current_path == there
        assert (requests.answer(0, [b"0"]), requests.answer(1, [b"1"])) == (here, there)
