"""Pre-shared keys, for the gateways of other sites and for nobody else."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest

from gateway.ike import authentication
from gateway.ike.config import SitePeer
from gateway.ike.constants import AuthMethod, NotifyType
from gateway.ike.events import AssignmentWanted, SitePeerProved
from gateway.ike.payloads.auth_methods import Announcement, parse_announcements
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.selectors import TrafficSelector
from tests.peers.initiator import InitiatorConfig, Phase
from tests.unit.gateway.ike.test_refusals import assert_refused, run
from tests.unit.gateway.ike.test_sign_in import assert_up
from tests.unit.gateway.ike.variants import Corrupted, added
from tests.unit.gateway.ike.wire import GATEWAY_NAME, Aaa, Wire, responder_config

SECRET = b"0123456789abcdef0123456789abcdef"
BRANCH = Identification.fqdn("branch.example")
OTHER = Identification.fqdn("plant.example")
SITES = (SitePeer("branch", BRANCH, SECRET), SitePeer("plant", OTHER, SECRET[::-1]))
NETWORKS = (IPv4Network("10.7.0.0/16"), IPv6Network("fd07::/64"))
EVERYTHING = (TrafficSelector(7, 0, 0, 65535, 0, 2**32 - 1), TrafficSelector(8, 0, 0, 65535, 0, 2**128 - 1))


def site(secret: bytes = SECRET, identity: Identification = BRANCH, **changes: Any) -> InitiatorConfig:
    """The gateway of a branch: it asks for no address of ours."""
    config = InitiatorConfig(
        identity=identity,
        pre_shared_key=secret,
        ask_ipv4=False,
        initiator_selectors=EVERYTHING,
        responder_selectors=EVERYTHING,
    )
    return replace(config, **changes)


def gateway(**changes: Any) -> Wire:
    """A gateway that knows two sites."""
    return Wire(responder_config(site_peers=SITES, **changes), aaa=Aaa(peer_networks=NETWORKS))


class TestASiteGetsIn:
    def test_with_its_own_networks(self) -> None:
        wire = gateway()
        client = wire.connect(site())
        assert_up(wire, client)
        assert [event.name for event in wire.seen(SitePeerProved)] == ["branch"]
        assert wire.child.remote_selectors == tuple(TrafficSelector.from_network(network) for network in NETWORKS)
        assert client.initiator.selectors[0] == wire.child.remote_selectors
        (wanted,) = wire.seen(AssignmentWanted)
        assert (wanted.wants_ipv4, wanted.wants_ipv6) == (False, False)

    def test_the_gateway_proves_itself_by_the_same_key_and_shows_no_certificate(self) -> None:
        wire = gateway()
        client = wire.connect(site())
        assert client.initiator.gateway_auth_method == AuthMethod.SHARED_KEY_MIC
        assert client.initiator.gateway_certificates == []
        assert Identification.parse(client.initiator.gateway_identity_body) == GATEWAY_NAME

    def test_what_it_asks_for_is_narrowed_to_what_is_its_own(self) -> None:
        wire = gateway()
        client = wire.connect(site(initiator_selectors=(TrafficSelector.from_network(IPv4Network("10.0.0.0/8")),)))
        assert_up(wire, client)
        assert wire.child.remote_selectors == (TrafficSelector.from_network(NETWORKS[0]),)

    def test_each_has_a_key_of_its_own(self) -> None:
        wire = gateway()
        assert_up(wire, wire.connect(site(SECRET[::-1], OTHER)))
        assert [event.name for event in wire.seen(SitePeerProved)] == ["plant"]

    def test_it_is_announced_where_there_are_sites(self) -> None:
        def announced(wire: Wire) -> tuple[Announcement, ...]:
            return parse_announcements(
                wire.connect(site()).initiator.gateway_announced[NotifyType.SUPPORTED_AUTH_METHODS]
            )

        psk = Announcement(AuthMethod.SHARED_KEY_MIC)
        assert psk in announced(gateway())
        assert psk not in announced(Wire())


class TestNobodyElseGetsIn:
    def test_it_is_off_by_default(self) -> None:
        wire = Wire()
        assert_refused(wire, run(wire, site()), "AUTHENTICATION_FAILED")
        assert wire.failures == [("psk-refused", "the client wants a pre-shared key, which is not accepted")]

    @pytest.mark.parametrize(
        ("secret", "identity"),
        [
            (b"x" * 32, BRANCH),
            (SECRET, OTHER),
            (SECRET, Identification.fqdn("nobody.example")),
            (SECRET, Identification(3, b"branch.example")),
            (SECRET, Identification.fqdn("BRANCH.example")),
            (b"no pre-shared key of anybody's", Identification.fqdn("nobody.example")),
            (b"", BRANCH),
        ],
    )
    def test_the_wrong_key_or_name(self, secret: bytes, identity: Identification) -> None:
        wire = gateway()
        config = site(secret or b"\0", identity)
        client = wire.client(config)
        if not secret:
            # An AUTH that is no MIC at all.
            client = wire.client(config, initiator=Corrupted)
        client.initiator.start()
        wire.run()
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        ((code, reason),) = wire.failures
        assert code == "psk-refused"
        assert reason == f"{identity} is no site peer, or it has another pre-shared key"
        assert not wire.seen(SitePeerProved)

    def test_aaa_has_the_last_word(self) -> None:
        wire = gateway()
        wire.aaa.may_enter = False
        assert_refused(wire, run(wire, site()), "AUTHENTICATION_FAILED")
        assert wire.failures == []

    def test_no_second_authentication_after_it(self) -> None:
        wire = gateway()
        client = run(wire, site(), added(notify_payload(NotifyType.ANOTHER_AUTH_FOLLOWS)))
        assert_refused(wire, client, "AUTHENTICATION_FAILED")
        assert "after a pre-shared key" in wire.failures[0][1]

    def test_a_site_without_networks_gets_no_child_sa(self) -> None:
        wire = gateway()
        wire.aaa.peer_networks = ()
        client = wire.connect(site())
        assert (client.phase, client.initiator.error) == (Phase.FAILED, "FAILED_CP_REQUIRED")

    def test_nothing_outside_of_its_networks(self) -> None:
        wire = gateway()
        client = wire.connect(site(initiator_selectors=(TrafficSelector.from_network(IPv4Network("10.8.0.0/16")),)))
        assert (client.phase, client.initiator.error) == (Phase.FAILED, "TS_UNACCEPTABLE")


def test_an_unknown_site_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks can't tell by what is computed which names are sites."""
    checks: list[int] = []
    usual = authentication.matches_shared_key

    def counting(*args: Any) -> bool:
        checks.append(len(args[3]))
        return usual(*args)

    monkeypatch.setattr(authentication, "matches_shared_key", counting)
    for identity in (BRANCH, Identification.fqdn("nobody.example")):
        wire = gateway()
        client = wire.connect(site(b"x" * 32, identity))
        assert client.initiator.error == "AUTHENTICATION_FAILED"
    assert len(checks) == 2
    assert checks[0] == checks[1]
