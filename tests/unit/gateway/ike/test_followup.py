"""Additional key exchanges of rekeyings, in IKE_FOLLOWUP_KE (RFC 9370 section 2.2.4), from either side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from gateway.ike.channel import OutPayloads
from gateway.ike.child import Assignment
from gateway.ike.constants import ExchangeType, Group, NotifyType, PayloadType
from gateway.ike.errors import IkeError, TemporaryFailure
from gateway.ike.events import ChildRefused, CloseCause, SaClosed, SaRekeyed
from gateway.ike.exchanges import informational, replace_child
from gateway.ike.exchanges.ike_followup_ke import WAIT_S, Followups
from gateway.ike.exchanges.rekey_ike import RekeyIke
from gateway.ike.exchanges.replace_child import CreateChild
from gateway.ike.message import Header, Payloads, chain
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.policy import CNSA2, MODERN
from gateway.ike.snapshot import SnapshotError, restore, snapshot
from gateway.ike.states import State
from tests.unit.gateway.ike.pair import RIGHT, End, Pair
from tests.unit.gateway.ike.test_rekeying import SETTLED_S, SIDES, other, play_over_a_bad_network, rekey_child

K768, K1024 = Group.ML_KEM_768, Group.ML_KEM_1024
METHODS = pytest.mark.parametrize("methods", [(K768,), (K1024,), (K1024, K768)])


def hybrid(methods: tuple[Group, ...] = (K768,), seed: int = 1, **changes: Any) -> Pair:
    """Both ends, with an IKE SA and a child SA that came from additional key exchanges."""
    return Pair(seed, pfs=Group.CURVE25519, additional=methods, **changes)


def exchanges(pair: Pair) -> list[int]:
    """The exchanges of the datagrams that are on their way to the left, in order."""
    return [Header.parse(data).exchange for data in pair.to_left]


def deliver_all(pair: Pair, end: End) -> None:
    """What is on its way to one end arrives there, in order."""
    queue = pair.to_left if end is pair.left else pair.to_right
    for _ in range(len(queue)):
        pair.deliver(end)


class Tampering(CreateChild):
    """Changes its IKE_FOLLOWUP_KE requests."""

    def __init__(self, spi_in: int, change: Callable[[OutPayloads], OutPayloads]) -> None:
        super().__init__(spi_in, rekeying=True)
        self.change = change
        self.errors: list[int] = []

    def request(self, sa: Any, now: float) -> OutPayloads | None:
        payloads = super().request(sa, now)
        if payloads is not None and self.exchange is ExchangeType.IKE_FOLLOWUP_KE:
            return self.change(payloads)
        return payloads

    def answered(self, sa: Any, payloads: Payloads, now: float) -> None:
        notifies = map(Notify.parse, payloads.all(PayloadType.NOTIFY))
        self.errors += [notify.type for notify in notifies if notify.is_error]
        super().answered(sa, payloads, now)


def tampered(pair: Pair, change: Callable[[OutPayloads], OutPayloads]) -> Tampering:
    """The right side rekeys its child SA, with other IKE_FOLLOWUP_KE requests than it should."""
    (child,) = pair.right.live
    own = Tampering(child.spi_in, change)
    pair.do(pair.right, own)
    pair.run()
    return own


class TestChildSa:
    @SIDES
    @METHODS
    def test_is_replaced(self, side: str, methods: tuple[Group, ...]) -> None:
        pair = hybrid(methods)
        end = getattr(pair, side)
        (before,) = end.live
        for _ in range(3):
            rekey_child(pair, end)
            pair.run()
            pair.advance(SETTLED_S)
            pair.assert_agreed()
        (after,) = end.live
        assert after.suite == before.suite
        assert after.suite.additional == methods
        assert (after.keys, after.lineage) == (after.keys, before.lineage)
        assert after.keys != before.keys

    def test_one_exchange_for_each_method_and_links_that_lead_from_one_to_the_next(self) -> None:
        pair = hybrid((K768, K1024))
        rekey_child(pair, pair.right)
        seen, links = [], []
        while pair.to_left:
            seen.append(exchanges(pair)[0])
            deliver_all(pair, pair.left)
            links.append(list(pair.left.sa.unfinished))
            deliver_all(pair, pair.right)
        assert seen == [36, 44, 44, 37]
        assert [len(each) for each in links] == [1, 1, 0, 0]
        assert links[0] != links[1]

    def test_is_not_made_before_the_last_key_exchange(self) -> None:
        pair = hybrid((K768, K1024))
        before = set(pair.left.carried)
        rekey_child(pair, pair.right)
        for _ in range(2):
            deliver_all(pair, pair.left)
            assert set(pair.left.carried) == before
            deliver_all(pair, pair.right)
            assert len(pair.right.carried) == 1
        deliver_all(pair, pair.left)
        assert len(pair.left.carried) == 2

    @SIDES
    def test_without_a_key_exchange_of_its_own_in_a_hybrid_ike_sa(self, side: str) -> None:
        """A first child SA has its keys from the IKE SA, and so have those that take its place."""
        pair = Pair(additional=(K768,))
        for end in (pair.left, pair.right):
            for child in end.live:
                child.suite = replace(child.suite, additional=())
        rekey_child(pair, getattr(pair, side))
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert pair.left.live[0].suite.additional == ()

    @SIDES
    def test_with_a_peer_that_can_not(self, side: str) -> None:
        pair = hybrid()
        end = getattr(pair, side)
        peer = other(pair, end).sa
        peer.config = replace(peer.config, policy=replace(MODERN, additional=()))
        rekey_child(pair, end)
        pair.run()
        pair.advance(SETTLED_S)
        # The second proposal has no key exchange.
        pair.assert_agreed()
        assert end.live[0].suite.group is None

    def test_that_the_data_plane_can_not_carry(self) -> None:
        pair = hybrid()
        pair.left.refuse = TemporaryFailure("no room")
        rekey_child(pair, pair.right)
        pair.run()
        assert pair.right.live == list(pair.right.sa.children.values())
        pair.left.refuse = None
        pair.advance(SETTLED_S)
        pair.assert_agreed()

    def test_that_was_deleted_meanwhile(self) -> None:
        pair = hybrid()
        rekey_child(pair, pair.right)
        deliver_all(pair, pair.left)
        informational.delete_children(pair.left.sa, pair.left.live, pair.now)
        pair.collect()
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed(children=0)

    def test_with_another_decision_meanwhile(self) -> None:
        """What was agreed on before the decision changed is not to be made after it."""
        pair = hybrid()
        (child,) = pair.right.live
        own = Tampering(child.spi_in, list)
        pair.do(pair.right, own)
        deliver_all(pair, pair.left)
        sa = pair.left.sa
        replace_child.reassign(sa, Assignment(RIGHT, None, (IPv4Network("10.1.0.0/24"),), ()), pair.now)
        pair.left.responder.touch(sa)
        pair.run()
        assert own.errors[:1] == [NotifyType.TEMPORARY_FAILURE]
        pair.advance(SETTLED_S)
        pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert pair.left.sa.unfinished == {}


class TestIkeSa:
    @SIDES
    @METHODS
    def test_is_replaced(self, side: str, methods: tuple[Group, ...]) -> None:
        pair = hybrid(methods)
        end = getattr(pair, side)
        for _ in range(3):
            before = end.sa
            keys = before.keys
            pair.do(end, RekeyIke())
            pair.run()
            pair.advance(SETTLED_S)
            pair.assert_agreed()
            assert end.sa is not before
            assert end.sa.suite == before.suite
            assert end.sa.keys != keys
        assert len(pair.left.seen(SaRekeyed)) == 3
        # It can still do everything.
        rekey_child(pair, other(pair, end))
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed()

    @SIDES
    def test_is_not_handed_over_before_the_last_key_exchange(self, side: str) -> None:
        pair = hybrid((K768, K1024))
        end = getattr(pair, side)
        before = end.sa
        pair.do(end, RekeyIke())
        for _ in range(2):
            deliver_all(pair, other(pair, end))
            deliver_all(pair, end)
            assert end.sa is before
            assert not pair.left.seen(SaRekeyed)
            assert not pair.right.seen(SaRekeyed)
        pair.run()
        pair.advance(SETTLED_S)
        pair.assert_agreed()

    @pytest.mark.parametrize("seed", range(6))
    def test_by_both_at_once(self, seed: int) -> None:
        pair = hybrid(seed=seed)
        pair.do(pair.left, RekeyIke())
        pair.do(pair.right, RekeyIke())
        pair.run()
        pair.advance(SETTLED_S)
        pair.advance(SETTLED_S)
        pair.assert_agreed()

    @SIDES
    def test_waits_for_a_child_sa_that_is_being_made(self, side: str) -> None:
        pair = hybrid()
        end = getattr(pair, side)
        rekey_child(pair, other(pair, end))
        deliver_all(pair, end)
        before = end.sa
        pair.do(end, RekeyIke())
        pair.run()
        assert end.sa is before
        pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert end.sa is not before

    @SIDES
    def test_of_the_peer_gives_way_to_a_child_sa_that_it_has_to_complete(self, side: str) -> None:
        pair = hybrid()
        end = getattr(pair, side)
        rekey_child(pair, end)
        deliver_all(pair, other(pair, end))
        (link,) = other(pair, end).sa.unfinished
        # Out of turn: its key exchange has not been completed.
        end.sa.own.forget()
        end.sa.outstanding = None
        pair.do(end, RekeyIke())
        before = end.sa
        deliver_all(pair, other(pair, end))
        assert list(other(pair, end).sa.unfinished) == [link]
        assert end.sa is before

    def test_under_cnsa2(self) -> None:
        pair = Pair(additional=(K1024,), pfs=Group.ECP_384, policy=CNSA2)
        for end in (pair.left, pair.right):
            end.sa.suite = replace(end.sa.suite, key_bits=256, prf=CNSA2.prf[0], group=Group.ECP_384)
            for child in end.live:
                child.suite = replace(child.suite, key_bits=256)
        for end in (pair.left, pair.right):
            pair.do(end, RekeyIke())
            pair.run()
            pair.advance(SETTLED_S)
            rekey_child(pair, end)
            pair.run()
            pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert pair.left.sa.suite.additional == pair.left.live[0].suite.additional == (K1024,)


class TestWhatIsNotCompleted:
    def test_is_forgotten(self) -> None:
        pair = hybrid()
        rekey_child(pair, pair.right)
        deliver_all(pair, pair.left)
        assert len(pair.left.sa.unfinished) == 1
        spis = len(pair.left.responder._child_spis)
        pair.to_right.clear()
        pair.right.sa.own.forget()
        pair.advance(WAIT_S - 1, running=False)
        assert len(pair.left.sa.unfinished) == 1
        pair.advance(1.0, running=False)
        assert pair.left.sa.unfinished == {}
        assert len(pair.left.responder._child_spis) == spis - 1

    def test_and_comes_too_late(self) -> None:
        pair = hybrid()
        (child,) = pair.right.live
        own = Tampering(child.spi_in, list)
        pair.do(pair.right, own)
        deliver_all(pair, pair.left)
        pair.advance(WAIT_S, running=False)
        pair.run()
        # STATE_NOT_FOUND; then from the beginning, and that goes well.
        assert own.errors == [NotifyType.STATE_NOT_FOUND]
        pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert pair.right.live[0].spi_in != child.spi_in

    def test_and_comes_too_late_for_the_ike_sa(self) -> None:
        pair = hybrid()
        before = pair.right.sa
        pair.do(pair.right, RekeyIke())
        deliver_all(pair, pair.left)
        pair.advance(WAIT_S, running=False)
        assert pair.left.sa.unfinished == {}
        # STATE_NOT_FOUND, once; then from the beginning.
        pair.run()
        assert pair.right.sa is before
        pair.advance(SETTLED_S)
        pair.assert_agreed()
        assert pair.right.sa is not before

    def test_ends_with_the_sa(self) -> None:
        pair = hybrid()
        rekey_child(pair, pair.right)
        deliver_all(pair, pair.left)
        sa = pair.left.sa
        sa.close(CloseCause.ADMIN, pair.now)
        pair.left.responder.touch(sa)
        pair.collect()
        assert sa.unfinished == {}
        pair.run()
        pair.advance(SETTLED_S)
        for end in (pair.left, pair.right):
            assert (end.responder.sas(), end.carried, end.responder._child_spis) == ([], {}, set())

    def test_is_no_quiet_moment_for_a_snapshot(self) -> None:
        pair = hybrid()
        sa = pair.left.sa
        again = restore(snapshot(sa, pair.now), pair.left.responder, sa.config, pair.random.randbytes, pair.now)
        assert again.suite == sa.suite
        assert [child.suite for child in again.children.values()] == [child.suite for child in sa.children.values()]
        rekey_child(pair, pair.right)
        deliver_all(pair, pair.left)
        with pytest.raises(SnapshotError):
            snapshot(sa, pair.now)

    def test_does_not_grow_without_end(self) -> None:
        """CREATE_CHILD_SA is limited, and so is what comes of it."""
        pair = hybrid()
        for _ in range(100):
            for child in pair.right.live:
                child.state = type(child.state).ESTABLISHED
            pair.right.sa.outstanding = None
            pair.right.sa.own.forget()
            rekey_child(pair, pair.right)
            deliver_all(pair, pair.left)
            pair.to_right.clear()
        assert 0 < len(pair.left.sa.unfinished) <= 20


class TestRequestsThatAreWrong:
    @pytest.mark.parametrize("data", [b"", b"\0" * 16, b"x" * 1000])
    def test_another_link(self, data: bytes) -> None:
        pair = hybrid()
        own = tampered(pair, lambda p: [p[0], notify_payload(NotifyType.ADDITIONAL_KEY_EXCHANGE, data)])
        assert own.errors[:1] == [NotifyType.STATE_NOT_FOUND]
        assert pair.left.sa.state is State.ESTABLISHED

    def test_no_link(self) -> None:
        pair = hybrid()
        own = tampered(pair, lambda p: [p[0], notify_payload(NotifyType.INITIAL_CONTACT)])
        assert own.errors[:1] == [NotifyType.STATE_NOT_FOUND]

    def test_a_link_that_was_used(self) -> None:
        pair, links = hybrid((K768, K1024)), list[tuple[PayloadType, bytes]]()

        def repeat(payloads: OutPayloads) -> OutPayloads:
            links.append(payloads[1])
            return [payloads[0], links[0]]

        own = tampered(pair, repeat)
        assert own.errors[:1] == [NotifyType.STATE_NOT_FOUND]

    @pytest.mark.parametrize(
        "payloads",
        [
            [],
            [(PayloadType.KE, KeyExchange(K1024, bytes(1568)).to_bytes())],
            [(PayloadType.KE, KeyExchange(K768, bytes(1183)).to_bytes())],
            [(PayloadType.KE, KeyExchange(K768, b"\xff" * 1184).to_bytes())],
            [(PayloadType.KE, b"\0")],
        ],
    )
    def test_no_proper_key_exchange(self, payloads: list[tuple[PayloadType, bytes]]) -> None:
        """The peer is out of step (RFC 7296 section 2.21.3)."""
        pair = hybrid()
        own = tampered(pair, lambda p: [*payloads, p[1]])
        assert own.errors == [NotifyType.INVALID_SYNTAX]
        assert [event.cause for event in pair.left.seen(SaClosed)] == [CloseCause.PROTOCOL_ERROR]
        assert pair.left.carried == {}
        assert pair.left.responder._child_spis == set()

    def test_every_truncation_of_the_inner_payloads(self) -> None:
        first, plain = chain(
            [
                notify_payload(NotifyType.ADDITIONAL_KEY_EXCHANGE, bytes(16)),
                (PayloadType.KE, KeyExchange(K768, bytes(1184)).to_bytes()),
            ]
        )
        for size in (*range(32), 600, len(plain) - 1):
            pair = hybrid()
            rekey_child(pair, pair.right)
            deliver_all(pair, pair.left)
            channel, message_id = pair.right.sa.channel, pair.right.sa.own.next_id
            assert channel is not None
            channel.fragmentation = False
            cut = channel.seal_plain(ExchangeType.IKE_FOLLOWUP_KE, message_id, first, plain[:size], response=False)
            pair.arrive(pair.left, cut[0])
            assert [event.cause for event in pair.left.seen(SaClosed)] == [CloseCause.PROTOCOL_ERROR]

    def test_in_a_handshake(self) -> None:
        pair = hybrid()
        sa = pair.left.sa
        sa.state = State.HALF_OPEN
        tampered(pair, list)
        assert sa.unfinished == {}


class TestAnswersThatAreWrong:
    @pytest.mark.parametrize(
        "payloads",
        [
            [],
            [(PayloadType.NONCE, bytes(32))],
            [(PayloadType.KE, KeyExchange(K1024, bytes(1568)).to_bytes())],
            [(PayloadType.KE, KeyExchange(K768, bytes(1087)).to_bytes())],
            [(PayloadType.KE, KeyExchange(K768, bytes(1088)).to_bytes())],
        ],
    )
    def test_no_proper_key_exchange(self, payloads: list[tuple[PayloadType, bytes]]) -> None:
        followups = Followups(
            (K768, K1024),
            Payloads({PayloadType.NOTIFY: [notify_payload(NotifyType.ADDITIONAL_KEY_EXCHANGE, b"link")[1]]}),
        )
        followups.request()
        answer = Payloads({kind: [body] for kind, body in payloads})
        # The last one is a proper value, but without a link to the next exchange.
        with pytest.raises(IkeError):
            followups.answered(answer)

    def test_no_link_where_key_exchanges_were_agreed_on(self) -> None:
        with pytest.raises(IkeError):
            Followups((K768,), Payloads({}))

    def test_an_answer_without_what_was_offered(self) -> None:
        """A peer can't leave the additional key exchange out of the proposal that has it."""
        pair = hybrid()
        (child,) = pair.left.live
        own = CreateChild(child.spi_in, rekeying=True)
        pair.do(pair.left, own)
        own._offer = tuple(
            replace(proposal, transforms=(*proposal.transforms, proposal.transforms[0])) for proposal in own._offer
        )
        own._offer = (replace(own._offer[0], number=7),)
        pair.run()
        assert [event.cause for event in pair.left.seen(SaClosed)] == [CloseCause.PROTOCOL_ERROR]


@pytest.mark.parametrize("seed", range(400))
def test_over_a_bad_network_both_ends_agree_in_the_end(seed: int) -> None:
    play_over_a_bad_network(hybrid(seed=seed))


def test_a_refusal_that_is_final_is_told() -> None:
    pair = hybrid(policy=CNSA2)
    rekey_child(pair, pair.left)
    pair.run()
    assert len(pair.left.seen(ChildRefused)) == 1
