"""Whole sign-ins: by EAP and by certificate, with every kind of key on either side, with and without RFC 7427."""

from __future__ import annotations

from typing import Literal

import pytest

from aaa.eap.server import MethodName
from aaa.eap.tls import TlsVersion
from gateway.ike.constants import AuthMethod, PayloadType
from gateway.ike.events import AssignmentWanted, CertificateReceived, EapReceived, EapStarted, SaEstablished
from gateway.ike.payloads.identification import Identification
from gateway.ike.states import State
from tests.peers.eap import TlsPeer
from tests.peers.initiator import InitiatorConfig, Phase
from tests.unit.aaa.eap.authority import house
from tests.unit.aaa.eap.conversation import peer_of
from tests.unit.gateway.ike.credentials import KEY_KINDS, KeyKind, client_credential
from tests.unit.gateway.ike.variants import PssInitiator
from tests.unit.gateway.ike.wire import GATEWAY_NAME, Aaa, Client, Wire, mschapv2, responder_config

CLASSIC: dict[KeyKind, AuthMethod] = {
    "rsa": AuthMethod.RSA_SIGNATURE,
    "p256": AuthMethod.ECDSA_256,
    "p384": AuthMethod.ECDSA_384,
    "p521": AuthMethod.ECDSA_521,
}


def by_certificate(kind: KeyKind = "p256") -> InitiatorConfig:
    """A client that signs in with a certificate."""
    credential = client_credential(kind)
    return InitiatorConfig(
        identity=Identification.fqdn("laptop-1"),
        chain_der=credential.chain_der,
        private_key=credential.private_key,
    )


def assert_up(wire: Wire, client: Client) -> None:
    """Both sides say so, and nothing has gone wrong on the way."""
    assert client.phase is Phase.ESTABLISHED, client.initiator.error
    assert wire.sa.state is State.ESTABLISHED
    assert (wire.failures, wire.causes) == ([], [])
    assert len(wire.seen(SaEstablished)) == 1
    assert wire.responder.half_open == 0
    # What authentication needed is gone.
    assert (wire.sa.auth, wire.sa.key_pair, wire.sa.init_request, wire.sa.init_response) == (None, None, b"", b"")


class TestEap:
    def test_mschapv2(self) -> None:
        wire = Wire()
        client = wire.connect()
        assert_up(wire, client)
        assert [type(event) for event in wire.events][:2] == [EapStarted, EapReceived]
        assert wire.sa.peer_identity == "alice"
        assert not wire.seen(CertificateReceived)

    @pytest.mark.parametrize("methods", [("mschapv2",), ("tls", "mschapv2")])
    def test_mschapv2_offered_first_or_asked_for_by_nak(self, methods: tuple[MethodName, ...]) -> None:
        wire = Wire(aaa=Aaa(methods=methods))
        assert_up(wire, wire.connect())

    @pytest.mark.parametrize("version", [TlsVersion.TLS_1_2, TlsVersion.TLS_1_3])
    def test_tls(self, version: TlsVersion) -> None:
        wire = Wire(aaa=Aaa(methods=("tls",)))
        assert_up(wire, wire.connect(InitiatorConfig(eap=peer_of(house().laptop, version))))

    def test_tls_in_small_fragments(self) -> None:
        wire = Wire(responder_config(fragment_size_bytes=576), aaa=Aaa(methods=("tls",)))
        peer: TlsPeer = peer_of(house().laptop, fragment_bytes=200)
        config = InitiatorConfig(eap=peer, fragment_size_bytes=576)
        assert_up(wire, wire.connect(config))
        assert max(len(data) for data, _ in wire.from_gateway + wire.to_gateway) <= 576 - 20 - 8 - 4

    def test_the_msk_alone_decides_who_gets_in(self) -> None:
        """AAA has said yes, the peer has not proved that it holds the MSK: nobody is in yet."""
        wire = Wire()
        client = wire.client()
        client.initiator.start()
        wire.filter = lambda to_gateway, batch: [] if to_gateway and wire.state is State.EAP_DONE else batch
        wire.run()
        assert wire.sa.state is State.EAP_DONE
        assert wire.responder.half_open == 1
        assert not wire.seen(AssignmentWanted)
        wire.filter = lambda _, batch: batch
        wire.retransmit(client)
        assert_up(wire, client)


class TestCertificate:
    @pytest.mark.parametrize("kind", KEY_KINDS)
    def test_with_rfc_7427(self, kind: KeyKind) -> None:
        wire = Wire()
        client = wire.connect(by_certificate(kind))
        assert_up(wire, client)
        (received,) = wire.seen(CertificateReceived)
        assert received.chain_der == client_credential(kind).chain_der
        assert len(received.chain_der) == 2
        assert not wire.seen(EapStarted)

    @pytest.mark.parametrize("kind", CLASSIC)
    def test_without(self, kind: KeyKind) -> None:
        wire, config = Wire(responder_config(kind)), by_certificate(kind)
        config.announce_hashes = False
        assert_up(wire, wire.connect(config))

    def test_rsa_pss(self) -> None:
        wire = Wire()
        client = wire.client(by_certificate("rsa"), initiator=PssInitiator)
        client.initiator.start()
        wire.run()
        assert_up(wire, client)


class TestGateway:
    @pytest.mark.parametrize("announced", [True, False])
    @pytest.mark.parametrize("kind", KEY_KINDS)
    @pytest.mark.parametrize("way", ["eap", "certificate"])
    def test_proves_itself_with_the_method_that_the_client_knows(
        self, kind: KeyKind, announced: bool, way: Literal["eap", "certificate"]
    ) -> None:
        wire = Wire(responder_config(kind))
        config = mschapv2() if way == "eap" else by_certificate("p256")
        config.announce_hashes = announced
        client = wire.connect(config)
        if kind == "ed25519" and not announced:
            # It ends before anything is set up, and says why.
            assert client.phase is Phase.FAILED
            assert client.initiator.error == "AUTHENTICATION_FAILED"
            assert wire.failures == [
                ("authentication-failed", "the gateway's key is Ed25519 and the client can't verify that")
            ]
            assert not wire.seen(AssignmentWanted)
            assert (wire.sa.state, wire.children) == (State.CLOSED, {})
            return
        assert_up(wire, client)
        assert client.initiator.gateway_auth_method == (AuthMethod.DIGITAL_SIGNATURE if announced else CLASSIC[kind])
        assert tuple(client.initiator.gateway_certificates) == wire.config.credentials[0].chain_der

    @pytest.mark.parametrize(
        ("wanted", "answered"),
        [
            (None, GATEWAY_NAME),
            (GATEWAY_NAME, GATEWAY_NAME),
            (Identification.fqdn("vpn.example"), Identification.fqdn("vpn.example")),
            (Identification.fqdn("somebody.else"), GATEWAY_NAME),
            (Identification(3, b"gateway.example"), GATEWAY_NAME),
        ],
    )
    def test_answers_with_the_name_that_it_was_asked_for(
        self, wanted: Identification | None, answered: Identification
    ) -> None:
        wire, config = Wire(), mschapv2()
        config.gateway_identity = wanted
        client = wire.connect(config)
        assert_up(wire, client)
        assert Identification.parse(client.initiator.gateway_identity_body) == answered

    def test_a_certificate_is_sent_though_nobody_asked(self) -> None:
        wire = Wire()
        client = wire.connect()
        assert PayloadType.CERTREQ not in [t for t, _ in client.initiator.first_auth_payloads()]
        assert len(client.initiator.gateway_certificates) == 2
