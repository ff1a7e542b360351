"""What happens to an SA that is up: liveness, lifetime, a second sign-in, refused rekeying, and late answers."""

from __future__ import annotations

import pytest

from gateway.ike import child_lifecycle, events, sign_in
from gateway.ike.constants import ExchangeType, NotifyType, PayloadType, ProtocolId
from gateway.ike.errors import IkeError
from gateway.ike.events import CloseCause, SaEstablished
from gateway.ike.payloads.delete import Delete
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.payloads.security_association import proposals_to_bytes
from gateway.ike.sa import KEEPALIVE
from gateway.ike.states import State
from tests.peers.initiator import Phase
from tests.unit.gateway.ike import offers
from tests.unit.gateway.ike.established import ask, notifies, up
from tests.unit.gateway.ike.test_sign_in import by_certificate
from tests.unit.gateway.ike.variants import Listening, send_unknown_critical
from tests.unit.gateway.ike.wire import Wire, everything, mschapv2

DELETE_IKE = (PayloadType.DELETE, Delete(ProtocolId.IKE).to_bytes())


class TestLiveness:
    def test_a_quiet_client_is_asked_and_answers(self) -> None:
        wire = Wire()
        _, initiator = up(wire)
        wire.advance(10 * wire.config.dpd_interval_s)
        assert initiator.requests_seen in (9, 10)
        assert wire.state is State.ESTABLISHED

    def test_a_client_whose_packets_flow_is_not_asked(self) -> None:
        wire = Wire()
        _, initiator = up(wire)
        for _ in range(100):
            wire.advance(5.0)
            wire.last_esp_in_s = wire.now
        assert initiator.requests_seen == 0
        wire.advance(wire.config.dpd_interval_s + 5)
        assert initiator.requests_seen == 1

    def test_nor_is_one_that_asks_itself(self) -> None:
        wire = Wire()
        _, initiator = up(wire)
        for _ in range(20):
            wire.advance(20.0)
            ask(wire, initiator, ExchangeType.INFORMATIONAL)
        assert initiator.requests_seen == 0

    def test_a_sum_that_is_rounded_down_is_not_due_for_ever(self) -> None:
        """30 s after this moment is, as a difference of floats, a little less than 30 s after it."""
        wire = Wire()
        _, initiator = up(wire)
        wire.last_esp_in_s = quiet_since = 1014.5599749248123
        assert quiet_since + 30.0 - quiet_since < wire.config.dpd_interval_s == 30.0
        wire.advance(quiet_since + 30.0 - wire.now)
        assert initiator.requests_seen == 1

    def test_a_dead_client_is_given_up_by_the_schedule(self) -> None:
        wire = Wire()
        up(wire)
        sent_before = len(wire.from_gateway)
        wire.filter = lambda to_gateway, batch: []
        timeouts = wire.config.retransmit_timeouts_s
        wire.advance(wire.config.dpd_interval_s)
        for index, timeout in enumerate(timeouts):
            assert len(wire.from_gateway) == sent_before + index + 1
            assert wire.state is State.ESTABLISHED
            wire.advance(timeout)
        assert (wire.state, wire.causes, wire.children) == (State.CLOSED, [CloseCause.LOST], {})
        sent = {data for data, _ in wire.from_gateway[sent_before:]}
        assert len(sent) == 1
        wire.advance(wire.config.linger_s)
        assert wire.responder.sas() == []

    def test_a_late_answer_counts(self) -> None:
        wire = Wire()
        up(wire)
        wire.filter = lambda to_gateway, batch: []
        wire.advance(wire.config.dpd_interval_s + sum(wire.config.retransmit_timeouts_s) - 0.1)
        wire.filter = everything
        # The client has answered only now; the last copy of the request is on its way.
        for data, path in wire.from_gateway[-1:]:
            wire.clients[0].initiator.receive_datagram(data)
            assert path == wire.clients[0].outer
        wire.run()
        wire.advance(1.0)
        assert (wire.state, wire.sa.own.message_id) == (State.ESTABLISHED, None)


