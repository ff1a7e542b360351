"""An IKE SA without a child SA at first (RFC 6023), and how long it may be used (RFC 4478)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.ike.constants import Esn, ExchangeType, NotifyType, PayloadType, ProtocolId, TransformType
from gateway.ike.events import AssignmentWanted, ChildReady, SaEstablished
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.security_association import Proposal, Transform, proposals_to_bytes
from gateway.ike.selectors import selectors_to_bytes
from gateway.ike.states import State
from tests.peers.initiator import InitiatorConfig, Phase
from tests.unit.gateway.ike.established import ask
from tests.unit.gateway.ike.test_refusals import assert_refused, run
from tests.unit.gateway.ike.test_sign_in import assert_up, by_certificate
from tests.unit.gateway.ike.test_two_factors import both
from tests.unit.gateway.ike.variants import Listening, without
from tests.unit.gateway.ike.wire import Client, Wire, mschapv2

WAYS: dict[str, Callable[[], InitiatorConfig]] = {"EAP": mschapv2, "certificate": by_certificate, "both": both}


def connect(wire: Wire, config: InitiatorConfig) -> tuple[Client, Listening]:
    """A client, as far as it gets."""
    client = wire.client(config, initiator=Listening)
    client.initiator.start()
    wire.run()
    assert isinstance(client.initiator, Listening)
    return client, client.initiator


class TestChildless:
    @pytest.mark.parametrize("way", WAYS)
    def test_it_is_established_with_addresses_and_nothing_else(self, way: str) -> None:
        wire = Wire()
        client, initiator = connect(wire, replace(WAYS[way](), childless=True))
        assert NotifyType.CHILDLESS_IKEV2_SUPPORTED in initiator.gateway_announced
        assert_up(wire, client)
        assert (wire.sa.children, wire.children) == ({}, {})
        assert not wire.seen(ChildReady)
        assert initiator.virtual_ipv4
        last = initiator.answers[-1].bodies
        assert not set(last) & {PayloadType.SA, PayloadType.TSI, PayloadType.TSR}

    def test_a_child_sa_can_be_made_later(self) -> None:
        wire = Wire()
        _, initiator = connect(wire, replace(mschapv2(), childless=True))
        child = initiator.config.child_suite
        transforms = (
            Transform(TransformType.ENCR, child.encr, child.key_bits),
            Transform(TransformType.ESN, Esn.NO_ESN),
        )
        offer = Proposal(1, ProtocolId.ESP, b"\x12\x34\x56\x78", transforms)
        answer = ask(
            wire,
            initiator,
            ExchangeType.CREATE_CHILD_SA,
            (PayloadType.SA, proposals_to_bytes((offer,))),
            (PayloadType.NONCE, b"n" * 32),
            (PayloadType.TSI, selectors_to_bytes(initiator.config.initiator_selectors)),
            (PayloadType.TSR, selectors_to_bytes(initiator.config.responder_selectors)),
        )
        assert PayloadType.SA in answer.bodies
        (made,) = wire.sa.children.values()
        assert made.spi_out == 0x12345678
        assert set(wire.children) == {made.spi_in}
        assert str(made.remote_selectors[0]).startswith("10.99.0.2-")

    @pytest.mark.parametrize("missing", [PayloadType.SA, PayloadType.TSI, PayloadType.TSR])
    def test_half_a_child_sa_is_none(self, missing: PayloadType) -> None:
        wire = Wire()
        assert_refused(wire, run(wire, mschapv2(), without(missing)), "INVALID_SYNTAX")
        assert wire.failures == [("invalid-syntax", f"no {missing.name} payload")]

    def test_it_needs_an_address_all_the_same(self) -> None:
        wire = Wire()
        client, initiator = connect(wire, replace(mschapv2(), childless=True, ask_ipv4=False))
        assert (client.phase, initiator.error) == (Phase.FAILED, "FAILED_CP_REQUIRED")
        assert not wire.seen(SaEstablished)

    def test_a_failed_proof_makes_nothing(self) -> None:
        wire = Wire()
        client, _ = connect(wire, replace(mschapv2(password="wrong"), childless=True))
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        assert not wire.seen(AssignmentWanted)

    def test_it_stays_though_it_is_idle(self) -> None:
        wire = Wire()
        client, _ = connect(wire, replace(mschapv2(), childless=True))
        wire.advance(600)
        assert wire.sa.state is State.ESTABLISHED
        assert client.is_up


class TestLifetime:
    @pytest.mark.parametrize("way", WAYS)
    def test_the_client_is_told_with_the_last_response(self, way: str) -> None:
        wire = Wire()
        wire.aaa.session_lifetime_s = 43200.9
        _, initiator = connect(wire, WAYS[way]())
        assert initiator.session_lifetime_s == 43200
        told = [
            index
            for index, answer in enumerate(initiator.answers)
            if any(Notify.parse(n).type == NotifyType.AUTH_LIFETIME for n in answer.all(PayloadType.NOTIFY))
        ]
        assert told == [len(initiator.answers) - 1]

    @pytest.mark.parametrize(
        ("lifetime_s", "announced"),
        [(0.2, None), (3599.9, None), (3600.0, 3600), (2.0**32 - 1, 2**32 - 1), (2.0**32, None)],
    )
    def test_neither_a_short_one_nor_what_does_not_fit_into_the_notify(
        self, lifetime_s: float, announced: int | None
    ) -> None:
        wire = Wire()
        wire.aaa.session_lifetime_s = lifetime_s
        assert wire.connect().initiator.session_lifetime_s == announced

    def test_without_one_nothing_is_said(self) -> None:
        assert Wire().connect().initiator.session_lifetime_s is None
