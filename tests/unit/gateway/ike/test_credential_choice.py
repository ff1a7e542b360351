"""Which of several gateway certificates a client is shown, and how it is signed for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.ike.authentication import SUPPORTED_HASHES, supported_announcements
from gateway.ike.config import Credential
from gateway.ike.constants import IKE_HEADER_BYTES, AuthMethod, CertEncoding, HashAlgorithm, NotifyType, PayloadType
from gateway.ike.credential_choice import ProofWish, choose_credential
from gateway.ike.errors import AuthenticationFailed
from gateway.ike.events import CertificateReceived
from gateway.ike.message import Header, parse_payloads
from gateway.ike.payloads.auth_methods import Announcement, parse_announcements
from gateway.ike.payloads.certificate import Certificate, CertificateRequest
from tests.peers.initiator import InitiatorConfig
from tests.unit.gateway.ike.credentials import KEY_KINDS, KeyKind, gateway_credential
from tests.unit.gateway.ike.test_refusals import assert_refused, run
from tests.unit.gateway.ike.test_sign_in import assert_up, by_certificate
from tests.unit.gateway.ike.variants import PSS_SHA256, added
from tests.unit.gateway.ike.wire import Aaa, Client, Wire, mschapv2, responder_config

ALL_HASHES = frozenset(int(algorithm) for algorithm in SUPPORTED_HASHES)
SHA2_HASHES = ALL_HASHES - {HashAlgorithm.IDENTITY}
PKCS1_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
PSS_WITHOUT_NULL = bytes.fromhex(
    "303d06092a864886f70d01010a3030a00d300b0609608648016503040201a11a301806092a864886f70d010108300b0609608648016503040201"
    "a203020120"
)
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ED25519 = bytes.fromhex("300506032b6570")
CA_1, CA_2, STRANGER = b"\x01" * 20, b"\x02" * 20, b"\x99" * 20


def credentials(*kinds: KeyKind, issuer: bytes = CA_1) -> tuple[Credential, ...]:
    """One of each kind."""
    return tuple(replace(gateway_credential(kind), issuers=(issuer,)) for kind in kinds)


def chosen(kinds: tuple[KeyKind, ...], **wish: Any) -> KeyKind:
    """Which kind it is for a client that says this."""
    offered = credentials(*kinds)
    made = choose_credential(offered, ProofWish(**{"client": "", "hashes": ALL_HASHES, **wish}))
    return kinds[offered.index(made)]


def method_14(identifier: bytes, cert_link: int = 0) -> Announcement:
    """An announcement of a digital signature."""
    return Announcement(AuthMethod.DIGITAL_SIGNATURE, identifier, cert_link)


class TestChoice:
    def test_the_only_one_is_taken_whatever_the_client_says(self) -> None:
        (only,) = credentials("ed25519")
        assert choose_credential([only], ProofWish("Android", announcements=(method_14(PKCS1_SHA256),))) is only

    @pytest.mark.parametrize("kinds", [("rsa", "p256"), ("p256", "rsa")])
    def test_a_client_that_says_nothing_gets_the_first(self, kinds: tuple[KeyKind, ...]) -> None:
        assert chosen(kinds, hashes=frozenset()) == kinds[0]

    @pytest.mark.parametrize(
        ("client", "kind"),
        [
            ("Android", "rsa"),
            ("Android 12 or newer", "rsa"),
            ("iOS", "rsa"),
            ("Apple", "p256"),
            ("Windows 10 or 11", "p256"),
            ("strongSwan", "p521"),
            ("", "p521"),
        ],
    )
    def test_what_stock_clients_take(self, client: str, kind: KeyKind) -> None:
        kinds: tuple[KeyKind, ...] = ("p521", "p256", "rsa") if client not in ("Apple",) else ("p256", "rsa")
        assert chosen(kinds, client=client, hashes=SHA2_HASHES) == kind

    def test_ed25519_only_for_those_that_announce_it(self) -> None:
        assert chosen(("ed25519", "rsa"), hashes=ALL_HASHES) == "ed25519"
        assert chosen(("ed25519", "rsa"), hashes=SHA2_HASHES) == "rsa"
        assert chosen(("ed25519", "rsa"), hashes=frozenset()) == "rsa"

    def test_nothing_that_the_client_could_verify(self) -> None:
        two = credentials("ed25519", "ed25519")
        with pytest.raises(AuthenticationFailed, match="none of the gateway's keys"):
            choose_credential(two, ProofWish("", hashes=SHA2_HASHES))

    @pytest.mark.parametrize(
        ("announced", "kind"),
        [
            ((method_14(PKCS1_SHA256),), "rsa"),
            ((method_14(PSS_SHA256),), "rsa"),
            ((method_14(ECDSA_SHA256), method_14(PKCS1_SHA256)), "p256"),
            ((method_14(ED25519),), "ed25519"),
            # Of what none of ours is: the first that it could verify by its hashes.
            ((method_14(bytes.fromhex("300506032b6571")),), "p256"),
            ((Announcement(AuthMethod.SHARED_KEY_MIC),), "p256"),
        ],
    )
    def test_what_is_announced_counts_more_than_our_order(
        self, announced: tuple[Announcement, ...], kind: KeyKind
    ) -> None:
        assert chosen(("p256", "rsa", "ed25519"), announcements=announced) == kind

    def test_what_is_announced_counts_more_than_a_guess(self) -> None:
        announced = (method_14(ECDSA_SHA256),)
        assert chosen(("rsa", "p256"), client="Android", announcements=announced) == "p256"


class TestAuthorities:
    def test_the_ca_that_is_asked_for(self) -> None:
        two = credentials("rsa", issuer=CA_1) + credentials("p256", issuer=CA_2)
        for authorities, wanted in [((CA_2,), two[1]), ((STRANGER, CA_1), two[0]), ((CA_2, CA_1), two[0])]:
            wish = ProofWish("", hashes=ALL_HASHES, authorities=authorities)
            assert choose_credential(two, wish) is wanted

    def test_a_stranger_gets_the_first(self) -> None:
        """Windows names fifty CAs, and trusts ours as well though it does not name it."""
        two = credentials("rsa", issuer=CA_1) + credentials("p256", issuer=CA_2)
        assert choose_credential(two, ProofWish("", authorities=(STRANGER,) * 50)) is two[0]

    def test_an_announcement_may_be_for_the_certificates_of_one_ca(self) -> None:
        """The second CA of the CERTREQ: ECDSA counts for its certificates alone (RFC 9593 section 3.2.2)."""
        two = credentials("p256", issuer=CA_1) + credentials("p384", issuer=CA_2)
        linked = (method_14(ECDSA_SHA256, 1), method_14(bytes.fromhex("300a06082a8648ce3d040303"), 2))
        for authorities, wanted in [((CA_1, STRANGER), two[0]), ((STRANGER, CA_2), two[1])]:
            wish = ProofWish("", hashes=ALL_HASHES, announcements=linked, authorities=authorities)
            assert choose_credential(two, wish) is wanted

    def test_a_link_to_no_ca_at_all(self) -> None:
        wish = ProofWish("", hashes=ALL_HASHES, announcements=(method_14(PKCS1_SHA256, 9),), authorities=(CA_1,))
        assert wish.announcements_for(credentials("rsa")[0]) == ()


class TestOnTheWire:
    @staticmethod
    def connect(config: InitiatorConfig, **changes: Any) -> tuple[Wire, Client]:
        wire = Wire(responder_config(credentials=credentials("rsa", "p256", "ed25519"), **changes))
        client = wire.connect(config)
        assert_up(wire, client)
        return wire, client

    @pytest.mark.parametrize(
        ("identifier", "prefix"),
        [(PKCS1_SHA256, PKCS1_SHA256), (PSS_SHA256, PSS_SHA256), (PSS_WITHOUT_NULL, PSS_SHA256), (ED25519, ED25519)],
    )
    def test_the_gateway_signs_as_announced(self, identifier: bytes, prefix: bytes) -> None:
        _, client = self.connect(replace(mschapv2(), announcements=(method_14(identifier),)))
        auth = client.initiator.gateway_auth
        assert auth is not None
        assert auth.data.startswith(bytes((len(prefix),)) + prefix)

    def test_the_ca_in_certreq(self) -> None:
        two = credentials("rsa", issuer=CA_1) + credentials("p256", issuer=CA_2)
        wire = Wire(responder_config(credentials=two))
        client = wire.connect(replace(mschapv2(), authorities=(STRANGER, CA_2)))
        assert_up(wire, client)
        assert tuple(client.initiator.gateway_certificates) == two[1].chain_der

    @pytest.mark.parametrize("kind", KEY_KINDS)
    @pytest.mark.parametrize("way", [mschapv2, by_certificate])
    def test_rsa_pss_by_policy(self, kind: KeyKind, way: Any) -> None:
        wire = Wire(responder_config(kind, rsa_pss=True))
        client = wire.connect(way())
        assert_up(wire, client)
        auth = client.initiator.gateway_auth
        assert auth is not None
        assert auth.data.startswith(bytes((len(PSS_SHA256),)) + PSS_SHA256) == (kind == "rsa")

    def test_not_for_those_that_announce_something_else(self) -> None:
        wire = Wire(responder_config("rsa", rsa_pss=True))
        client = wire.connect(replace(mschapv2(), announcements=(method_14(PKCS1_SHA256),)))
        auth = client.initiator.gateway_auth
        assert auth is not None
        assert auth.data.startswith(bytes((len(PKCS1_SHA256),)) + PKCS1_SHA256)

    def test_nor_for_those_without_rfc_7427(self) -> None:
        wire = Wire(responder_config("rsa", rsa_pss=True))
        client = wire.connect(replace(mschapv2(), announce_hashes=False))
        assert_up(wire, client)
        assert client.initiator.gateway_auth_method == AuthMethod.RSA_SIGNATURE

    def test_the_gateway_announces_what_it_verifies(self) -> None:
        _, client = self.connect(by_certificate())
        announced = parse_announcements(client.initiator.gateway_announced[NotifyType.SUPPORTED_AUTH_METHODS])
        assert announced == supported_announcements()
        assert {a.algorithm for a in announced} >= {PKCS1_SHA256, PSS_SHA256, ECDSA_SHA256, ED25519}

    def test_it_does_so_only_for_clients_that_can_choose(self) -> None:
        _, client = self.connect(replace(mschapv2(), announce_hashes=False))
        assert NotifyType.SUPPORTED_AUTH_METHODS not in client.initiator.gateway_announced

    @pytest.mark.parametrize("data", [b"\x01", b"\xff\x0e", b"\x02\x02" * 65])
    def test_malformed_announcements(self, data: bytes) -> None:
        wire = Wire()
        notify = (PayloadType.NOTIFY, b"\0\0" + NotifyType.SUPPORTED_AUTH_METHODS.to_bytes(2, "big") + data)
        assert_refused(wire, run(wire, mschapv2(), added(notify)), "INVALID_SYNTAX")


class TestOcsp:
    """OCSP responses inside IKE (RFC 4806)."""

    RESPONSE = b"\x30\x03\x0a\x01\x00"

    @pytest.mark.parametrize("way", [mschapv2, by_certificate])
    @pytest.mark.parametrize("asked", [True, False])
    @pytest.mark.parametrize("there_is_one", [True, False])
    def test_ours_for_those_that_ask(self, way: Any, asked: bool, there_is_one: bool) -> None:
        credential = replace(gateway_credential(), ocsp_response_der=self.RESPONSE if there_is_one else b"")
        wire = Wire(responder_config(credentials=(credential,)))
        client = wire.connect(replace(way(), ask_ocsp=asked))
        assert_up(wire, client)
        assert client.initiator.gateway_ocsp_responses == ([self.RESPONSE] if asked and there_is_one else [])
        assert tuple(client.initiator.gateway_certificates) == credential.chain_der

    @pytest.mark.parametrize("wanted", [True, False])
    def test_we_ask_where_we_want_it(self, wanted: bool) -> None:
        wire = Wire(responder_config(wants_ocsp=wanted))
        wire.connect()
        response = wire.from_gateway[0][0]
        payloads = parse_payloads(Header.parse(response).next_payload, response[IKE_HEADER_BYTES:])
        requests = [CertificateRequest.parse(body) for body in payloads.all(PayloadType.CERTREQ)]
        assert [request.encoding for request in requests] == [4, 14] if wanted else [4]
        assert requests[0].authorities == wire.config.authorities

    def test_theirs_are_handed_to_aaa(self) -> None:
        wire = Wire()
        stapled = (
            Certificate(CertEncoding.OCSP_CONTENT, b"response"),
            Certificate(CertEncoding.CRL, b"list"),
            Certificate(CertEncoding.OCSP_CONTENT, b"another"),
            Certificate(12, b"http://somewhere/"),
        )
        assert_up(wire, wire.connect(replace(by_certificate(), stapled=stapled)))
        (received,) = wire.seen(CertificateReceived)
        assert received.ocsp_responses == (b"response", b"another")
        assert received.crls == (b"list",)
        assert len(received.chain_der) == 2

    def test_of_certificates_and_what_comes_with_them_there_is_a_limit(self) -> None:
        wire = Wire(aaa=Aaa())
        config = replace(by_certificate(), stapled=(Certificate(CertEncoding.CRL, b"list"),) * 11)
        assert_refused(wire, run(wire, config), "INVALID_SYNTAX")
