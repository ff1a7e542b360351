"""A device by its certificate, then its user by EAP, in one IKE_AUTH (RFC 4739)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.ike import sign_in
from gateway.ike.constants import AuthMethod, ExchangeType, NotifyType, PayloadType
from gateway.ike.events import AssignmentWanted, CertificateReceived, EapStarted, SaEstablished
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.states import State
from tests.peers.eap import MsChapV2Peer
from tests.peers.initiator import InitiatorConfig, Phase
from tests.unit.aaa.eap.authority import house
from tests.unit.aaa.eap.conversation import peer_of
from tests.unit.gateway.ike.test_refusals import assert_refused, run
from tests.unit.gateway.ike.test_sign_in import assert_up, by_certificate
from tests.unit.gateway.ike.variants import Corrupted, Listening, added
from tests.unit.gateway.ike.wire import PASSWORD, Aaa, Client, Wire, mschapv2

USER = Identification.fqdn("alice")


def both(password: str = PASSWORD, user: str = "alice") -> InitiatorConfig:
    """A client with a certificate and a password."""
    return replace(by_certificate(), eap=MsChapV2Peer(user, password), user_identity=USER)


def between(wire: Wire, config: InitiatorConfig | None = None) -> Client:
    """A client whose device is in and whose user has not begun."""
    client = wire.client(config or both(), initiator=Listening)
    client.initiator.start()
    wire.run_until(lambda: wire.state is State.SECOND_AUTH)
    return client


def go_on(wire: Wire, client: Client) -> None:
    """Send what `between` dropped, and run."""
    client.initiator.request(ExchangeType.IKE_AUTH, [(PayloadType.IDI, USER.to_bytes())])
    wire.run()


class TestBothProveThemselves:
    def test_certificate_then_mschapv2(self) -> None:
        wire = Wire()
        client = wire.connect(both())
        assert_up(wire, client)
        kinds = [type(event) for event in wire.events]
        assert kinds.index(CertificateReceived) < kinds.index(EapStarted) < kinds.index(AssignmentWanted)
        (received,) = wire.seen(CertificateReceived)
        assert received.another_follows
        assert wire.sa.peer_identity == "laptop-1"

    def test_certificate_then_eap_tls(self) -> None:
        wire = Wire(aaa=Aaa(methods=("tls",)))
        assert_up(wire, wire.connect(replace(by_certificate(), eap=peer_of(house().laptop))))

    def test_the_gateway_announces_it_and_proves_itself_once(self) -> None:
        wire = Wire()
        client = between(wire)
        assert NotifyType.MULTIPLE_AUTH_SUPPORTED in client.initiator.gateway_announced
        assert isinstance(client.initiator, Listening)
        (first,) = client.initiator.answers
        assert set(first.bodies) == {PayloadType.IDR, PayloadType.CERT, PayloadType.AUTH}
        go_on(wire, client)
        assert_up(wire, client)
        second = client.initiator.answers[-1]
        assert not set(second.bodies) & {PayloadType.IDR, PayloadType.CERT}

    def test_between_the_two_nobody_is_in(self) -> None:
        wire = Wire()
        client = between(wire)
        assert wire.responder.half_open == 1
        assert not wire.seen(AssignmentWanted)
        assert client.phase is Phase.AUTH
        wire.advance(wire.config.half_open_timeout_s)
        assert wire.sa.state is State.CLOSED
        assert wire.failures[-1][0] == "handshake-timeout"
        assert not wire.seen(SaEstablished)


class TestOneOfThemDoesNot:
    def test_a_certificate_that_aaa_does_not_want(self) -> None:
        wire = Wire(aaa=Aaa(may_enter=False))
        client = wire.connect(both())
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        assert not wire.seen(EapStarted)

    def test_a_bad_signature_and_a_good_password(self) -> None:
        wire = Wire()
        assert_refused(wire, run(wire, both(), Corrupted), "AUTHENTICATION_FAILED")
        assert not wire.seen(EapStarted)

    def test_a_good_certificate_and_a_wrong_password(self) -> None:
        wire = Wire()
        assert_refused(wire, run(wire, both(password="wrong")), "AUTHENTICATION_FAILED")

    def test_an_auth_that_is_not_made_from_the_msk(self) -> None:
        wire = Wire()
        client = between(wire)
        client.initiator.__class__ = Corrupted
        go_on(wire, client)
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        assert wire.failures == [("authentication-failed", "AUTH after EAP does not verify")]

    def test_the_second_identity_is_what_the_second_auth_covers(self) -> None:
        """Who changes IDi between the two changes what AUTH has to be."""
        wire = Wire()
        config = both()
        client = between(wire, config)
        client.initiator.request(ExchangeType.IKE_AUTH, [(PayloadType.IDI, Identification.fqdn("bob").to_bytes())])
        wire.run()
        assert_refused(wire, client, "AUTHENTICATION_FAILED")


class TestOtherThanAnnounced:
    @pytest.mark.parametrize(
        "payloads",
        [
            [(PayloadType.EAP, b"\x02\x00\x00\x05\x01")],
            [(PayloadType.AUTH, Auth(AuthMethod.SHARED_KEY_MIC, b"k" * 32).to_bytes())],
            [],
        ],
    )
    def test_no_identity(self, payloads: list[tuple[PayloadType, bytes]]) -> None:
        wire = Wire()
        client = between(wire)
        client.initiator.request(ExchangeType.IKE_AUTH, payloads)
        wire.run()
        assert_refused(wire, client, "INVALID_SYNTAX")
        assert wire.failures == [("invalid-syntax", "no IDI payload")]

    @pytest.mark.parametrize(
        "method", [AuthMethod.SHARED_KEY_MIC, AuthMethod.DIGITAL_SIGNATURE, AuthMethod.RSA_SIGNATURE]
    )
    def test_something_else_than_eap(self, method: AuthMethod) -> None:
        wire = Wire()
        client = between(wire)
        auth = Auth(method, b"k" * 32).to_bytes()
        client.initiator.request(
            ExchangeType.IKE_AUTH, [(PayloadType.IDI, USER.to_bytes()), (PayloadType.AUTH, auth)]
        )
        wire.run()
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        assert "not by EAP" in wire.failures[0][1]

    def test_a_third_one(self) -> None:
        wire = Wire()
        client = between(wire)
        request = client.initiator.request

        def announcing(exchange: ExchangeType, payloads: list[tuple[PayloadType, bytes]]) -> list[bytes]:
            if payloads[0][0] is PayloadType.AUTH:
                payloads = [*payloads, notify_payload(NotifyType.ANOTHER_AUTH_FOLLOWS)]
            return request(exchange, payloads)

        client.initiator.request = announcing  # type: ignore[method-assign,assignment]
        go_on(wire, client)
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        assert "another authentication after EAP" in wire.failures[0][1]

    def test_announced_before_there_is_a_first_one(self) -> None:
        """The notification belongs to an AUTH; beside EAP that has not begun, it is passed over."""
        wire = Wire()
        client = run(wire, mschapv2(), added(notify_payload(NotifyType.ANOTHER_AUTH_FOLLOWS)))
        assert_up(wire, client)

    def test_none_though_it_was_announced(self) -> None:
        """The device alone does not get in by saying that its user would follow."""
        wire = Wire()
        variant = added(notify_payload(NotifyType.ANOTHER_AUTH_FOLLOWS))
        client = run(wire, by_certificate(), variant)
        assert client.phase is Phase.FAILED
        assert wire.sa.state is State.SECOND_AUTH
        assert not wire.seen(AssignmentWanted)

    def test_create_child_sa_in_between_is_refused(self) -> None:
        wire = Wire()
        client = between(wire)
        client.initiator.request(ExchangeType.CREATE_CHILD_SA, [(PayloadType.NONCE, b"n" * 32)])
        wire.run()
        assert wire.sa.state is State.CLOSED
        assert not wire.seen(SaEstablished)


def test_late_answers_of_aaa_do_nothing() -> None:
    wire = Wire()
    client = between(wire)
    sa = wire.sa
    # Answers that belong to the first authentication, or to EAP that has not begun.
    sign_in.authorised(sa, wire.now)
    sign_in.eap_succeeded(sa, b"\x03\x00\x00\x04", b"m" * 64, wire.now)
    sign_in.eap_continue(sa, b"\x01\x00\x00\x05\x01", wire.now)
    sign_in.eap_failed(sa, b"\x04\x00\x00\x04", wire.now)
    assert sa.state is State.SECOND_AUTH
    go_on(wire, client)
    assert_up(wire, client)
