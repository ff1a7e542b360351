"""Rekeying child SAs and IKE SAs from either side, alone, crossing, and over a network that loses and reorders."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network

import pytest

from gateway.ike.child import Assignment, ChildState
from gateway.ike.constants import Group
from gateway.ike.errors import TemporaryFailure
from gateway.ike.events import ChildRefused, CloseCause, RekeyRefused, SaClosed, SaRekeyed
from gateway.ike.exchanges import informational, replace_child
from gateway.ike.exchanges.ike_followup_ke import Unfinished, wait_for
from gateway.ike.exchanges.informational import DeleteChildren
from gateway.ike.exchanges.rekey_ike import TRIES, UNFINISHED_PATIENCE_S, RekeyIke
from gateway.ike.exchanges.replace_child import CreateChild
from gateway.ike.policy import CNSA2
from gateway.ike.selectors import TrafficSelector
from gateway.ike.states import State
from gateway.ike.timers import Timer
from tests.unit.gateway.ike.pair import RIGHT, End, Pair

SIDES = pytest.mark.parametrize("side", ["left", "right"])
SETTLED_S = 120.0
"""Longer than every timer of rekeying: retries, lingering, forgotten Deletes."""


def rekey_child(pair: Pair, end: End) -> None:
    (child,) = end.live
    pair.do(end, CreateChild(child.spi_in, rekeying=True))


def other(pair: Pair, end: End) -> End:
    return pair.right if end is pair.left else pair.left


class TestChildSa:
    @SIDES
    @pytest.mark.parametrize("pfs", [None, Group.CURVE25519, Group.ECP_256, Group.MODP_2048])
    def test_is_replaced(self, side: str, pfs: Group | None) -> None:
        pair = Pair(pfs=pfs)
        end = getattr(pair, side)
        (before,) = end.live
        for _ in range(3):
            rekey_child(pair, end)
            pair.run()
            pair.advance(SETTLED_S)
            pair.assert_agreed()
        (after,) = end.live
        assert (after.spi_in, after.keys) != (before.spi_in, before.keys)
        assert (after.lineage, after.local_selectors, after.suite) == (
            before.lineage,
            before.local_selectors,
            before.suite,
        )

    @SIDES
    def test_at_every_moment_each_end_takes_what_the_other_sends_on(self, side: str) -> None:
        """Packets may be on their way at any time, so no step may leave an end sending on what the other lacks."""
        pair = Pair()
        rekey_child(pair, getattr(pair, side))
        steps = 0
        while pair.to_left or pair.to_right:
            pair.deliver(pair.left if pair.to_left else pair.right)
            steps += 1
            for end in (pair.left, pair.right):
                newest = end.carried[end.sending_on[-1]]
                assert newest.spi_out in other(pair, end).carried
        assert steps == 4
        pair.advance(SETTLED_S)
        pair.assert_agreed()

    @SIDES
    def test_the_old_one_takes_packets_in_for_a_moment(self, side: str) -> None:
        pair = Pair()
        (old,) = getattr(pair, side).live
        rekey_child(pair, getattr(pair, side))
        pair.run()
        assert old.spi_in in getattr(pair, side).carried
        assert old.state is ChildState.DELETED
        pair.advance(pair.left.responder.config.replaced_linger_s)
        assert old.spi_in not in getattr(pair, side).carried

    @pytest.mark.parametrize("seed", range(8))
    def test_by_both_at_once(self, seed: int) -> None:
        pair = Pair(seed)
        rekey_child(pair, pair.left)
        rekey_child(pair, pair.right)
        assert (len(pair.to_left), len(pair.to_right)) == (1, 1)
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed()

    @pytest.mark.parametrize("order", ["left first", "right first"])
    @pytest.mark.parametrize("seed", range(4))
    def test_by_both_at_once_with_one_direction_slower(self, seed: int, order: str) -> None:
        """RFC 7296 section 2.8.1: the requests cross, and one side is through before the other has heard a word."""
        pair = Pair(seed)
        rekey_child(pair, pair.left)
        rekey_child(pair, pair.right)
        first, second = (pair.left, pair.right) if order == "left first" else (pair.right, pair.left)
        queue = pair.to_left if first is pair.left else pair.to_right
        while queue:
            pair.deliver(first)
        assert second.live
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed()

    @pytest.mark.parametrize("order", ["left first", "right first", "in turn"])
    @pytest.mark.parametrize("seed", range(4))
    def test_by_both_at_once_and_no_end_sends_on_what_the_other_lacks(self, seed: int, order: str) -> None:
        """Who makes way for the other one's pair does not know yet whether the other one has it."""
        pair = Pair(seed)
        rekey_child(pair, pair.left)
        rekey_child(pair, pair.right)
        while pair.to_left or pair.to_right:
            if order == "in turn":
                end = pair.left if len(pair.to_left) >= len(pair.to_right) else pair.right
            else:
                slow = pair.right if order == "left first" else pair.left
                fast_queue = pair.to_left if slow is pair.right else pair.to_right
                end = other(pair, slow) if fast_queue else slow
            pair.deliver(end)
            for side in (pair.left, pair.right):
                assert side.carried[side.sending_on[-1]].spi_out in other(pair, side).carried
        pair.advance(SETTLED_S)
        pair.assert_agreed()

    @SIDES
    def test_of_one_that_the_other_side_is_deleting(self, side: str) -> None:
        pair = Pair()
        end = getattr(pair, side)
        (child,) = other(pair, end).live
        informational.delete_children(other(pair, end).sa, [child], pair.now)
        rekey_child(pair, end)
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed(children=0)
        assert not pair.left.carried

    def test_by_both_sides_deleted_at_once(self) -> None:
        pair = Pair()
        for end in (pair.left, pair.right):
            informational.delete_children(end.sa, end.live, pair.now)
        pair.run()
        pair.assert_agreed(children=0)

    @SIDES
    def test_that_the_other_side_does_not_know(self, side: str) -> None:
        """CHILD_SA_NOT_FOUND: what only one side has is of no use."""
        pair = Pair()
        end = getattr(pair, side)
        (child,) = other(pair, end).live
        other(pair, end).sa.children.clear()
        other(pair, end).carried.clear()
        other(pair, end).sending_on.clear()
        rekey_child(pair, end)
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed(children=0)
        assert child.spi_in not in end.carried

    def test_that_the_answering_data_plane_can_not_carry(self) -> None:
        pair = Pair()
        pair.left.refuse = TemporaryFailure("no room")
        (before,) = pair.right.live
        rekey_child(pair, pair.right)
        pair.run()
        assert pair.right.live == [before]
        pair.left.refuse = None
        pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert pair.right.live != [before]

    def test_that_the_asking_data_plane_can_not_carry(self) -> None:
        pair = Pair()
        pair.right.refuse = TemporaryFailure("no room")
        (before,) = pair.right.live
        rekey_child(pair, pair.right)
        pair.run()
        assert [event.rekeying for event in pair.right.seen(ChildRefused)] == [True]
        pair.advance(SETTLED_S)
        # The peer had it already, so it was deleted there; the old one goes on at the side that has it.
        assert before.spi_in in pair.right.carried

    def test_never_ends_up_with_more_than_the_limit(self) -> None:
        pair = Pair(children_limit=1)
        for _ in range(30):
            rekey_child(pair, pair.right)
            pair.run()
            pair.advance(1.0)
            assert len(pair.left.carried) <= 6
        pair.advance(SETTLED_S)
        pair.assert_agreed()

    def test_too_often_is_put_off(self) -> None:
        pair = Pair()
        for _ in range(40):
            for child in pair.right.live:
                pair.do(pair.right, CreateChild(child.spi_in, rekeying=True))
            pair.run()
        assert len(pair.left.carried) <= 25
        pair.advance(SETTLED_S)
        pair.assert_agreed()

    @SIDES
    def test_when_the_data_plane_says_that_its_time_has_come(self, side: str) -> None:
        pair = Pair()
        end = getattr(pair, side)
        (child,) = end.live
        replace_child.expired(end.sa, child.spi_in, pair.now, hard=False)
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert end.live != [child]

    @SIDES
    def test_that_is_past_its_time_is_deleted(self, side: str) -> None:
        pair = Pair()
        end = getattr(pair, side)
        (child,) = end.live
        replace_child.expired(end.sa, child.spi_in, pair.now, hard=True)
        pair.run()
        pair.assert_agreed(children=0)

    def test_not_of_windows_behind_a_nat(self) -> None:
        pair = Pair()
        pair.left.sa.client, pair.left.sa.nat_remote = "Windows 11", True
        (child,) = pair.left.live
        replace_child.expired(pair.left.sa, child.spi_in, pair.now, hard=False)
        pair.collect()
        assert not pair.to_right


