"""Which EAP methods there are to offer, and what runs inside those that make a tunnel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aaa.eap.packet import EapType
from aaa.eap.tls_server import TlsServer
from aaa.eap.tunnel import InnerName

MethodName = Literal["mschapv2", "tls", "ttls", "peap", "gtc"]
"""As in the settings, which have `gtc` only for the inside of a tunnel: it makes no key and proves no server."""

TUNNELS: frozenset[MethodName] = frozenset({"ttls", "peap"})
"""Those inside which another authentication runs."""
MUTUAL_METHODS: frozenset[MethodName] = frozenset({"tls"})
"""Those that prove the server to the peer so well that it needs no other proof of it (RFC 5998 section 4)."""

TYPE_OF_METHOD: dict[MethodName, EapType] = {
    "mschapv2": EapType.MSCHAPV2,
    "tls": EapType.TLS,
    "ttls": EapType.TTLS,
    "peap": EapType.PEAP,
    "gtc": EapType.GTC,
}


@dataclass(frozen=True, slots=True)
class Inside:
    """What runs inside a tunnel, for those methods that make one."""

    tls: TlsServer
    """With the server's certificate, and without trust anchors: it is the method inside that proves the client."""
    methods: tuple[InnerName, ...]
    """In order of preference: of EAP the first is offered, the others on request; which of the rest it becomes is
    for the client to say."""
    binding_required: bool = True
    """Refuse clients that do no PEAP cryptobinding."""


def eap_methods(inside: Inside) -> tuple[MethodName, ...]:
    """What of it is EAP."""
    return tuple(name for name in inside.methods if name != "pap")
