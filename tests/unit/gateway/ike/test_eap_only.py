"""EAP as the only proof of both sides (RFC 5998), where the gateway allows it, and a certificate everywhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.ike.constants import ExchangeType, NotifyType, PayloadType
from gateway.ike.events import EapStarted
from gateway.ike.payloads.identification import Identification
from tests.peers.initiator import InitiatorConfig
from tests.unit.aaa.eap.authority import house
from tests.unit.aaa.eap.conversation import peer_of
from tests.unit.gateway.ike.test_refusals import assert_refused, run
from tests.unit.gateway.ike.test_sign_in import assert_up, by_certificate
from tests.unit.gateway.ike.test_two_factors import both
from tests.unit.gateway.ike.variants import Corrupted, Listening
from tests.unit.gateway.ike.wire import GATEWAY_NAME, Aaa, Client, Wire, mschapv2, responder_config


def gateway(*, allowed: bool = True, **changes: Any) -> Wire:
    """A gateway that does EAP-TLS, and lets it stand alone or not."""
    return Wire(responder_config(eap_only=allowed, **changes), aaa=Aaa(methods=("tls",)))


def eap_tls(*, announced: bool = True) -> InitiatorConfig:
    """A client with a certificate inside EAP."""
    return InitiatorConfig(eap=peer_of(house().laptop), announce_eap_only=announced)


def first_answer(wire: Wire, config: InitiatorConfig) -> tuple[Client, set[int]]:
    """A client, as far as it gets, and what payloads its first answer had."""
    client = wire.client(config, initiator=Listening)
    client.initiator.start()
    wire.run()
    assert isinstance(client.initiator, Listening)
    return client, set(client.initiator.answers[0].bodies)


def test_nobody_shows_a_certificate_in_ike() -> None:
    wire = gateway()
    client, payloads = first_answer(wire, eap_tls())
    assert_up(wire, client)
    assert payloads == {PayloadType.IDR, PayloadType.EAP}
    assert client.initiator.gateway_certificates == []
    assert Identification.parse(client.initiator.gateway_identity_body) == GATEWAY_NAME
    # AAA is told, for it must not offer a method that leaves the gateway unproved.
    assert [event.mutual for event in wire.seen(EapStarted)] == [True]


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("allowed", [True, False])
def test_both_sides_have_to_want_it(allowed: bool, announced: bool) -> None:
    wire = gateway(allowed=allowed)
    client, payloads = first_answer(wire, eap_tls(announced=announced))
    assert_up(wire, client)
    assert (PayloadType.AUTH not in payloads) == (allowed and announced)
    assert [event.mutual for event in wire.seen(EapStarted)] == [allowed and announced]


def test_with_a_password_the_gateway_shows_its_certificate() -> None:
    """Apple's clients announce EAP alone, and then sign in with a password."""
    wire, config = Wire(), replace(mschapv2(), announce_eap_only=True)
    client, payloads = first_answer(wire, config)
    assert_up(wire, client)
    assert {PayloadType.CERT, PayloadType.AUTH} <= payloads


def test_a_certificate_is_answered_with_a_certificate() -> None:
    wire = gateway()
    config = replace(by_certificate(), announce_eap_only=True)
    client, payloads = first_answer(wire, config)
    assert_up(wire, client)
    assert {PayloadType.CERT, PayloadType.AUTH} <= payloads


def test_the_first_of_two_authentications_shows_the_gateways_certificate() -> None:
    wire = Wire(responder_config(eap_only=True))
    client, payloads = first_answer(wire, replace(both(), announce_eap_only=True))
    assert_up(wire, client)
    assert PayloadType.AUTH in payloads
    assert [event.mutual for event in wire.seen(EapStarted)] == [False]


def test_a_method_that_leaves_the_gateway_unproved_lets_nobody_in() -> None:
    """Whatever AAA says: nobody could tell this gateway from another."""
    wire, config = Wire(responder_config(eap_only=True)), replace(mschapv2(), announce_eap_only=True)
    assert_refused(wire, run(wire, config), "AUTHENTICATION_FAILED")
    assert wire.failures == [("gateway-unproved", "AAA accepted, but by a method that does not prove the gateway")]


def test_the_client_still_has_to_hold_the_msk() -> None:
    wire = gateway()
    assert_refused(wire, run(wire, eap_tls(), Corrupted), "AUTHENTICATION_FAILED")
    assert wire.failures == [("authentication-failed", "AUTH after EAP does not verify")]


@pytest.mark.parametrize("late", [1, 3])
def test_announcing_it_later_changes_nothing(late: int) -> None:
    wire = gateway()
    config = eap_tls(announced=False)
    client = wire.client(config, initiator=Listening)
    request, sent = client.initiator.request, []

    def announcing(exchange: ExchangeType, payloads: Any) -> list[bytes]:
        sent.append(exchange)
        if len(sent) == late + 1:
            payloads = [
                *payloads,
                (PayloadType.NOTIFY, b"\0\0" + NotifyType.EAP_ONLY_AUTHENTICATION.to_bytes(2, "big")),
            ]
        return request(exchange, payloads)

    client.initiator.request = announcing  # type: ignore[method-assign]
    client.initiator.start()
    wire.run()
    assert_up(wire, client)
    assert client.initiator.gateway_certificates
