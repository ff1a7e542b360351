"""The two netlink sockets of the kernel data plane: one to ask the kernel, one to hear from it.

A request takes some microseconds, since the kernel answers before `send` returns; so they are made on the event
loop's thread, many in one `send` where they belong together.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

from gateway.dataplane.xfrm.hashing import REQUEST, HashThresholds
from gateway.dataplane.xfrm.netlink import (
    NETLINK_ADD_MEMBERSHIP,
    NETLINK_CAP_ACK,
    NETLINK_DROP_MEMBERSHIP,
    NETLINK_EXT_ACK,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    SOL_NETLINK,
    MalformedNetlink,
    Message,
    Verdict,
    parse_messages,
    parse_verdict,
)
from gateway.dataplane.xfrm.policies import FoundPolicy, parse_policy
from gateway.dataplane.xfrm.states import State, StateId, parse_deleted_state, parse_state
from gateway.dataplane.xfrm.structures import NETLINK_XFRM, Command, Group

ANSWER_TIMEOUT_S = 2.0
REQUESTS_PER_SEND = 64
"""So that all of the kernel's answers fit into the receive buffer."""
_DUMP_ATTEMPTS = 5
"""A dump that was changed under way is asked for again."""
_BUFFER_BYTES = 65_536
_EVENT_BUFFER_BYTES = 4 << 20
_SO_RCVBUFFORCE = 33

Request = tuple[Command, bytes]
_T = TypeVar("_T")


class KernelSilent(Exception):
    """The kernel gave no answer, or none that can be read; the message says what happened."""


class EventsLost(Exception):
    """More happened than the socket's buffer holds; what is the case now has to be asked for."""


def _open(groups: Sequence[Group]) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_XFRM)
    try:
        sock.bind((0, 0))
        for group in groups:
            sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    except BaseException:
        sock.close()
        raise
    return sock


def _receive(sock: socket.socket) -> list[Message]:
    """The messages of one datagram of the kernel; none where another process sent it."""
    data, _, _, (port, _) = sock.recvmsg(_BUFFER_BYTES)
    return parse_messages(data) if port == 0 else []


