"""EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2): a password proven both ways, without being sent.

    server                                       peer
    Challenge (16 random bytes, server's name)   ->
                                                 <- Response (peer challenge, NT response, user name)
    Success Request (S=proof, M=text)            ->
                                                 <- Success Response

A wrong password gets no Failure Request: the retry that it may offer is not wanted, one that offers none is
left unanswered by Windows, and EAP-Failure says the same.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from aaa.eap.errors import FailureCode, LimitExceeded, MalformedPacket, WrongState
from aaa.eap.md4 import md4
from aaa.eap.method import MethodAsk, MethodContinue, MethodFailure, MethodLabel, MethodStep, MethodSuccess
from aaa.eap.mschapv2_keys import (
    NT_HASH_BYTES,
    authenticator_response,
    challenge_hash,
    nt_password_hash,
    nt_response,
    session_key,
)
from aaa.eap.packet import EapType
from aaa.eap.questions import Answer, NeedCredentials, NtCredential

__all__ = ["MsChapV2Method", "NtChecker", "NtCredential", "OpCode", "Response", "nt_password_hash"]

CHALLENGE_BYTES = 16
MAX_NAME_BYTES = 253
"""As long as an EAP identity may be."""

_HEADER = struct.Struct("!BBHB")
"""OpCode, MS-CHAPv2-ID, MS-Length, and of Challenge and Response the Value-Size."""
_HEADER_BYTES = 4
_RESPONSE_VALUE_BYTES = 49
_RESPONSE_NAME_OFFSET = 5 + _RESPONSE_VALUE_BYTES


class OpCode(IntEnum):
    """Section 2 of the draft."""

    CHALLENGE = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4
    CHANGE_PASSWORD = 7


@dataclass(frozen=True, slots=True)
class Response:
    """The peer's answer to the challenge.

    Layout: OpCode 1, MS-CHAPv2-ID 1, MS-Length 2, Value-Size 1 (49), peer challenge 16, reserved 8,
    NT response 24, flags 1, name.
    """

    peer_challenge: bytes
    nt_response: bytes
    name: bytes

    @classmethod
    def parse(cls, data: bytes) -> Response:
        """Decode. MS-CHAPv2-ID, the reserved bytes and the flags decide nothing and are not looked at.

        Raises:
            MalformedPacket: a length that does not fit, or another OpCode.
            LimitExceeded: a name longer than `MAX_NAME_BYTES`.
        """
        if len(data) < _RESPONSE_NAME_OFFSET:
            raise MalformedPacket("MS-CHAP-V2 response too short")
        op_code, _, length, value_size = _HEADER.unpack_from(data)
        if op_code != OpCode.RESPONSE:
            raise MalformedPacket("not an MS-CHAP-V2 response")
        if length != len(data) or value_size != _RESPONSE_VALUE_BYTES:
            raise MalformedPacket("MS-CHAP-V2 response with lengths that do not fit")
        name = data[_RESPONSE_NAME_OFFSET:]
        if len(name) > MAX_NAME_BYTES:
            raise LimitExceeded(f"MS-CHAP-V2 name of {len(name)} bytes, at most {MAX_NAME_BYTES} are taken")
        return cls(data[5:21], data[29:53], name)


class _State(Enum):
    CHALLENGED = 1
    PROVEN = 2
    ENDED = 3


class NtChecker:
    """Checks an NT response against what the user may answer with.

    Args:
        candidates: the credentials that the user may answer with. None at all means a user who is not known
            or has no credential: the response is checked against a hash that nobody has, so that the peer sees,
            and times, what it would with a wrong password.
        random: gives so many unpredictable bytes.
    """

    __slots__ = ("_candidates", "_decoy")

    def __init__(self, candidates: Sequence[NtCredential], random: Callable[[int], bytes]) -> None:
        self._candidates = tuple(candidates)
        self._decoy = NtCredential("", random(NT_HASH_BYTES))

    def check(self, challenge: bytes, response: bytes) -> NtCredential | MethodFailure:
        """The credential that made the response, or why there is none.

        Args:
            challenge: 8 bytes, of `challenge_hash`.
            response: the 24 bytes of the NT response.
        """
        chosen: NtCredential | None = None
        # Every candidate is tried, whichever fits, so that time says no more than how many there are.
        for candidate in self._candidates or (self._decoy,):
            if hmac.compare_digest(nt_response(candidate.nt_hash, challenge), response):
                chosen = candidate
        if not self._candidates:
            return MethodFailure(FailureCode.UNKNOWN_USER, "there is no valid access code for this user")
        if chosen is None:
            return MethodFailure(FailureCode.WRONG_CREDENTIAL, "the password fits no valid access code of this user")
        return chosen


class MsChapV2Method:
    """The server's side of one run. It asks for the user's credentials before it challenges the peer.

    Args:
        identity: whose.
        server_name: what the challenge says that it comes from.
        identifier: the EAP identifier of the challenge, which MS-CHAPv2-ID repeats.
        random: gives so many unpredictable bytes.
    """

    __slots__ = (
        "_challenge",
        "_checker",
        "_identifier",
        "_identity",
        "_random",
        "_server_name",
        "_state",
        "_success",
    )

    eap_type = EapType.MSCHAPV2
    label: MethodLabel = "eap-mschapv2"

    def __init__(self, identity: str, server_name: str, identifier: int, random: Callable[[int], bytes]) -> None:
        self._identity = identity
        self._server_name = server_name.encode()[:MAX_NAME_BYTES]
        self._identifier = identifier
        self._random = random
        self._challenge = b""
        self._checker: NtChecker | None = None
        self._success: MethodSuccess | None = None
        self._state = _State.CHALLENGED

    def start(self) -> MethodAsk:
        """The question for credentials."""
        return MethodAsk(NeedCredentials(self._identity))

    def answer(self, answer: Answer) -> MethodContinue:
        """The Challenge.

        Raises:
            WrongState: no credentials were asked for.
        """
        if not isinstance(answer, Sequence) or self._checker is not None:
            raise WrongState("EAP-MSCHAPv2 asked for credentials, once")
        self._challenge = self._random(CHALLENGE_BYTES)
        self._checker = NtChecker(answer, self._random)
        length = _HEADER.size + CHALLENGE_BYTES + len(self._server_name)
        header = _HEADER.pack(OpCode.CHALLENGE, self._identifier, length, CHALLENGE_BYTES)
        return MethodContinue(header + self._challenge + self._server_name)

    def process(self, data: bytes) -> MethodStep:
        """Check the Response, then await the Success Response.

        Raises:
            MalformedPacket: a packet that the method does not wait for.
            LimitExceeded: a name that is too long.
        """
        if self._state is _State.CHALLENGED:
            self._state = _State.ENDED
            return self._check(Response.parse(data))
        if self._state is _State.PROVEN and self._success is not None:
            self._state = _State.ENDED
            return self._confirm(data)
        raise MalformedPacket("MS-CHAP-V2 packet after the end")

    def _check(self, response: Response) -> MethodStep:
        if self._checker is None:
            raise MalformedPacket("MS-CHAP-V2 response before the challenge")
        challenge = challenge_hash(response.peer_challenge, self._challenge, response.name)
        chosen = self._checker.check(challenge, response.nt_response)
        if isinstance(chosen, MethodFailure):
            return chosen
        nt_hash_hash = md4(chosen.nt_hash)
        self._success = MethodSuccess(session_key(nt_hash_hash, response.nt_response), chosen.key)
        self._state = _State.PROVEN
        message = authenticator_response(nt_hash_hash, response.nt_response, challenge) + b" M=Welcome"
        length = _HEADER_BYTES + len(message)
        return MethodContinue(struct.pack("!BBH", OpCode.SUCCESS, self._identifier, length) + message)

    def _confirm(self, data: bytes) -> MethodStep:
        if data == _FAILURE_RESPONSE:
            return MethodFailure(FailureCode.CLIENT_REFUSED_SERVER, "the client did not accept the server's proof")
        if data != _SUCCESS_RESPONSE or self._success is None:
            raise MalformedPacket("not an MS-CHAP-V2 success response")
        return self._success


_SUCCESS_RESPONSE = bytes((OpCode.SUCCESS,))
_FAILURE_RESPONSE = bytes((OpCode.FAILURE,))
