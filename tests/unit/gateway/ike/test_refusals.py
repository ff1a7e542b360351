"""Every way to be turned away: the notify on the wire, the reason for the operator, and nothing left behind."""

from __future__ import annotations

import pytest

from gateway.ike import events, sign_in
from gateway.ike.constants import (
    Encr,
    ExchangeType,
    Group,
    Integ,
    NotifyType,
    PayloadType,
    Prf,
)
from gateway.ike.errors import InternalAddressFailure, TemporaryFailure
from gateway.ike.events import CertificateReceived, CloseCause, FirstRequestRefused, SaEstablished
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.security_association import proposals_to_bytes
from gateway.ike.selectors import TrafficSelector
from gateway.ike.states import State
from tests.peers.initiator import Initiator, InitiatorConfig, Phase
from tests.unit.gateway.ike import offers
from tests.unit.gateway.ike.credentials import client_credential
from tests.unit.gateway.ike.test_sign_in import by_certificate
from tests.unit.gateway.ike.variants import Corrupted, added, replaced, send_unknown_critical, without
from tests.unit.gateway.ike.wire import Aaa, Client, Wire, mschapv2, responder_config


def run(wire: Wire, config: InitiatorConfig | None = None, initiator: type[Initiator] = Initiator) -> Client:
    """A client of some kind, as far as it gets."""
    client = wire.client(config, initiator=initiator)
    client.initiator.start()
    wire.run()
    return client


def assert_refused(wire: Wire, client: Client, notify: str, cause: CloseCause = CloseCause.REFUSED) -> None:
    """The client knows, one event says so, and soon there is no trace of it."""
    assert (client.phase, client.initiator.error) == (Phase.FAILED, notify)
    assert wire.causes == [cause]
    assert not wire.seen(SaEstablished)
    assert (wire.responder.half_open, wire.children) == (0, {})
    assert wire.sa.state is State.CLOSED
    # Its retransmissions are answered for a while, then it is forgotten.
    wire.advance(wire.config.linger_s)
    assert wire.responder.sas() == []
    wire.advance(wire.config.half_open_timeout_s)
    assert wire.responder.get_timer() is None


class TestBeforeAnSaExists:
    def test_no_proposal_chosen(self) -> None:
        wire, config = Wire(), mschapv2()
        config.proposals, config.ke_group = offers.ANDROID_11, Group.MODP_2048
        client = run(wire, config)
        assert (client.phase, client.initiator.error) == (Phase.FAILED, "NO_PROPOSAL_CHOSEN")
        (refused,) = wire.seen(FirstRequestRefused)
        assert "AES128_XCBC HMAC_SHA1 MODP_4096" in refused.reason
        assert refused.evidence.path.remote == "198.51.100.1"
        assert wire.responder.sas() == []

    @pytest.mark.parametrize("nonce", [b"", b"n" * 15, b"n" * 257])
    def test_a_nonce_of_the_wrong_length(self, nonce: bytes) -> None:
        wire = Wire()
        client = wire.client()
        client.initiator.nonce_i = nonce
        client.initiator.start()
        wire.run()
        assert (wire.responder.sas(), wire.from_gateway) == ([], [])
        assert wire.responder.statistics.dropped == 1


