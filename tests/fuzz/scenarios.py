"""The negotiations that are attacked, and the clients that attack them from inside."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from random import Random
from typing import Any

from aaa.eap.errors import EapError
from aaa.eap.server import MethodName
from gateway.ike.channel import Channel, OutPayloads
from gateway.ike.config import SitePeer
from gateway.ike.constants import Encr, ExchangeType, Group, NotifyType, PayloadType, ProtocolId, TransformType
from gateway.ike.errors import IkeError
from gateway.ike.message import Header, Payloads, chain
from gateway.ike.path import Path
from gateway.ike.payloads.delete import Delete
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.payloads.security_association import Transform, proposals_to_bytes
from gateway.ike.selectors import TrafficSelector
from tests.fuzz.mutations import mutate_payloads
from tests.peers.initiator import Initiator, InitiatorConfig, Phase
from tests.unit.aaa.eap.authority import house
from tests.unit.aaa.eap.conversation import peer_of
from tests.unit.gateway.ike import offers
from tests.unit.gateway.ike.credentials import client_credential
from tests.unit.gateway.ike.wire import mschapv2


@dataclass(frozen=True)
class Scenario:
    """One way to sign in."""

    name: str
    client: Callable[[], InitiatorConfig]
    methods: tuple[MethodName, ...] = ("mschapv2", "tls")
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Of a site, which gets no addresses."""


_SITE_KEY, _PPK_NAME, _PPK = b"a pre-shared key of a branch", b"quantum-1", b"p" * 32
_BRANCH = Identification.fqdn("branch.example")
_EVERYTHING = (TrafficSelector(7, 0, 0, 65_535, 0, 2**32 - 1), TrafficSelector(8, 0, 0, 65_535, 0, 2**128 - 1))
AUTHENTICATION: dict[str, Any] = {
    "eap_only": True,
    "site_peers": (SitePeer("branch", _BRANCH, _SITE_KEY),),
    "ppks": {_PPK_NAME: _PPK},
}
"""Of the responder, so that each scenario is possible."""


def _certificate() -> InitiatorConfig:
    credential = client_credential("p256")
    return InitiatorConfig(
        identity=Identification.fqdn("laptop-1"),
        chain_der=credential.chain_der,
        private_key=credential.private_key,
        ask_ipv6=True,
    )


def _fragmented() -> InitiatorConfig:
    config = _certificate()
    config.fragment_size_bytes = 400
    return config


def _hybrid() -> InitiatorConfig:
    config = mschapv2()
    config.suite = replace(config.suite, additional=(Group.ML_KEM_768, Group.ML_KEM_1024))
    return config


def _device_and_user() -> InitiatorConfig:
    config = mschapv2()
    return replace(_certificate(), eap=config.eap, user_identity=Identification.fqdn("alice"))


def _site() -> InitiatorConfig:
    return InitiatorConfig(
        identity=_BRANCH,
        pre_shared_key=_SITE_KEY,
        ask_ipv4=False,
        initiator_selectors=_EVERYTHING,
        responder_selectors=_EVERYTHING,
    )


SCENARIOS = (
    Scenario("EAP-MSCHAPv2", mschapv2),
    Scenario("EAP-TLS", lambda: InitiatorConfig(eap=peer_of(house().laptop)), ("tls",)),
    Scenario("certificate", _certificate),
    Scenario("fragmented certificate", _fragmented),
    Scenario("additional key exchanges", _hybrid),
    Scenario("device and user", _device_and_user),
    Scenario(
        "EAP alone", lambda: InitiatorConfig(eap=peer_of(house().laptop), announce_eap_only=True), methods=("tls",)
    ),
    Scenario("site", _site, networks=(IPv4Network("10.20.0.0/16"), IPv6Network("fd20::/64"))),
    Scenario("post-quantum pre-shared key", lambda: replace(_certificate(), ppk=(_PPK_NAME, _PPK))),
    Scenario("childless", lambda: replace(mschapv2(), childless=True)),
)

