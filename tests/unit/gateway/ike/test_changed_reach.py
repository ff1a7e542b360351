"""What a session may reach changes at any moment of a rekeying: whatever the order of messages, the client has no
more than that, and has all of it in the end.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from random import Random

import pytest

from gateway.ike.child import Assignment
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