class XfrmSocket:
    """Asks and tells the kernel about states and policies.

    Raises:
        OSError: this kernel has no XFRM, or it may not be used.
    """

    def __init__(self, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._sequence = itertools.count(1)
        self._socket = self._open()
        self._deleting = self._open()
        """Hears of deleted states while it deletes some, and of nothing otherwise."""

    def _open(self) -> socket.socket:
        sock = _open(())
        sock.settimeout(self._timeout_s)
        # Kernels before 4.12 have no words of their own for what is wrong.
        for option in (NETLINK_EXT_ACK, NETLINK_CAP_ACK):
            with contextlib.suppress(OSError):
                sock.setsockopt(SOL_NETLINK, option, 1)
        return sock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()
        self._deleting.close()

    def execute(self, requests: Sequence[Request]) -> list[Verdict]:
        """Have each request carried out, in order, also after one that fails; what the kernel says to each.

        Raises:
            KernelSilent: no answer; what was carried out is not known.
        """
        verdicts: list[Verdict] = []
        for verdict, _ in self._exchange(self._socket, requests):
            verdicts.append(verdict)
        return verdicts

    def states(self, ids: Sequence[StateId]) -> list[State | None]:
        """The states as they are now, None for those that do not exist.

        Raises:
            KernelSilent: no answer.
        """
        requests = [(Command.GETSA, one.to_bytes()) for one in ids]
        return [
            _first_state(answers) if verdict.code == 0 else None
            for verdict, answers in self._exchange(self._socket, requests)
        ]

    def delete_states(self, ids: Sequence[StateId]) -> list[State | None]:
        """Delete states; each as it was when it had carried its last packet, None for those that did not exist.

        The kernel numbers no packet with a state once it is deleted, and tells afterwards what the last number was:
        nobody else can know it for sure.

        Raises:
            KernelSilent: no answer.
        """
        last: dict[StateId, State] = {}
        requests = [(Command.DELSA, one.to_bytes()) for one in ids]
        with self._hearing_of_states() as sock:
            for _, answers in self._exchange(sock, requests, {Command.DELSA}):
                for answer in answers:
                    state = _parsed(parse_deleted_state, answer)
                    last[state.id] = state
        return [last.get(one) for one in ids]

    @contextlib.contextmanager
    def _hearing_of_states(self) -> Iterator[socket.socket]:
        sock = self._deleting
        sock.setblocking(False)
        _discard_unread(sock)
        sock.settimeout(self._timeout_s)
        sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, Group.SA)
        try:
            yield sock
        finally:
            sock.setsockopt(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, Group.SA)

    def dump_states(self) -> list[State]:
        """All states of this network namespace.

        Raises:
            KernelSilent: no answer.
        """
        return [_parsed(parse_state, message) for message in self._dump(Command.GETSA, Command.NEWSA)]

    def dump_policies(self) -> list[FoundPolicy]:
        """All policies of this network namespace, but for those of sockets.

        Raises:
            KernelSilent: no answer.
        """
        return [_parsed(parse_policy, message) for message in self._dump(Command.GETPOLICY, Command.NEWPOLICY)]

    def hash_thresholds(self) -> HashThresholds | None:
        """What the kernel hashes policies by; None where it does not say.

        Raises:
            KernelSilent: no answer.
        """
        for _, answers in self._exchange(self._socket, [(Command.GETSPDINFO, REQUEST)]):
            if answers:
                return _parsed(HashThresholds.parse, answers[0])
        return None

    def _exchange(
        self, sock: socket.socket, requests: Sequence[Request], heard: set[Command] | None = None
    ) -> Iterator[tuple[Verdict, list[Message]]]:
        """Send requests; for each the verdict, and what else the kernel sent.

        Args:
            heard: kinds of message that are told to everybody, and count whatever their sequence number is.
        """
        for start in range(0, len(requests), REQUESTS_PER_SEND):
            yield from self._exchange_some(sock, requests[start : start + REQUESTS_PER_SEND], heard or set())

    def _exchange_some(
        self, sock: socket.socket, requests: Sequence[Request], heard: set[Command]
    ) -> Iterator[tuple[Verdict, list[Message]]]:
        numbers = [next(self._sequence) & 0xFFFF_FFFF for _ in requests]
        verdicts = dict.fromkeys(numbers, Verdict(0, ""))
        answers: dict[int, list[Message]] = {number: [] for number in numbers}
        # The kernel answers in order, and says what fails unasked: to hear that the last one is done is enough.
        datagram = b"".join(
            Message(command, NLM_F_REQUEST | (NLM_F_ACK if number == numbers[-1] else 0), number, body).to_bytes()
            for number, (command, body) in zip(numbers, requests, strict=True)
        )
        with _said_clearly():
            sock.send(datagram)
            done = False
            while not done:
                for message in _receive(sock):
                    if message.kind == NLMSG_ERROR and message.sequence in verdicts:
                        verdicts[message.sequence] = parse_verdict(message)
                        done |= message.sequence == numbers[-1]
                    elif message.sequence in answers and (not heard or message.kind in heard):
                        answers[message.sequence].append(message)
        for number in numbers:
            yield verdicts[number], answers[number]

    def _dump(self, command: Command, expected: Command) -> list[Message]:
        for _ in range(_DUMP_ATTEMPTS):
            found, whole = self._dump_once(command, expected)
            if whole:
                return found
        raise KernelSilent("the kernel's tables change too fast to be read")

    def _dump_once(self, command: Command, expected: Command) -> tuple[list[Message], bool]:
        number = next(self._sequence) & 0xFFFF_FFFF
        found: list[Message] = []
        whole = True
        with _said_clearly():
            self._socket.send(Message(command, NLM_F_REQUEST | NLM_F_DUMP, number, b"").to_bytes())
            while True:
                for message in _receive(self._socket):
                    if message.sequence != number:
                        continue
                    whole &= not message.flags & NLM_F_DUMP_INTR
                    if message.kind == NLMSG_DONE:
                        return found, whole
                    if message.kind == NLMSG_ERROR:
                        verdict = parse_verdict(message)
                        raise KernelSilent(verdict.text or os.strerror(verdict.code))
                    if message.kind == expected:
                        found.append(message)


def _discard_unread(sock: socket.socket) -> None:
    """What other programs did to their states while we deleted ours, the last time."""
    while True:
        try:
            sock.recv(_BUFFER_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise


@contextlib.contextmanager
def _said_clearly() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise KernelSilent("the kernel does not answer") from None
    except OSError as error:
        raise KernelSilent(error.strerror or str(error)) from error
    except MalformedNetlink as error:
        raise KernelSilent(f"the kernel's answer can't be read: {error}") from error


def _first_state(answers: list[Message]) -> State | None:
    return _parsed(parse_state, answers[0]) if answers else None


def _parsed(parse: Callable[[bytes], _T], message: Message) -> _T:
    with _said_clearly():
        return parse(message.body)


class XfrmEvents:
    """Hears when lifetimes end, and when packets come from elsewhere.

    Raises:
        OSError: this kernel has no XFRM, or it may not be used.
    """

    def __init__(self, buffer_bytes: int = _EVENT_BUFFER_BYTES) -> None:
        self._socket = _open((Group.EXPIRE, Group.MAPPING))
        self._socket.setblocking(False)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer_bytes)

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def read(self) -> list[Message]:
        """The next messages; none when there are none for now.

        Raises:
            EventsLost: some are missing from here on.
        """
        while True:
            try:
                messages = _receive(self._socket)
            except BlockingIOError:
                return []
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise EventsLost from error
                raise
            except MalformedNetlink as error:
                raise EventsLost from error
            if messages:
                return messages

    def close(self) -> None:
        """Close it."""
        self._socket.close()
