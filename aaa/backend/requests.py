"""What is asked of the database thread, one class for each kind of request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from aaa.interface import (
    Access,
    FirstFactor,
    HandshakeKind,
    HandshakeReport,
    Network,
    Refusal,
    Resumed,
    SessionStart,
    SessionUsage,
    SignInContext,
    TerminateCause,
)
from core.audit import Entry

Reply = Callable[[], None]
"""An answer with its receiver bound; run on the caller's thread after the commit."""

UNAVAILABLE = Refusal("backend-unavailable", "the database can't be reached, so nobody can be let in")
BROKEN = Refusal("internal-error", "the request could not be handled; the gateway's log says why")


class Request:
    """Base of all requests.

    A durable request is written in the end, whatever happens to the database meanwhile; the others are
    answered at once with a refusal where it can't be reached.
    """

    __slots__ = ()

    durable = False
    writes = True

    def refused(self, refusal: Refusal) -> Reply | None:
        """The answer for a request that can't be handled now (or never), if anyone waits for one."""
        raise NotImplementedError

    def wanted(self) -> bool:
        """False once nobody waits for the answer any more; it is then not handled."""
        return True


class Heartbeat(Request):
    """Note that the gateway is at work; a lost one is followed by the next."""

    __slots__ = ()

    def refused(self, refusal: Refusal) -> None:
        """Nobody waits."""


@dataclass(frozen=True, slots=True)
class StoredCode:
    """An access code as stored, usable or not: which it is, is decided after the peer has shown that it has it."""

    device_id: str
    encrypted_nt_hash: bytes


@dataclass(frozen=True, slots=True)
class FoundUser:
    """What the directory has for an identity."""

    user_name: str | None
    """None for an identity that is nobody's."""
    codes: tuple[StoredCode, ...]


@dataclass(slots=True)
class FindCodes(Request):
    """Look up the access codes of whoever the identity is."""

    identity: str
    reply: Callable[[FoundUser | Refusal], None]
    is_wanted: Callable[[], bool]

    writes = False

    def refused(self, refusal: Refusal) -> Reply:
        """Fail closed."""
        return lambda: self.reply(refusal)

    def wanted(self) -> bool:
        """Until the conversation is closed."""
        return self.is_wanted()


@dataclass(frozen=True, slots=True)
class Vouched:
    """Whom a certificate of another CA names, and what is known of its revocation; or whose password was right."""

    authority: str
    """The CA or the directory, by its name in the settings."""
    names_user: bool
    user_names: tuple[str, ...]
    """What the user may be called here, the most specific first."""
    device_id: str
    device_names: tuple[str, ...]
    """What the device may be called here; the id, where the certificate has that, goes before."""
    holder_id: str
    """The id of the device where it is not in the inventory."""
    revocation: str
    """In words, for the audit log."""
    holder_name: str = ""
    """What the device is called where it is not in the inventory; empty for authority and number of a certificate."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a peer has proved to possess."""

    method: str
    identity: str
    """As the peer gave it."""
    device_id: str
    """Empty with a certificate of another CA: which device it is, the directory tells."""
    code: StoredCode | None = None
    certificate_serial: str = ""
    vouched: Vouched | None = None
    """Set where another CA signed the certificate, or a directory took the password."""


@dataclass(slots=True)
class DecideSignIn(Request):
    """Decide on an authenticated peer, and write the audit event of the decision."""

    context: SignInContext
    proof: Proof
    reply: Callable[[Access | Refusal], None]
    is_wanted: Callable[[], bool]
    first: Proof | None = None
    """Of the device, where its user has proved who it is as well."""

    def refused(self, refusal: Refusal) -> Reply:
        """Fail closed."""
        return lambda: self.reply(refusal)

    def wanted(self) -> bool:
        """Until the conversation is closed."""
        return self.is_wanted()


@dataclass(slots=True)
class CheckDevice(Request):
    """See whether a device may bring its user, and write the audit event where it may not."""

    context: SignInContext
    proof: Proof
    reply: Callable[[FirstFactor | Refusal], None]

    def refused(self, refusal: Refusal) -> Reply:
        """Fail closed."""
        return lambda: self.reply(refusal)


@dataclass(slots=True)
class DecideSite(Request):
    """Decide on a site peer that has proved itself, and write the audit event of the decision."""

    context: SignInContext
    name: str
    networks: tuple[Network, ...]
    """Behind it."""
    reply: Callable[[Access | Refusal], None]

    def refused(self, refusal: Refusal) -> Reply:
        """Fail closed."""
        return lambda: self.reply(refusal)


@dataclass(slots=True)
class DecideResumption(Request):
    """Decide on a peer that comes back with a ticket, and write the audit event of the decision."""

    context: SignInContext
    resumed: Resumed
    reply: Callable[[Access | Refusal], None]

    def refused(self, refusal: Refusal) -> Reply:
        """Fail closed."""
        return lambda: self.reply(refusal)


@dataclass(slots=True)
class OpenSession(Request):
    """Write the accounting record of a session, if its device may still have one."""

    start: SessionStart
    reply: Callable[[Refusal | None], None]

    def refused(self, refusal: Refusal) -> Reply | None:
        """Fail closed: no session without its record."""
        return lambda: self.reply(refusal)


class ReportedSession(OpenSession):
    """The beginning of a session that a RADIUS client reports, perhaps not for the first time.

    It is up already, whatever becomes of its record. So that waits its turn, before what is told of it later: an end
    that was written first would end nothing, and the beginning after it would never end.
    """

    __slots__ = ()

    durable = True

    def refused(self, refusal: Refusal) -> Reply | None:
        """One that waits is written later; one that broke the transaction is not."""
        return (lambda: self.reply(refusal)) if refusal == BROKEN else None


@dataclass(slots=True)
class UpdateSession(Request):
    """Interim accounting."""

    usage: SessionUsage
    at: datetime
    written: Reply | None = None

    durable = True

    def refused(self, refusal: Refusal) -> None:
        """Nobody waits for it."""


@dataclass(slots=True)
class CloseSession(Request):
    """The end of a session."""

    usage: SessionUsage
    cause: TerminateCause
    at: datetime
    written: Reply | None = None

    durable = True

    def refused(self, refusal: Refusal) -> None:
        """Whoever waits for it waits until it is written."""


@dataclass(slots=True)
class CloseGatewaySessions(Request):
    """A network access server has no session (any more); none that is open here goes on."""

    gateway: str
    cause: TerminateCause
    recorded: Callable[[bool], None]

    def refused(self, refusal: Refusal) -> Reply:
        """Whoever asked asks again."""
        return lambda: self.recorded(False)


@dataclass(slots=True)
class WriteEvent(Request):
    """An audit event of its own, such as a refusal that needed no database."""

    entry: Entry
    reply: Reply | None = None

    durable = True

    def refused(self, refusal: Refusal) -> Reply | None:
        """The event is written later; whoever is told about it need not wait that long."""
        del refusal
        reply, self.reply = self.reply, None
        return reply


@dataclass(slots=True)
class WriteReport(Request):
    """The explanation of a handshake. An outage is when operators want it, so it waits; but it goes before others."""

    context: SignInContext
    report: HandshakeReport
    at: datetime

    durable = True

    def refused(self, refusal: Refusal) -> None:
        """Nobody waits for it."""


@dataclass(slots=True)
class CountHandshakes(Request):
    """Counts of handshakes that came to an end."""

    counts: Mapping[HandshakeKind, int]
    at: datetime

    durable = True

    def refused(self, refusal: Refusal) -> None:
        """Nobody waits for it."""
