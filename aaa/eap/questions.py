"""What an EAP method asks its caller in the middle of a conversation, and the answers that come back.

The answer needs a database or a directory, which this package knows nothing of: so the question leaves as a
step, and the answer comes back by a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aaa.eap.errors import MalformedPacket

MAX_PASSWORD_BYTES = 256


@dataclass(frozen=True, slots=True)
class NtCredential:
    """One secret that the user may answer with, such as the access code of one of several devices."""

    key: str
    """Comes back in the verdict, to say which one it was."""
    nt_hash: bytes = field(repr=False)
    """16 bytes, of `nt_password_hash`."""


@dataclass(frozen=True, slots=True)
class NeedCredentials:
    """Look up what this user may sign in with, and call `provide_credentials`."""

    identity: str
    """As typed, with domain or realm; nothing is proven yet. Inside a tunnel the one that was said there."""


@dataclass(frozen=True, slots=True)
class NeedPassword:
    """Find out whether this is what the user has to say, and call `provide_password`."""

    identity: str
    """As for `NeedCredentials`."""
    password: str = field(repr=False)
    """Never empty, without NUL: a directory would take an empty one for a question without any."""
    can_ask: bool
    """Whether the peer can be asked something more, such as a one-time code."""


@dataclass(frozen=True, slots=True)
class PasswordRight:
    """It is."""

    key: str
    """Comes back in the verdict, as the `key` of an `NtCredential` does."""


@dataclass(frozen=True, slots=True)
class PasswordWrong:
    """It is not, or there is no such user: the peer does not learn which."""


@dataclass(frozen=True, slots=True)
class PasswordPrompt:
    """Not decided yet: show this to the user, whose answer comes as a further `NeedPassword`."""

    text: str


Question = NeedCredentials | NeedPassword
PasswordVerdict = PasswordRight | PasswordWrong | PasswordPrompt
Answer = Sequence[NtCredential] | PasswordVerdict


def decode_password(data: bytes) -> str:
    """The password as typed; empty where there is none.

    Raises:
        MalformedPacket: too long, not UTF-8, or with a NUL inside, behind which some directories look no further.
    """
    if len(data) > MAX_PASSWORD_BYTES:
        raise MalformedPacket(f"password of {len(data)} bytes, at most {MAX_PASSWORD_BYTES} are taken")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise MalformedPacket("password that is not UTF-8") from None
    if "\0" in text:
        raise MalformedPacket("password with a NUL")
    return text
