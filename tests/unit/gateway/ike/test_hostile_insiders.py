"""Clients that are in, and then do what the protocol allows or does not, for as long as they can."""

from __future__ import annotations

import pytest

from gateway.ike.channel import OutPayloads
from gateway.ike.child import ChildState
from gateway.ike.constants import ExchangeType, NotifyType, PayloadType, ProtocolId
from gateway.ike.events import CloseCause, SaClosed
from gateway.ike.exchanges import mobike, replace_child
from gateway.ike.exchanges.informational import DeleteChildren, Liveness
from gateway.ike.exchanges.replace_child import CreateChild
from gateway.ike.message import Payloads
from gateway.ike.path import Path
from gateway.ike.payloads.delete import Delete
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.sa import IkeSa
from gateway.ike.states import State
from tests.unit.gateway.ike.pair import Pair
from tests.unit.gateway.ike.test_rekeying import SETTLED_S, rekey_child


class Rekeying(CreateChild):
    """Rekeys a child SA, and deletes nothing."""

    def _finish(self, sa: IkeSa, child: object, rival: object, now: float) -> None:
        old = sa.children[self.old_spi_in]
        old.state = ChildState.ESTABLISHED


class DeleteUnknown(DeleteChildren):
    """Deletes child SAs that nobody has."""

    def __init__(self, first: int, count: int) -> None:
        self._spis = tuple(number.to_bytes(4, "big") for number in range(first, first + count))

    def request(self, sa: IkeSa, now: float) -> OutPayloads:
        """Many at a time."""
        return [(PayloadType.DELETE, Delete(ProtocolId.ESP, self._spis).to_bytes())]

    def answered(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """As it likes."""


@pytest.mark.parametrize("newest", [True, False])
def test_child_sas_that_are_rekeyed_and_never_deleted(newest: bool) -> None:
    pair = Pair(seed=4)
    (first,) = pair.right.live
    for _ in range(60):
        spi_in = list(pair.right.sa.children)[-1] if newest else first.spi_in
        pair.do(pair.right, Rekeying(spi_in, rekeying=True))
        pair.run()
        pair.advance(2.0)
    assert len(pair.left.carried) <= 2 * pair.left.responder.config.children_limit


def test_a_child_sa_whose_place_is_taken_ends_at_the_latest_with_its_lifetime() -> None:
    pair = Pair()
    (old,) = pair.left.live
    pair.do(pair.right, Rekeying(old.spi_out, rekeying=True))
    pair.run()
    assert not old.is_live
    replace_child.expired(pair.left.sa, old.spi_in, pair.now, hard=True)
    pair.advance(SETTLED_S)
    assert old.spi_in not in pair.left.carried
    assert len(pair.left.carried) == 1


def test_a_child_sa_whose_successor_the_peer_gives_up_has_its_place_again() -> None:
    pair = Pair()
    (old,) = pair.left.live
    pair.do(pair.right, Rekeying(old.spi_out, rekeying=True))
    pair.run()
    (new,) = [child for child in pair.right.carried.values() if child.spi_out != old.spi_in]
    pair.do(pair.right, DeleteChildren([new.spi_in]))
    new.state = ChildState.DELETING
    pair.run()
    assert pair.left.live == [old]
    rekey_child(pair, pair.left)
    pair.run()
    pair.advance(SETTLED_S)
    pair.assert_agreed()


def test_deletes_of_what_is_not_there_are_not_kept() -> None:
    pair = Pair()
    rekey_child(pair, pair.left)
    held = pair.to_right.pop()
    for batch in range(20):
        pair.do(pair.right, DeleteUnknown(1_000 * (batch + 1), 64))
        pair.run()
    assert len(pair.left.sa.deleted_unknown) <= 100
    pair.arrive(pair.right, held)
    pair.run()
    pair.advance(SETTLED_S)
    pair.assert_agreed()
    assert not pair.left.sa.deleted_unknown


def test_an_answer_that_makes_no_sense_leaves_no_spi_in_use() -> None:
    pair = Pair()
    rekey_child(pair, pair.left)
    pair.to_right.clear()
    sa, peer = pair.left.sa, pair.right.sa
    assert peer.channel is not None
    assert sa.own.message_id is not None
    (answer,) = peer.channel.seal(
        ExchangeType.CREATE_CHILD_SA, sa.own.message_id, [(PayloadType.NONCE, b"short")], response=True
    )
    pair.arrive(pair.left, answer)
    assert [event.cause for event in pair.left.seen(SaClosed)] == [CloseCause.PROTOCOL_ERROR]
    assert not pair.left.responder._child_spis


class Moved(Liveness):
    """It says that it is where the message comes from."""

    def request(self, sa: IkeSa, now: float) -> OutPayloads:
        """One notify."""
        return [notify_payload(NotifyType.UPDATE_SA_ADDRESSES)]


class Roaming:
    """A client (right) that answers nothing, and says that it is here and there."""

    def __init__(self) -> None:
        self.pair = pair = Pair()
        for end in (pair.left, pair.right):
            end.sa.mobility = mobike.Mobility()
        rekey_child(pair, pair.left)
        self.held = pair.to_right.pop()
        self.moves = 0

    def move(self) -> int:
        """Say so once more; returns how many bytes the gateway sends there."""
        pair = self.pair
        pair.do(pair.right, Moved())
        self.moves += 1
        there = Path("192.0.2.1", 4500, f"203.0.113.{self.moves % 200}", 4500)
        pair.left.responder.receive_datagram(pair.to_left.pop(), there, pair.now)
        pair.left.serve(pair.now)
        sent = [datagram for datagram, _ in pair.left.responder.datagrams_to_send()]
        for datagram in sent:
            if len(datagram) < len(self.held):
                pair.arrive(pair.right, datagram)
        pair.to_left.clear()
        return sum(map(len, sent))


def test_a_client_that_says_that_it_is_everywhere_turns_no_stream_against_others() -> None:
    roaming = Roaming()
    sent = [roaming.move() for _ in range(100)]
    assert sum(size > len(roaming.held) for size in sent) <= 10


def test_a_client_that_moves_on_and_on_does_not_put_off_an_answer_for_ever() -> None:
    roaming = Roaming()
    pair = roaming.pair
    for _ in range(40):
        pair.now += 20.0
        pair.left.responder.handle_timer(pair.now)
        pair.left.serve(pair.now)
        pair.left.responder.datagrams_to_send()
        if pair.left.responder.sas()[0].state is not State.ESTABLISHED:
            break
        roaming.move()
    assert [event.cause for event in pair.left.seen(SaClosed)] == [CloseCause.LOST]
