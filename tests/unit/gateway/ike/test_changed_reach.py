"""What a session may reach changes at any moment of a rekeying: whatever the order of messages, the client has no
more than that, and has all of it in the end.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from random import Random

import pytest

from gateway.ike.child import Assignment, Wish
from gateway.ike.exchanges import informational, replace_child
from gateway.ike.exchanges.rekey_ike import RekeyIke
from gateway.ike.exchanges.replace_child import CreateChild
from gateway.ike.sa import IkeSa
from gateway.ike.selectors import TrafficSelector
from gateway.ike.states import State
from tests.unit.gateway.ike.pair import RIGHT, End, Pair
from tests.unit.gateway.ike.test_rekeying import SETTLED_S, rekey_child, something_happens

WIDE, NARROW = IPv4Network("10.1.0.0/24"), IPv4Network("10.1.0.0/28")


def reaching(*networks: IPv4Network) -> Pair:
    """A gateway (left) whose client may reach these networks, and does; the client takes whatever it is offered."""
    pair = Pair()
    selectors = tuple(map(TrafficSelector.from_network, networks))
    pair.left.live[0].local_selectors = pair.right.live[0].remote_selectors = selectors
    pair.left.sa.assignment = Assignment(RIGHT, None, networks, ())
    client = pair.right.sa.assignment
    assert client is not None
    pair.right.sa.assignment = replace(client, peer_networks=(IPv4Network("10.1.0.0/16"),))
    return pair


def change(pair: Pair, *networks: IPv4Network) -> None:
    """From now on the client may reach these; nothing is delivered."""
    sa = session_of(pair.left)
    replace_child.reassign(sa, Assignment(RIGHT, None, networks, ()), pair.now)
    pair.left.responder.touch(sa)
    pair.collect()


def session_of(end: End) -> IkeSa:
    """The IKE SA that has the session, where both sides rekey it at once."""
    established = [sa for sa in end.responder.sas() if sa.state is State.ESTABLISHED]
    (only,) = [sa for sa in established if sa.assignment is not None]
    return only


def reached(pair: Pair) -> set[str]:
    """All that the gateway's data plane carries."""
    return {str(selector) for child in pair.left.carried.values() for selector in child.local_selectors}


def text(network: IPv4Network) -> str:
    return str(TrafficSelector.from_network(network))


def assert_reaches(pair: Pair, network: IPv4Network) -> None:
    pair.run()
    pair.advance(SETTLED_S)
    pair.assert_agreed()
    assert reached(pair) == {text(network)}


def test_less_while_our_rekeying_is_out() -> None:
    pair = reaching(WIDE)
    (old,) = pair.left.live
    rekey_child(pair, pair.left)
    change(pair, NARROW)
    while pair.to_left or pair.to_right:
        pair.deliver(pair.left if pair.to_left else pair.right)
        newer = [child for child in pair.left.carried.values() if child is not old]
        assert all(text(WIDE) not in map(str, child.local_selectors) for child in newer)
    assert_reaches(pair, NARROW)


def test_less_while_a_client_holds_our_rekeying_back_and_deletes_the_old_child_sa() -> None:
    pair = reaching(WIDE)
    (theirs,) = pair.right.live
    rekey_child(pair, pair.left)
    pair.deliver(pair.right)
    answer = pair.to_left.pop()
    change(pair, NARROW)
    informational.delete_children(pair.right.sa, [theirs], pair.now)
    pair.run()
    assert pair.left.sa.waiting
    pair.arrive(pair.left, answer)
    assert reached(pair) == set()
    pair.advance(SETTLED_S)
    pair.assert_agreed(children=0)


def test_more_while_our_rekeying_is_out() -> None:
    pair = reaching(NARROW)
    rekey_child(pair, pair.left)
    change(pair, WIDE)
    assert_reaches(pair, WIDE)


@pytest.mark.parametrize("order", ["theirs first", "ours first"])
@pytest.mark.parametrize(("before", "after"), [(NARROW, WIDE), (WIDE, NARROW)])
@pytest.mark.parametrize("seed", range(4))
def test_while_the_client_rekeys(order: str, before: IPv4Network, after: IPv4Network, seed: int) -> None:
    pair = reaching(before)
    pair.random.seed(seed)
    if order == "theirs first":
        rekey_child(pair, pair.right)
        change(pair, after)
    else:
        change(pair, after)
        rekey_child(pair, pair.right)
    assert_reaches(pair, after)


def test_less_and_at_once_more_again() -> None:
    pair = reaching(WIDE)
    change(pair, NARROW)
    change(pair, WIDE)
    assert_reaches(pair, WIDE)


def test_more_when_the_child_sa_was_replaced_long_before_the_turn_of_the_change_comes() -> None:
    pair = reaching(NARROW)
    pair.left.sa.initiate_at(
        CreateChild(pair.left.live[0].spi_in, rekeying=False, lineage=pair.left.live[0].lineage), pair.now + 60
    )
    pair.left.responder.touch(pair.left.sa)
    rekey_child(pair, pair.right)
    pair.run()
    pair.left.sa.assignment = Assignment(RIGHT, None, (WIDE,), ())
    assert_reaches(pair, WIDE)


