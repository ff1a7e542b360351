"""REDIRECT (RFC 5685): in which exchange, to whom, and where to."""

from __future__ import annotations

import pytest

from gateway.ike.constants import ExchangeType, Flag, NotifyType, PayloadType
from gateway.ike.errors import InvalidSyntax
from gateway.ike.events import CloseCause, SaEstablished
from gateway.ike.exchanges.redirect import Redirection, Willing
from gateway.ike.message import Header, clear_message
from gateway.ike.path import Path
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.payloads.redirect import GatewayId, GatewayIdType
from gateway.ike.states import State
from tests.peers.initiator import Phase
from tests.peers.redirect import WillingInitiator
from tests.unit.gateway.ike.wire import GATEWAY, Client, Wire, mschapv2, responder_config

V4, V6 = Path(GATEWAY, 500, "198.51.100.1", 500), Path("2001:db8::1", 500, "2001:db8:1::2", 500)
B, C, SIX = GatewayId.of("192.0.2.2"), GatewayId.of("vpn-c.example"), GatewayId.of("2001:db8::c")
WILLING = Willing([Notify(NotifyType.REDIRECT_SUPPORTED)])


def came_from(gateway: GatewayId) -> Willing:
    """A client that another gateway has sent."""
    return Willing([Notify(NotifyType.REDIRECTED_FROM, gateway.to_bytes())])


def willing(wire: Wire) -> tuple[Client, WillingInitiator]:
    """A client that has not begun."""
    client = wire.client(mschapv2(), initiator=WillingInitiator)
    assert isinstance(client.initiator, WillingInitiator)
    return client, client.initiator


class TestGatewayId:
    @pytest.mark.parametrize(
        ("text", "data"),
        [
            ("192.0.2.7", "0104c0000207"),
            ("2001:db8::7", "021020010db8000000000000000000000007"),
            ("VPN.example", "030b76706e2e6578616d706c65"),
        ],
    )
    def test_round_trip(self, text: str, data: str) -> None:
        one = GatewayId.of(text)
        assert one.to_bytes().hex() == data
        assert GatewayId.parse(bytes.fromhex(data) + b"nonce") == (one, b"nonce")
        assert str(one) == text.lower()

    @pytest.mark.parametrize(
        "data", ["", "01", "0104c00002", "0103c00002", "0105c000020700", "0200", "0300", "0004c0000207", "04026161"]
    )
    def test_malformed(self, data: str) -> None:
        with pytest.raises(InvalidSyntax):
            GatewayId.parse(bytes.fromhex(data))

    def test_a_name_that_is_too_long(self) -> None:
        with pytest.raises(InvalidSyntax):
            GatewayId.parse(b"\x03\xfe" + b"a" * 254)
        assert GatewayId.parse(b"\x03\xfd" + b"a" * 253)[0].type is GatewayIdType.FQDN

    def test_a_name_that_is_none_is_shown_all_the_same(self) -> None:
        assert str(GatewayId.parse(b"\x03\x03a\xff\n")[0]) == "a\\xff\n"


class TestTarget:
    def test_nobody_is_sent_away_for_no_reason(self) -> None:
        assert Redirection([B]).target(WILLING, V4) is None

    @pytest.mark.parametrize("reason", ["draining", "overloaded"])
    def test_only_who_understands_it(self, reason: str) -> None:
        redirection = Redirection([B])
        setattr(redirection, reason, True)
        assert redirection.target(WILLING, V4) == B
        assert redirection.target(Willing([]), V4) is None
        assert redirection.target(None, V4) is None

    def test_there_has_to_be_a_target(self) -> None:
        redirection = Redirection()
        redirection.draining = True
        assert redirection.target(WILLING, V4) is None

    def test_targets_take_turns(self) -> None:
        redirection = Redirection([B, C])
        redirection.draining = True
        assert [redirection.target(WILLING, V4) for _ in range(4)] == [B, C, B, C]

    def test_those_of_the_clients_ip_version_first(self) -> None:
        redirection = Redirection([B, SIX])
        redirection.draining = True
        assert {redirection.target(WILLING, V4) for _ in range(4)} == {B}
        assert {redirection.target(WILLING, V6) for _ in range(4)} == {SIX}
        only_six = Redirection([SIX])
        only_six.draining = True
        assert only_six.target(WILLING, V4) == SIX

    def test_nobody_is_sent_back(self) -> None:
        redirection = Redirection([B, C])
        redirection.draining = True
        assert {redirection.target(came_from(B), V4) for _ in range(4)} == {C}
        only_b = Redirection([B])
        only_b.draining = True
        assert only_b.target(came_from(B), V4) is None

    def test_load_is_not_handed_round(self) -> None:
        redirection = Redirection([B, C])
        redirection.overloaded = True
        assert redirection.target(came_from(GatewayId.of("192.0.2.9")), V4) is None


