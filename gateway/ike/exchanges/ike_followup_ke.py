"""IKE_FOLLOWUP_KE (RFC 9370 section 2.2.4): the additional key exchanges that follow a CREATE_CHILD_SA.

request: KEi(n), N(ADDITIONAL_KEY_EXCHANGE)  ->  KEr(n), [N(ADDITIONAL_KEY_EXCHANGE)], once for each method

The notify carries a link that the responder chose and the initiator repeats; it is missing in the answer to the last
one. The SA, of either kind, is made when all key exchanges are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from gateway.ike.admission import admit
from gateway.ike.channel import OutPayloads
from gateway.ike.constants import ExchangeType, Group, NotifyType, PayloadType
from gateway.ike.crypto import key_exchange
from gateway.ike.crypto.key_exchange import KeyPair
from gateway.ike.errors import InvalidSyntax, StateNotFound
from gateway.ike.message import Payloads
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify, notify_payload
from gateway.ike.timers import Timer

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa

LINK_BYTES = 16
WAIT_S = 20.0
"""For the peer's next request; section 2.2.4 has 5 to 20 seconds in mind."""

Payload = tuple[PayloadType, bytes]


class Unfinished:
    """A CREATE_CHILD_SA of the peer that was answered, and waits for its additional key exchanges.

    Args:
        methods: of the key exchanges to come.
        rekeys_ike: it is the IKE SA that is rekeyed.
        complete: makes the SA from the secrets and answers with the payloads given; raises IkeError where the SA
            can't be made any more.
        dropped: gives back what the SA would have had.
    """

    __slots__ = ("complete", "dropped", "pending", "rekeys_ike", "secrets")

    def __init__(
        self,
        methods: tuple[Group, ...],
        *,
        rekeys_ike: bool,
        complete: Callable[[tuple[bytes, ...], list[Payload], float], None],
        dropped: Callable[[], None],
    ) -> None:
        self.pending = deque(methods)
        self.secrets: list[bytes] = []
        self.rekeys_ike = rekeys_ike
        self.complete = complete
        self.dropped = dropped


def wait_for(sa: IkeSa, unfinished: Unfinished, now: float) -> Payload:
    """Wait for the next request; returns the notify that asks for it."""
    link = sa.random(LINK_BYTES)
    sa.unfinished[link] = unfinished
    sa.timers.set((Timer.FOLLOWUP, link), now + WAIT_S)
    return notify_payload(NotifyType.ADDITIONAL_KEY_EXCHANGE, link)


def handle_request(sa: IkeSa, payloads: Payloads, now: float) -> None:
    """A verified request: the next key exchange.

    Raises:
        StateNotFound: its link is none that waits.
        InvalidSyntax: another method than the one that is due, or no proper value.
        IkeError: the SA can't be made any more.
    """
    payloads = admit(ExchangeType.IKE_FOLLOWUP_KE, payloads, response=False, encrypted=True)
    ke = KeyExchange.parse(payloads.require(PayloadType.KE))
    link = _link(payloads)
    unfinished = sa.unfinished.pop(link, None) if link is not None else None
    if unfinished is None:
        raise StateNotFound("no CREATE_CHILD_SA waits for this key exchange")
    sa.timers.cancel((Timer.FOLLOWUP, link))
    try:
        if ke.group != unfinished.pending[0]:
            raise InvalidSyntax(f"key exchange by method {ke.group} where {unfinished.pending[0].name} is due")
        method = unfinished.pending.popleft()
        public, shared = key_exchange.respond(method, ke.public)
    except InvalidSyntax:
        unfinished.dropped()
        raise
    unfinished.secrets.append(shared)
    answer = [(PayloadType.KE, KeyExchange(method, public).to_bytes())]
    if unfinished.pending:
        sa.respond(ExchangeType.IKE_FOLLOWUP_KE, [*answer, wait_for(sa, unfinished, now)])
    else:
        unfinished.complete(tuple(unfinished.secrets), answer, now)