class TestEap:
    def test_a_wrong_password(self) -> None:
        wire = Wire()
        client = run(wire, mschapv2(password="wrong"))
        assert client.initiator.config.eap is not None
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        # AAA has said why; the gateway adds nothing.
        assert wire.failures == []

    def test_an_unknown_user_looks_the_same(self) -> None:
        # With a key whose signatures all have one length.
        wrong, unknown = Wire(responder_config("ed25519")), Wire(responder_config("ed25519"))
        run(wrong, mschapv2(password="wrong"))
        run(unknown, mschapv2(identity="mallory"))
        assert [len(d) for d, _ in wrong.from_gateway] == [len(d) for d, _ in unknown.from_gateway]

    def test_a_good_password_and_no_permission(self) -> None:
        wire = Wire(aaa=Aaa(may_enter=False))
        assert_refused(wire, run(wire), "AUTHENTICATION_FAILED")

    def test_an_auth_that_is_not_made_from_the_msk(self) -> None:
        wire = Wire()
        client = run(wire, mschapv2(), Corrupted)
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        assert wire.failures == [("authentication-failed", "AUTH after EAP does not verify")]

    @pytest.mark.parametrize("msk", [b"", b"m" * 32, b"m" * 63])
    def test_a_backend_that_accepts_without_a_whole_msk(self, msk: bytes) -> None:
        wire = Wire()
        client = wire.client()
        client.initiator.start()
        wire.aaa.hold = True
        wire.run()
        wire.release()
        sa = wire.sa
        assert sa.state is State.EAP
        sign_in.eap_succeeded(sa, b"\x03\x01\0\x04", msk, wire.now)
        wire.responder.touch(sa)
        wire.run()
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        assert wire.failures[0][0] == "no-msk"

    def test_a_client_that_does_not_go_on_with_eap(self) -> None:
        wire = Wire()
        client = wire.client()
        client.initiator.start()
        wire.run_until(lambda: bool(wire.established) or wire.state is State.EAP)
        client.initiator.request(ExchangeType.IKE_AUTH, [(PayloadType.VENDOR_ID, b"no EAP payload")])
        wire.run()
        assert client.phase is Phase.FAILED
        assert wire.failures == [("invalid-syntax", "no EAP payload")]


class TestCertificate:
    def test_aaa_says_no(self) -> None:
        wire = Wire(aaa=Aaa(may_enter=False))
        assert_refused(wire, run(wire, by_certificate()), "AUTHENTICATION_FAILED")
        assert wire.failures == []

    def test_a_bad_signature(self) -> None:
        wire = Wire()
        client = run(wire, by_certificate(), Corrupted)
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        assert wire.failures == [("signature-refused", "signature does not verify")]

    def test_somebody_elses_certificate(self) -> None:
        """AAA, which may look for its revocation far away and writes down who was refused, is not asked about it."""
        wire, config = Wire(), by_certificate("p256")
        config.private_key = client_credential("p384").private_key
        assert_refused(wire, run(wire, config), "AUTHENTICATION_FAILED")
        assert wire.seen(CertificateReceived) == []

    def test_an_identity_that_was_not_signed(self) -> None:
        wire = Wire()
        other = Identification.fqdn("boss").to_bytes()
        assert_refused(wire, run(wire, by_certificate(), replaced(PayloadType.IDI, other)), "AUTHENTICATION_FAILED")

    @pytest.mark.parametrize("encoding", [None, 7, 11, 12])
    def test_no_certificate_that_we_take(self, encoding: int | None) -> None:
        wire = Wire()
        variant = (
            without(PayloadType.CERT)
            if encoding is None
            else replaced(PayloadType.CERT, bytes((encoding,)) + b"http://...")
        )
        assert_refused(wire, run(wire, by_certificate(), variant), "AUTHENTICATION_FAILED")
        assert wire.failures == [("authentication-failed", "the client signed, but sent no X.509 certificate")]

    @pytest.mark.parametrize("der", [b"\x30\x00", b"not a certificate", b"\x30\x84\xff\xff\xff\xff"])
    def test_a_certificate_that_cannot_be_read_though_aaa_let_it_pass(self, der: bytes) -> None:
        wire = Wire()
        client = run(wire, by_certificate(), replaced(PayloadType.CERT, b"\x04" + der))
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        assert "can't be read" in wire.failures[0][1]

    def test_a_pre_shared_key(self) -> None:
        wire = Wire()
        variant = added((PayloadType.AUTH, Auth(2, b"k" * 32).to_bytes()))
        assert_refused(wire, run(wire, mschapv2(), variant), "AUTHENTICATION_FAILED")
        assert "pre-shared key" in wire.failures[0][1]


