"""What one native client needs and the others do not, each by itself."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import pytest

from gateway.ike import events
from gateway.ike.constants import (
    AuthMethod,
    CfgAttribute,
    ExchangeType,
    Group,
    IdType,
    NotifyType,
    PayloadType,
    TransformType,
)
from gateway.ike.exchanges import replace_child
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.security_association import parse_proposals
from gateway.ike.policy import COMPATIBLE, MODERN, ProposalPolicy
from tests.peers.initiator import Phase
from tests.peers.native import android, apple, linux, windows
from tests.peers.native.client import NativeClient
from tests.peers.native.peer import NativePeer
from tests.unit.gateway.ike.native import (
    NAT_PORTS,
    PRIVATE,
    PUBLIC,
    Case,
    Method,
    connect,
    native_credential,
    own_address,
)
from tests.unit.gateway.ike.test_native_handshakes import ALICE, MODERN_CASES, native_wire
from tests.unit.gateway.ike.wire import GATEWAY_NAME, Wire

SPLIT = (IPv4Network("10.1.0.0/16"),)


def case_of(client: NativeClient, method: Method = "eap-mschapv2") -> Case:
    """A client with an identity that it could have."""
    return Case(client, method, ALICE if client.sends_idr else own_address())


def established(wire: Wire, client: NativeClient, method: Method = "eap-mschapv2") -> NativePeer:
    """A client that is in."""
    peer = connect(wire, case_of(client, method))
    assert (peer.error, peer.phase) == ("", Phase.ESTABLISHED)
    return peer


def expire(wire: Wire) -> None:
    """The data plane says that the child SA has had its time."""
    replace_child.expired(wire.sa, wire.child.spi_in, wire.now, hard=False)
    wire.responder.touch(wire.sa)
    wire.run()


def first_response(wire: Wire) -> list[bytes]:
    """The datagrams of the gateway that came after IKE_SA_INIT and before the client's second IKE_AUTH."""
    return [data for data, _ in wire.from_gateway if int.from_bytes(data[20:24], "big") == 1]


class TestAll:
    @pytest.mark.parametrize("case", MODERN_CASES, ids=str)
    def test_behind_a_nat_and_not(self, case: Case) -> None:
        for nat in (True, False):
            wire = native_wire()
            connect(wire, case, nat=nat)
            path = wire.sa.path
            assert (path.local_port, path.remote) == (4500, PUBLIC if nat else PRIVATE)
            assert path.remote_port == (NAT_PORTS[4500] if nat else 4500)
            # strongSwan's app says that there is one, whatever there is.
            assert wire.sa.nat_remote is (nat or case.client is linux.STRONGSWAN_APP)
            assert not wire.sa.nat_local

    @pytest.mark.parametrize("case", MODERN_CASES, ids=str)
    def test_with_a_cookie(self, case: Case) -> None:
        wire = native_wire(cookie_threshold=0)
        peer = connect(wire, case)
        assert peer.phase is Phase.ESTABLISHED
        assert (len(peer.inits), peer.asked_for) == (2, [])

    @pytest.mark.parametrize("case", MODERN_CASES, ids=str)
    def test_the_certificate_comes_first_and_unasked(self, case: Case) -> None:
        """IDr, CERT and AUTH in the first response to whoever wants EAP; the end entity is the first certificate."""
        wire = native_wire()
        peer = connect(wire, case)
        assert tuple(peer.gateway_certificates) == native_credential().chain_der
        expected = AuthMethod.DIGITAL_SIGNATURE if case.client.hashes else AuthMethod.RSA_SIGNATURE
        assert peer.gateway_auth_method == expected

    @pytest.mark.parametrize("case", MODERN_CASES, ids=str)
    def test_only_what_was_asked_for_is_answered(self, case: Case) -> None:
        wire = native_wire()
        peer = connect(wire, case)
        assert set(peer.reply) <= {1, 2, 3, 8, 10, 13, 15}
        assert CfgAttribute.INTERNAL_IP4_ADDRESS in peer.reply
        asks_netmask = case.client.looks_like in ("iOS", "Apple")
        assert (CfgAttribute.INTERNAL_IP4_NETMASK in peer.reply) is asks_netmask

    @pytest.mark.parametrize("first", ["tls", "mschapv2"])
    @pytest.mark.parametrize("method", ["eap-tls", "eap-mschapv2"])
    @pytest.mark.parametrize("client", [windows.PROFILE, apple.NEWER, linux.STRONGSWAN_APP], ids=lambda c: c.name)
    def test_whichever_method_is_offered_first(self, client: NativeClient, method: Method, first: Any) -> None:
        """The other one is had by Nak."""
        wire = native_wire()
        wire.aaa.methods = (first, "tls" if first == "mschapv2" else "mschapv2")
        established(wire, client, method)

    @pytest.mark.parametrize("case", MODERN_CASES, ids=str)
    def test_a_child_sa_is_rekeyed_by_the_client_without_a_key_exchange(self, case: Case) -> None:
        wire = native_wire()
        peer = connect(wire, case)
        old = wire.child
        peer.create_child(case.client.child_offer(b"\0\0\x20\2"), rekeyed_spi=peer.spi_in)
        wire.run()
        assert peer.answered_error == ""
        assert peer.answer is not None
        assert peer.answer.first(PayloadType.KE) is None
        peer.delete_child(peer.spi_in)
        wire.run()
        wire.advance(wire.config.replaced_linger_s)
        (new,) = wire.children.values()
        assert (new.spi_out, new.lineage) == (0x2002, old.lineage)
        assert new.local_selectors == old.local_selectors

    @pytest.mark.parametrize("case", MODERN_CASES, ids=str)
    def test_the_gateway_leaves_rekeying_to_the_client(self, case: Case) -> None:
        """For longer than any of them waits, such as strongSwan's app with 10 hours. It only asks who is there."""
        wire = native_wire(dpd_interval_s=300.0)
        peer = connect(wire, case)
        wire.advance(10.2 * 3600)
        assert len(wire.established) == 1
        assert len(peer.asked) > 100
        assert set(peer.asked) == {ExchangeType.INFORMATIONAL}


