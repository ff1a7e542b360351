"""Session resumption (RFC 5723): who may have a ticket, and what it opens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from aaa.interface import TicketKeys
from gateway.ike.constants import (
    AuthMethod,
    CertEncoding,
    Encr,
    ExchangeType,
    Flag,
    Group,
    Integ,
    NotifyType,
    PayloadType,
    Prf,
)
from gateway.ike.events import AssignmentWanted, CloseCause, EapStarted, TicketRedeemed
from gateway.ike.exchanges.redirect import Redirection
from gateway.ike.message import Header, clear_message
from gateway.ike.path import Path
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.certificate import Certificate
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.payloads.redirect import GatewayId
from gateway.ike.policy import CNSA2, MODERN
from gateway.ike.proposals import IkeSuite
from gateway.ike.states import State
from gateway.ike.ticket import Grant, Ticket
from gateway.tickets import Tickets
from tests.peers.initiator import Initiator, InitiatorConfig, Phase
from tests.peers.resumption import ResumingInitiator, SavedSession, TicketInitiator
from tests.unit.gateway.ike.established import notifies
from tests.unit.gateway.ike.variants import Listening
from tests.unit.gateway.ike.wire import GATEWAY, GATEWAY_NAME, Client, Wire, mschapv2, responder_config

NOW = 1_700_000_000.0
GRANT = Grant(b'{"device": "7"}', int(NOW) + 36_000)
KEYS = TicketKeys(3600, {int(NOW // 3600): b"k" * 32})
Payload = tuple[PayloadType, bytes]


def keeper() -> Tickets:
    """Of tickets; its clock stands still."""
    return Tickets(KEYS, 1800.0, lambda: NOW)


def wire_with(tickets: Tickets | None = None, **changes: Any) -> Wire:
    """A gateway that gives out tickets."""
    wire = Wire(responder_config(tickets=tickets or keeper(), **changes))
    wire.aaa.grant = GRANT
    return wire


def with_ticket(wire: Wire, config: InitiatorConfig | None = None) -> tuple[Client, SavedSession]:
    """A client that has signed in and got a ticket."""
    client = wire.client(config or mschapv2(), initiator=TicketInitiator)
    client.initiator.start()
    wire.run()
    assert isinstance(client.initiator, TicketInitiator)
    assert client.phase is Phase.ESTABLISHED
    assert client.initiator.saved is not None
    return client, client.initiator.saved


def coming_back(
    wire: Wire, saved: SavedSession, initiator: type[ResumingInitiator] = ResumingInitiator, **changes: Any
) -> ResumingInitiator:
    """The client with its ticket, as far as it gets."""
    config = replace(InitiatorConfig(), **changes)
    client = wire.client(config, initiator=partial(initiator, saved=saved))  # type: ignore[arg-type]
    client.initiator.start()
    wire.run()
    assert isinstance(client.initiator, ResumingInitiator)
    return client.initiator


class TestAsking:
    def test_a_ticket_comes_with_the_last_response(self) -> None:
        wire = wire_with()
        client, saved = with_ticket(wire)
        assert saved.lifetime_s == 1800
        assert b"device" not in saved.ticket
        assert isinstance(client.initiator, TicketInitiator)
        assert client.initiator.refused == 0

    def test_nobody_gets_one_who_did_not_ask(self) -> None:
        wire = wire_with()
        client = wire.client(mschapv2(), initiator=Listening)
        client.initiator.start()
        wire.run()
        assert isinstance(client.initiator, Listening)
        assert client.phase is Phase.ESTABLISHED
        assert not {NotifyType.TICKET_LT_OPAQUE, NotifyType.TICKET_NACK} & set(notifies(client.initiator.answers[-1]))

    @pytest.mark.parametrize("lacking", ["keeper", "grant"])
    def test_there_may_be_none(self, lacking: str) -> None:
        wire = Wire() if lacking == "keeper" else wire_with()
        wire.aaa.grant = GRANT if lacking == "keeper" else None
        client = wire.client(mschapv2(), initiator=TicketInitiator)
        client.initiator.start()
        wire.run()
        assert isinstance(client.initiator, TicketInitiator)
        assert (client.phase, client.initiator.saved, client.initiator.refused) == (Phase.ESTABLISHED, None, 1)

    def test_at_any_time_later(self) -> None:
        wire = wire_with()
        client, saved = with_ticket(wire)
        assert isinstance(client.initiator, TicketInitiator)
        client.initiator.ask_for_ticket()
        wire.run()
        again = client.initiator.saved
        assert again is not None
        assert again.ticket != saved.ticket
        assert coming_back(wire, again).phase is Phase.ESTABLISHED

    def test_not_before_one_is_in(self) -> None:
        wire = wire_with()
        client = wire.client(mschapv2(), initiator=TicketInitiator)
        client.initiator.start()
        wire.run_until(lambda: wire.state is State.EAP)
        client.initiator.message_id = 2
        assert isinstance(client.initiator, TicketInitiator)
        client.initiator.ask_for_ticket()
        wire.run()
        assert client.initiator.saved is None


class TestComingBack:
    def test_in_two_round_trips_without_a_proof(self) -> None:
        wire = wire_with()
        first, saved = with_ticket(wire)
        conversations, sent = len(wire.seen(EapStarted)), len(wire.to_gateway)
        back = coming_back(wire, saved)
        assert back.phase is Phase.ESTABLISHED
        assert len(wire.to_gateway) - sent == 2
        assert len(wire.seen(EapStarted)) == conversations
        assert wire.seen(TicketRedeemed)[0].grant == GRANT
        assert back.virtual_ipv4
        assert back.child_keys is not None
        assert back.child_keys != first.initiator.child_keys
        sa = wire.established[-1]
        assert (sa.peer_identity, sa.suite, sa.resumption.redeemed) == ("alice", saved.suite, None)
        assert wire.children[back.spi_out].keys == back.child_keys

    def test_with_a_new_ticket_for_the_next_time(self) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        for _ in range(3):
            back = coming_back(wire, saved)
            assert back.saved is not None
            assert back.saved.sk_d != saved.sk_d
            saved = back.saved

    def test_at_another_gateway_with_the_same_keys(self) -> None:
        _, saved = with_ticket(wire_with(), None)
        assert coming_back(wire_with(), saved).phase is Phase.ESTABLISHED

    def test_after_a_restart(self) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        again = wire_with()
        assert coming_back(again, saved).phase is Phase.ESTABLISHED

    def test_through_a_nat_and_with_fragments(self) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        client = wire.client(
            InitiatorConfig(fragment_size_bytes=576),
            local=Path("10.0.0.2", 500, GATEWAY, 500),
            outer=Path(GATEWAY, 500, "203.0.113.7", 61001),
            initiator=partial(ResumingInitiator, saved=saved),  # type: ignore[arg-type]
        )
        client.initiator.start()
        wire.run()
        assert client.phase is Phase.ESTABLISHED
        sa = wire.established[-1]
        assert (sa.nat_remote, sa.peer_fragments) == (True, True)

    def test_with_a_cookie_where_one_is_asked_for(self) -> None:
        _, saved = with_ticket(wire_with())
        wire = wire_with(cookie_threshold=0)
        assert coming_back(wire, saved).phase is Phase.ESTABLISHED
        ((cookie, _), *_) = wire.from_gateway
        assert Header.parse(cookie).exchange == ExchangeType.IKE_SESSION_RESUME
        assert wire.responder.statistics.cookies_sent == 1

    def test_it_can_be_sent_away(self) -> None:
        _, saved = with_ticket(wire_with())
        wire = wire_with()
        wire.responder.redirection = Redirection([GatewayId.of("192.0.2.2")])
        wire.responder.redirection.draining = True

        class Willing(ResumingInitiator):
            def start(self) -> None:
                self.first_notifies = [notify_payload(NotifyType.REDIRECT_SUPPORTED)]
                super().start()

            def _receive_init(self, header: Header, data: bytes) -> None:
                self.fail("sent away" if b"\x01\x04\xc0\x00\x02\x02" in data else "not sent away")

        assert coming_back(wire, saved, Willing).error == "sent away"
        assert wire.responder.sas() == []

    def test_after_a_rekeying_with_the_new_keys(self) -> None:
        from tests.unit.gateway.ike.test_mobike import TestRekeying

        wire = wire_with()
        with_ticket(wire)
        new = TestRekeying.rekeyed(wire)
        assert new.resumption.grant == GRANT
        assert (new.resumption.idi_body, new.resumption.idr_body) != (b"", b"")


class TestRefusals:
    def test_aaa_is_asked_again(self) -> None:
        """The device was revoked since."""
        wire = wire_with()
        _, saved = with_ticket(wire)
        wire.aaa.may_enter = False
        back = coming_back(wire, saved)
        assert (back.phase, back.error) == (Phase.FAILED, "AUTHENTICATION_FAILED")
        assert wire.causes == [CloseCause.REFUSED]
        assert len(wire.seen(AssignmentWanted)) == 1

    def test_a_ticket_is_good_once(self) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        assert coming_back(wire, saved).phase is Phase.ESTABLISHED
        again = coming_back(wire, saved)
        assert (again.phase, again.error) == (Phase.FAILED, "TICKET_NACK")
        assert wire.responder.statistics.tickets_refused == 1

    def test_of_two_at_once_one_gets_in(self) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        clients = [
            wire.client(InitiatorConfig(), initiator=partial(ResumingInitiator, saved=saved))  # type: ignore[arg-type]
            for _ in range(2)
        ]
        for client in clients:
            client.initiator.start()
        wire.run()
        assert sorted(client.phase.name for client in clients) == ["ESTABLISHED", "FAILED"]
        assert ("authentication-failed", "the client's ticket was used before") in wire.failures

    def test_who_has_only_seen_it_uses_nothing_up(self) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        thief = coming_back(wire, replace(saved, sk_d=bytes(len(saved.sk_d))))
        assert thief.phase is Phase.AUTH
        assert wire.responder.half_open == 1
        assert coming_back(wire, saved).phase is Phase.ESTABLISHED
        wire.advance(wire.config.half_open_timeout_s)
        assert wire.responder.half_open == 0

    @pytest.mark.parametrize(
        "ticket",
        [b"", b"x", bytes(100), b"k" * 4000],
    )
    def test_what_is_no_ticket(self, ticket: bytes) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        sas = len(wire.responder.sas())
        back = coming_back(wire, replace(saved, ticket=ticket))
        assert back.error == "TICKET_NACK"
        assert len(wire.responder.sas()) == sas
        assert len(wire.from_gateway[-1][0]) < len(wire.to_gateway[-1][0])

    def test_a_gateway_without_tickets(self) -> None:
        _, saved = with_ticket(wire_with())
        assert coming_back(Wire(), saved).error == "TICKET_NACK"

    def test_a_suite_that_is_not_allowed_any_more(self) -> None:
        _, saved = with_ticket(wire_with())
        assert coming_back(wire_with(policy=CNSA2), saved).error == "TICKET_NACK"

    @pytest.mark.parametrize(
        "changes",
        [
            {"encr": Encr.TRIPLE_DES, "key_bits": 0},
            {"key_bits": 64},
            {"prf": Prf.HMAC_MD5},
            {"encr": Encr.AES_CBC, "integ": Integ.HMAC_MD5_96},
            {"group": Group.MODP_1024},
            {"additional": (Group.MODP_768,)},
        ],
    )
    def test_each_part_of_the_suite_counts(self, changes: dict[str, Any]) -> None:
        tickets = keeper()
        suite = replace(IkeSuite(Encr.AES_GCM_16, 256, Integ.NONE, Prf.HMAC_SHA2_256, Group.CURVE25519), **changes)
        identity = GATEWAY_NAME.to_bytes()
        ticket = Ticket(b"t" * 16, Identification.fqdn("alice").to_bytes(), identity, suite, b"d" * 32, GRANT)
        _, data = tickets.issue(ticket) or (0, b"")
        wire = wire_with(tickets)
        payloads = [(PayloadType.NONCE, b"n" * 32), notify_payload(NotifyType.TICKET_OPAQUE, data)]
        request = clear_message(b"i" * 8, bytes(8), ExchangeType.IKE_SESSION_RESUME, Flag.INITIATOR, 0, payloads)
        wire.inject(request, Path(GATEWAY, 500, "198.51.100.1", 500))
        assert wire.responder.statistics.tickets_refused == 1
        assert wire.responder.sas() == []

    def test_a_gateway_of_another_name(self) -> None:
        _, saved = with_ticket(wire_with())
        name = Identification.fqdn("new.example")
        wire = wire_with(identity=name, identities=(name,))
        assert coming_back(wire, saved).error == "TICKET_NACK"

    def test_another_identity(self) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        back = coming_back(wire, saved, identity=Identification.fqdn("mallory"))
        assert back.error == "AUTHENTICATION_FAILED"
        assert wire.failures[-1] == ("authentication-failed", "the client resumes an SA of other identities")

    @pytest.mark.parametrize(("name", "fine"), [("gateway.example", True), ("vpn.example", False)])
    def test_the_gateways_identity_stays(self, name: str, fine: bool) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        back = coming_back(wire, saved, gateway_identity=Identification.fqdn(name))
        assert (back.phase is Phase.ESTABLISHED) is fine

    @staticmethod
    def changed(change: Callable[[Initiator, list[Payload]], list[Payload]]) -> type[ResumingInitiator]:
        """A client whose IKE_AUTH request is another one."""

        class Changed(ResumingInitiator):
            def resumed_auth_payloads(self) -> list[Payload]:
                return change(self, super().resumed_auth_payloads())

        return Changed

    @pytest.mark.parametrize("size", [1, 31, 32, 33])
    def test_a_wrong_proof(self, size: int) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        auth = Auth(AuthMethod.SHARED_KEY_MIC, bytes(size))
        kind = self.changed(lambda _, usual: [*usual[:-1], (PayloadType.AUTH, auth.to_bytes())])
        assert coming_back(wire, saved, kind).error == "AUTHENTICATION_FAILED"
        # The ticket is still good for its owner.
        assert coming_back(wire, saved).phase is Phase.ESTABLISHED

    def test_the_right_proof_under_another_method(self) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)

        def other_method(_: Initiator, usual: list[Payload]) -> list[Payload]:
            auth = Auth.parse(usual[-1][1])
            return [*usual[:-1], (PayloadType.AUTH, Auth(AuthMethod.DIGITAL_SIGNATURE, auth.data).to_bytes())]

        assert coming_back(wire, saved, self.changed(other_method)).error == "AUTHENTICATION_FAILED"

    def test_without_a_proof(self) -> None:
        """It might hope to sign in by EAP under keys that it has from somebody else's ticket."""
        wire = wire_with()
        _, saved = with_ticket(wire)
        back = coming_back(wire, saved, self.changed(lambda _, usual: usual[:-1]))
        assert back.error == "INVALID_SYNTAX"
        assert len(wire.seen(EapStarted)) == 1

    def test_with_a_certificate(self) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        certificate = (PayloadType.CERT, Certificate(CertEncoding.X509_SIGNATURE, b"certificate").to_bytes())
        back = coming_back(wire, saved, self.changed(lambda _, usual: [*usual, certificate]))
        assert back.error == "AUTHENTICATION_FAILED"

    @pytest.mark.parametrize("count", [0, 2])
    def test_one_ticket_a_request(self, count: int) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        sent = len(wire.from_gateway)
        payloads = [(PayloadType.NONCE, b"n" * 32), notify_payload(NotifyType.NAT_DETECTION_SOURCE_IP, bytes(20))]
        payloads += [notify_payload(NotifyType.TICKET_OPAQUE, saved.ticket)] * count
        request = clear_message(b"i" * 8, bytes(8), ExchangeType.IKE_SESSION_RESUME, Flag.INITIATOR, 0, payloads)
        wire.inject(request, Path(GATEWAY, 500, "198.51.100.77", 500))
        assert wire.from_gateway[sent:] == []

    @pytest.mark.parametrize("size", [0, 15, 257])
    def test_a_nonce_of_the_wrong_length(self, size: int) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        sent = len(wire.from_gateway)
        payloads = [(PayloadType.NONCE, bytes(size)), notify_payload(NotifyType.TICKET_OPAQUE, saved.ticket)]
        request = clear_message(b"i" * 8, bytes(8), ExchangeType.IKE_SESSION_RESUME, Flag.INITIATOR, 0, payloads)
        wire.inject(request, Path(GATEWAY, 500, "198.51.100.77", 500))
        assert wire.from_gateway[sent:] == []


