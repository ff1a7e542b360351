"""What the gateway tells of handshakes that fail, each made to fail in its own way by a real initiator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from aaa.interface import HandshakeKind, Refusal
from gateway.handshake_reporter import REPORTS_BURST
from gateway.ike.constants import ExchangeType, Flag, Group, NotifyType, PayloadType
from gateway.ike.message import clear_message
from gateway.ike.path import Path
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.selectors import TrafficSelector
from gateway.ike.states import State
from tests.peers.initiator import Phase
from tests.unit.gateway.diagnosis.stories import (
    HALF_OPEN_S,
    Story,
    after,
    context,
    fragment,
    is_ike_auth,
    nothing,
    told,
    towards_client,
    towards_gateway,
)
from tests.unit.gateway.ike import offers
from tests.unit.gateway.ike.credentials import gateway_credential
from tests.unit.gateway.ike.test_sign_in import by_certificate
from tests.unit.gateway.ike.wire import GATEWAY, mschapv2
from tests.unit.gateway.shell import LAPTOP


class TestProposal:
    def test_of_windows_without_our_profile(self) -> None:
        shell, config = Story(), mschapv2()
        config.proposals, config.ke_group = offers.WINDOWS_DEFAULT, Group.MODP_1024
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway.ike.exchanges.ike_sa_init.from_ike_sa_init", lambda *_: "Windows 10 or 11")
            patch.setattr("gateway.ike.crypto.key_exchange.generate", _no_key)
            shell.connect(config)
        report = told(shell)
        assert (report.outcome, report.code, report.cause, report.proven) == (
            "failed",
            "no-proposal-chosen",
            "proposal",
            False,
        )
        assert report.explanation.startswith(
            "Windows 10 or 11 offers for IKE no key exchange group that is allowed (it offers MODP_1024; allowed are "
        )
        assert "MODP_1024" in report.offered
        assert report.allowed.startswith("policy modern: AES_GCM_16_256")
        assert "Set-VpnConnectionIPsecConfiguration" in report.advice[0]
        assert report.timeline == ((0.0, "IKE_SA_INIT on port 500: failed: no-proposal-chosen"),)
        assert context(shell).client == "Windows 10 or 11"

    def test_for_the_tunnel(self) -> None:
        shell, config = Story(), mschapv2()
        config.child_suite = replace(config.child_suite, key_bits=64)
        shell.connect(config)
        report = told(shell)
        assert (report.code, report.cause, report.proven) == ("no-proposal-chosen", "proposal", True)
        assert "offers for the tunnel (ESP) no cipher that is allowed (it offers AES_GCM_16_64;" in report.explanation

    def test_that_is_allowed_in_parts_only(self) -> None:
        shell, config = Story(), mschapv2()
        good, weak = offers.WINDOWS_PROFILE[0], offers.WINDOWS_DEFAULT[0]
        config.proposals = (
            replace(good, transforms=(*good.transforms[:-1], weak.transforms[-1])),
            replace(weak, number=2, transforms=(*weak.transforms[:-1], good.transforms[-1])),
        )
        config.ke_group = Group.ECP_384
        shell.connect(config)
        assert "None of the proposals of the client for IKE is allowed as a whole" in told(shell).explanation


class TestNetwork:
    def test_ike_auth_that_never_comes(self) -> None:
        """UDP 4500 is blocked."""
        shell = Story()
        shell.lost = lambda to_gateway, datagram: to_gateway and is_ike_auth(datagram)
        shell.connect(nat=True)
        shell.advance(HALF_OPEN_S)
        report = told(shell)
        assert (report.code, report.cause, report.proven) == ("handshake-timeout", "network", False)
        assert "IKE_AUTH never came" in report.explanation
        assert "UDP 4500" in report.explanation
        assert "no IKE fragmentation" not in report.explanation
        assert dict(report.facts)["NAT"] == "in front of the client"
        assert report.timeline[-1] == (30.0, "failed: handshake-timeout")
        # Nobody said who he is: that is no failed sign-in of anyone.
        assert shell.aaa.failed == []

    def test_a_client_that_takes_no_fragments_may_have_lost_a_long_message(self) -> None:
        shell, config = Story(), mschapv2()
        config.fragment_size_bytes = None
        shell.lost = lambda to_gateway, datagram: to_gateway and is_ike_auth(datagram)
        shell.connect(config)
        shell.advance(HALF_OPEN_S)
        assert "it announced no IKE fragmentation" in told(shell).explanation

    def test_an_answer_to_ike_sa_init_that_never_arrives(self) -> None:
        shell = Story()
        shell.lost = towards_client
        client = shell.connect()
        for _ in range(3):
            shell.again(client)
        shell.advance(HALF_OPEN_S)
        report = told(shell)
        assert report.cause == "network"
        assert "sent IKE_SA_INIT 4 times and got an answer each time" in report.explanation
        assert dict(report.facts)["repeated IKE_SA_INIT"] == "3"
        assert "came 3 times more" in report.timeline[0][1]

    def test_what_is_changed_on_the_way(self) -> None:
        shell = Story()
        receive = shell.engine.receive_ike
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                shell.engine,
                "receive_ike",
                lambda data, path: receive(data[:-1] + b"\0" if is_ike_auth(data) else data, path),
            )
            shell.connect()
        shell.advance(HALF_OPEN_S)
        report = told(shell)
        assert report.cause == "network"
        assert "did not verify" in report.explanation
        assert dict(report.facts)["datagrams that did not verify"] == "1"

    def test_a_short_answer_that_never_arrives(self) -> None:
        shell = Story()
        shell.lost = after(2, towards_client)
        client = shell.connect()
        shell.again(client)
        shell.advance(HALF_OPEN_S)
        report = told(shell)
        assert report.cause == "network"
        assert "repeated a request 1 times that was answered each time" in report.explanation


class TestFragments:
    @pytest.mark.parametrize(
        ("lost", "sentence"),
        [
            ({2}, "Fragment 2 of 3 of a message of the client never came, the others did: packets are lost"),
            ({1, 2}, "Fragments 1 to 2 of 3 of a message of the client never came, the other did. The last and"),
            ({1, 3}, "Fragments 1, 3 of 3"),
        ],
    )
    def test_of_the_client_that_are_lost(self, lost: set[int], sentence: str) -> None:
        shell, config = Story(), by_certificate()
        config.fragment_size_bytes = 576
        shell.lost = lambda to_gateway, datagram: to_gateway and fragment(datagram)[0] in lost
        shell.connect(config)
        shell.advance(HALF_OPEN_S)
        report = told(shell)
        assert (report.code, report.cause, report.proven) == ("handshake-timeout", "fragment", True)
        assert report.explanation.startswith(sentence)
        assert report.timeline[-2][1].startswith("of 3 fragments there are ")

    def test_of_the_gateway_that_are_lost(self) -> None:
        shell = Story(fragment_size_bytes=600)
        shell.lost = lambda to_gateway, datagram: not to_gateway and fragment(datagram)[0] == 2
        client = shell.connect()
        shell.again(client)
        shell.advance(HALF_OPEN_S)
        report = told(shell)
        assert report.cause == "fragment"
        assert "does not reach it whole" in report.explanation
        assert report.advice[0] == "Send shorter ones: gateway.fragment_size_bytes = 576 (now 600)."

    def test_of_ip_where_the_client_takes_no_others(self) -> None:
        shell, config = Story(credentials=(gateway_credential("rsa"),)), mschapv2()
        config.fragment_size_bytes = None
        shell.lost = lambda to_gateway, datagram: not to_gateway and len(datagram) > 1400
        client = shell.connect(config)
        shell.again(client)
        shell.advance(HALF_OPEN_S)
        report = told(shell)
        assert report.cause == "fragment"
        assert "in IP fragments, since the client takes no IKE fragments" in report.explanation


class TestGatewayCertificate:
    def _refusing(self, shell: Story, *, asked: str = "") -> None:
        config = mschapv2()
        if asked:
            config.gateway_identity = Identification.fqdn(asked)
        shell.lost = after(2, towards_gateway)
        client = shell.connect(config)
        assert client.gateway_certificates
        shell.lost = nothing
        client.request(ExchangeType.IKE_AUTH, [notify_payload(NotifyType.AUTHENTICATION_FAILED)])
        shell.run()

    def test_that_is_not_trusted(self) -> None:
        shell = Story()
        self._refusing(shell)
        report = told(shell)
        assert (report.code, report.cause) == ("client-gave-up", "gateway-certificate")
        assert report.explanation.startswith(
            "The client gave up with AUTHENTICATION_FAILED as soon as it had the gateway's certificate"
        )
        assert "(gateway.example)" in report.explanation
        assert any("ostiary ca trust" in step for step in report.advice)

    def test_of_another_name_than_the_client_wants(self) -> None:
        shell = Story()
        self._refusing(shell, asked="other.example")
        report = told(shell)
        assert (report.code, report.cause) == ("client-gave-up", "identity")
        assert "it asked for 'other.example' (IDr), and this gateway is 'gateway.example'" in report.explanation
        assert dict(report.facts)["asked for (IDr)"] == "other.example"

    def test_without_a_word(self) -> None:
        """As Windows, Apple and Android do."""
        shell = Story()
        shell.lost = after(2, towards_gateway)
        shell.connect()
        shell.advance(HALF_OPEN_S)
        report = told(shell)
        assert (report.code, report.cause) == ("handshake-timeout", "gateway-certificate")
        assert "fell silent as soon as it had the gateway's certificate" in report.explanation
        assert "Stock clients say nothing" in report.explanation
        # Here somebody did say who he is.
        assert [(code, detail["cause"]) for _, code, _, detail in shell.aaa.failed] == [
            ("handshake-timeout", "gateway-certificate")
        ]

    def test_after_the_last_answer_by_certificate(self) -> None:
        shell = Story()
        client = shell.connect(by_certificate())
        assert client.phase is Phase.ESTABLISHED
        client.request(ExchangeType.INFORMATIONAL, [notify_payload(NotifyType.AUTHENTICATION_FAILED)])
        shell.run()
        assert (told(shell).code, told(shell).cause) == ("client-gave-up", "gateway-certificate")


class TestEap:
    def test_wrong_password(self) -> None:
        shell = Story()
        shell.connect(mschapv2(password="wrong"))
        report = told(shell)
        assert (report.code, report.cause, report.proven) == ("wrong-credential", "credential", True)
        assert any("ostiary device code" in step for step in report.advice)
        assert dict(report.facts)["authentication"] == "EAP"
        texts = [what for _, what in report.timeline]
        assert "EAP request Identity" in texts[1]
        assert "EAP response Identity" in texts[2]
        assert "EAP response MSCHAPv2" in texts[3]
        # AAA has written the audit event.
        assert shell.aaa.failed == []

    def test_no_common_method(self) -> None:
        shell, config = Story(), mschapv2()
        config.eap = _Naks()
        shell.connect(config)
        report = told(shell)
        assert (report.code, report.cause) == ("no-common-method", "eap")
        assert report.explanation == "The client wants EAP-PEAP, and the gateway has only EAP-MSCHAPV2 (26) to offer."
        assert (report.offered, report.allowed) == ("EAP-PEAP", "EAP-MSCHAPV2 (26)")

    def test_a_person_who_types_nothing(self) -> None:
        shell = Story()
        shell.lost = after(3, towards_gateway)
        shell.connect()
        shell.advance(HALF_OPEN_S)
        report = told(shell)
        assert (report.code, report.cause) == ("handshake-timeout", "client")
        assert "fell silent within EAP, after the request MSCHAPv2" in report.explanation

    def test_a_client_that_leaves(self) -> None:
        shell = Story()
        shell.lost = after(5, towards_gateway)
        client = shell.connect()
        assert shell.sa.state is State.EAP_DONE
        shell.lost = nothing
        client.delete()
        shell.run()
        assert (told(shell).code, told(shell).cause) == ("client-gave-up", "client")
        assert "deleted the SA after EAP had succeeded" in told(shell).explanation


class TestRefused:
    def test_certificate(self) -> None:
        shell = Story()
        shell.aaa.certificate = Refusal("revoked-certificate", "the certificate 17 was revoked: lost on a train")
        shell.connect(by_certificate())
        report = told(shell)
        assert (report.code, report.cause) == ("revoked-certificate", "client-certificate")
        assert report.explanation == "The certificate 17 was revoked: lost on a train."
        assert "issued by" in dict(report.facts)["client certificate"]
        assert dict(report.facts)["authentication"] == "certificate"

    def test_a_refusal_that_is_not_written_is_counted_all_the_same(self) -> None:
        shell = Story()
        shell.aaa.certificate = Refusal("too-many-failures", "wait a minute", recorded=False)
        shell.connect(by_certificate())
        assert shell.aaa.reports == []
        shell.advance(25)
        assert shell.aaa.handshakes[HandshakeKind("failed", "limit", "too-many-failures", "")] == 1

    def test_no_address_left(self) -> None:
        shell = Story()
        for number in range(5):
            shell.aaa.access = replace(LAPTOP, device_id=f"device-{number}")
            shell.connect()
        shell.aaa.access = replace(LAPTOP, device_id="one too many")
        shell.connect()
        report = told(shell)
        assert (report.code, report.cause) == ("internal-address-failure", "address-pool")
        assert report.explanation == "The client signed in, but pool of the gateway has no free address."

    def test_selectors(self) -> None:
        shell, config = Story(), mschapv2()
        shell.aaa.access = replace(LAPTOP, networks=(IPv4Network("10.9.0.0/16"),))
        config.responder_selectors = (TrafficSelector(7, 0, 0, 65535, 1, 2),)
        shell.connect(config)
        report = told(shell)
        assert (report.code, report.cause) == ("ts-unacceptable", "traffic-selectors")
        assert report.offered == "0.0.0.1-0.0.0.2 (for itself: 0.0.0.0-255.255.255.255)"
        assert report.allowed == "10.9.0.0/16 (for itself: 10.99.0.2)"

    def test_no_address_asked_for(self) -> None:
        shell, config = Story(), mschapv2()
        config.ask_ipv4 = False
        shell.connect(config)
        assert (told(shell).code, told(shell).cause) == ("failed-cp-required", "address-pool")

    def test_between_decision_and_start(self) -> None:
        shell = Story()
        shell.aaa.refuse_start = Refusal("revoked-device", "device laptop was revoked")
        shell.connect()
        assert (told(shell).code, told(shell).cause) == ("revoked-device", "access")
        assert told(shell).explanation == "Device laptop was revoked."


class TestSlow:
    @pytest.mark.parametrize("config", [mschapv2, by_certificate])
    def test_aaa(self, config: Callable[[], object]) -> None:
        shell = Story()
        shell.aaa.thinks = True
        client = shell.connect(config())  # type: ignore[arg-type]
        for _ in range(6):
            shell.loop.advance(5.5)
            shell.aaa.answer_all()
            shell.run()
        assert client.phase is Phase.ESTABLISHED
        report = told(shell)
        assert (report.outcome, report.code, report.cause) == ("slow", "slow-handshake", "backend")
        assert "of which AAA took" in report.explanation
        assert "AAA took 5.5 s" in report.timeline[1][1]
        assert report.timeline[-1][1] == "connected"

    def test_aaa_that_is_too_late(self) -> None:
        shell = Story()
        shell.aaa.thinks = True
        shell.connect(by_certificate())
        shell.advance(HALF_OPEN_S)
        assert (told(shell).code, told(shell).cause) == ("handshake-timeout", "backend")
        # The answer that comes then is no second story.
        shell.aaa.certificate = Refusal("unknown-device", "no such device")
        shell.aaa.answer_all()
        assert len(shell.aaa.reports) == 1

    def test_lost_packets(self) -> None:
        shell = Story()
        shell.lost = after(2, towards_client)
        client = shell.connect()
        shell.loop.advance(8.0)
        shell.lost = nothing
        shell.again(client)
        assert client.phase is Phase.ESTABLISHED
        report = told(shell)
        assert (report.outcome, report.cause) == ("slow", "network")
        assert "had to repeat 1 of its messages" in report.explanation

    def test_the_client_itself(self) -> None:
        shell = Story()
        shell.lost = after(2, towards_gateway)
        client = shell.connect()
        shell.loop.advance(8.0)
        shell.lost = nothing
        shell.again(client)
        assert client.phase is Phase.ESTABLISHED
        report = told(shell)
        assert (report.outcome, report.cause) == ("slow", "client")
        assert 8.0 <= report.duration_s < 9.0

    def test_one_that_is_quick_is_counted_only(self) -> None:
        shell = Story()
        shell.connect()
        shell.advance(25)
        assert shell.aaa.reports == []
        assert shell.aaa.handshakes == Counter({HandshakeKind("established", "", "", ""): 1})


class TestBeforeAnybodySaysWhoHeIs:
    def test_too_many_from_one_address(self) -> None:
        """What a whole office behind one NAT may look like."""
        shell = Story(half_open_limit_per_address=2, cookie_threshold_per_address=100)
        shell.lost = lambda to_gateway, datagram: to_gateway and is_ike_auth(datagram)
        client = shell.client()
        for number in range(3):
            client.spi_i = bytes((number + 1,)) * 8
            client.start()
            shell.run()
        report = told(shell)
        assert (report.code, report.cause, report.proven) == ("too-many-handshakes", "limit", False)
        assert report.explanation == ("2 handshakes of this source are under way (half_open_limit_per_address).")
        assert shell.aaa.failed == []

    def test_a_cookie_of_another_address(self) -> None:
        shell = Story(cookie_threshold=0)
        client = shell.client()
        client.start()
        (datagram,) = client.datagrams_to_send()
        here, elsewhere = Path(GATEWAY, 500, "198.51.100.1", 500), Path(GATEWAY, 500, "203.0.113.9", 500)
        shell.engine.receive_ike(datagram, here)
        client.receive_datagram(shell.sent.pop()[0])
        (with_cookie,) = client.datagrams_to_send()
        shell.engine.receive_ike(with_cookie, elsewhere)
        report = told(shell)
        assert (report.code, report.cause) == ("cookie-refused", "cookie")
        assert dict(report.facts)["from"] == "203.0.113.9:500"
        shell.advance(25)
        assert shell.aaa.handshakes[HandshakeKind("deferred", "cookie", "cookie-asked", "")] == 2

    def test_a_ticket_that_counts_no_more(self) -> None:
        shell = Story()
        nonce = (PayloadType.NONCE, bytes(32))
        ticket = notify_payload(NotifyType.TICKET_OPAQUE, b"of another gateway")
        exchange, flags = ExchangeType.IKE_SESSION_RESUME, Flag.INITIATOR
        datagram = clear_message(b"12345678", bytes(8), exchange, flags, 0, [nonce, ticket])
        shell.engine.receive_ike(datagram, Path(GATEWAY, 500, "198.51.100.1", 500))
        report = told(shell)
        assert (report.code, report.cause) == ("ticket-refused", "resumption")
        assert report.explanation == "No tickets are given out here."
        assert report.timeline == ((0.0, "IKE_SESSION_RESUME on port 500: failed: ticket-refused"),)

    def test_another_group_that_is_asked_for_is_counted(self) -> None:
        shell, config = Story(), mschapv2()
        config.ke_group = Group.ECP_256
        assert shell.connect(config).phase is Phase.ESTABLISHED
        shell.advance(25)
        assert shell.aaa.reports == []
        assert shell.aaa.handshakes[HandshakeKind("deferred", "proposal", "other-group-asked", "")] == 1


class TestFlood:
    def test_every_failure_is_counted_and_few_are_told(self) -> None:
        shell, config = Story(), mschapv2()
        config.proposals, config.ke_group = offers.ANDROID_11, Group.MODP_2048
        client = shell.client(config)
        for _ in range(int(REPORTS_BURST) + 50):
            client.start()
            shell.run()
        assert len(shell.aaa.reports) == REPORTS_BURST
        # A real client's trouble is told all the same.
        shell.connect(mschapv2(password="wrong"))
        assert shell.aaa.reports[-1][1].code == "wrong-credential"
        shell.advance(25)
        assert shell.aaa.handshakes[HandshakeKind("failed", "proposal", "no-proposal-chosen", "Android 11")] == 150
        assert shell.aaa.handshakes[HandshakeKind("failed", "credential", "wrong-credential", "")] == 1


class TestNothingStays:
    def test_of_a_handshake_that_is_over(self) -> None:
        shell = Story()
        shell.connect(mschapv2(password="wrong"))
        assert [sa.trace for sa in shell.engine.responder.sas()] == [None]

    def test_of_a_handshake_that_succeeded_a_while_ago(self) -> None:
        shell = Story()
        shell.connect()
        assert shell.sa.trace is not None
        shell.advance(65)
        assert shell.sa.trace is None


class _Naks:
    """A client that wants PEAP and nothing else."""

    msk: bytes | None = None

    def receive(self, packet: bytes) -> bytes | None:
        """Identity first, then a Nak."""
        if packet[0] != 1:
            return None
        answer = b"\x01alice" if packet[4] == 1 else b"\x03\x19"
        return bytes((2, packet[1])) + (4 + len(answer)).to_bytes(2, "big") + answer


class _NoKey:
    public = bytes(128)


def _no_key(_group: Group) -> _NoKey:
    """A public value of a group that nobody here can do."""
    return _NoKey()