class TestLifetime:
    def test_the_session_ends(self) -> None:
        wire = Wire()
        client, _ = up(wire)
        wire.sa.limit_session(3600.0, wire.now)
        wire.responder.touch(wire.sa)
        wire.advance(3599.0)
        assert wire.state is State.ESTABLISHED
        wire.advance(1.1)
        assert (wire.causes, client.phase) == ([CloseCause.SESSION_TIMEOUT], Phase.CLOSED)

    def test_a_shorter_limit_is_served_in_time(self) -> None:
        """The queue has a later timer of this SA; the earlier one must overtake it."""
        wire = Wire()
        up(wire)
        wire.sa.limit_session(1.0, wire.now)
        wire.responder.touch(wire.sa)
        wire.advance(1.0)
        assert wire.causes == [CloseCause.SESSION_TIMEOUT]


class TestInitialContact:
    def test_the_devices_other_sas_are_forgotten_without_a_word(self) -> None:
        wire = Wire()
        first = wire.connect()
        (old,) = wire.established
        config = mschapv2()
        config.initial_contact = True
        second = wire.connect(config)
        assert second.phase is Phase.ESTABLISHED
        assert old.state is State.CLOSED
        assert wire.causes == [CloseCause.REPLACED]
        assert first.initiator.requests_seen == 0
        assert len(wire.established) == 1

    def test_not_those_of_somebody_else(self) -> None:
        wire = Wire()
        wire.connect(mschapv2("bob"))
        config = mschapv2("alice")
        config.initial_contact = True
        wire.connect(config)
        assert wire.causes == []
        assert len(wire.established) == 2

    def test_not_before_the_client_is_authenticated(self) -> None:
        wire = Wire()
        wire.connect()
        config = mschapv2("alice", "wrong")
        config.initial_contact = True
        assert wire.connect(config).phase is Phase.FAILED
        assert wire.causes == [CloseCause.REFUSED]
        assert len(wire.established) == 1
        wanted = wire.seen(events.AssignmentWanted)
        assert [event.initial_contact for event in wanted] == [False]


class TestRekeying:
    def request(self, initiator: Listening) -> tuple[tuple[PayloadType, bytes], ...]:
        """A new child SA for the old one."""
        rekey = Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, initiator.spi_in.to_bytes(4, "big"))
        return (
            (PayloadType.NOTIFY, rekey.to_bytes()),
            (PayloadType.SA, proposals_to_bytes(offers.WINDOWS_PROFILE_ESP)),
            (PayloadType.NONCE, b"n" * 32),
        )

    def test_without_selectors_breaks_the_protocol(self) -> None:
        wire = Wire()
        _, initiator = up(wire)
        answer = ask(wire, initiator, ExchangeType.CREATE_CHILD_SA, *self.request(initiator))
        assert notifies(answer) == [NotifyType.INVALID_SYNTAX]
        assert (wire.state, wire.children) == (State.CLOSED, {})

    def test_while_our_delete_is_on_its_way(self) -> None:
        wire = Wire()
        _, initiator = up(wire)
        wire.sa.close(CloseCause.ADMIN, wire.now)
        wire.responder.touch(wire.sa)
        wire.filter = lambda to_gateway, batch: batch if to_gateway else []
        wire.run()
        wire.filter = everything
        answer = ask(wire, initiator, ExchangeType.CREATE_CHILD_SA, *self.request(initiator))
        assert notifies(answer) == [NotifyType.TEMPORARY_FAILURE]
        assert wire.state is State.CLOSING

    def test_malformed_ends_the_sa(self) -> None:
        wire = Wire()
        _, initiator = up(wire)
        answer = ask(wire, initiator, ExchangeType.CREATE_CHILD_SA, (PayloadType.NONCE, b"n" * 32))
        assert notifies(answer) == [NotifyType.INVALID_SYNTAX]
        assert (wire.causes, wire.children) == ([CloseCause.PROTOCOL_ERROR], {})

    def test_before_the_sa_is_up(self) -> None:
        """CVE-2014-2338: nothing but IKE_AUTH and a Delete before the peer is authenticated."""
        wire = Wire()
        client = wire.client(initiator=Listening)
        client.initiator.start()
        wire.run_until(lambda: wire.state is State.EAP)
        initiator = client.initiator
        assert isinstance(initiator, Listening)
        answer = ask(wire, initiator, ExchangeType.CREATE_CHILD_SA, *self.request(initiator))
        assert notifies(answer) == [NotifyType.INVALID_SYNTAX]
        assert (wire.state, wire.seen(SaEstablished)) == (State.CLOSED, [])


