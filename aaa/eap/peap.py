"""PEAP version 0 ([MS-PEAP]) with TLS 1.2 and 1.3 (RFC 9427): a TLS tunnel, and EAP inside it.

    server                                          peer
    Start                                           ->
                       (TLS handshake, the server's certificate only)
                                                    <- (empty; with TLS 1.3 it goes on at once)
    Identity                                        -> <- Identity
    requests of the method inside                   -> <- its responses
    Result, Cryptobinding                           ->
                                                    <- Result, Cryptobinding

EAP inside goes without its header, all but what carries the TLVs.
"""

from __future__ import annotations

from collections.abc import Callable

from aaa.eap.errors import FailureCode, MalformedPacket, WrongState
from aaa.eap.method import MSK_BYTES, MethodContinue, MethodFailure, MethodLabel, MethodStep, MethodSuccess
from aaa.eap.packet import HEADER_BYTES, EapCode, EapPacket, EapType, request, response
from aaa.eap.peap_tlvs import (
    NONCE_BYTES,
    CompoundKeys,
    Result,
    Subtype,
    TlvType,
    parse_result,
    parse_tlvs,
    result_tlv,
)
from aaa.eap.questions import Answer
from aaa.eap.steps import Authenticated, Step
from aaa.eap.tls import TLS_1_2_LABEL
from aaa.eap.tls_server import TlsServer
from aaa.eap.tunnel import InnerServer, Tunnel, inner_step


class PeapMethod:
    """The server's side of one run.

    Args:
        server: what all tunnels share.
        open_inner: makes the EAP conversation inside.
        next_identifier: gives the EAP identifier of our next packet outside; clients want it inside as well.
        random: gives so many unpredictable bytes.
        binding_required: refuse a peer that does not prove to be at both ends of the tunnel. Without, one that
            does not try to is taken, and one that tries and fails is refused.
    """

    __slots__ = ("_binding_required", "_inner", "_keys", "_next_identifier", "_random", "_success", "_tunnel")

    eap_type = EapType.PEAP
    label: MethodLabel = "eap-peap"

    def __init__(
        self,
        server: TlsServer,
        open_inner: Callable[[], InnerServer],
        next_identifier: Callable[[], int],
        random: Callable[[int], bytes],
        *,
        binding_required: bool = True,
    ) -> None:
        self._tunnel = Tunnel(server)
        self._inner = open_inner()
        self._next_identifier = next_identifier
        self._random = random
        self._binding_required = binding_required
        self._keys: CompoundKeys | None = None
        self._success: MethodSuccess | None = None

    def start(self) -> MethodContinue:
        """The start."""
        return self._tunnel.start()

    def process(self, data: bytes) -> MethodStep:
        """A packet of the tunnel.

        Raises:
            MalformedPacket: fragments, EAP packets or TLVs that don't fit.
            LimitExceeded: more than anyone needs.
        """
        said = self._tunnel.take(data, self._established)
        if not isinstance(said, bytes):
            return said
        if self._success is not None:
            return self._conclude(said)
        if said:
            return self._advance(self._inner.receive(self._with_header(said)))
        return self._ask_identity()

    def answer(self, answer: Answer) -> MethodStep:
        """The answer to what the method inside asked."""
        return self._advance(self._inner.answer(answer))

    def _established(self) -> MethodStep:
        """With TLS 1.2 our Finished goes out, and the peer has to acknowledge it; with 1.3 it is our turn."""
        return self._ask_identity() if self._tunnel.link.is_tls_1_3 else self._tunnel.link.send()

    def _ask_identity(self) -> MethodStep:
        try:
            packet = self._inner.start()
        except WrongState:
            raise MalformedPacket("empty PEAP packet where an answer is due") from None
        return self._send(packet)

    def _with_header(self, said: bytes) -> bytes:
        """What the peer left out; its identifier can be no other than that of our request."""
        return response(self._inner.identifier, said[0], said[1:])

    def _advance(self, step: Step) -> MethodStep:
        return inner_step(step, self._send, self._authenticated, self._failed)

    def _send(self, packet: bytes) -> MethodStep:
        return self._tunnel.link.send(packet[HEADER_BYTES:])

    def _authenticated(self, step: Authenticated) -> MethodStep:
        material = self._tunnel.link.key_material(EapType.PEAP, TLS_1_2_LABEL)
        self._keys = CompoundKeys.derive(material, step.msk)
        self._success = MethodSuccess(material[:MSK_BYTES], step.credential_key)
        binding = self._keys.binding(Subtype.REQUEST, self._random(NONCE_BYTES))
        return self._tunnel.link.send(self._tlvs(result_tlv(Result.SUCCESS).to_bytes() + binding.to_bytes()))

    def _failed(self, failure: MethodFailure) -> MethodStep:
        return self._tunnel.link.send(self._tlvs(result_tlv(Result.FAILURE).to_bytes()), refusal=failure)

    def _tlvs(self, data: bytes) -> bytes:
        return request(self._next_identifier(), EapType.TLV, data)

    def _conclude(self, said: bytes) -> MethodStep:
        """The peer's own result, and its half of the cryptobinding."""
        success, keys = self._success, self._keys
        packet = EapPacket.parse(said)
        if packet.code != EapCode.RESPONSE or packet.type != EapType.TLV or success is None or keys is None:
            raise MalformedPacket("no PEAP result where one is due")
        results, bindings = [], []
        for tlv in parse_tlvs(packet.data):
            if tlv.type == TlvType.RESULT:
                results.append(parse_result(tlv.value))
            elif tlv.type == TlvType.CRYPTOBINDING:
                bindings.append(tlv)
            elif tlv.mandatory:
                raise MalformedPacket(f"mandatory PEAP TLV {tlv.type}")
        if len(results) != 1 or len(bindings) > 1:
            raise MalformedPacket("PEAP with no result, several, or several cryptobindings")
        if results[0] is not Result.SUCCESS:
            return MethodFailure(FailureCode.CLIENT_REFUSED_SERVER, "the client says that PEAP failed")
        if not bindings:
            if self._binding_required:
                return MethodFailure(
                    FailureCode.PROTOCOL_ERROR, "the client does no PEAP cryptobinding, which is required here"
                )
            return success
        if not keys.is_bound(bindings[0], Subtype.RESPONSE):
            return MethodFailure(
                FailureCode.PROTOCOL_ERROR, "the PEAP cryptobinding of the client is of another tunnel or method"
            )
        return MethodSuccess(keys.msk, success.credential_key)