class TestIkeSa:
    @SIDES
    def test_is_replaced(self, side: str) -> None:
        pair = Pair()
        end = getattr(pair, side)
        end.sa.context, end.sa.peer_identity = "session", "alice"
        before = end.sa
        for _ in range(3):
            pair.do(end, RekeyIke())
            pair.run()
            pair.advance(SETTLED_S)
            pair.assert_agreed()
            # The child SA stays, and can be rekeyed under the new keys.
            rekey_child(pair, pair.left)
            rekey_child(pair, pair.right)
            pair.run()
            pair.advance(SETTLED_S)
            pair.assert_agreed()
        assert end.sa is not before
        assert (end.sa.context, end.sa.peer_identity, end.sa.is_initiator) == ("session", "alice", True)
        assert (before.state, end.seen(SaClosed)) == (State.CLOSED, [])
        assert len(end.seen(SaRekeyed)) == 3

    def test_by_its_own_timer(self) -> None:
        pair = Pair()
        pair.left.sa.timers.clear()
        pair.left.sa.resume(pair.now, None, pair.now)
        pair.left.responder.touch(pair.left.sa)
        before = pair.left.sa
        pair.advance(1.1e9)
        assert before.state is State.CLOSED
        pair.assert_agreed()

    @pytest.mark.parametrize("seed", range(8))
    def test_by_both_at_once(self, seed: int) -> None:
        pair = Pair(seed)
        pair.do(pair.left, RekeyIke())
        pair.do(pair.right, RekeyIke())
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert (pair.left.seen(SaClosed), pair.right.seen(SaClosed)) == ([], [])
        rekey_child(pair, pair.left)
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed()

    @pytest.mark.parametrize("order", ["left first", "right first"])
    @pytest.mark.parametrize("seed", range(4))
    def test_by_both_at_once_with_one_direction_slower(self, seed: int, order: str) -> None:
        pair = Pair(seed)
        pair.do(pair.left, RekeyIke())
        pair.do(pair.right, RekeyIke())
        queue = pair.to_left if order == "left first" else pair.to_right
        while queue:
            pair.deliver(pair.left if order == "left first" else pair.right)
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert (pair.left.seen(SaClosed), pair.right.seen(SaClosed)) == ([], [])

    @SIDES
    def test_while_the_other_side_rekeys_a_child_sa(self, side: str) -> None:
        """TEMPORARY_FAILURE both ways (section 2.25), and both are made good later."""
        pair = Pair()
        end = getattr(pair, side)
        before_ike, (before_child,) = end.sa, end.live
        pair.do(end, RekeyIke())
        rekey_child(pair, other(pair, end))
        pair.run()
        assert end.sa is before_ike
        pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert before_ike not in end.responder.sas()
        assert end.live != [before_child]

    @SIDES
    def test_while_the_other_side_closes_it(self, side: str) -> None:
        pair = Pair()
        end = getattr(pair, side)
        pair.do(end, RekeyIke())
        closing = other(pair, end).sa
        closing.close(CloseCause.ADMIN, pair.now)
        other(pair, end).responder.touch(closing)
        pair.run()
        pair.advance(SETTLED_S)
        for side_ in (pair.left, pair.right):
            assert (side_.responder.sas(), side_.carried) == ([], {})
            assert len(side_.seen(SaClosed)) == 1

    def test_closed_by_the_side_that_rekeys(self) -> None:
        pair = Pair()
        pair.do(pair.left, RekeyIke())
        pair.do(pair.right, RekeyIke())
        pair.deliver(pair.left)
        for sa in [sa for sa in pair.left.responder.sas() if sa.rival is not None]:
            sa.close(CloseCause.ADMIN, pair.now)
            pair.left.responder.touch(sa)
        pair.run()
        pair.advance(SETTLED_S)
        for end in (pair.left, pair.right):
            assert (end.responder.sas(), end.carried) == ([], {})
            assert len(end.seen(SaClosed)) == 1

    @SIDES
    def test_its_lifetime_does_not_begin_anew(self, side: str) -> None:
        pair = Pair()
        pair.left.sa.limit_session(500.0, pair.now)
        pair.left.responder.touch(pair.left.sa)
        pair.do(getattr(pair, side), RekeyIke())
        pair.run()
        pair.advance(499.0)
        pair.assert_agreed()
        pair.advance(1.0)
        assert [event.cause for event in pair.left.seen(SaClosed)] == [CloseCause.SESSION_TIMEOUT]

    def test_a_delete_that_the_peer_forgets_is_sent_by_us(self) -> None:
        pair = Pair()
        pair.do(pair.right, RekeyIke())
        pair.deliver(pair.left)
        old = next(sa for sa in pair.left.responder.sas() if sa.state is State.REPLACED)
        # The answer arrives; the Delete that follows is lost, and so are its retransmissions.
        pair.deliver(pair.right)
        pair.to_left.clear()
        for sa in pair.right.responder.sas():
            if sa.state is State.REPLACED:
                sa.own.forget()
                sa.outstanding = None
        pair.advance(SETTLED_S)
        assert old.state is State.CLOSED
        pair.assert_agreed()


