"""Attacks on the RADIUS server, round by round, with virtual time and an AAA in memory.

A round is one sign-in and the accounting after it. An outsider, who has no secret, sends mutated copies of each
request before the request itself, and rubbish; an insider, an access point under foreign rule, sends wrong packets
that are authentic. After each round time passes, and nothing of it may be left.
"""

from __future__ import annotations

import gc
import re
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from random import Random

from aaa.eap.mschapv2 import nt_password_hash
from aaa.eap.server import Authenticated, EapServer, Failed, NeedCredentials, NtCredential, Send, Step
from aaa.interface import (
    Access,
    EapAccepted,
    EapContinue,
    EapRejected,
    EapReply,
    Refusal,
    SessionStart,
    SessionUsage,
    SignInContext,
    TerminateCause,
)
from aaa.radius.clients import RadiusClient, RadiusClients
from aaa.radius.conversations import Conversations
from aaa.radius.grant import GrantSealer
from aaa.radius.request import Service
from aaa.radius.server import Peer, RadiusServer
from core.secrets import Secret
from tests.fuzz.mutations import INTERESTING_BYTES
from tests.peers.eap import MsChapV2Peer
from tests.peers.radius import (
    ACCEPT,
    ACCOUNTING,
    CALLING_STATION,
    CLASS,
    MAC,
    SESSION_ID,
    STATE,
    STATUS_TYPE,
    USER_NAME,
    Answer,
    Attribute,
    Nas,
    decode,
    packet,
    read_answer,
)

SECRET = b"shared by server and client"
PASSWORD = "correct horse"
MUTANTS_PER_MESSAGE = 20
RECORDED = 40
TIMEOUT_S = 30.0
WARM_UP_SHARE = 0.3
MEDDLING_CHANCE = 0.2
IDENTITY = b"\x02\x01\x00\x0a\x01alice"
_NUMBER = re.compile(r"\b(\d+|None)\b")
HOST, PORT = "10.0.0.7", 40_000


class RadiusFuzzFailure(AssertionError):
    """What must not happen has happened; the message says how to see it again."""


@dataclass
class RadiusFigures:
    """What a campaign did and found."""

    packets: int = 0
    by_insiders: int = 0
    rounds: int = 0
    signed_in: int = 0
    answered: Counter[int] = field(default_factory=Counter)
    """Hostile packets that got an answer, by its code; all of them were authentic."""
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    objects_before: int = 0
    objects_after: int = 0
    memory_before_kib: int = 0
    memory_after_kib: int = 0

    def __str__(self) -> str:
        dropped = ", ".join(f"{reason} {count}" for reason, count in self.dropped.most_common())
        return (
            f"{self.packets} hostile packets in {self.rounds} rounds, {self.seconds:.1f} s; "
            f"{self.by_insiders} of them with the right secret\n"
            f"attacked sign-ins that came through: {self.signed_in}\n"
            f"hostile packets answered, by code: {dict(sorted(self.answered.items()))}\n"
            f"dropped: {dropped}\n"
            "exceptions: none; answers to what is not authentic: none; sign-ins left after the timeout: none\n"
            f"live objects: {self.objects_before} after the warm-up, {self.objects_after} at the end\n"
            f"resident KiB: {self.memory_before_kib} after the warm-up, {self.memory_after_kib} at the end"
        )


class _SignIn:
    """One EAP conversation, decided without a database."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._server = EapServer(["mschapv2"], "server", None, random)
        self._over = False

    def start(self, reply: Callable[[EapReply], None]) -> None:
        reply(EapContinue(self._server.start()))

    def begin(self, packet: bytes, reply: Callable[[EapReply], None]) -> None:
        self._advance(self._server.begin(packet), reply)

    def receive(self, packet: bytes, reply: Callable[[EapReply], None]) -> None:
        if self._over:
            raise RuntimeError("the EAP conversation waits for no packet")
        self._advance(self._server.receive(packet), reply)

    def close(self) -> None:
        self._over = True

    def _advance(self, step: Step, reply: Callable[[EapReply], None]) -> None:
        if isinstance(step, NeedCredentials):
            step = self._server.provide_credentials([NtCredential("laptop", nt_password_hash(PASSWORD))])
        match step:
            case Send(packet):
                reply(EapContinue(packet))
            case Authenticated():
                self._over = True
                reply(EapAccepted(self._server.success(), step.msk, _access()))
            case Failed():
                self._over = True
                reply(EapRejected(step.packet, Refusal(step.code, step.reason)))


class Aaa:
    """Answers at once, and counts sessions."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self.open: set[str] = set()

    def open_eap(self, context: SignInContext) -> _SignIn:
        return _SignIn(self._random)

    def refuse(
        self, context: SignInContext, refusal: Refusal, reply: Callable[[Refusal], None], *, identity: str
    ) -> None:
        reply(refusal)

    def started(self, start: SessionStart, recorded: Callable[[bool], None]) -> None:
        self.open.add(start.session_id)
        recorded(True)

    def updated(self, usage: SessionUsage, delay_s: int, recorded: Callable[[bool], None]) -> None:
        assert 0 <= usage.bytes_in < 2**63
        recorded(True)

    def ended(
        self, usage: SessionUsage, cause: TerminateCause, delay_s: int, recorded: Callable[[bool], None]
    ) -> None:
        self.open.discard(usage.session_id)
        recorded(True)

    def none_left(self, gateway: str, cause: TerminateCause, recorded: Callable[[bool], None]) -> None:
        self.open.clear()
        recorded(True)