class TestWindows:
    def test_fifty_authorities_make_fragments_of_580_bytes(self) -> None:
        wire = native_wire()
        peer = established(wire, windows.PROFILE)
        assert [len(datagram) for datagram in peer.first_auths] == [580, 580, 265]

    def test_a_certificate_makes_more_of_them(self) -> None:
        wire = native_wire()
        peer = established(wire, windows.PROFILE_CERTIFICATE, "certificate")
        assert len(peer.first_auths) == 5

    def test_an_old_build_gets_no_fragments(self) -> None:
        wire = native_wire(fragment_size_bytes=576)
        established(wire, windows.BEFORE_1803, "certificate")
        (response,) = first_response(wire)
        assert len(response) > 1280

    def test_seven_pairs_of_messages_where_eap_tls_is_offered_first(self) -> None:
        wire = native_wire()
        wire.aaa.methods = ("tls", "mschapv2")
        peer = established(wire, windows.PROFILE)
        requests = len(wire.to_gateway) - len(peer.first_auths) + 1
        assert requests == 7

    def test_no_rfc_7427_either_way(self) -> None:
        wire = native_wire()
        peer = established(wire, windows.PROFILE)
        assert peer.gateway_hashes == frozenset()
        assert peer.gateway_auth_method == AuthMethod.RSA_SIGNATURE

    @pytest.mark.parametrize("kind", ["p256", "p384"])
    def test_an_ecdsa_gateway_signs_by_its_own_method(self, kind: Any) -> None:
        wire = native_wire(credentials=(native_credential(kind),))
        peer = established(wire, windows.PROFILE)
        assert peer.gateway_auth_method == {"p256": AuthMethod.ECDSA_256, "p384": AuthMethod.ECDSA_384}[kind]

    def test_who_names_no_gateway_gets_its_own_name(self) -> None:
        wire = native_wire()
        peer = established(wire, windows.PROFILE)
        assert peer.gateway_identity_body == GATEWAY_NAME.to_bytes()

    def test_the_identity_is_the_private_address_and_decides_nothing(self) -> None:
        wire = native_wire()
        established(wire, windows.PROFILE)
        assert wire.sa.peer_identity == PRIVATE
        assert wire.sa.context == "COMPANY\\alice"

    def test_the_address_of_the_last_time_is_told_and_no_more(self) -> None:
        wire = native_wire()
        peer = established(wire, windows.PROFILE)
        (wanted,) = wire.seen(events.AssignmentWanted)
        assert (wanted.asked_ipv4, wanted.asked_ipv6) == (None, IPv6Address("fd99::123"))
        assert peer.reply[CfgAttribute.INTERNAL_IP6_ADDRESS] == [peer.virtual_ipv6]
        assert set(peer.reply) == {1, 3, 8, 10}

    def test_a_wrong_password_gets_failure_at_once(self) -> None:
        """Windows does not answer an MSCHAPv2 Failure that allows no retry: EAP-Failure it is, with the notify."""
        wire = native_wire()
        wire.aaa.passwords = {"COMPANY\\alice": "another"}
        peer = connect(wire, case_of(windows.PROFILE))
        assert peer.error == "AUTHENTICATION_FAILED"
        assert peer.last_auth is not None
        # Code 4, EAP-Failure, beside the notify.
        assert peer.last_auth.require(PayloadType.EAP)[0] == 4
        assert [Notify.parse(body).type for body in peer.last_auth.all(PayloadType.NOTIFY)] == [
            NotifyType.AUTHENTICATION_FAILED
        ]

    def test_an_idle_child_sa_is_deleted_and_made_anew_later(self) -> None:
        wire = native_wire()
        peer = established(wire, windows.PROFILE)
        peer.delete_child(peer.spi_in)
        wire.run()
        assert (wire.children, len(wire.established)) == ({}, 1)
        wire.advance(600.0)
        peer.create_child(windows.PROFILE.child_offer(b"\0\0\x30\3"))
        wire.run()
        assert peer.answered_error == ""
        assert [child.spi_out for child in wire.children.values()] == [0x3003]

    def test_behind_a_nat_it_is_not_asked_to_rekey(self) -> None:
        """It would answer with an error, and stay with what it has."""
        wire = native_wire()
        peer = established(wire, windows.PROFILE)
        expire(wire)
        wire.advance(120.0)
        assert (peer.offered, len(wire.children), len(wire.established)) == ([], 1, 1)

    def test_a_rekeying_that_it_refuses_changes_nothing(self) -> None:
        """The error is one of its own, whose number nobody else knows."""
        wire = native_wire()
        peer = connect(wire, case_of(windows.PROFILE), nat=False)
        child = wire.child
        expire(wire)
        (request,) = peer.offered
        # No key exchange: that would be the next thing that Windows can't have.
        assert request.first(PayloadType.KE) is None
        (offer,) = parse_proposals(request.require(PayloadType.SA))
        assert not offer.of_type(TransformType.KE)
        assert (list(wire.children), len(wire.established)) == ([child.spi_in], 1)
        (refused,) = wire.seen(events.ChildRefused)
        assert (refused.spi_in, refused.rekeying) == (child.spi_in, True)

    def test_the_group_of_the_profile_is_not_traded_for_a_weak_one(self) -> None:
        """Windows has been seen to offer MODP-1024 when it rekeys, whatever it had agreed to before."""
        wire = native_wire(COMPATIBLE)
        peer = established(wire, windows.REGISTRY)
        offer = windows.downgraded_offer(b"\7" * 8)
        peer.rekey_ike(offer, Group.MODP_2048)
        wire.run()
        assert peer.answered_error == "NO_PROPOSAL_CHOSEN"
        assert len(wire.established) == 1