class TestFirstExchange:
    def test_with_its_nonce_and_nothing_kept(self) -> None:
        wire = Wire()
        wire.responder.redirection = Redirection([B])
        wire.responder.redirection.draining = True
        client, initiator = willing(wire)
        initiator.start()
        wire.run()
        assert (initiator.sent_to, initiator.sent_in) == (B, "IKE_SA_INIT")
        assert (wire.responder.sas(), wire.events) == ([], [])
        ((answer, path),) = wire.from_gateway
        header = Header.parse(answer)
        assert (header.spi_r, header.message_id, path) == (bytes(8), 0, client.outer)
        assert wire.responder.statistics.redirected == 1

    def test_others_get_in(self) -> None:
        wire = Wire()
        wire.responder.redirection = Redirection([B])
        wire.responder.redirection.draining = True
        assert wire.connect().phase is Phase.ESTABLISHED

    def test_the_cookie_comes_first(self) -> None:
        """Nobody is sent anywhere in another one's name."""
        wire = Wire(responder_config(cookie_threshold=0))
        wire.responder.redirection = Redirection([B])
        wire.responder.redirection.draining = True
        _, initiator = willing(wire)
        initiator.start()
        wire.run()
        assert initiator.sent_to == B
        assert wire.responder.statistics.cookies_sent == 1

    def test_the_answer_is_shorter_than_the_question(self) -> None:
        wire = Wire()
        wire.responder.redirection = Redirection([GatewayId.of("a" * 63 + ".example")])
        wire.responder.redirection.draining = True
        _, initiator = willing(wire)
        initiator.start()
        wire.run()
        assert len(wire.from_gateway[0][0]) < len(wire.to_gateway[0][0])

    def test_a_malformed_redirected_from(self) -> None:
        wire = Wire()
        _, initiator = willing(wire)
        initiator.first_notifies.append(notify_payload(NotifyType.REDIRECTED_FROM, b"\x01\x04abc"))
        initiator.start()
        wire.run()
        assert (wire.responder.sas(), wire.from_gateway) == ([], [])

    def test_who_was_sent_back_stays(self) -> None:
        wire = Wire()
        wire.responder.redirection = Redirection([B])
        wire.responder.redirection.draining = True
        client, initiator = willing(wire)
        initiator.come_from(B)
        initiator.start()
        wire.run()
        assert client.phase is Phase.ESTABLISHED
        assert wire.sa.willing is not None
        assert wire.sa.willing.came_from == B

    def test_not_where_only_the_proved_are_sent(self) -> None:
        wire = Wire()
        wire.responder.redirection = Redirection([B], in_ike_sa_init=False)
        wire.responder.redirection.draining = True
        client, initiator = willing(wire)
        initiator.start()
        wire.run()
        assert (client.phase, initiator.sent_to) == (Phase.ESTABLISHED, None)

    def test_a_request_with_nothing_else_in_it(self) -> None:
        wire = Wire()
        wire.responder.redirection = Redirection([B])
        wire.responder.redirection.draining = True
        payloads = [(PayloadType.SA, b""), (PayloadType.KE, b"\0\x1f\0\0x"), (PayloadType.NONCE, b"n" * 16)]
        payloads.append(notify_payload(NotifyType.REDIRECT_SUPPORTED))
        request = clear_message(b"i" * 8, bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0, payloads)
        wire.inject(request, V4)
        assert len(wire.from_gateway) == 1
        assert wire.responder.sas() == []


class TestIkeAuth:
    def test_after_its_proof_and_ours(self) -> None:
        wire = Wire()
        wire.aaa.send_to = C
        _, initiator = willing(wire)
        initiator.start()
        wire.run()
        assert (initiator.sent_to, initiator.sent_in) == (C, "IKE_AUTH")
        assert (wire.causes, wire.children) == ([CloseCause.REDIRECTED], {})
        assert wire.seen(SaEstablished) == []
        assert (wire.sa.state, wire.responder.half_open) == (State.CLOSING, 0)

    def test_the_client_deletes_the_sa(self) -> None:
        wire = Wire()
        wire.aaa.send_to = C
        client, initiator = willing(wire)
        initiator.start()
        wire.run()
        initiator.delete()
        wire.run()
        assert (wire.sa.state, wire.causes) == (State.CLOSED, [CloseCause.REDIRECTED])
        assert client.initiator.requests_seen == 0

    def test_or_we_do(self) -> None:
        wire = Wire()
        wire.aaa.send_to = C
        _, initiator = willing(wire)
        initiator.start()
        wire.run()
        wire.advance(wire.config.redirect_patience_s - 0.1)
        assert initiator.requests_seen == 0
        wire.advance(0.2)
        assert initiator.error == "deleted by the gateway"
        assert wire.sa.state is State.CLOSED


class TestEstablished:
    @staticmethod
    def up(wire: Wire) -> tuple[Client, WillingInitiator]:
        """A client that is in."""
        client, initiator = willing(wire)
        initiator.start()
        wire.run()
        assert client.phase is Phase.ESTABLISHED
        return client, initiator

    @staticmethod
    def send_away(wire: Wire) -> None:
        """The client is told to go."""
        wire.sa.redirect(B, wire.now)
        wire.responder.touch(wire.sa)
        wire.run()

    def test_the_client_goes(self) -> None:
        wire = Wire()
        _, initiator = self.up(wire)
        self.send_away(wire)
        assert (initiator.sent_to, initiator.sent_in) == (B, "INFORMATIONAL")
        assert wire.sa.state is State.ESTABLISHED
        wire.advance(wire.config.redirect_patience_s / 2)
        initiator.delete()
        wire.run()
        assert wire.causes == [CloseCause.REDIRECTED]

    def test_it_does_not_go(self) -> None:
        wire = Wire()
        _, initiator = self.up(wire)
        self.send_away(wire)
        wire.advance(wire.config.redirect_patience_s + 0.1)
        assert wire.causes == [CloseCause.REDIRECTED]
        assert initiator.error == "deleted by the gateway"

    def test_its_time_goes_on_in_a_rekeyed_sa(self) -> None:
        from tests.unit.gateway.ike.test_mobike import TestRekeying

        wire = Wire()
        self.up(wire)
        self.send_away(wire)
        new = TestRekeying.rekeyed(wire)
        assert new.willing is not None
        assert new.willing.is_willing
        wire.advance(wire.config.redirect_patience_s + 0.1)
        assert wire.causes == [CloseCause.REDIRECTED]
