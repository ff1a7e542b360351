"""Full and split tunnels by decision: what becomes of networks, name servers and domains in the first child SA."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from core.settings.values import EVERYTHING
from gateway.ike.constants import CfgAttribute, PayloadType
from gateway.ike.message import Payloads
from gateway.ike.path import Path
from gateway.ike.payloads.configuration import Configuration, ConfigurationAttribute
from gateway.ike.selectors import TrafficSelector
from tests.peers.initiator import Initiator
from tests.unit.gateway.ike.wire import GATEWAY, mschapv2
from tests.unit.gateway.shell import Shell

NETWORK = IPv4Network("10.1.0.0/16")
WANTED = (
    CfgAttribute.INTERNAL_IP4_ADDRESS,
    CfgAttribute.INTERNAL_IP6_ADDRESS,
    CfgAttribute.INTERNAL_IP4_DNS,
    CfgAttribute.INTERNAL_DNS_DOMAIN,
    CfgAttribute.INTERNAL_IP4_SUBNET,
)
_EVERY_ADDRESS = tuple(TrafficSelector.from_network(network) for network in EVERYTHING)


class Asking(Initiator):
    """A client that asks for both families, split DNS and subnets, and keeps the answer."""

    wanted: tuple[CfgAttribute, ...] = WANTED
    reply: Configuration | None = None

    def first_auth_payloads(self) -> list[tuple[PayloadType, bytes]]:
        """With a CFG_REQUEST of its own."""
        request = Configuration(1, tuple(ConfigurationAttribute(kind) for kind in self.wanted))
        others = [payload for payload in super().first_auth_payloads() if payload[0] != PayloadType.CP]
        return [*others, (PayloadType.CP, request.to_bytes())]

    def establish(self, payloads: Payloads) -> None:
        """Keep the answer."""
        body = payloads.first(PayloadType.CP)
        self.reply = Configuration.parse(body) if body is not None else None
        super().establish(payloads)

    def got(self, kind: CfgAttribute) -> list[bytes]:
        """The values of one attribute in the answer."""
        assert self.reply is not None
        return [attribute.value for attribute in self.reply.attributes if attribute.type == kind]


def connect(shell: Shell, *wanted: CfgAttribute) -> Asking:
    """A client that has got as far as it gets."""
    config = replace(mschapv2(), initiator_selectors=_EVERY_ADDRESS, responder_selectors=_EVERY_ADDRESS)
    client = Asking(config, Path("198.51.100.1", 500, GATEWAY, 500), shell.random)
    client.wanted = wanted or WANTED
    shell.clients[Path(GATEWAY, 500, "198.51.100.1", 500)] = client
    client.start()
    shell.run()
    return client


@pytest.fixture
def shell() -> Shell:
    return Shell()


def test_a_split_tunnel_gets_its_networks_as_selectors_and_as_subnets(shell: Shell) -> None:
    client = connect(shell)
    assert client.selectors[1] == (TrafficSelector.from_network(NETWORK),)
    assert client.got(CfgAttribute.INTERNAL_IP4_SUBNET) == [bytes((10, 1, 0, 0, 255, 255, 0, 0))]


def test_an_address_that_leads_nowhere_is_not_given_out(shell: Shell) -> None:
    client = connect(shell)
    assert client.got(CfgAttribute.INTERNAL_IP4_ADDRESS) != []
    assert client.got(CfgAttribute.INTERNAL_IP6_ADDRESS) == []
    assert shell.aaa.started[0].virtual_ipv6 is None
    assert client.selectors[0] == (TrafficSelector.from_address(IPv4Address(client.virtual_ipv4)),)


def test_a_full_tunnel_by_rule_reaches_everything_on_a_gateway_that_splits(shell: Shell) -> None:
    shell.aaa.access = replace(shell.aaa.access, networks=EVERYTHING)
    client = connect(shell)
    assert client.selectors[1] == _EVERY_ADDRESS
    assert len(client.virtual_ipv6) == 17
    assert client.got(CfgAttribute.INTERNAL_IP4_SUBNET) == [bytes(8)]


def test_who_asks_for_the_other_family_only_does_not_enter(shell: Shell) -> None:
    shell.aaa.access = replace(shell.aaa.access, networks=(IPv6Network("fd01::/48"),))
    client = connect(shell, CfgAttribute.INTERNAL_IP4_ADDRESS)
    assert client.error == "FAILED_CP_REQUIRED"
    assert [(code, reason) for _, code, reason, _ in shell.aaa.failed] == [
        (
            "failed-cp-required",
            "the client asked for no virtual address of a family that its pool and its networks have",
        )
    ]


def test_domains_of_the_decision(shell: Shell) -> None:
    shell.aaa.access = replace(shell.aaa.access, dns=(IPv4Address("10.1.0.53"),), dns_domains=("corp.example", "lab"))
    client = connect(shell)
    assert client.got(CfgAttribute.INTERNAL_IP4_DNS) == [bytes((10, 1, 0, 53))]
    assert client.got(CfgAttribute.INTERNAL_DNS_DOMAIN) == [b"corp.example", b"lab"]