class TestApple:
    @pytest.mark.parametrize("client", [apple.IOS, apple.MACOS, apple.NEWER, apple.PROFILE], ids=lambda c: c.name)
    def test_rekeys_ike_with_the_suite_that_it_has(self, client: NativeClient) -> None:
        """After 8, 24 or 48 minutes; a refusal would end the tunnel."""
        wire = native_wire()
        peer = established(wire, client)
        suite = apple.suite_of(peer.suite)
        peer.rekey_ike(apple.ike_offer([suite], b"\7" * 8), peer.suite.group)
        wire.run()
        assert peer.answered_error == ""
        assert peer.answered_proposal.number == 1
        assert {transform.id for transform in peer.answered_proposal.transforms} == {one[1] for one in suite}

    def test_a_proposal_that_does_not_count_from_one_is_answered_by_its_number(self) -> None:
        wire = native_wire()
        peer = established(wire, apple.MACOS)
        offer = apple.ike_offer([apple.suite_of(peer.suite)], b"\7" * 8, first=3)
        peer.rekey_ike(offer, Group.MODP_2048)
        wire.run()
        assert (peer.answered_error, peer.answered_proposal.number) == ("", 3)

    def test_an_iphone_offers_its_child_sa_with_and_without_a_key_exchange(self) -> None:
        wire = native_wire()
        peer = established(wire, apple.IOS)
        offer = apple.child_offer_with_key_exchange(b"\0\0\x20\2")
        peer.create_child(offer, rekeyed_spi=peer.spi_in, group=Group.MODP_2048)
        wire.run()
        assert (peer.answered_error, peer.answered_proposal.number) == ("", 1)
        assert peer.answer is not None
        assert peer.answer.first(PayloadType.KE) is not None

    def test_our_profile_rekeys_with_a_key_exchange(self) -> None:
        wire = native_wire()
        peer = established(wire, apple.PROFILE)
        offer = apple.profile_child_with_key_exchange(b"\0\0\x20\2")
        peer.create_child(offer, rekeyed_spi=peer.spi_in, group=Group.ECP_384)
        wire.run()
        assert peer.answered_error == ""
        assert peer.answer is not None
        assert peer.answer.first(PayloadType.KE) is not None

    def test_eap_only_does_not_keep_the_gateway_from_proving_itself(self) -> None:
        """MSCHAPv2 does not show who the server is, so the certificate has to (RFC 5998 section 3)."""
        wire = native_wire()
        peer = established(wire, apple.EAP_ONLY)
        assert peer.gateway_auth_method == AuthMethod.RSA_SIGNATURE

    def test_split_dns_and_subnets_for_a_split_tunnel(self) -> None:
        wire = native_wire()
        wire.aaa.networks, wire.aaa.dns = SPLIT, (IPv4Address("10.1.0.53"),)
        wire.aaa.dns_domains = ("corp.example", "lab.example")
        peer = established(wire, apple.SUBNETS)
        assert peer.reply[CfgAttribute.INTERNAL_DNS_DOMAIN] == [b"corp.example", b"lab.example"]
        assert peer.reply[CfgAttribute.INTERNAL_IP4_SUBNET] == [bytes((10, 1, 0, 0, 255, 255, 0, 0))]
        assert [str(one) for one in peer.selectors[1]] == ["10.1.0.0-10.1.255.255"]

    def test_set_up_by_hand_an_iphone_takes_rsa_only(self) -> None:
        wire = native_wire(credentials=(native_credential("p256"),))
        assert connect(wire, case_of(apple.IOS)).error == "only RSA certificates are taken"
        established(native_wire(credentials=(native_credential("p256"),)), apple.MACOS)