class TestOtherSelectors:
    def wide(self) -> Pair:
        """What is up reaches more than the one host that both ends of a pair have."""
        pair = Pair()
        everything = (TrafficSelector.from_network(IPv4Network("10.1.0.0/24")),)
        pair.left.live[0].local_selectors = pair.right.live[0].remote_selectors = everything
        return pair

    def narrowed(self, pair: Pair, *networks: str) -> None:
        sa = pair.left.sa
        assert sa.assignment is not None
        now_allowed = tuple(map(IPv4Network, networks))
        replace_child.reassign(sa, Assignment(RIGHT, None, now_allowed, ()), pair.now)
        pair.left.responder.touch(sa)
        pair.run()

    def test_a_new_child_sa_takes_the_place_of_the_old_one(self) -> None:
        pair = self.wide()
        (before,) = pair.left.live
        self.narrowed(pair, "10.1.0.1/32")
        pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert pair.left.live != [before]

    def test_what_is_so_already_stays(self) -> None:
        pair = Pair()
        (before,) = pair.left.live
        self.narrowed(pair, "10.1.0.1/32")
        assert pair.left.live == [before]

    def test_what_the_peer_refuses_is_told(self) -> None:
        pair = self.wide()
        pair.right.refuse = TemporaryFailure("no room")
        (before,) = pair.left.live
        self.narrowed(pair, "10.1.0.1/32")
        pair.advance(10 * SETTLED_S)
        assert [(event.spi_in, event.rekeying) for event in pair.left.seen(ChildRefused)] == [(before.spi_in, False)]
        assert pair.left.live == [before]

    def test_nothing_that_may_be_reached_leaves_no_child_sa(self) -> None:
        pair = Pair()
        self.narrowed(pair)
        pair.advance(SETTLED_S)
        pair.assert_agreed(children=0)


