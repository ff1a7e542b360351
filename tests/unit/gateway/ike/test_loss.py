"""An unreliable network: each message lost, repeated or late; fragments in any order; the same bytes sent again."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ike.constants import ExchangeType, PayloadType
from gateway.ike.events import SaEstablished
from gateway.ike.message import Header
from gateway.ike.payloads.notify import Notify
from gateway.ike.states import State
from tests.peers.initiator import InitiatorConfig, Phase
from tests.unit.aaa.eap.authority import house
from tests.unit.aaa.eap.conversation import peer_of
from tests.unit.gateway.ike.test_sign_in import by_certificate
from tests.unit.gateway.ike.wire import Aaa, Client, Filter, Wire, everything, mschapv2, responder_config

MESSAGES = 12
"""Of an EAP-MSCHAPv2 sign-in with six exchanges, in both directions."""


def lose(*numbers: int) -> Filter:
    """A network that loses the batches with these numbers, counted from 0 in both directions together."""
    seen = iter(range(10_000))
    return lambda _, batch: [] if next(seen) in numbers else batch


def persist(wire: Wire, client: Client, most: int = 30) -> None:
    """Run, and let the client send again whenever nothing moves any more."""
    wire.run()
    for _ in range(most):
        if client.phase in (Phase.ESTABLISHED, Phase.FAILED):
            return
        wire.retransmit(client)


def begin(wire: Wire, config: InitiatorConfig | None = None) -> Client:
    """A client that has its first message ready."""
    client = wire.client(config)
    client.initiator.start()
    return client


def small() -> Wire:
    """A gateway that fragments above 576 bytes."""
    return Wire(responder_config(fragment_size_bytes=576))


def small_mschapv2() -> InitiatorConfig:
    """A client that does too."""
    config = mschapv2()
    config.fragment_size_bytes = 576
    return config


@pytest.mark.parametrize("number", range(MESSAGES))
def test_each_message_lost_once(number: int) -> None:
    wire = Wire()
    wire.filter = lose(number)
    client = begin(wire)
    wire.run()
    assert not client.is_up
    sent_before = list(wire.from_gateway)
    wire.retransmit(client)
    assert client.phase is Phase.ESTABLISHED
    assert len(wire.seen(SaEstablished)) == 1
    assert wire.responder.statistics.initiated == 1
    if number % 2:
        # The response was lost: it came again byte for byte, and to the same place.
        assert wire.from_gateway[len(sent_before)] == sent_before[-1]


@pytest.mark.parametrize("number", range(MESSAGES))
def test_each_message_doubled(number: int) -> None:
    wire = Wire()
    seen = iter(range(1000))
    wire.filter = lambda _, batch: batch * 2 if next(seen) == number else batch
    client = begin(wire)
    wire.run()
    assert client.phase is Phase.ESTABLISHED
    assert len(wire.seen(SaEstablished)) == 1
    # IKE_SA_INIT is answered at once, and so again; while AAA thinks about the others, a copy is passed over.
    assert len(wire.from_gateway) == MESSAGES // 2 + (number == 0)


@settings(max_examples=40)
@given(st.sets(st.integers(0, 60), max_size=30))
def test_any_losses(numbers: set[int]) -> None:
    wire = Wire()
    wire.filter = lose(*numbers)
    client = begin(wire)
    persist(wire, client, most=70)
    assert client.phase is Phase.ESTABLISHED
    assert len(wire.seen(SaEstablished)) == 1


def test_a_request_is_carried_out_once_however_often_it_comes() -> None:
    wire = Wire()
    wire.filter = lambda to_gateway, batch: batch * 5 if to_gateway else batch[:1]
    client = begin(wire)
    wire.run()
    assert client.phase is Phase.ESTABLISHED
    assert wire.responder.statistics.initiated == 1
    assert len(wire.seen(SaEstablished)) == 1


def test_old_requests_are_not_answered() -> None:
    wire = Wire()
    client = wire.connect()
    requests = [data for data, _ in wire.to_gateway]
    before = len(wire.from_gateway)
    for old in requests[1:-1]:
        wire.inject(old, client.outer)
    assert len(wire.from_gateway) == before
    wire.inject(requests[-1], client.outer)
    assert len(wire.from_gateway) == before + 1


def test_a_late_copy_of_the_first_request_does_no_harm() -> None:
    wire = Wire()
    client = wire.connect()
    sa = wire.sa
    wire.inject(wire.to_gateway[0][0], client.outer)
    # It looks like a new client that will not go on; the SA that is up is not touched.
    assert wire.established == [sa]
    assert wire.responder.half_open == 1
    wire.advance(wire.config.half_open_timeout_s + wire.config.linger_s)
    assert wire.responder.sas() == [sa]


def test_a_copy_of_the_first_request_while_eap_goes_on_gets_the_first_response() -> None:
    wire = Wire()
    client = begin(wire)
    wire.run_until(lambda: wire.state is State.EAP)
    first_request, first_response = wire.to_gateway[0][0], wire.from_gateway[0][0]
    wire.inject(first_request, client.outer)
    assert wire.from_gateway[-1] == (first_response, client.outer)
    assert len(wire.responder.sas()) == 1


class TestFragments:
    def test_both_sides_cut(self) -> None:
        wire, config = small(), by_certificate("rsa")
        config.fragment_size_bytes = 576
        client = wire.connect(config)
        assert client.phase is Phase.ESTABLISHED
        for sent in (wire.to_gateway, wire.from_gateway):
            fragments = [data for data, _ in sent if Header.parse(data).next_payload == PayloadType.SKF]
            assert len(fragments) > 2
            assert all(len(data) + 20 + 8 + 4 <= 576 for data in fragments)
            assert {Header.parse(data).message_id for data in fragments} == {1}

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_in_any_order(self, order: tuple[int, ...]) -> None:
        def shuffled(_: bool, batch: list[bytes]) -> list[bytes]:
            return [batch[index] for index in order] if len(batch) == 3 else batch

        wire = small()
        wire.filter = shuffled
        client = begin(wire, small_mschapv2())
        wire.run()
        assert client.phase is Phase.ESTABLISHED
        assert any(Header.parse(data).next_payload == PayloadType.SKF for data, _ in wire.from_gateway)

    def test_doubled(self) -> None:
        wire = small()
        wire.filter = lambda _, batch: [datagram for datagram in batch for _ in range(3)]
        client = begin(wire, small_mschapv2())
        wire.run()
        assert client.phase is Phase.ESTABLISHED

    @pytest.mark.parametrize("lost", range(3))
    @pytest.mark.parametrize("to_gateway", [True, False])
    def test_one_lost(self, lost: int, to_gateway: bool) -> None:
        gone: list[bytes] = []

        def lossy(towards: bool, batch: list[bytes]) -> list[bytes]:
            if towards is to_gateway and len(batch) >= 3 and not gone:
                gone.append(batch[lost])
                return batch[:lost] + batch[lost + 1 :]
            return batch

        wire, config = small(), by_certificate("rsa")
        config.fragment_size_bytes = 576
        wire.filter = lossy
        client = begin(wire, config)
        wire.run()
        assert gone
        assert not client.is_up
        wire.retransmit(client)
        assert client.phase is Phase.ESTABLISHED
        assert len(wire.seen(SaEstablished)) == 1

    def test_a_copy_of_another_fragment_than_the_first_is_not_answered(self) -> None:
        """RFC 7383 section 2.6.1: else each fragment of a retransmission would bring the whole response."""
        wire, config = small(), by_certificate("rsa")
        config.fragment_size_bytes = 576
        client = wire.connect(config)
        request = [data for data, _ in wire.to_gateway if Header.parse(data).next_payload == PayloadType.SKF]
        response = [data for data, _ in wire.from_gateway if Header.parse(data).next_payload == PayloadType.SKF]
        before = len(wire.from_gateway)
        for fragment in request[1:]:
            wire.inject(fragment, client.outer)
        assert len(wire.from_gateway) == before
        wire.inject(request[0], client.outer)
        assert [data for data, _ in wire.from_gateway[before:]] == response

    def test_a_smaller_cut_of_the_same_request_takes_over(self) -> None:
        """The client found that its fragments are too large for the path, and cuts anew (section 2.5.2)."""
        wire, config = small(), by_certificate("rsa")
        wire.filter = lambda to_gateway, batch: batch[:-1] if to_gateway and len(batch) > 1 else batch
        client = begin(wire, config)
        wire.run()
        initiator = client.initiator
        assert initiator.channel is not None
        assert wire.sa.state is State.HALF_OPEN
        wire.filter = everything
        initiator.channel.set_fragment_size(400, 4)
        initiator.request(ExchangeType.IKE_AUTH, initiator.first_auth_payloads())
        wire.run()
        assert client.phase is Phase.ESTABLISHED

    def test_a_forged_copy_of_the_first_fragment_changes_nothing(self) -> None:
        """The fragment is passed over as a repetition, without a look at its ICV: it must not be remembered."""
        wire, config = small(), by_certificate("rsa")
        config.fragment_size_bytes = 576
        wire.filter = lambda to_gateway, batch: batch[:-1] if to_gateway and len(batch) > 2 else batch
        client = begin(wire, config)
        wire.run()
        request = client.last_request
        forged = request[0][:-1] + bytes((request[0][-1] ^ 1,))
        wire.inject(forged, client.outer)
        wire.filter = everything
        wire.inject(request[-1], client.outer)
        assert client.phase is Phase.ESTABLISHED
        before = len(wire.from_gateway)
        wire.inject(forged, client.outer)
        assert len(wire.from_gateway) == before
        wire.inject(request[0], client.outer)
        assert len(wire.from_gateway) > before

    def test_a_request_and_a_response_with_one_message_id_do_not_mix(self) -> None:
        wire = small()
        client = wire.connect(small_mschapv2())
        initiator, sa = client.initiator, wire.sa
        # Both sides now count to the same number.
        while sa.own.next_id < sa.peer.next_id:
            wire.advance(wire.config.dpd_interval_s + 1)
        wire.filter = lambda to_gateway, batch: [] if to_gateway else batch
        wire.advance(wire.config.dpd_interval_s + 1)
        assert sa.own.message_id == initiator.message_id
        assert initiator.channel is not None
        long = [(PayloadType.NOTIFY, Notify(40_000, bytes(900)).to_bytes())]
        response = initiator.channel.seal(ExchangeType.INFORMATIONAL, initiator.message_id, long, response=True)
        request = initiator.channel.seal(ExchangeType.INFORMATIONAL, initiator.message_id, long, response=False)
        assert len(response) == len(request) == 2
        wire.filter = everything
        before = sa.peer.next_id
        for datagram in (response[0], request[1], request[0], response[1]):
            wire.inject(datagram, client.outer)
        assert wire.sa.own.message_id is None
        assert sa.peer.next_id == before + 1
        assert sa.state is State.ESTABLISHED

    def test_no_fragments_where_the_client_did_not_announce_them(self) -> None:
        wire, config = small(), mschapv2()
        config.fragment_size_bytes = None
        client = wire.connect(config)
        assert client.phase is Phase.ESTABLISHED
        assert all(Header.parse(data).next_payload != PayloadType.SKF for data, _ in wire.from_gateway)
        initiator = client.initiator
        assert initiator.channel is not None
        initiator.channel.set_fragment_size(200, 4)
        before = wire.sa.peer.next_id
        initiator.request(ExchangeType.INFORMATIONAL, [(PayloadType.NOTIFY, Notify(40_000, bytes(300)).to_bytes())])
        wire.run()
        assert wire.sa.peer.next_id == before


def test_eap_tls_in_fragments_over_a_bad_network() -> None:
    wire = Wire(responder_config(fragment_size_bytes=576), aaa=Aaa(methods=("tls",)))
    turn = iter(range(10_000))

    def bad(_: bool, batch: list[bytes]) -> list[bytes]:
        number = next(turn)
        return batch[::-1] * 2 if number % 3 else batch[: len(batch) // 2]

    wire.filter = bad
    client = begin(wire, InitiatorConfig(eap=peer_of(house().laptop), fragment_size_bytes=576))
    persist(wire, client, most=60)
    assert client.phase is Phase.ESTABLISHED