class TestLimits:
    def test_half_open_sas_count(self) -> None:
        _, saved = with_ticket(wire_with())
        wire = wire_with(half_open_limit_per_address=3)
        wire.filter = lambda to_gateway, batch: batch if to_gateway else []
        for port in range(5):
            client = wire.client(
                InitiatorConfig(),
                local=Path("198.51.100.1", 1000 + port, GATEWAY, 500),
                initiator=partial(ResumingInitiator, saved=saved),  # type: ignore[arg-type]
            )
            client.initiator.start()
            wire.run()
        assert wire.responder.half_open == 3

    def test_the_same_request_again_gets_the_same_answer(self) -> None:
        wire = wire_with()
        _, saved = with_ticket(wire)
        client = wire.client(InitiatorConfig(), initiator=partial(ResumingInitiator, saved=saved))  # type: ignore[arg-type]
        client.initiator.start()
        (request,) = client.initiator.datagrams_to_send()
        sent = len(wire.from_gateway)
        for _ in range(2):
            wire.responder.receive_datagram(request, client.outer, wire.now)
        answers = wire.responder.datagrams_to_send()
        assert len(answers) == 2
        assert answers[0] == answers[1]
        assert sent == len(wire.from_gateway)

    def test_modern_is_what_is_used_otherwise(self) -> None:
        assert responder_config().policy is MODERN
