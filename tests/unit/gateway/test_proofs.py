"""Sign-ins with two proofs, with EAP alone, and by a site's key: what AAA is asked, and what becomes a session."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from aaa.interface import FirstFactor, Refusal, TerminateCause
from gateway.control.change import SessionChange
from gateway.control.dynamic_authorization import SessionSelector
from gateway.ike.config import SitePeer
from gateway.ike.constants import CertEncoding, NotifyType
from gateway.ike.payloads.certificate import Certificate
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.selectors import TrafficSelector
from tests.peers.initiator import InitiatorConfig, Phase
from tests.unit.gateway.ike.test_sign_in import by_certificate
from tests.unit.gateway.ike.test_site_peers import BRANCH, SECRET, site
from tests.unit.gateway.ike.test_two_factors import both
from tests.unit.gateway.ike.variants import added
from tests.unit.gateway.ike.wire import mschapv2
from tests.unit.gateway.shell import LAPTOP, SITE, Shell

TWO = replace(LAPTOP, method="certificate+eap-mschapv2")
STAPLED = (Certificate(CertEncoding.OCSP_CONTENT, b"an answer"), Certificate(CertEncoding.CRL, b"a list"))


def gateway(*, thinks: bool = False, **changes: Any) -> Shell:
    """A gateway with a site, and AAA that thinks or does not."""
    shell = Shell(site_peers=(SitePeer("branch", BRANCH, SECRET),), **changes)
    shell.aaa.thinks = thinks
    shell.aaa.access = TWO
    return shell


def connect(shell: Shell, config: InitiatorConfig, initiator: Any = None) -> Any:
    """A client, as far as it gets, with every answer of AAA given in a turn of its own where it thinks."""
    client = shell.client(config, **({"initiator": initiator} if initiator is not None else {}))
    client.start()
    shell.run()
    for _ in range(12):
        shell.aaa.answer_all()
        shell.run()
    return client


@pytest.mark.parametrize("thinks", [False, True])
class TestDeviceAndUser:
    def test_one_session_of_both(self, thinks: bool) -> None:
        shell = gateway(thinks=thinks)
        assert connect(shell, both()).phase is Phase.ESTABLISHED
        (conversation,) = shell.aaa.conversations
        assert conversation.first is shell.sessions.matching(_DEVICE)[0].first_factor
        assert isinstance(conversation.first, FirstFactor)
        assert not conversation.mutual
        # It is one sign-in to AAA, from the certificate to the end.
        (start,) = shell.aaa.started
        assert start.access.method == "certificate+eap-mschapv2"
        assert len(shell.aaa.shown) == 1
        assert shell.aaa.failed == []

    def test_a_device_that_is_refused_brings_no_user(self, thinks: bool) -> None:
        shell = gateway(thinks=thinks)
        shell.aaa.device = Refusal("revoked-device", "it was stolen")
        client = connect(shell, both())
        assert (client.phase, client.error) == (Phase.FAILED, "AUTHENTICATION_FAILED")
        assert shell.aaa.conversations == []
        assert (list(shell.sessions), shell.aaa.started) == ([], [])
        assert [report.code for _, report in shell.aaa.reports] == ["revoked-device"]

    def test_a_user_that_is_refused_leaves_nothing(self, thinks: bool) -> None:
        shell = gateway(thinks=thinks)
        client = connect(shell, both("wrong horse"))
        assert (client.phase, client.error) == (Phase.FAILED, "AUTHENTICATION_FAILED")
        assert (list(shell.sessions), shell.aaa.started) == ([], [])
        assert shell.aaa.conversations[0].closed

    def test_a_user_who_never_comes(self, thinks: bool) -> None:
        """The device alone holds a place among the half-open SAs, and that only for their time."""
        shell = gateway(thinks=thinks)
        connect(shell, by_certificate(), added(notify_payload(NotifyType.ANOTHER_AUTH_FOLLOWS)))
        assert shell.aaa.conversations == []
        shell.advance(shell.engine.responder.config.half_open_timeout_s + 1)
        assert (list(shell.sessions), shell.aaa.started) == ([], [])
        assert shell.engine.responder.half_open == 0


class TestLateAnswers:
    def test_of_a_device_whose_client_has_gone(self) -> None:
        shell = gateway(thinks=True)
        client = shell.client(both())
        client.start()
        shell.run()
        shell.advance(shell.engine.responder.config.half_open_timeout_s + 1)
        shell.aaa.answer_all()
        shell.run()
        assert client.phase is not Phase.ESTABLISHED
        assert (list(shell.sessions), shell.aaa.conversations) == ([], [])

    def test_of_a_site_that_has_gone(self) -> None:
        shell = gateway(thinks=True)
        client = shell.client(site())
        client.start()
        shell.run()
        shell.advance(shell.engine.responder.config.half_open_timeout_s + 1)
        shell.aaa.answer_all()
        shell.run()
        assert client.phase is not Phase.ESTABLISHED
        assert (list(shell.sessions), shell.aaa.started) == ([], [])


class TestWhatComesWithACertificate:
    def test_goes_to_aaa(self) -> None:
        shell = gateway()
        connect(shell, replace(by_certificate(), stapled=STAPLED))
        ((chain, ocsp_responses, crls),) = shell.aaa.shown
        assert (bool(chain), ocsp_responses, crls) == (True, (b"an answer",), (b"a list",))

    def test_of_a_device_whose_user_follows(self) -> None:
        shell = gateway()
        connect(shell, replace(both(), stapled=STAPLED))
        assert [(answers, crls) for _, answers, crls in shell.aaa.shown] == [((b"an answer",), (b"a list",))]


class TestEapAlone:
    def test_aaa_is_told_to_prove_the_gateway(self) -> None:
        shell = gateway(eap_only=True)
        connect(shell, replace(mschapv2(), announce_eap_only=True))
        assert [conversation.mutual for conversation in shell.aaa.conversations] == [True]

    def test_an_answer_by_another_method_lets_nobody_in(self) -> None:
        shell = gateway(eap_only=True)
        client = connect(shell, replace(mschapv2(), announce_eap_only=True))
        assert client.phase is Phase.FAILED
        assert shell.aaa.started == []
        assert [(code, reason) for _, code, reason, _ in shell.aaa.failed] == [
            ("gateway-unproved", "AAA accepted, but by a method that does not prove the gateway")
        ]

    def test_nobody_else_is(self) -> None:
        shell = gateway(eap_only=True)
        assert connect(shell, mschapv2()).phase is Phase.ESTABLISHED
        assert [conversation.mutual for conversation in shell.aaa.conversations] == [False]


class TestSite:
    @pytest.mark.parametrize("thinks", [False, True])
    def test_a_session_without_addresses(self, thinks: bool) -> None:
        shell = gateway(thinks=thinks)
        client = connect(shell, site())
        assert client.phase is Phase.ESTABLISHED
        assert shell.aaa.sites == ["branch"]
        (start,) = shell.aaa.started
        assert (start.virtual_ipv4, start.virtual_ipv6) == (None, None)
        assert start.access is SITE
        (child,) = shell.plane.installed.values()
        assert [str(s) for s in child.remote_selectors] == ["10.20.0.0-10.20.255.255", "10.21.0.0-10.21.255.255"]
        assert [str(s) for s in child.local_selectors] == ["10.1.0.0-10.1.255.255"]
        # Nothing of the pool is gone.
        shell.aaa.access = replace(LAPTOP, device_id="others")
        assert [connect(shell, mschapv2()).phase for _ in range(5)] == [Phase.ESTABLISHED] * 5

    def test_refused(self) -> None:
        shell = gateway()
        shell.aaa.site = Refusal("no-rule", "no rule is for sites")
        client = connect(shell, site())
        assert (client.phase, client.error) == (Phase.FAILED, "AUTHENTICATION_FAILED")
        assert (list(shell.sessions), shell.aaa.started) == ([], [])

    def test_signing_in_anew_before_it_lets_go(self) -> None:
        shell = gateway()
        first = connect(shell, site())
        again = connect(shell, site())
        assert again.phase is Phase.ESTABLISHED
        # To the data plane they are one: the newer one carries the networks, and the older one's packets still pass.
        assert len({child.lineage for child in shell.plane.installed.values()}) == 1
        first.delete()
        shell.run()
        assert len(shell.plane.installed) == 1
        assert [cause for _, cause in shell.aaa.ended] == [TerminateCause.USER_REQUEST]

    def test_two_sites_have_nothing_in_common(self) -> None:
        shell = gateway()
        connect(shell, site())
        shell.aaa.site = replace(
            SITE, user_name="site:plant", device_id="site:plant", peer_networks=(IPv4Network("10.30.0.0/16"),)
        )
        connect(shell, site())
        assert len({child.lineage for child in shell.plane.installed.values()}) == 2

    def test_it_is_disconnected_by_its_name(self) -> None:
        shell = gateway()
        client = connect(shell, site())
        assert shell.engine.disconnect(SessionSelector(None, None, "site:branch", None)) == 1
        shell.run()
        assert client.phase is Phase.CLOSED

    def test_what_it_reaches_can_be_changed(self) -> None:
        shell = gateway()
        connect(shell, site())
        change = SessionChange(networks=(IPv4Network("10.1.2.0/24"),), rule=None, session_timeout_s=None, reason="")
        assert shell.engine.change(SessionSelector(None, None, "site:branch", None), change) == 1
        shell.run()
        narrowed = TrafficSelector.from_network(IPv4Network("10.1.2.0/24"))
        assert all(allowed == (narrowed,) for allowed in shell.plane.restricted.values())

    def test_it_gets_no_ticket(self) -> None:
        shell = gateway()
        connect(shell, site())
        (session,) = shell.sessions
        assert session.sa.resumption.grant is None


_DEVICE = SessionSelector(None, "device-7", None, None)


class TestLifetime:
    @pytest.mark.parametrize("config", [mschapv2, by_certificate, both, site])
    def test_the_client_is_told_how_long_its_session_lasts(self, config: Any) -> None:
        shell = gateway()
        assert connect(shell, config()).session_lifetime_s == 3600

    def test_addresses_are_those_of_the_pool(self) -> None:
        shell = gateway()
        assert IPv4Address(connect(shell, both()).virtual_ipv4) == IPv4Address("10.99.0.2")