class TestAPeerThatDoesNotLetUsRekeyTheIkeSa:
    """Its keys do not get old without end: it is asked for as long again as they were to last, then that is it."""

    REKEY_S = 3600.0

    def pair(self) -> Pair:
        pair = Pair()
        for end in (pair.left, pair.right):
            end.sa.config = replace(end.sa.config, ike_rekey_s=self.REKEY_S)
        pair.right.sa.config = replace(pair.right.sa.config, policy=CNSA2)
        pair.left.sa.timers.set(Timer.REKEY, pair.now + self.REKEY_S)
        pair.left.responder.touch(pair.left.sa)
        return pair

    def test_it_is_asked_again_and_ends(self) -> None:
        pair = self.pair()
        sa = pair.left.sa
        pair.advance(self.REKEY_S + 1)
        (refused,) = pair.left.seen(RekeyRefused)
        assert "NO_PROPOSAL_CHOSEN" in refused.reason
        pair.advance(self.REKEY_S - 10)
        assert sa.state is State.ESTABLISHED
        assert len(pair.left.seen(RekeyRefused)) == TRIES
        pair.advance(20)
        assert [closed.cause for closed in pair.left.seen(SaClosed)] == [CloseCause.NOT_REKEYED]
        assert [closed.cause for closed in pair.right.seen(SaClosed)] == [CloseCause.PEER_DELETE]

    def test_it_may_change_its_mind(self) -> None:
        pair = self.pair()
        pair.advance(self.REKEY_S + 1)
        pair.right.sa.config = replace(pair.right.sa.config, policy=pair.left.sa.config.policy)
        before = pair.left.sa
        pair.advance(self.REKEY_S / TRIES + SETTLED_S)
        pair.assert_agreed()
        assert pair.left.sa is not before
        pair.advance(0.9 * self.REKEY_S)
        assert pair.left.seen(SaClosed) == []

    def test_its_own_rekeying_is_as_good(self) -> None:
        pair = self.pair()
        pair.advance(self.REKEY_S + 1)
        pair.right.sa.config = replace(pair.right.sa.config, policy=pair.left.sa.config.policy)
        pair.do(pair.right, RekeyIke())
        pair.run()
        pair.advance(0.9 * self.REKEY_S)
        assert pair.left.seen(SaClosed) == []

    def test_key_exchanges_that_it_never_completes_put_it_off_for_a_minute(self) -> None:
        pair = Pair()
        sa = pair.left.sa
        dropped: list[int] = []
        sa.initiate_at(RekeyIke(), pair.now + 1)
        for index in range(30):
            unfinished = Unfinished(
                (Group.ML_KEM_768,),
                rekeys_ike=False,
                complete=lambda _secrets, _answer, _now: None,
                dropped=partial(dropped.append, index),
            )
            if sa.state is State.ESTABLISHED:
                wait_for(sa, unfinished, pair.now)
            pair.left.responder.touch(sa)
            pair.advance(10)
        assert sa.state is not State.ESTABLISHED
        assert sorted(dropped) == list(range(len(dropped)))
        assert len(dropped) <= UNFINISHED_PATIENCE_S / 10 + 1