class RadiusHouse:
    """A server with one client."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.sent: list[bytes] = []
        self.aaa = Aaa(self.random.randbytes)
        self.conversations = Conversations(1000, 1000, TIMEOUT_S, self.random.randbytes)
        self.server = RadiusServer(
            RadiusClients([RadiusClient("nas", (ip_network(f"{HOST}/32"),), Secret(SECRET))]),
            self.aaa,
            self.aaa,
            self.conversations,
            GrantSealer(Secret(b"k" * 32)),
            self.random.randbytes,
            lambda: self.now,
            lambda datagram, peer: self.sent.append(datagram),
            time.time,
        )

    def give(self, data: bytes, service: Service = Service.AUTHENTICATION) -> tuple[bytes | None, str]:
        """Hand a datagram in: the answer, and why there is none."""
        count = len(self.sent)
        drop = self.server.receive_datagram(data, Peer(service, HOST, PORT, None), self.now)
        answer = self.sent[-1] if len(self.sent) > count else None
        del self.sent[:]
        return answer, drop.reason if drop is not None else ""

    def rest(self) -> None:
        """Time passes."""
        self.now += TIMEOUT_S + 1
        self.server.handle_timer(self.now)
        if len(self.conversations):
            raise RadiusFuzzFailure(f"{len(self.conversations)} sign-ins are left after the timeout")
        self.aaa.open.clear()


class RadiusCampaign:
    """Runs rounds until enough hostile packets have been sent.

    Args:
        seed: of everything.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.figures = RadiusFigures()
        self._random = Random(seed)
        self._house = RadiusHouse(seed)
        self._recorded: list[bytes] = []
        self._last = b""
        self._meddles = False
        """The insider speaks in the attacked sign-in itself, which then comes to a bad end."""

    def run(self, packets: int) -> RadiusFigures:
        """Attack.

        Raises:
            RadiusFuzzFailure: an exception left the server, it answered what is not authentic, or kept something.
        """
        figures, started, measured = self.figures, time.perf_counter(), False
        while figures.packets < packets:
            if not measured and figures.packets >= packets * WARM_UP_SHARE:
                measured = True
                figures.objects_before, figures.memory_before_kib = _memory()
            try:
                self._round()
            except RadiusFuzzFailure:
                raise
            except Exception as error:
                raise RadiusFuzzFailure(
                    f"round {figures.rounds} of seed {self.seed}: {type(error).__name__}: {error}; "
                    f"last hostile packet {self._last.hex()}"
                ) from error
        figures.objects_after, figures.memory_after_kib = _memory()
        figures.seconds = time.perf_counter() - started
        return figures

    def _round(self) -> None:
        self.figures.rounds += 1
        self._meddles = self._random.random() < MEDDLING_CHANCE
        peer = MsChapV2Peer("alice", PASSWORD, self._random.randbytes)
        nas = Nas(self._attacked, SECRET, [(USER_NAME, b"alice"), (CALLING_STATION, b"02-00-00-00-00-01")])
        answer = nas.sign_in(IDENTITY if self._random.random() < 0.8 else b"", peer.receive)
        if answer.code == ACCEPT:
            if answer.msk != peer.msk:
                raise RadiusFuzzFailure("an Access-Accept with other keys than the peer's")
            self.figures.signed_in += 1
            self._account(answer)
        self._house.rest()

    def _account(self, accepted: Answer) -> None:
        granted: list[Attribute] = [(CLASS, value) for value in accepted.values(CLASS)]
        for status in (1, 3, 2):
            items = [(STATUS_TYPE, status.to_bytes(4, "big")), (SESSION_ID, b"0001"), *granted]
            request = packet(ACCOUNTING, SECRET, items, identifier=status, macs=self._random.randrange(2))
            self._attack(request, Service.ACCOUNTING)
            answer, _ = self._house.give(request, Service.ACCOUNTING)
            if answer is None:
                raise RadiusFuzzFailure("accounting without an answer")
            read_answer(request, answer, SECRET)

    def _attacked(self, request: bytes) -> bytes | None:
        """A network of which an outsider sees every message, and an insider whose secret is the client's."""
        self._attack(request, Service.AUTHENTICATION)
        return self._house.give(request)[0]

    def _attack(self, request: bytes, service: Service) -> None:
        random = self._random
        self._recorded = [*self._recorded, request][-RECORDED:]
        authentic = request if self._meddles or service is Service.ACCOUNTING else self._of_its_own()
        for _ in range(MUTANTS_PER_MESSAGE):
            self._send(mutate(random, request, self._recorded), service, authentic=False)
            if random.random() < 0.5:
                self._send(insider(random, authentic), service, authentic=True)
        self._send(random.randbytes(random.choice((0, 1, 19, 20, 64, 4096, 4097))), service, authentic=False)

    def _of_its_own(self) -> bytes:
        """A request in a sign-in that is the insider's: the first one, or the answer to a challenge."""
        nas = Nas(lambda data: self._house.give(data)[0], SECRET, [(USER_NAME, b"alice")])
        if self._random.random() < 0.3:
            return nas.request(IDENTITY)
        peer = MsChapV2Peer("alice", PASSWORD, self._random.randbytes)
        answer = nas.carry(IDENTITY)
        for _ in range(self._random.randrange(2)):
            answer = nas.carry(peer.receive(answer.eap) or b"")
        return nas.request(peer.receive(answer.eap) or b"")

    def _send(self, data: bytes, service: Service, *, authentic: bool) -> None:
        if any(data.startswith(known) for known in self._recorded):
            return
        # Nor may an insider speak under the identifier that the client is about to use.
        if authentic and data[1] == self._recorded[-1][1]:
            data = resign(data[:1] + bytes((data[1] ^ 0x80,)) + data[2:])
        self._last = data
        self.figures.packets += 1
        self.figures.by_insiders += authentic
        answer, reason = self._house.give(data, service)
        if answer is None:
            self.figures.dropped[_NUMBER.sub("N", reason)] += 1
            return
        if not authentic:
            raise RadiusFuzzFailure(f"an answer to what is not authentic: {data.hex()}")
        read_answer(data, answer, SECRET)
        self.figures.answered[answer[0]] += 1