class TestMalformedRequests:
    @pytest.mark.parametrize("missing", [PayloadType.IDI, PayloadType.SA, PayloadType.TSI, PayloadType.TSR])
    def test_a_payload_is_missing(self, missing: PayloadType) -> None:
        wire = Wire()
        assert_refused(wire, run(wire, mschapv2(), without(missing)), "INVALID_SYNTAX")
        assert wire.failures == [("invalid-syntax", f"no {missing.name} payload")]

    @pytest.mark.parametrize(
        ("payload", "body"),
        [
            (PayloadType.IDI, b"\x01\0\0\0\x01"),
            (PayloadType.SA, b""),
            (PayloadType.SA, bytes(16)),
            (PayloadType.TSI, bytes(4)),
            (PayloadType.TSR, b"\xff\0\0\0"),
            (PayloadType.CP, b"\x01\0\0\0\x01"),
        ],
    )
    def test_a_payload_is_malformed(self, payload: PayloadType, body: bytes) -> None:
        wire = Wire()
        assert_refused(wire, run(wire, mschapv2(), replaced(payload, body)), "INVALID_SYNTAX")

    def test_a_payload_comes_twice(self) -> None:
        wire = Wire()
        client = run(wire, mschapv2(), added((PayloadType.IDI, Identification.fqdn("bob").to_bytes())))
        assert_refused(wire, client, "INVALID_SYNTAX")

    def test_an_unknown_critical_payload(self) -> None:
        wire = Wire()
        client = wire.client()
        client.initiator.start()
        wire.run_until(lambda: wire.state is State.HALF_OPEN)
        send_unknown_critical(client.initiator, ExchangeType.IKE_AUTH)
        wire.run()
        assert_refused(wire, client, "UNSUPPORTED_CRITICAL_PAYLOAD")
        assert wire.failures == [("unsupported-critical-payload", "unknown critical payload 200")]


class TestTheClientGivesUp:
    @pytest.mark.parametrize("error", [NotifyType.AUTHENTICATION_FAILED, NotifyType.INVALID_SYNTAX])
    def test_in_ike_auth(self, error: NotifyType) -> None:
        wire = Wire()
        client = run(wire, mschapv2(), added((PayloadType.NOTIFY, Notify(error).to_bytes())))
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        assert wire.failures == [("client-gave-up", f"the client gave up: {error.name}")]

    @pytest.mark.parametrize("unknown", [12345, 99, 16382])
    def test_an_unknown_error_is_ignored(self, unknown: int) -> None:
        # RFC 7296 section 3.10.1; 12345 is Microsoft's.
        wire = Wire()
        client = run(wire, mschapv2(), added((PayloadType.NOTIFY, Notify(unknown).to_bytes())))
        assert client.phase is Phase.ESTABLISHED

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            ((PayloadType.NOTIFY, Notify(24).to_bytes()), "the client gave up: AUTHENTICATION_FAILED"),
            ((PayloadType.DELETE, b"\x01\0\0\0"), "the client deleted the SA"),
        ],
    )
    def test_in_informational(self, payload: tuple[PayloadType, bytes], reason: str) -> None:
        """It does not trust our certificate, say (section 2.21.2)."""
        wire = Wire()
        client = wire.client()
        client.initiator.start()
        wire.run_until(lambda: wire.state is State.EAP)
        client.initiator.request(ExchangeType.INFORMATIONAL, [payload])
        wire.run()
        assert wire.failures == [("client-gave-up", reason)]
        assert wire.causes == [CloseCause.PEER_DELETE]
        assert wire.responder.half_open == 0

    def test_after_the_last_response(self) -> None:
        wire = Wire()
        client = wire.connect()
        client.initiator.request(ExchangeType.INFORMATIONAL, [(PayloadType.NOTIFY, Notify(24).to_bytes())])
        wire.run()
        assert wire.failures == [("client-gave-up", "the client gave up: AUTHENTICATION_FAILED")]
        assert (wire.causes, wire.children) == ([CloseCause.PEER_DELETE], {})


