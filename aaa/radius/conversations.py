"""The EAP conversations under way, by the State that the client has to bring back (RFC 2865 section 5.24)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from aaa.interface import EapConversation, EapReply, SignInContext

STATE_BYTES = 16


class SignIn(EapConversation, Protocol):
    """An EAP conversation that may begin with an identity which the authenticator has asked for."""

    def begin(self, packet: bytes, reply: Callable[[EapReply], None]) -> None:
        """Hand over the EAP-Response/Identity, instead of `start`."""


@dataclass(slots=True)
class Conversation:
    """One of them."""

    sign_in: SignIn
    context: SignInContext
    client: str
    """The network access server, by its name."""
    until: float
    """Monotonic seconds; put off by every message."""
    state: bytes = b""
    """Empty before the first challenge."""
    is_asking: bool = False
    """A message of the client waits for its answer."""


class Conversations:
    """All of them, within limits.

    Args:
        limit: how many there may be.
        limit_per_client: of one network access server.
        timeout_s: how long one may rest.
        random: gives so many unpredictable bytes.
    """

    def __init__(self, limit: int, limit_per_client: int, timeout_s: float, random: Callable[[int], bytes]) -> None:
        self._limit = limit
        self._limit_per_client = limit_per_client
        self._timeout_s = timeout_s
        self._random = random
        self._all: OrderedDict[int, Conversation] = OrderedDict()
        """By id(), the one that ends first in front."""
        self._by_state: dict[bytes, Conversation] = {}
        self._of_client: dict[str, OrderedDict[int, Conversation]] = {}
        """The same for each network access server; none is empty."""

    def __len__(self) -> int:
        return len(self._all)

    def make_room(self, client: str) -> bool:
        """Let another one begin, where need be at the cost of the one that has rested longest: of this client, or of
        the one that has most. Whoever begins and leaves thus keeps out only those that are as slow.

        Returns:
            False where each of them waits for an answer of ours.
        """
        if len(self._of_client.get(client, ())) >= self._limit_per_client:
            return self._end_oldest(self._of_client[client])
        if len(self._all) >= self._limit:
            return self._end_oldest(max(self._of_client.values(), key=len))
        return True

    def _end_oldest(self, conversations: OrderedDict[int, Conversation]) -> bool:
        oldest = next((one for one in conversations.values() if not one.is_asking), None)
        if oldest is not None:
            self.end(oldest)
        return oldest is not None

    def begin(self, sign_in: SignIn, context: SignInContext, client: str, now: float) -> Conversation:
        """A new one; see `make_room`."""
        conversation = Conversation(sign_in, context, client, now + self._timeout_s)
        self._all[id(conversation)] = conversation
        self._of_client.setdefault(client, OrderedDict())[id(conversation)] = conversation
        return conversation

    def find(self, state: bytes, client: str) -> Conversation | None:
        """The one that a State is of; another client's State is nobody's."""
        conversation = self._by_state.get(state)
        return conversation if conversation is not None and conversation.client == client else None

    def challenge(self, conversation: Conversation, now: float) -> bytes:
        """A State for its next challenge; the one before is worth nothing any more."""
        self._by_state.pop(conversation.state, None)
        conversation.state = self._random(STATE_BYTES)
        conversation.until = now + self._timeout_s
        self._by_state[conversation.state] = conversation
        self._all.move_to_end(id(conversation))
        self._of_client[conversation.client].move_to_end(id(conversation))
        return conversation.state

    def end(self, conversation: Conversation) -> None:
        """It is over; ending it twice does no harm."""
        if self._all.pop(id(conversation), None) is None:
            return
        self._by_state.pop(conversation.state, None)
        of_client = self._of_client[conversation.client]
        del of_client[id(conversation)]
        if not of_client:
            del self._of_client[conversation.client]
        conversation.sign_in.close()

    @property
    def next_timeout(self) -> float | None:
        """When the first of them has rested for too long."""
        return next((conversation.until for conversation in self._all.values()), None)

    def overdue(self, now: float) -> Iterator[Conversation]:
        """Those that have rested for too long."""
        while self._all:
            first = next(iter(self._all.values()))
            if first.until > now:
                return
            yield first
            self.end(first)

    def end_all(self) -> None:
        """The server stops."""
        for conversation in list(self._all.values()):
            self.end(conversation)