@pytest.mark.parametrize("seed", range(100))
def test_over_a_bad_network(seed: int) -> None:
    pair = reaching(WIDE)
    random = pair.random = Random(seed)
    allowed = WIDE
    for _ in range(random.randrange(3, 10)):
        match random.randrange(4):
            case 0:
                allowed = random.choice((WIDE, NARROW))
                change(pair, allowed)
            case kind:
                end = random.choice((pair.left, pair.right))
                sa = session_of(end)
                live = [child.spi_in for child in sa.children.values() if child.is_live]
                sa.initiate(RekeyIke() if kind == 1 else CreateChild(live[0], rekeying=True), pair.now)
                end.responder.touch(sa)
                pair.collect()
        for _ in range(random.randrange(8)):
            something_happens(pair)
        pair.advance(random.choice((0.0, 0.5, 3.0)), running=False)
    pair.run()
    pair.advance(SETTLED_S)
    assert_reaches(pair, allowed)


class TestWishes:
    """A client may ask for less than it may have, with several child SAs: each stays what it was asked for."""

    OTHER = IPv4Network("10.1.7.0/24")
    HALF = IPv4Network("10.1.0.0/25")

    def add(self, pair: Pair, wished: IPv4Network, reached: IPv4Network | None = None) -> None:
        """One more child SA, as if the client had asked for it with these selectors."""
        (first,) = pair.left.live
        spis = pair.left.responder.new_child_spi(), pair.right.responder.new_child_spi()
        ends = ((pair.left, spis, "local"), (pair.right, spis[::-1], "remote"))
        selectors = (TrafficSelector.from_network(reached or wished),)
        for end, (spi_in, spi_out), behind_gateway in ends:
            (twin,) = (child for child in end.live if first.spi_in in (child.spi_in, child.spi_out))
            child = replace(twin, spi_in=spi_in, spi_out=spi_out, lineage=end.responder.new_lineage())
            setattr(child, f"{behind_gateway}_selectors", selectors)
            if end is pair.left:
                child.wish = Wish(local=(TrafficSelector.from_network(wished),))
            end.sa.children[spi_in] = child
            end.carry(end.sa, child, outbound=True)

    def settle(self, pair: Pair, *expected: IPv4Network) -> None:
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed(children=len(expected))
        found = [str(selector) for child in pair.left.carried.values() for selector in child.local_selectors]
        assert sorted(found) == sorted(map(text, expected))

    def test_more_is_for_the_child_sa_that_was_asked_for_with_more(self) -> None:
        pair = reaching(NARROW)
        self.add(pair, self.HALF, NARROW)
        change(pair, WIDE, self.OTHER)
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed(children=2)
        found = sorted(sorted(map(str, child.local_selectors)) for child in pair.left.live)
        assert found == sorted([sorted([text(WIDE), text(self.OTHER)]), [text(self.HALF)]])

    def test_one_that_has_all_it_was_asked_for_stays_as_it_is(self) -> None:
        pair = reaching(NARROW)
        self.add(pair, NARROW)
        (*_, asked) = pair.left.live
        change(pair, WIDE)
        self.settle(pair, WIDE, NARROW)
        assert asked in pair.left.live

    def test_less_is_less_for_each(self) -> None:
        pair = reaching(WIDE)
        self.add(pair, self.HALF)
        change(pair, NARROW)
        self.settle(pair, NARROW, NARROW)
        change(pair, WIDE)
        self.settle(pair, WIDE, self.HALF)

    def test_one_of_which_nothing_is_left_goes(self) -> None:
        pair = reaching(WIDE)
        self.add(pair, self.OTHER)
        change(pair, NARROW)
        self.settle(pair, NARROW)

    @pytest.mark.parametrize("ours", [True, False])
    def test_rekeyed_while_it_reached_less(self, ours: bool) -> None:
        """Whoever rekeys repeats what there is, not what there once was."""
        pair = reaching(WIDE)
        change(pair, NARROW)
        self.settle(pair, NARROW)
        rekey_child(pair, pair.left if ours else pair.right)
        self.settle(pair, NARROW)
        change(pair, WIDE)
        self.settle(pair, WIDE)

    def test_rekeyed_by_a_client_that_wants_more_now(self) -> None:
        pair = reaching(WIDE)
        pair.left.live[0].wish = Wish(local=(TrafficSelector.from_network(WIDE),))
        pair.right.live[0].remote_selectors = (TrafficSelector.from_network(IPv4Network("10.1.0.0/16")),)
        rekey_child(pair, pair.right)
        pair.run()
        change(pair, WIDE, self.OTHER)
        pair.run()
        pair.advance(SETTLED_S)
        assert reached(pair) == {text(WIDE), text(self.OTHER)}

    def test_our_rekeying_offers_what_there_is(self) -> None:
        """The client's side as well: it may be narrow by wish."""
        pair = reaching(WIDE)
        port = replace(TrafficSelector.from_address(RIGHT), protocol=17, start_port=53, end_port=53)
        pair.left.live[0].remote_selectors = pair.right.live[0].local_selectors = (port,)
        rekey_child(pair, pair.left)
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert pair.left.live[0].remote_selectors == (port,)