class TestNoChildSa:
    """The peer is authentic: it gets our proof and the reason, then a Delete, and the IKE SA is gone."""

    @staticmethod
    def assert_no_child(wire: Wire, client: Client, notify: str) -> None:
        assert (client.phase, client.initiator.error) == (Phase.FAILED, notify)
        assert wire.causes == [CloseCause.REFUSED]
        assert not wire.seen(SaEstablished)
        assert (wire.sa.state, wire.responder.half_open, wire.children) == (State.CLOSING, 0, {})
        wire.advance(wire.config.refused_delete_delay_s)
        assert (client.phase, client.initiator.error) == (Phase.CLOSED, "deleted by the gateway")
        assert wire.sa.state is State.CLOSED
        assert wire.causes == [CloseCause.REFUSED]
        wire.advance(wire.config.linger_s)
        assert wire.responder.sas() == []

    def test_no_proposal_chosen(self) -> None:
        wire = Wire()
        body = proposals_to_bytes(offers.WINDOWS_DEFAULT_ESP)
        self.assert_no_child(wire, run(wire, mschapv2(), replaced(PayloadType.SA, body)), "NO_PROPOSAL_CHOSEN")
        ((code, reason),) = wire.failures
        assert code == "no-proposal-chosen"
        assert "AES_CBC_256 HMAC_SHA1_96 NO_ESN" in reason

    def test_ts_unacceptable(self) -> None:
        wire, config = Wire(), mschapv2()
        config.initiator_selectors = (TrafficSelector(7, 0, 0, 65535, 1, 2),)
        self.assert_no_child(wire, run(wire, config), "TS_UNACCEPTABLE")
        assert "0.0.0.1-0.0.0.2" in wire.failures[0][1]

    def test_no_network_of_the_clients_family(self) -> None:
        wire = Wire()
        wire.aaa.networks = wire.aaa.networks[1:]
        self.assert_no_child(wire, run(wire), "TS_UNACCEPTABLE")

    def test_failed_cp_required(self) -> None:
        wire, config = Wire(), mschapv2()
        config.ask_ipv4 = False
        self.assert_no_child(wire, run(wire, config), "FAILED_CP_REQUIRED")
        assert wire.failures[0][0] == "failed-cp-required"

    @pytest.mark.parametrize("cfg_type", [2, 3, 4])
    def test_a_configuration_payload_that_is_no_request(self, cfg_type: int) -> None:
        wire = Wire()
        body = bytes((cfg_type, 0, 0, 0)) + bytes.fromhex("00010000")
        self.assert_no_child(wire, run(wire, mschapv2(), replaced(PayloadType.CP, body)), "FAILED_CP_REQUIRED")

    def test_internal_address_failure(self) -> None:
        wire = Wire(aaa=Aaa(no_address=InternalAddressFailure("pool is full")))
        self.assert_no_child(wire, run(wire), "INTERNAL_ADDRESS_FAILURE")
        assert wire.failures == [("internal-address-failure", "pool is full")]

    def test_the_data_plane_cannot(self) -> None:
        wire = Wire(aaa=Aaa(not_installed=TemporaryFailure("no TUN")))
        self.assert_no_child(wire, run(wire), "TEMPORARY_FAILURE")
        assert wire.failures == [("temporary-failure", "no TUN")]

    def test_with_a_certificate_too(self) -> None:
        wire = Wire(aaa=Aaa(no_address=InternalAddressFailure("pool is full")))
        self.assert_no_child(wire, run(wire, by_certificate()), "INTERNAL_ADDRESS_FAILURE")


def test_the_text_of_a_refusal_fits_into_an_audit_event() -> None:
    wire, config = Wire(), mschapv2()
    many = tuple(
        offers.ike_proposal(n, [(Encr.AES_CBC, 256)] * 40, [Integ.HMAC_MD5_96], [Prf.HMAC_MD5], [Group.MODP_768])
        for n in range(12)
    )
    config.proposals, config.ke_group = many, Group.CURVE25519
    run(wire, config)
    (refused,) = wire.seen(events.FirstRequestRefused)
    assert len(refused.reason) < 4000
