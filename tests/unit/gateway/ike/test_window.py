"""Message ids and retransmission, window size 1, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.window import OwnRequest, PeerRequests, Verdict


class TestPeerRequests:
    @pytest.mark.parametrize(
        ("message_id", "verdict"),
        [
            (3, Verdict.STALE),
            (4, Verdict.ANSWERED),
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
        requests = PeerRequests(5)
        requests.begin()
        assert (requests.in_progress, PeerRequests().in_progress) == (True, False)
        assert requests.judge(5) is Verdict.IN_PROGRESS
        assert requests.judge(4) is Verdict.ANSWERED
        requests.answer([b"one", b"two"])
        assert (requests.in_progress, requests.cached_response) == (False, (b"one", b"two"))
        assert requests.judge(5) is Verdict.ANSWERED
        assert requests.judge(6) is Verdict.NEW

    @given(st.lists(st.integers(0, 8), max_size=40))
    def test_each_request_is_begun_once_and_in_order(self, arrivals: list[int]) -> None:
        requests, begun = PeerRequests(), []
        for message_id in arrivals:
            if requests.judge(message_id) is Verdict.NEW:
                requests.begin()
                begun.append(message_id)
                requests.answer([str(message_id).encode()])
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