class TestAndroid:
    @pytest.mark.parametrize(
        ("client", "policy", "groups", "asked_for"),
        [
            (android.ANDROID_12, MODERN, MODERN.groups, []),
            (android.ANDROID_12, MODERN, (Group.CURVE25519, Group.ECP_256), [Group.CURVE25519]),
            (android.ANDROID_12, MODERN, (Group.MODP_2048,), [Group.MODP_2048]),
            (android.ANDROID_11, COMPATIBLE, (Group.CURVE25519, Group.MODP_2048), [Group.MODP_2048]),
            (android.ANDROID_11, COMPATIBLE, (Group.MODP_3072,), [Group.MODP_3072]),
        ],
        ids=lambda value: value.name if isinstance(value, NativeClient | ProposalPolicy) else None,
    )
    def test_begins_with_modp_4096_and_takes_another_group(
        self, client: NativeClient, policy: ProposalPolicy, groups: tuple[Group, ...], asked_for: list[Group]
    ) -> None:
        wire = native_wire(replace(policy, groups=groups))
        peer = established(wire, client)
        assert peer.asked_for == asked_for
        assert wire.sa.suite.group == (asked_for or [Group.MODP_4096])[0]

    def test_a_group_that_it_does_not_offer_is_not_asked_for(self) -> None:
        wire = native_wire(replace(MODERN, groups=(Group.ECP_256, Group.ECP_384)))
        peer = connect(wire, case_of(android.ANDROID_12))
        assert (peer.error, peer.asked_for) == ("NO_PROPOSAL_CHOSEN", [])

    @pytest.mark.parametrize(
        "asked",
        [GATEWAY_NAME, Identification(IdType.IPV4_ADDR, IPv4Address("192.0.2.1").packed)],
        ids=["name", "address"],
    )
    def test_idr_is_the_server_address_as_it_was_typed(self, asked: Identification) -> None:
        wire = native_wire(identities=(GATEWAY_NAME, asked))
        peer = connect(wire, case_of(android.ANDROID_12), gateway_identity=asked)
        assert peer.gateway_identity_body == asked.to_bytes()

    def test_a_name_that_is_not_ours_ends_it_on_the_client(self) -> None:
        wire = native_wire()
        peer = connect(wire, case_of(android.ANDROID_12), gateway_identity=Identification.fqdn("other.example"))
        assert peer.error == "IDr is gateway.example, which is not what was asked for"

    @pytest.mark.parametrize("kind", ["p256", "ed25519"])
    def test_takes_rsa_only(self, kind: Any) -> None:
        wire = native_wire(credentials=(native_credential(kind),))
        peer = connect(wire, case_of(android.ANDROID_12))
        assert peer.phase is Phase.FAILED
