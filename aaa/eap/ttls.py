"""EAP-TTLSv0 (RFC 5281) with TLS 1.2 and 1.3 (RFC 9427): a TLS tunnel, and AVPs inside it.

    server                                          peer
    Start                                           ->
                       (TLS handshake, the server's certificate only)
                                                    <- PAP: User-Name, User-Password
    or
                                                    <- MS-CHAP-V2: User-Name, MS-CHAP-Challenge, MS-CHAP2-Response
    MS-CHAP2-Success                                ->
                                                    <- (empty)
    or
                                                    <- EAP-Message (Response/Identity)
    EAP-Message (requests of the method inside)     -> <- EAP-Message (its responses)

One authentication is done inside, no sequence of them. The challenge of MS-CHAP-V2 comes from the tunnel's
keys, so that a response that was given outside, or in another tunnel, is worth nothing here.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable, Collection, Iterable, Sequence

from aaa.eap.errors import FailureCode, MalformedPacket, WrongState
from aaa.eap.gtc import WRONG_PASSWORD
from aaa.eap.identity import decode_identity
from aaa.eap.md4 import md4
from aaa.eap.method import (
    MSK_BYTES,
    MethodAsk,
    MethodContinue,
    MethodFailure,
    MethodLabel,
    MethodStep,
    MethodSuccess,
)
from aaa.eap.mschapv2 import NtChecker
from aaa.eap.mschapv2_keys import authenticator_response, challenge_hash
from aaa.eap.packet import EapType
from aaa.eap.questions import Answer, NeedCredentials, NeedPassword, PasswordRight, PasswordWrong, decode_password
from aaa.eap.steps import Authenticated, Step
from aaa.eap.tls_server import TlsServer
from aaa.eap.ttls_avps import MICROSOFT, Avp, AvpCode, MicrosoftCode, avps_to_bytes, parse_avps
from aaa.eap.tunnel import InnerName, InnerServer, Tunnel, inner_step

_KEY_LABEL = b"ttls keying material"
_CHALLENGE_LABEL = b"ttls challenge"
_CHALLENGE_BYTES = 16
_MS_CHAP2_RESPONSE = struct.Struct("!BB16s8s24s")
"""Ident, Flags, Peer-Challenge, Reserved, Response (RFC 2548 section 2.3.2)."""

_USER_NAME = (0, AvpCode.USER_NAME)
_USER_PASSWORD = (0, AvpCode.USER_PASSWORD)
_EAP_MESSAGE = (0, AvpCode.EAP_MESSAGE)
_MS_CHAP_CHALLENGE = (MICROSOFT, MicrosoftCode.MS_CHAP_CHALLENGE)
_MS_CHAP2_RESPONSE_KEY = (MICROSOFT, MicrosoftCode.MS_CHAP2_RESPONSE)
_PAP = {_USER_NAME, _USER_PASSWORD}
_MS_CHAP_V2 = {_USER_NAME, _MS_CHAP_CHALLENGE, _MS_CHAP2_RESPONSE_KEY}
# What these are is known, and they are refused with their names: CHAP needs the password itself, MS-CHAP is broken.
_REFUSED = {
    (0, AvpCode.CHAP_PASSWORD): "CHAP",
    (0, AvpCode.CHAP_CHALLENGE): "CHAP",
    (MICROSOFT, MicrosoftCode.MS_CHAP_RESPONSE): "MS-CHAP",
}
_UNDERSTOOD = _PAP | _MS_CHAP_V2 | {_EAP_MESSAGE} | set(_REFUSED)


class TtlsMethod:
    """The server's side of one run.

    Args:
        server: what all tunnels share.
        allowed: what may be spoken inside.
        open_inner: makes the EAP conversation inside, where EAP is among that.
        random: gives so many unpredictable bytes.
    """

    __slots__ = ("_allowed", "_inner", "_open_inner", "_pending", "_random", "_success", "_tunnel")

    eap_type = EapType.TTLS
    label: MethodLabel = "eap-ttls"

    def __init__(
        self,
        server: TlsServer,
        allowed: Collection[InnerName],
        open_inner: Callable[[], InnerServer | None],
        random: Callable[[int], bytes],
    ) -> None:
        self._tunnel = Tunnel(server)
        self._allowed = allowed
        self._open_inner = open_inner
        self._random = random
        self._inner: InnerServer | None = None
        self._pending: _MsChapV2 | _Pap | None = None
        self._success: MethodSuccess | None = None

    def start(self) -> MethodContinue:
        """The start."""
        return self._tunnel.start()

    def process(self, data: bytes) -> MethodStep:
        """A packet of the tunnel.

        Raises:
            MalformedPacket: fragments or AVPs that don't fit.
            LimitExceeded: more than anyone needs.
        """
        # With TLS 1.3 the server has nothing to say after the handshake but that it is the peer's turn.
        said = self._tunnel.take(data, self._tunnel.link.send)
        if not isinstance(said, bytes):
            return said
        if self._success is not None:
            if said:
                raise MalformedPacket("data inside the tunnel after the end")
            return self._success
        if not said:
            raise MalformedPacket("empty TTLS packet where the tunnel is to be used")
        return self._receive(_by_code(parse_avps(said)))

    def answer(self, answer: Answer) -> MethodStep:
        """The answer to what was asked about what the peer said inside.

        Raises:
            WrongState: nothing was asked, or something else.
        """
        if self._inner is not None:
            return self._advance(self._inner.answer(answer))
        pending, self._pending = self._pending, None
        if isinstance(pending, _MsChapV2) and isinstance(answer, Sequence):
            return self._check(pending, NtChecker(answer, self._random))
        if isinstance(pending, _Pap):
            if isinstance(answer, PasswordRight):
                return MethodSuccess(self._msk(), answer.key)
            if isinstance(answer, PasswordWrong):
                return WRONG_PASSWORD
        raise WrongState("that is no answer to what EAP-TTLS asked")

    def _receive(self, avps: dict[tuple[int, int], bytes]) -> MethodStep:
        codes = set(avps)
        if self._inner is not None:
            if codes != {_EAP_MESSAGE}:
                raise MalformedPacket("something else than EAP inside the tunnel, where EAP is under way")
            return self._advance(self._inner.receive(avps[_EAP_MESSAGE]))
        if codes == {_EAP_MESSAGE}:
            self._inner = self._open_inner()
            if self._inner is None:
                return self._not_allowed("EAP")
            return self._advance(self._inner.begin(avps[_EAP_MESSAGE]))
        if codes == _PAP:
            return self._pap(avps)
        if codes == _MS_CHAP_V2:
            return self._ms_chap_v2(avps)
        refused = next((_REFUSED[code] for code in _REFUSED if code in codes), None)
        if refused is not None:
            return self._not_allowed(refused)
        raise MalformedPacket("AVPs inside the tunnel that are no sign-in")

    def _pap(self, avps: dict[tuple[int, int], bytes]) -> MethodStep:
        if "pap" not in self._allowed:
            return self._not_allowed("PAP")
        identity = decode_identity(avps[_USER_NAME])
        # Padded with zeros to hide its length (RFC 5281 section 11.2.5).
        password = decode_password(avps[_USER_PASSWORD].rstrip(b"\0"))
        if not password:
            return MethodFailure(FailureCode.WRONG_CREDENTIAL, "the client sent an empty password")
        self._pending = _Pap()
        return MethodAsk(NeedPassword(identity, password, can_ask=False))

    def _ms_chap_v2(self, avps: dict[tuple[int, int], bytes]) -> MethodStep:
        if "mschapv2" not in self._allowed:
            return self._not_allowed("MS-CHAP-V2")
        name = avps[_USER_NAME]
        identity = decode_identity(name)
        pending = _MsChapV2(name, avps[_MS_CHAP2_RESPONSE_KEY])
        expected = self._tunnel.link.export(_CHALLENGE_LABEL, _CHALLENGE_BYTES + 1)
        shown = avps[_MS_CHAP_CHALLENGE] + bytes((pending.ident,))
        if not hmac.compare_digest(shown, expected):
            return MethodFailure(FailureCode.PROTOCOL_ERROR, "the MS-CHAP-V2 challenge is not that of this tunnel")
        pending.challenge = expected[:_CHALLENGE_BYTES]
        self._pending = pending
        return MethodAsk(NeedCredentials(identity))

    def _check(self, pending: _MsChapV2, checker: NtChecker) -> MethodStep:
        challenge = challenge_hash(pending.peer_challenge, pending.challenge, pending.name)
        chosen = checker.check(challenge, pending.response)
        if isinstance(chosen, MethodFailure):
            return chosen
        proof = authenticator_response(md4(chosen.nt_hash), pending.response, challenge)
        self._success = MethodSuccess(self._msk(), chosen.key)
        success = Avp(MicrosoftCode.MS_CHAP2_SUCCESS, bytes((pending.ident,)) + proof, MICROSOFT)
        return self._tunnel.link.send(success.to_bytes())

    def _advance(self, step: Step) -> MethodStep:
        return inner_step(step, self._send, self._authenticated, lambda failure: failure)

    def _send(self, packet: bytes) -> MethodStep:
        return self._tunnel.link.send(avps_to_bytes([Avp(AvpCode.EAP_MESSAGE, packet)]))

    def _authenticated(self, step: Authenticated) -> MethodStep:
        return MethodSuccess(self._msk(), step.credential_key)

    def _msk(self) -> bytes:
        return self._tunnel.link.key_material(EapType.TTLS, _KEY_LABEL)[:MSK_BYTES]

    def _not_allowed(self, name: str) -> MethodFailure:
        ours = ", ".join(self._allowed)
        return MethodFailure(FailureCode.NO_COMMON_METHOD, f"the client does {name} inside TTLS; here it is {ours}")


class _Pap:
    """A password that is being looked into."""

    __slots__ = ()


class _MsChapV2:
    """A response that is to be checked once the credentials are there."""

    __slots__ = ("challenge", "ident", "name", "peer_challenge", "response")

    def __init__(self, name: bytes, data: bytes) -> None:
        if len(data) != _MS_CHAP2_RESPONSE.size:
            raise MalformedPacket(f"MS-CHAP2-Response of {len(data)} bytes")
        self.name = name
        self.challenge = b""
        self.ident, _, self.peer_challenge, _, self.response = _MS_CHAP2_RESPONSE.unpack(data)


def _by_code(avps: Iterable[Avp]) -> dict[tuple[int, int], bytes]:
    """The AVPs that are understood; an EAP packet may come in several (RFC 5281 section 10.4), nothing else may.

    Raises:
        MalformedPacket: one that comes twice, or one that is not understood and has to be.
    """
    found: dict[tuple[int, int], bytes] = {}
    for avp in avps:
        key = (avp.vendor, avp.code)
        if key not in _UNDERSTOOD:
            if avp.mandatory:
                raise MalformedPacket(f"mandatory AVP {avp.code} of vendor {avp.vendor} inside the tunnel")
            continue
        if key in found and key != _EAP_MESSAGE:
            raise MalformedPacket(f"AVP {avp.code} of vendor {avp.vendor} twice inside the tunnel")
        found[key] = found.get(key, b"") + avp.data
    return found