def mutate(random: Random, data: bytes, others: list[bytes]) -> bytes:
    """A bad copy, by one who has no secret."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(changed))
        match random.randrange(4):
            case 0:
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                changed[at] = random.choice(INTERESTING_BYTES)
            case 2:
                del changed[at : at + random.randrange(1, 8)]
            case _:
                changed[at:at] = random.randbytes(random.randrange(1, 8))
        if not changed:
            return b""
    if random.random() < 0.1:
        other = random.choice(others)
        changed[random.randrange(len(changed)) :] = other[random.randrange(len(other)) :]
    if random.random() < 0.7 and len(changed) >= 4:
        changed[2:4] = min(len(changed), 0xFFFF).to_bytes(2, "big")
    return bytes(changed)


def insider(random: Random, request: bytes) -> bytes:
    """A wrong packet that is authentic: other attributes, other values, another order."""
    items = [item for item in decode(request) if item[0] != MAC]
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(items)) if items else 0
        match random.randrange(6):
            case 0 if items:
                items[at] = (items[at][0], random.randbytes(random.choice((0, 1, 4, 16, 253))))
            case 1 if items:
                items[at] = (random.randrange(256), items[at][1])
            case 2 if items:
                del items[at]
            case 3 if items:
                items.insert(at, items[random.randrange(len(items))])
            case 4 if items and items[at][1]:
                value = bytearray(items[at][1])
                value[random.randrange(len(value))] = random.choice(INTERESTING_BYTES)
                items[at] = (items[at][0], bytes(value))
            case _:
                items.insert(at, (random.choice((STATE, 26, 79, 40, 44, 25)), random.randbytes(random.randrange(40))))
    items = [item for item in items if item[0] != MAC]
    return packet(request[0], SECRET, items, identifier=random.randrange(256), authenticator=random.randbytes(16))


def resign(data: bytes) -> bytes:
    """The same request with authenticators that fit."""
    items = [item for item in decode(data) if item[0] != MAC]
    return packet(data[0], SECRET, items, identifier=data[1], authenticator=data[4:20])


def _access() -> Access:
    return Access(
        user_name="alice",
        device_id="5a3f9f4e-7d0b-4ff1-a5d1-3c3f0c8b1e11",
        device_name="alice-laptop",
        method="eap-mschapv2",
        rule="staff",
        reason="",
        pool="staff",
        networks=(ip_network("10.1.0.0/16"),),
        dns=(),
        session_lifetime_s=3600.0,
        interim_interval_s=60.0,
    )


def _memory() -> tuple[int, int]:
    """Live objects, and resident KiB."""
    gc.collect()
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return len(gc.get_objects()), pages * resource.getpagesize() // 1024