def play_over_a_bad_network(pair: Pair) -> None:
    """Rekeyings at random moments; whatever is lost, doubled and reordered: in the end both sides agree."""
    random = pair.random
    for _ in range(random.randrange(3, 12)):
        end = random.choice((pair.left, pair.right))
        established = [sa for sa in end.responder.sas() if sa.state is State.ESTABLISHED]
        for sa in established[:1]:
            what = random.randrange(4)
            live = [child for child in sa.children.values() if child.is_live]
            if what == 0:
                sa.initiate(RekeyIke(), pair.now)
            elif what == 1 and live:
                replace_child.expired(sa, random.choice(live).spi_in, pair.now, hard=False)
            elif what == 2 and live:
                sa.initiate(CreateChild(random.choice(live).spi_in, rekeying=True), pair.now)
            end.responder.touch(sa)
        pair.collect()
        for _ in range(random.randrange(8)):
            something_happens(pair)
        pair.advance(random.choice((0.0, 0.5, 3.0)), running=False)
    pair.run()
    pair.advance(SETTLED_S)
    pair.advance(SETTLED_S)
    pair.assert_agreed()
    assert (pair.left.seen(SaClosed), pair.right.seen(SaClosed)) == ([], [])


def something_happens(pair: Pair) -> None:
    random = pair.random
    end, queue = random.choice(((pair.left, pair.to_left), (pair.right, pair.to_right)))
    if not queue:
        return
    index = random.randrange(len(queue))
    match random.randrange(10):
        case 0 | 1:
            queue.pop(index)
        case 2 | 3:
            pair.arrive(end, queue[index])
        case _:
            pair.deliver(end, index)


@pytest.mark.parametrize("seed", range(300))
def test_both_ends_agree_in_the_end(seed: int) -> None:
    play_over_a_bad_network(Pair(seed))


def test_an_exchange_whose_reason_is_gone_is_not_begun() -> None:
    pair = Pair()
    pair.do(pair.left, CreateChild(0xDEAD, rekeying=True))
    pair.do(pair.left, DeleteChildren([0xDEAD]))
    assert not pair.to_right
    assert pair.left.sa.waiting == ()
