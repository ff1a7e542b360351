"""SET_WINDOW_SIZE (RFC 7296 section 2.3): a client may have several requests outstanding, where it was told so."""

from __future__ import annotations

import pytest

from gateway.ike.constants import ExchangeType, NotifyType, PayloadType
from gateway.ike.exchanges.rekey_ike import RekeyIke
from gateway.ike.message import Header
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.states import State
from gateway.ike.window import Verdict
from tests.unit.gateway.ike.established import up
from tests.unit.gateway.ike.pair import Pair
from tests.unit.gateway.ike.variants import Listening
from tests.unit.gateway.ike.wire import Client, Wire, responder_config


def told(initiator: Listening) -> list[bytes]:
    """The data of all SET_WINDOW_SIZE of the gateway."""
    found = [Notify.parse(body) for answer in initiator.answers for body in answer.all(PayloadType.NOTIFY)]
    return [notify.data for notify in found if notify.type == NotifyType.SET_WINDOW_SIZE]


def send(wire: Wire, client: Client, message_id: int) -> list[bytes]:
    """A request that asks for nothing, under whatever message id; what it gets."""
    channel = client.initiator.channel
    assert channel is not None
    (request,) = channel.seal(ExchangeType.INFORMATIONAL, message_id, [], response=False)
    return inject(wire, client, request)


def inject(wire: Wire, client: Client, *datagrams: bytes) -> list[bytes]:
    """What these get."""
    before = len(wire.from_gateway)
    for datagram in datagrams:
        wire.inject(datagram, client.outer)
    return [data for data, _ in wire.from_gateway[before:]]


class TestAnnouncement:
    def test_with_the_last_response(self) -> None:
        _, initiator = up(Wire(responder_config(window_size=3)))
        assert told(initiator) == [b"\0\0\0\3"]

    def test_one_needs_no_word(self) -> None:
        _, initiator = up(Wire())
        assert told(initiator) == []


class TestSeveralAtOnce:
    def test_in_the_order_in_which_they_come(self) -> None:
        wire = Wire(responder_config(window_size=3))
        client, initiator = up(wire)
        first = initiator.message_id
        for message_id in (first + 2, first, first + 1):
            (answer,) = send(wire, client, message_id)
            assert Header.parse(answer).message_id == message_id
        # The window moves on as one piece.
        assert wire.sa.peer.next_id == first + 3

    def test_not_beyond_the_window(self) -> None:
        wire = Wire(responder_config(window_size=3))
        client, initiator = up(wire)
        assert send(wire, client, initiator.message_id + 3) == []
        assert send(wire, client, initiator.message_id + 2) != []

    def test_not_where_it_was_not_told(self) -> None:
        wire = Wire()
        client, initiator = up(wire)
        assert send(wire, client, initiator.message_id + 1) == []

    @pytest.mark.parametrize("ahead", [1, 2])
    def test_not_in_ike_auth(self, ahead: int) -> None:
        """One request follows another until everything is proved."""
        wire = Wire(responder_config(window_size=3))
        client = wire.client()
        client.initiator.start()
        wire.run_until(lambda: wire.state is State.EAP)
        assert client.initiator.channel is not None
        assert send(wire, client, client.initiator.message_id + ahead) == []
        assert wire.state is State.EAP

    def test_each_is_answered_once_and_its_copies_alike(self) -> None:
        wire = Wire(responder_config(window_size=2))
        client, initiator = up(wire)
        first, channel = initiator.message_id, initiator.channel
        assert channel is not None
        requests = [
            channel.seal(ExchangeType.INFORMATIONAL, first + ahead, [], response=False)[0] for ahead in (1, 0, 1)
        ]
        ahead, in_turn, encrypted_anew = requests
        answers = inject(wire, client, ahead, in_turn)
        assert len(answers) == 2
        assert inject(wire, client, ahead, in_turn) == answers
        assert inject(wire, client, encrypted_anew) == []

    def test_in_fragments_that_mix(self) -> None:
        wire = Wire(responder_config(window_size=2))
        client, initiator = up(wire)
        first, channel = initiator.message_id, initiator.channel
        assert channel is not None
        channel.set_fragment_size(400, 4)
        cut = [
            channel.seal(
                ExchangeType.INFORMATIONAL,
                first + ahead,
                [notify_payload(NotifyType.COOKIE2, bytes(60))] * 10,
                response=False,
            )
            for ahead in (0, 1)
        ]
        mixed = [datagram for both in zip(*cut, strict=True) for datagram in both]
        answers = inject(wire, client, *mixed)
        assert [Header.parse(data).message_id for data in answers] == [first, first + 1]

    def test_a_rekeyed_sa_begins_with_one(self) -> None:
        """Nobody has said otherwise there (section 2.8)."""
        pair = Pair()
        end = pair.left
        end.sa.peer.widen(3)
        assert end.sa.peer.judge(end.sa.peer.next_id + 2) is Verdict.NEW
        pair.do(end, RekeyIke())
        pair.run()
        pair.advance(120.0)
        assert end.sa.peer.judge(end.sa.peer.next_id + 1) is Verdict.STALE
