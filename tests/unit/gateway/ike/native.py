"""Native clients on the wire, behind a NAT or not. They begin on port 500 and go on on 4500."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Literal

from cryptography import x509

from gateway.ike.config import Credential
from gateway.ike.constants import IdType
from gateway.ike.path import Path
from gateway.ike.payloads.identification import Identification
from tests.peers.eap import MsChapV2Peer, TlsPeer
from tests.peers.initiator import EapPeer
from tests.peers.native.client import NativeClient
from tests.peers.native.peer import DomainMsChapV2Peer, NativeConfig, NativePeer
from tests.unit.aaa.eap.authority import SERVER, house, issue
from tests.unit.gateway.ike.credentials import KeyKind, client_credential, gateway_credential, private_key
from tests.unit.gateway.ike.wire import GATEWAY, GATEWAY_NAME, PASSWORD, Client, Wire

Method = Literal["eap-mschapv2", "eap-tls", "certificate"]
PRIVATE, PUBLIC = "192.168.178.23", "203.0.113.9"
"""The client's own address, and the one that its NAT gives it."""
NAT_PORTS = {500: 63_721, 4500: 63_722}
"""What the NAT makes of the client's ports."""


@dataclass(frozen=True)
class Case:
    """A client and how its user signs in."""

    client: NativeClient
    method: Method
    identity: Identification

    def __str__(self) -> str:
        return f"{self.client.name}, {self.method}"


@functools.cache
def native_credential(kind: KeyKind = "rsa") -> Credential:
    """A gateway's certificate as native clients want it: name and address as SAN, for the use as a server."""
    key = private_key(kind, "gateway")
    name = GATEWAY_NAME.data.decode()
    names = [x509.DNSName(name), x509.IPAddress(IPv4Address(GATEWAY))]
    issued = issue(name, house().issuing, usage=SERVER, key=key, names=names)
    return replace(gateway_credential(kind), chain_der=tuple(issued.chain))


def eap_peer(case: Case) -> EapPeer:
    """The client's side of its EAP method."""
    if case.method == "eap-tls":
        here = house()
        return TlsPeer("laptop-1", here.laptop.chain, here.laptop.key, [here.root.der])
    if "Windows" in case.client.name:
        return DomainMsChapV2Peer("COMPANY\\alice", PASSWORD)
    return MsChapV2Peer("alice", PASSWORD)


def own_address() -> Identification:
    """What Windows has for IDi where it signs in by EAP, and Apple where the local ID is left empty."""
    return Identification(IdType.IPV4_ADDR, IPv4Address(PRIVATE).packed)


def subject() -> Identification:
    """What Windows has for IDi where it signs in by certificate."""
    certificate = x509.load_der_x509_certificate(client_credential().chain_der[0])
    return Identification(IdType.DER_ASN1_DN, certificate.subject.public_bytes())


def outer(port: int, *, nat: bool) -> Path:
    """The path of what the client sends from one of its ports, as the gateway sees it."""
    return Path(GATEWAY, port, PUBLIC, NAT_PORTS[port]) if nat else Path(GATEWAY, port, PRIVATE, port)


def connect(
    wire: Wire, case: Case, *, nat: bool = True, gateway_identity: Identification = GATEWAY_NAME
) -> NativePeer:
    """The client, as far as it gets."""
    credential = client_credential() if case.method == "certificate" else None
    config = NativeConfig(
        identity=case.identity,
        gateway_identity=gateway_identity if case.client.sends_idr else None,
        eap=None if credential else eap_peer(case),
        chain_der=credential.chain_der if credential else (),
        private_key=credential.private_key if credential else None,
        announce_hashes=bool(case.client.hashes),
        client=case.client,
    )
    peer = NativePeer(config, Path(PRIVATE, 500, GATEWAY, 500), wire.random.randbytes)
    place = Client(peer, outer(500, nat=nat))

    def change_port() -> None:
        place.outer = outer(4500, nat=nat)

    peer.before_auth = change_port
    wire.clients.append(place)
    peer.start()
    wire.run()
    return peer