_HYBRID_ESP = offers.esp_proposal(1, [(Encr.AES_GCM_16, 256)], groups=[Group.CURVE25519])
_HYBRID_ESP = replace(
    _HYBRID_ESP, transforms=(*_HYBRID_ESP.transforms, Transform(TransformType.ADDKE1, Group.ML_KEM_768))
)
AFTERWARDS: tuple[tuple[ExchangeType, list[tuple[PayloadType, bytes]]], ...] = (
    (ExchangeType.INFORMATIONAL, []),
    (ExchangeType.INFORMATIONAL, [(PayloadType.NOTIFY, Notify(40_000, b"private").to_bytes())]),
    (
        ExchangeType.CREATE_CHILD_SA,
        [
            (PayloadType.SA, proposals_to_bytes(offers.WINDOWS_PROFILE_ESP)),
            (PayloadType.NONCE, b"n" * 32),
            (PayloadType.TSI, bytes.fromhex("01000000070000100000ffff00000000ffffffff")),
            (PayloadType.TSR, bytes.fromhex("01000000070000100000ffff00000000ffffffff")),
        ],
    ),
    (
        ExchangeType.CREATE_CHILD_SA,
        [
            (PayloadType.SA, proposals_to_bytes((_HYBRID_ESP,))),
            (PayloadType.NONCE, b"n" * 32),
            (PayloadType.KE, KeyExchange(Group.CURVE25519, b"\x09" + bytes(31)).to_bytes()),
            (PayloadType.TSI, bytes.fromhex("01000000070000100000ffff00000000ffffffff")),
            (PayloadType.TSR, bytes.fromhex("01000000070000100000ffff00000000ffffffff")),
        ],
    ),
    (
        ExchangeType.IKE_FOLLOWUP_KE,
        [
            (PayloadType.KE, KeyExchange(Group.ML_KEM_768, bytes(1184)).to_bytes()),
            notify_payload(NotifyType.ADDITIONAL_KEY_EXCHANGE, b"a link of nobody"),
        ],
    ),
    (ExchangeType.INFORMATIONAL, [(PayloadType.DELETE, Delete(ProtocolId.ESP, (b"\xc0\xff\xee\x01",)).to_bytes())]),
    (ExchangeType.INFORMATIONAL, [(PayloadType.DELETE, Delete(ProtocolId.IKE).to_bytes())]),
)
"""What clients ask for when they are in."""


class Insider(Initiator):
    """A peer with the right keys that sends malformed payloads under them, and takes whatever comes back."""

    def __init__(self, config: InitiatorConfig, path: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        super().__init__(config, path, random)
        self.chance = 0.0
        """Of each message to be bad."""
        self.dice = Random(0)
        self.bad_sent = 0

    def request(self, exchange: ExchangeType, payloads: OutPayloads) -> list[bytes]:
        """Send a request, or something like it."""
        if self.channel is None:
            return []
        datagrams = self._seal(self.channel, exchange, self.message_id, payloads, response=False)
        self.send(datagrams)
        return datagrams

    def answer_request(self, header: Header) -> list[bytes]:
        """Answer a request of the gateway, or something like it."""
        if self.channel is None:
            return []
        return self._seal(self.channel, ExchangeType.INFORMATIONAL, header.message_id, [], response=True)

    def _seal(
        self, channel: Channel, exchange: ExchangeType, message_id: int, payloads: OutPayloads, *, response: bool
    ) -> list[bytes]:
        first, plain = chain(payloads)
        bad = self.dice.random() < self.chance
        if bad:
            first, plain = mutate_payloads(self.dice, first, plain)
            exchange = ExchangeType(self.dice.choice(tuple(ExchangeType))) if self.dice.random() < 0.1 else exchange
        try:
            datagrams = channel.seal_plain(exchange, message_id, first, plain, response=response)
        except ValueError:
            # Too long for 64 fragments.
            return []
        self.bad_sent += len(datagrams) if bad else 0
        return datagrams

    def receive_datagram(self, data: bytes) -> None:
        """Whatever the gateway makes of it is not this side's concern."""
        try:
            super().receive_datagram(data)
        except (IkeError, EapError, ValueError, IndexError, KeyError):
            self.phase = Phase.FAILED

    def receive_answer(self, header: Header, payloads: Payloads) -> None:
        """Go on as if nothing had been wrong."""
        if self.phase is Phase.FAILED and header.exchange != ExchangeType.IKE_AUTH:
            self.phase = Phase.ESTABLISHED
