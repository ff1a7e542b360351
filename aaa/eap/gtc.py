"""EAP-GTC (RFC 3748 section 5.6): the server asks in words, the peer answers in words.

The answer goes over in the clear, and there is no key and no proof of the server: it is fit for the inside of a
tunnel that proved the server.
"""

from __future__ import annotations

from aaa.eap.errors import FailureCode, LimitExceeded, WrongState
from aaa.eap.method import MethodAsk, MethodContinue, MethodFailure, MethodLabel, MethodStep, MethodSuccess
from aaa.eap.packet import EapType
from aaa.eap.questions import Answer, NeedPassword, PasswordPrompt, PasswordRight, PasswordWrong, decode_password

MAX_PROMPTS = 4
"""In one conversation: a password, a code, and the next code where the first was used already."""
MAX_PROMPT_BYTES = 256

_FIRST_PROMPT = "Password: "


class GtcMethod:
    """The server's side of one run.

    Args:
        identity: whose password is asked for.
    """

    __slots__ = ("_identity", "_prompts")

    eap_type = EapType.GTC
    label: MethodLabel = "eap-gtc"

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._prompts = 0

    def start(self) -> MethodContinue:
        """The prompt for the password."""
        return self._prompt(_FIRST_PROMPT)

    def process(self, data: bytes) -> MethodStep:
        """The peer's answer to the prompt.

        Raises:
            MalformedPacket: what is no password.
        """
        password = decode_password(data)
        if not password:
            return MethodFailure(FailureCode.WRONG_CREDENTIAL, "the client sent an empty password")
        return MethodAsk(NeedPassword(self._identity, password, can_ask=self._prompts < MAX_PROMPTS))

    def answer(self, answer: Answer) -> MethodStep:
        """What the caller found out about the password.

        Raises:
            WrongState: that is none of it.
            LimitExceeded: more than `MAX_PROMPTS`.
        """
        match answer:
            case PasswordRight(key):
                return MethodSuccess(b"", key)
            case PasswordWrong():
                return WRONG_PASSWORD
            case PasswordPrompt(text):
                return self._prompt(text)
        raise WrongState("EAP-GTC asked about a password")

    def _prompt(self, text: str) -> MethodContinue:
        self._prompts += 1
        if self._prompts > MAX_PROMPTS:
            raise LimitExceeded(f"more than {MAX_PROMPTS} prompts in one conversation")
        return MethodContinue(text.encode()[:MAX_PROMPT_BYTES])


WRONG_PASSWORD = MethodFailure(FailureCode.WRONG_CREDENTIAL, "the password is not that of the user")