class Followups:
    """The additional key exchanges of a CREATE_CHILD_SA of ours.

    Args:
        methods: that its answer agreed on.
        payloads: of its answer.

    Raises:
        InvalidSyntax: the answer has no link.
    """

    __slots__ = ("_link", "_pair", "_pending", "secrets")

    def __init__(self, methods: tuple[Group, ...], payloads: Payloads) -> None:
        self._pending = deque(methods)
        self._link = _require_link(payloads)
        self._pair: KeyPair | None = None
        self.secrets: tuple[bytes, ...] = ()
        """Of those that were made, in their order."""

    def request(self) -> OutPayloads:
        """The next one."""
        method = self._pending[0]
        self._pair = key_exchange.generate(method)
        return [
            (PayloadType.KE, KeyExchange(method, self._pair.public).to_bytes()),
            notify_payload(NotifyType.ADDITIONAL_KEY_EXCHANGE, self._link),
        ]

    def answered(self, payloads: Payloads) -> bool:
        """It is made; whether it was the last one.

        Raises:
            InvalidSyntax: another method, no proper value, or no link where another one is to come.
        """
        ke = KeyExchange.parse(payloads.require(PayloadType.KE))
        if self._pair is None or ke.group != self._pending[0]:
            raise InvalidSyntax("the answer's key exchange is of another method")
        self.secrets += (self._pair.shared_secret(ke.public),)
        self._pending.popleft()
        if not self._pending:
            return True
        self._link = _require_link(payloads)
        return False


class _Suite(Protocol):
    @property
    def additional(self) -> tuple[Group, ...]:
        """The methods of the key exchanges that are to follow."""


class Agreement(Protocol):
    """What an answer to CREATE_CHILD_SA has agreed on."""

    @property
    def suite(self) -> _Suite:
        """That was chosen."""


Agreed = TypeVar("Agreed", bound=Agreement)


class Course(Generic[Agreed]):
    """Where a CREATE_CHILD_SA of ours stands: to be asked for, or answered, and followed by its key exchanges."""

    __slots__ = ("_agreed", "_followups")

    def __init__(self) -> None:
        self._agreed: Agreed | None = None
        self._followups: Followups | None = None

    @property
    def exchange(self) -> ExchangeType:
        """What is asked for next."""
        return ExchangeType.CREATE_CHILD_SA if self._followups is None else ExchangeType.IKE_FOLLOWUP_KE

    def request(self) -> OutPayloads | None:
        """The key exchange that is due; None where CREATE_CHILD_SA itself is."""
        return self._followups.request() if self._followups is not None else None

    def start_over(self) -> None:
        """The next request, if any, begins anew."""
        self._agreed = self._followups = None

    def answered(
        self, payloads: Payloads, accept: Callable[[Payloads], Agreed]
    ) -> tuple[Agreed, tuple[bytes, ...]] | None:
        """An answer that is no error.

        Args:
            payloads: of it.
            accept: reads that of CREATE_CHILD_SA.

        Returns:
            What is agreed on, with the secrets of the additional key exchanges; None while they are still to be made.

        Raises:
            InvalidSyntax: it makes no sense.
        """
        if self._followups is None or self._agreed is None:
            agreed = accept(payloads)
            if not agreed.suite.additional:
                return agreed, ()
            self._agreed, self._followups = agreed, Followups(agreed.suite.additional, payloads)
            return None
        if not self._followups.answered(payloads):
            return None
        complete = self._agreed, self._followups.secrets
        self.start_over()
        return complete


def _link(payloads: Payloads) -> bytes | None:
    for notify in map(Notify.parse, payloads.all(PayloadType.NOTIFY)):
        if notify.type == NotifyType.ADDITIONAL_KEY_EXCHANGE:
            return notify.data
    return None


def _require_link(payloads: Payloads) -> bytes:
    link = _link(payloads)
    if link is None:
        raise InvalidSyntax("no ADDITIONAL_KEY_EXCHANGE where one is to follow")
    return link
