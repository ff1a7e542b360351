"""Native clients from IKE_SA_INIT to their first child SA, or to the reason why not: client by method by policy.

What is built from lists and logs is not the client itself; see `tests.peers.native`.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from gateway.ike import events
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.security_association import parse_proposals
from gateway.ike.policy import CNSA2, COMPATIBLE, MODERN, ProposalPolicy
from gateway.ike.selectors import TrafficSelector
from tests.peers.initiator import Phase
from tests.peers.native import android, apple, linux, windows
from tests.peers.native.peer import NativePeer
from tests.unit.gateway.ike.native import (
    Case,
    connect,
    native_credential,
    own_address,
    subject,
)
from tests.unit.gateway.ike.wire import PASSWORD, Aaa, Wire, responder_config

ALICE = Identification.fqdn("alice")
LAPTOP = Identification.fqdn("laptop-1")

MSCHAPV2_CASES = [
    Case(windows.PROFILE, "eap-mschapv2", own_address()),
    Case(apple.IOS, "eap-mschapv2", own_address()),
    Case(apple.MACOS, "eap-mschapv2", ALICE),
    Case(apple.PROFILE, "eap-mschapv2", ALICE),
    Case(apple.SUBNETS, "eap-mschapv2", ALICE),
    Case(apple.NEWER, "eap-mschapv2", own_address()),
    Case(apple.EAP_ONLY, "eap-mschapv2", ALICE),
    Case(android.ANDROID_12, "eap-mschapv2", ALICE),
    Case(linux.STRONGSWAN_APP, "eap-mschapv2", ALICE),
    Case(linux.NETWORK_MANAGER, "eap-mschapv2", ALICE),
]
MODERN_CASES = [
    *MSCHAPV2_CASES,
    Case(windows.PROFILE, "eap-tls", own_address()),
    Case(windows.PROFILE_CERTIFICATE, "certificate", subject()),
    Case(windows.BEFORE_1803, "certificate", subject()),
    Case(apple.IOS, "eap-tls", LAPTOP),
    Case(apple.NEWER, "eap-tls", LAPTOP),
    Case(apple.PROFILE, "certificate", LAPTOP),
    Case(apple.MACOS, "certificate", LAPTOP),
    Case(android.ANDROID_12, "certificate", LAPTOP),
    Case(linux.STRONGSWAN_APP, "eap-tls", LAPTOP),
    Case(linux.STRONGSWAN_APP, "certificate", LAPTOP),
    Case(linux.NETWORK_MANAGER, "eap-tls", LAPTOP),
    Case(linux.LIBRESWAN, "certificate", LAPTOP),
    Case(linux.LIBRESWAN, "eap-tls", LAPTOP),
]
COMPATIBLE_ONLY = [
    Case(windows.REGISTRY, "eap-mschapv2", own_address()),
    Case(windows.REGISTRY_CERTIFICATE, "certificate", subject()),
    Case(android.ANDROID_11, "eap-mschapv2", ALICE),
    Case(android.ANDROID_11, "certificate", LAPTOP),
]
REFUSED = [
    Case(windows.PLAIN_OLD, "eap-mschapv2", own_address()),
    Case(windows.PLAIN, "eap-mschapv2", own_address()),
]


def native_wire(policy: ProposalPolicy = MODERN, **changes: Any) -> Wire:
    """A gateway with an RSA key, as it is by default, whose AAA knows Alice with and without her domain."""
    config = responder_config(policy=policy, **{"credentials": (native_credential(),), **changes})
    return Wire(config, aaa=Aaa(passwords={"alice": PASSWORD, "COMPANY\\alice": PASSWORD}))


def check_session(wire: Wire, peer: NativePeer) -> None:
    """It is in, takes the gateway for what it asked for, and has what it needs."""
    assert (peer.error, peer.phase) == ("", Phase.ESTABLISHED)
    assert wire.failures == []
    assert wire.sa.client == peer.client.looks_like
    assert len(peer.virtual_ipv4) == 4
    # All but libreswan, as it is configured here, ask for traffic of both families.
    families = 1 if peer.client is linux.LIBRESWAN else 2
    assert [len(side) for side in peer.selectors] == [families, families]
    assert peer.selectors[0][0] == TrafficSelector.from_address(IPv4Address(peer.virtual_ipv4))
    chosen = peer.child_proposal
    offers = {offer.number: offer for offer in parse_proposals(peer.client.child_offer(chosen.spi))}
    assert set(chosen.transforms) <= set(offers[chosen.number].transforms)


def refused(wire: Wire) -> tuple[str, str, str]:
    """Client, offer and policy of the one IKE_SA_INIT that offered nothing acceptable."""
    (event,) = wire.seen(events.FirstRequestRefused)
    offered, _, allowed = event.reason.partition("; ")
    return event.evidence.client, offered, allowed


class TestPolicies:
    @pytest.mark.parametrize("case", MODERN_CASES, ids=str)
    def test_modern_lets_in(self, case: Case) -> None:
        wire = native_wire()
        check_session(wire, connect(wire, case))

    @pytest.mark.parametrize("case", [*MODERN_CASES, *COMPATIBLE_ONLY], ids=str)
    def test_compatible_lets_in(self, case: Case) -> None:
        wire = native_wire(COMPATIBLE)
        check_session(wire, connect(wire, case))

    @pytest.mark.parametrize("policy", [MODERN, COMPATIBLE], ids=lambda policy: policy.name)
    @pytest.mark.parametrize("case", REFUSED, ids=str)
    def test_windows_left_alone_is_refused_for_its_group(self, case: Case, policy: ProposalPolicy) -> None:
        wire = native_wire(policy)
        peer = connect(wire, case)
        assert peer.error == "NO_PROPOSAL_CHOSEN"
        client, offered, allowed = refused(wire)
        assert client == case.client.looks_like
        assert "MODP_1024" in offered
        assert "MODP_1024" not in allowed
        assert policy.name in allowed

    def test_windows_with_the_registry_value_fails_at_esp_under_modern(self) -> None:
        wire = native_wire()
        peer = connect(wire, COMPATIBLE_ONLY[0])
        assert peer.error == "NO_PROPOSAL_CHOSEN"
        ((code, reason),) = wire.failures
        assert code == "no-proposal-chosen"
        assert "HMAC_SHA1_96" in reason.partition(";")[0]

    @pytest.mark.parametrize("case", COMPATIBLE_ONLY[2:], ids=str)
    def test_android_11_is_refused_for_its_prf_under_modern(self, case: Case) -> None:
        wire = native_wire()
        peer = connect(wire, case)
        assert peer.error == "NO_PROPOSAL_CHOSEN"
        client, offered, allowed = refused(wire)
        assert client == "Android 11"
        assert offered.endswith("MODP_4096 MODP_3072 MODP_2048 AES128_XCBC HMAC_SHA1]")
        assert "HMAC_SHA1" not in allowed
        assert "AES128_XCBC" not in allowed

    @pytest.mark.parametrize("case", [*MODERN_CASES, *COMPATIBLE_ONLY, *REFUSED], ids=str)
    def test_nobody_speaks_cnsa2(self, case: Case) -> None:
        wire = native_wire(CNSA2)
        assert connect(wire, case).error == "NO_PROPOSAL_CHOSEN"
        assert "hybrid" in refused(wire)[2] or "ML_KEM" in refused(wire)[2]
