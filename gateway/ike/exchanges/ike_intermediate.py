"""IKE_INTERMEDIATE (RFC 9242) for additional key exchanges (RFC 9370 section 2.2.2), before IKE_AUTH.

request: KEi(n)  ->  KEr(n), once for each method that IKE_SA_INIT agreed on, in order

Each exchange is protected by the keys that the one before it made, and makes new ones. AUTH covers them all: IntAuth
is chained over the messages as they were before any fragmentation, so a stranger in between can change none.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING

from gateway.ike.admission import admit
from gateway.ike.constants import IKE_HEADER_BYTES, ExchangeType, Group, PayloadType, Prf
from gateway.ike.crypto import key_exchange
from gateway.ike.crypto.prf import prf
from gateway.ike.errors import InvalidSyntax
from gateway.ike.fragments import Fragment
from gateway.ike.keymat import IkeKeys, derive_intermediate_ike_keys
from gateway.ike.message import Header, Payloads, chain
from gateway.ike.payloads.ke import KeyExchange

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa

_SK_HEADER = struct.Struct("!BBH")


class Intermediate:
    """The exchanges that are still to be made before IKE_AUTH, and what AUTH has to cover of those that were."""

    __slots__ = ("_auth_i", "_auth_r", "_made", "_prf", "pending")

    def __init__(self, algorithm: Prf, methods: tuple[Group, ...]) -> None:
        self._prf = algorithm
        self._auth_i = self._auth_r = b""
        self._made = 0
        self.pending = deque(methods)
        """The methods of the key exchanges to come."""

    def cover_request(self, keys: IkeKeys, message: Fragment) -> None:
        """IntAuth_i of a request; the keys are those under which it is protected, not those that it makes."""
        self._auth_i = prf(self._prf, keys.pi, self._auth_i + covered(message))

    def cover_response(self, keys: IkeKeys, message: Fragment) -> None:
        """IntAuth_r of the response, likewise; the exchange is complete."""
        self._auth_r = prf(self._prf, keys.pr, self._auth_r + covered(message))
        self.pending.popleft()
        self._made += 1

    @property
    def int_auth(self) -> bytes:
        """IntAuth_iN | IntAuth_rN | message id of the first IKE_AUTH; empty where no exchange took place."""
        if not self._made:
            return b""
        return self._auth_i + self._auth_r + (self._made + 1).to_bytes(4, "big")


def covered(message: Fragment) -> bytes:
    """The A and P chunks of a message (RFC 9242 section 3.3.2): headers and inner payloads.

    Both lengths are what they would be without IV, padding and ICV. A message that went in fragments is described as
    if it had gone whole, with the flags of its first fragment.

    Args:
        message: all inner payloads, with the datagram of the first fragment, of which only the headers are looked at.
    """
    header = Header.of(message.datagram)
    flags = message.datagram[IKE_HEADER_BYTES + 1]
    size = _SK_HEADER.size + len(message.plain)
    whole = header._replace(next_payload=PayloadType.SK, length=IKE_HEADER_BYTES + size)
    return whole.to_bytes() + _SK_HEADER.pack(message.first_payload, flags, size) + message.plain


def handle_request(sa: IkeSa, payloads: Payloads) -> None:
    """A verified request: the next key exchange.

    Raises:
        InvalidSyntax: none is due, or another one.
    """
    request = payloads.whole
    payloads = admit(ExchangeType.IKE_INTERMEDIATE, payloads, response=False, encrypted=True)
    intermediate, keys = sa.intermediate, sa.keys
    if intermediate is None or not intermediate.pending or keys is None or request is None:
        raise InvalidSyntax("IKE_INTERMEDIATE that was not agreed on")
    ke = KeyExchange.parse(payloads.require(PayloadType.KE))
    method = intermediate.pending[0]
    if ke.group != method:
        raise InvalidSyntax(f"key exchange by method {ke.group} where {method.name} is due")
    public, shared = key_exchange.respond(method, ke.public)
    answer = [(PayloadType.KE, KeyExchange(method, public).to_bytes())]
    intermediate.cover_request(keys, request)
    sa.respond(ExchangeType.IKE_INTERMEDIATE, answer)
    intermediate.cover_response(keys, Fragment(*chain(answer), sa.peer.answered[sa.peer.current].response[0]))
    sa.use_keys(derive_intermediate_ike_keys(sa.suite, keys.d, shared, sa.nonce_i, sa.nonce_r, sa.spi_i, sa.spi_r))