class TestOutOfStep:
    def test_an_unknown_critical_payload_does_not_end_an_sa(self) -> None:
        wire = Wire()
        _, initiator = up(wire)
        send_unknown_critical(initiator, ExchangeType.INFORMATIONAL)
        wire.run()
        assert notifies(initiator.answers[-1]) == [NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD]
        assert wire.state is State.ESTABLISHED
        assert ask(wire, initiator, ExchangeType.INFORMATIONAL).bodies == {}

    @pytest.mark.parametrize(
        ("exchange", "payloads"),
        [
            (ExchangeType.IKE_AUTH, []),
            (ExchangeType.IKE_SA_INIT, []),
            (ExchangeType.INFORMATIONAL, [(PayloadType.DELETE, b"\x01")]),
            (ExchangeType.INFORMATIONAL, [(PayloadType.NOTIFY, b"")]),
            (ExchangeType.INFORMATIONAL, [notify_payload(NotifyType.INITIAL_CONTACT)] * 33),
            (ExchangeType.INFORMATIONAL, [DELETE_IKE] * 9),
        ],
    )
    def test_a_request_that_does_not_belong_there_ends_it(
        self, exchange: ExchangeType, payloads: list[tuple[PayloadType, bytes]]
    ) -> None:
        wire = Wire()
        _, initiator = up(wire)
        answer = ask(wire, initiator, exchange, *payloads)
        assert notifies(answer) == [NotifyType.INVALID_SYNTAX]
        assert (wire.causes, wire.state, wire.children) == ([CloseCause.PROTOCOL_ERROR], State.CLOSED, {})

    @pytest.mark.parametrize("kind", [NotifyType.INVALID_SYNTAX, NotifyType.INVALID_SPI, 12345, 40_000])
    def test_a_notify_that_asks_for_nothing(self, kind: int) -> None:
        wire = Wire()
        _, initiator = up(wire)
        answer = ask(wire, initiator, ExchangeType.INFORMATIONAL, (PayloadType.NOTIFY, Notify(kind).to_bytes()))
        assert answer.bodies == {}
        assert wire.state is State.ESTABLISHED


class TestLateAnswers:
    """AAA and the data plane may answer when the SA is long gone: nothing happens."""

    @pytest.mark.parametrize("way", ["eap", "certificate"])
    def test_every_answer_at_every_later_moment(self, way: str) -> None:
        for steps in range(12):
            wire = Wire()
            wire.aaa.hold = True
            wire.connect(by_certificate() if way == "certificate" else None)
            for _ in range(steps):
                wire.release()
            if wire.state is not State.ESTABLISHED:
                held = list(wire.aaa.held)
                wire.sa.close(CloseCause.ADMIN, wire.now)
                wire.responder.touch(wire.sa)
                before = len(wire.from_gateway)
                wire.release()
                assert held
                assert wire.state is State.CLOSED
                assert wire.causes == [CloseCause.ADMIN]
                assert len(wire.from_gateway) == before
                assert wire.responder.half_open == 0

    def test_the_wrong_answer_at_any_moment(self) -> None:
        wire = Wire()
        up(wire)
        sa, before = wire.sa, len(wire.from_gateway)
        sign_in.eap_continue(sa, b"\x01\x01\0\x05\x01", wire.now)
        sign_in.eap_succeeded(sa, b"\x03\x01\0\x04", b"m" * 64, wire.now)
        sign_in.eap_failed(sa, b"\x04\x01\0\x04", wire.now)
        sign_in.authorised(sa, wire.now)
        sign_in.refuse(sa, wire.now)
        child_lifecycle.installed(sa, wire.child.spi_in, wire.now)
        child_lifecycle.failed(sa, wire.child.spi_in, IkeError("too late"), wire.now)
        wire.run()
        assert (wire.state, len(wire.from_gateway), wire.causes) == (State.ESTABLISHED, before, [])

    def test_an_answer_that_comes_twice(self) -> None:
        wire = Wire()
        wire.aaa.hold = True
        client = wire.connect()
        for _ in range(20):
            wire.aaa.held *= 2
            wire.release()
            if client.phase is Phase.ESTABLISHED:
                break
        assert client.phase is Phase.ESTABLISHED
        assert len(wire.seen(SaEstablished)) == 1


def test_no_keepalive_without_a_nat() -> None:
    wire = Wire()
    up(wire)
    wire.advance(300.0)
    assert KEEPALIVE not in [data for data, _ in wire.from_gateway]
