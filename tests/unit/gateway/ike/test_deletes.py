"""Deletes: of either side, of both at once, of the child SA alone, and with messages lost."""

from __future__ import annotations

import pytest

from gateway.ike.constants import ExchangeType, PayloadType, ProtocolId
from gateway.ike.events import ChildDeleted, CloseCause, SaClosed
from gateway.ike.payloads.delete import Delete
from gateway.ike.states import State
from tests.peers.initiator import Phase
from tests.unit.gateway.ike.established import ask, up
from tests.unit.gateway.ike.wire import Wire, everything

DELETE_IKE = (PayloadType.DELETE, Delete(ProtocolId.IKE).to_bytes())


class TestDelete:
    def test_by_the_client(self) -> None:
        wire = Wire()
        client, _ = up(wire)
        client.initiator.delete()
        wire.run()
        assert (wire.causes, wire.state, wire.children) == ([CloseCause.PEER_DELETE], State.CLOSED, {})
        # If the answer was lost, it comes again.
        before = len(wire.from_gateway)
        wire.retransmit(client)
        assert wire.from_gateway[before][0] == wire.from_gateway[before - 1][0]
        wire.advance(wire.config.linger_s)
        assert wire.responder.sas() == []
        assert len(wire.seen(SaClosed)) == 1

    def test_by_the_gateway(self) -> None:
        wire = Wire()
        client, _ = up(wire)
        wire.sa.close(CloseCause.ADMIN, wire.now)
        wire.responder.touch(wire.sa)
        # The session is over at once, whatever becomes of the Delete.
        wire.filter = lambda to_gateway, batch: []
        wire.run()
        assert (wire.causes, wire.state, wire.children) == ([CloseCause.ADMIN], State.CLOSING, {})
        wire.filter = everything
        wire.advance(wire.config.retransmit_timeouts_s[0])
        assert (client.phase, wire.state) == (Phase.CLOSED, State.CLOSED)
        assert wire.causes == [CloseCause.ADMIN]
        wire.advance(wire.config.linger_s)
        assert wire.responder.sas() == []

    def test_by_the_gateway_to_a_client_that_is_gone(self) -> None:
        wire = Wire()
        up(wire)
        wire.sa.close(CloseCause.ADMIN, wire.now)
        wire.responder.touch(wire.sa)
        wire.filter = lambda to_gateway, batch: []
        wire.advance(sum(wire.config.retransmit_timeouts_s) + wire.config.linger_s + 0.1)
        assert wire.responder.sas() == []
        assert wire.causes == [CloseCause.ADMIN]

    def test_by_both_at_once(self) -> None:
        wire = Wire()
        client, initiator = up(wire)
        wire.sa.close(CloseCause.ADMIN, wire.now)
        wire.responder.touch(wire.sa)
        initiator.delete()
        wire.run()
        assert wire.state is State.CLOSED
        assert client.phase is Phase.CLOSED
        assert wire.causes == [CloseCause.ADMIN]
        wire.advance(wire.config.linger_s)
        assert wire.responder.sas() == []

    def test_crossing_with_the_answer_lost(self) -> None:
        wire = Wire()
        client, initiator = up(wire)
        wire.sa.close(CloseCause.ADMIN, wire.now)
        wire.responder.touch(wire.sa)
        initiator.delete()
        wire.filter = lambda to_gateway, batch: batch if to_gateway else []
        wire.run()
        assert wire.state is State.CLOSED
        wire.filter = everything
        wire.retransmit(client)
        assert wire.causes == [CloseCause.ADMIN]
        assert wire.state is State.CLOSED

    def test_while_a_liveness_check_is_on_its_way(self) -> None:
        wire = Wire()
        client, initiator = up(wire)
        wire.filter = lambda to_gateway, batch: []
        wire.advance(wire.config.dpd_interval_s)
        assert wire.sa.own.message_id == 0
        wire.sa.close(CloseCause.ADMIN, wire.now)
        wire.responder.touch(wire.sa)
        wire.run()
        assert wire.causes == [CloseCause.ADMIN]
        # The window is 1: the Delete follows when the check is answered.
        wire.filter = everything
        wire.advance(wire.config.retransmit_timeouts_s[0])
        assert (initiator.requests_seen, client.phase, wire.state) == (2, Phase.CLOSED, State.CLOSED)
        assert wire.causes == [CloseCause.ADMIN]

    def test_of_the_child_sa_alone(self) -> None:
        wire = Wire()
        _, initiator = up(wire)
        child = wire.child
        body = Delete(ProtocolId.ESP, (initiator.spi_in.to_bytes(4, "big"),)).to_bytes()
        answer = ask(wire, initiator, ExchangeType.INFORMATIONAL, (PayloadType.DELETE, body))
        assert Delete.parse(answer.require(PayloadType.DELETE)).spis == (child.spi_in.to_bytes(4, "big"),)
        assert wire.seen(ChildDeleted) == [ChildDeleted(wire.sa, child.spi_in)]
        assert (wire.children, wire.state, wire.sa.children) == ({}, State.ESTABLISHED, {})
        # And once more: there is none.
        answer = ask(wire, initiator, ExchangeType.INFORMATIONAL, (PayloadType.DELETE, body))
        assert answer.bodies == {}

    @pytest.mark.parametrize(
        "delete",
        [
            Delete(ProtocolId.ESP, (b"\xde\xad\xbe\xef",)),
            Delete(ProtocolId.AH, (b"\xde\xad\xbe\xef",)),
            Delete(ProtocolId.ESP, ()),
        ],
    )
    def test_of_a_child_sa_that_is_not_there(self, delete: Delete) -> None:
        wire = Wire()
        _, initiator = up(wire)
        answer = ask(wire, initiator, ExchangeType.INFORMATIONAL, (PayloadType.DELETE, delete.to_bytes()))
        assert answer.bodies == {}
        assert len(wire.children) == 1

    def test_child_and_ike_together(self) -> None:
        wire = Wire()
        _, initiator = up(wire)
        child = Delete(ProtocolId.ESP, (initiator.spi_in.to_bytes(4, "big"),)).to_bytes()
        ask(wire, initiator, ExchangeType.INFORMATIONAL, (PayloadType.DELETE, child), DELETE_IKE)
        assert (wire.causes, wire.children) == ([CloseCause.PEER_DELETE], {})

    def test_of_everything_when_the_gateway_stops(self) -> None:
        wire = Wire()
        clients = [wire.connect() for _ in range(3)]
        half_open = wire.client()
        half_open.initiator.start()
        wire.run_until(lambda: wire.responder.half_open == 1)
        wire.responder.close_all(CloseCause.SHUTDOWN, wire.now)
        wire.run()
        assert wire.causes == [CloseCause.SHUTDOWN] * 4
        assert {client.phase for client in clients} == {Phase.CLOSED}
        assert wire.responder.half_open == 0
