"""What the coverage-guided fuzzer feeds: each target takes any bytes, and raises where an invariant does not hold.

codec        a datagram in the clear: header, chain, every payload parser; what parses must come out the same again
handshake    a script of an insider's messages to a responder, from IKE_SA_INIT to the established SA
authentication   the same with each of the ways to sign in, and a gateway that allows all of them
established  a script for both ends of an SA that is up: rekeyings, deletes, bad messages under the right keys,
             lost, doubled and reordered datagrams, time
fragments    a script of fragments of one SA, all of them authentic
tunnels      what is said inside the TLS tunnels of EAP-TTLS and PEAP, and around them (`tunnels.py`)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path as FilePath
from random import Random

from gateway.ike.channel import Channel
from gateway.ike.constants import ExchangeType, PayloadType
from gateway.ike.errors import IkeError
from gateway.ike.exchanges import replace_child
from gateway.ike.exchanges.informational import Liveness
from gateway.ike.exchanges.rekey_ike import RekeyIke
from gateway.ike.exchanges.replace_child import CreateChild
from gateway.ike.fragments import MAX_FRAGMENTS, MAX_REASSEMBLED_BYTES
from gateway.ike.message import Header, chain, parse_payloads
from gateway.ike.path import Path
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.auth_methods import announcements_to_bytes, parse_announcements
from gateway.ike.payloads.certificate import Certificate, CertificateRequest
from gateway.ike.payloads.configuration import Configuration
from gateway.ike.payloads.delete import Delete
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.ppk import find_ppk
from gateway.ike.payloads.security_association import parse_proposals, proposals_to_bytes
from gateway.ike.selectors import parse_selectors, selectors_to_bytes
from gateway.ike.states import State
from tests.fuzz.scenarios import AUTHENTICATION, SCENARIOS
from tests.fuzz.tunnels import tunnels
from tests.peers.initiator import Initiator, InitiatorConfig
from tests.unit.gateway.ike.pair import End, Pair
from tests.unit.gateway.ike.wire import GATEWAY, Aaa, Wire, mschapv2, responder_config

CORPUS = FilePath(__file__).with_name("corpus")
"""Inputs to be replayed, in a folder for each target."""
MAX_STEPS = 40
SETTLED_S = 400.0

_PARSERS: dict[PayloadType, tuple[Callable[[bytes], object], Callable[[object], bytes]]] = {
    PayloadType.SA: (parse_proposals, proposals_to_bytes),  # type: ignore[dict-item]
    PayloadType.TSI: (parse_selectors, selectors_to_bytes),  # type: ignore[dict-item]
    PayloadType.TSR: (parse_selectors, selectors_to_bytes),  # type: ignore[dict-item]
    **{
        kind: (parser.parse, lambda value: value.to_bytes())  # type: ignore[attr-defined]
        for kind, parser in (
            (PayloadType.KE, KeyExchange),
            (PayloadType.IDI, Identification),
            (PayloadType.IDR, Identification),
            (PayloadType.CERT, Certificate),
            (PayloadType.CERTREQ, CertificateRequest),
            (PayloadType.AUTH, Auth),
            (PayloadType.NOTIFY, Notify),
            (PayloadType.DELETE, Delete),
            (PayloadType.CP, Configuration),
        )
    },
}


class Script:
    """Reads a fuzzer's bytes as choices; beyond their end every choice is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_over(self) -> bool:
        """Nothing is left."""
        return self._at >= len(self._data)

    def number(self, below: int) -> int:
        """A choice among so many."""
        return int.from_bytes(self.take(2 if below > 256 else 1), "big") % below

    def take(self, size: int) -> bytes:
        """So many bytes, or what is left."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken


def codec(data: bytes) -> None:
    """Parse, or IkeError; and what was parsed is encoded to something that parses to the same."""
    try:
        header = Header.parse(data)
        payloads = parse_payloads(header.next_payload, data[28:])
    except IkeError:
        return
    for kind, bodies in payloads.bodies.items():
        parser = _PARSERS.get(PayloadType(kind))
        for body in bodies if parser is not None else ():
            assert parser is not None
            parse, encode = parser
            try:
                value = parse(body)
            except IkeError:
                continue
            # Of selectors of unknown types nothing is left, and none can't be said.
            assert value == () or parse(encode(value)) == value
            if isinstance(value, Notify):
                _notification(value.data)


def _notification(data: bytes) -> None:
    """What the data of any notification would be as that of one which has a form."""
    try:
        announced = parse_announcements(data)
    except IkeError:
        return
    assert parse_announcements(announcements_to_bytes(announced)) == announced
    assert find_ppk(data, {data[1:]: b"key"}) == (b"key" if data[:1] == b"\x02" else None)


def handshake(data: bytes) -> None:
    """An insider's script, message by message: as it should be, changed inside, doubled, late."""
    _sign_in(Script(data), Wire(responder_config(), seed=7), mschapv2())


def authentication(data: bytes) -> None:
    """The same, in a way to sign in that the script names."""
    script = Script(data)
    scenario = SCENARIOS[script.number(len(SCENARIOS))]
    aaa = Aaa(methods=scenario.methods, peer_networks=scenario.networks)
    _sign_in(script, Wire(responder_config(**AUTHENTICATION), aaa=aaa, seed=7), scenario.client())


def _sign_in(script: Script, wire: Wire, config: InitiatorConfig) -> None:
    client = wire.client(config, local=Path("198.51.100.1", 500, GATEWAY, 500))
    initiator = client.initiator
    initiator.start()
    for _ in range(MAX_STEPS):
        if script.is_over:
            break
        sent = initiator.datagrams_to_send()
        match script.number(5):
            case 0:
                _give(wire, initiator, client.outer, sent)
            case 1 if initiator.channel is not None:
                exchange = ExchangeType(34 + script.number(4))
                wrong = _sealed(
                    initiator.channel, script, exchange, initiator.message_id, response=bool(script.number(2))
                )
                _give(wire, initiator, client.outer, wrong)
            case 2:
                _give(wire, initiator, client.outer, [_changed(script, datagram) for datagram in sent])
            case 3:
                _give(wire, initiator, client.outer, [*sent, *sent])
            case _:
                wire.advance(script.number(40))
    wire.clients.clear()
    wire.advance(wire.config.half_open_timeout_s + 1)
    assert wire.responder.half_open == 0
    for sa in wire.responder.sas():
        assert sa.state in (State.ESTABLISHED, State.CLOSING, State.CLOSED)
    assert set(wire.children) == {spi for sa in wire.responder.sas() for spi in sa.children}


def _give(wire: Wire, initiator: Initiator, path: Path, datagrams: list[bytes]) -> None:
    for datagram in datagrams:
        wire.responder.receive_datagram(datagram, path, wire.now)
    wire._serve()
    for answer, to in wire.responder.datagrams_to_send():
        if to == path and len(answer) > 28:
            try:
                initiator.receive_datagram(answer)
            except (IkeError, ValueError, KeyError, IndexError):
                return


def established(data: bytes) -> None:
    """Both ends of an SA, and a hostile network; in the end they agree, or at least one has ended the SA."""
    script = Script(data)
    pair = Pair(script.number(4))
    spoilt = False
    for _ in range(MAX_STEPS):
        if script.is_over:
            break
        end, other = (pair.left, pair.right) if script.number(2) else (pair.right, pair.left)
        queue = pair.to_left if end is pair.left else pair.to_right
        alive = [sa for sa in end.responder.sas() if sa.state is State.ESTABLISHED]
        choice = script.number(8)
        if choice == 0 and queue:
            pair.deliver(end, script.number(len(queue)))
        elif choice == 1 and queue:
            queue.pop(script.number(len(queue)))
        elif choice == 2 and queue:
            pair.arrive(end, queue[script.number(len(queue))])
        elif choice == 3 and alive:
            _begin(pair, end, script)
        elif choice == 4:
            running = bool(script.number(2))
            # Whoever waits too long for an answer takes the other end for dead.
            spoilt = spoilt or not running
            pair.advance(float(script.number(30)), running=running)
        elif choice == 5 and alive and alive[0].channel is not None:
            # A message that is authentic and wrong: its receiver may end the SA, and must do no more.
            spoilt = True
            sa = alive[0]
            exchange = ExchangeType(34 + script.number(4))
            channel = sa.channel
            assert channel is not None
            response = bool(script.number(2))
            message_id = sa.peer.next_id - 1 if response else sa.own.next_id
            for datagram in _sealed(channel, script, exchange, max(0, message_id), response=response):
                pair.arrive(other, datagram)
        elif choice == 6 and alive:
            live = [child for child in alive[0].children.values() if child.is_live]
            if live:
                replace_child.expired(alive[0], live[0].spi_in, pair.now, hard=False)
                end.responder.touch(alive[0])
                pair.collect()
        else:
            pair.run()
    pair.run()
    pair.advance(SETTLED_S)
    for end in (pair.left, pair.right):
        known = {spi for sa in end.responder.sas() for spi in sa.children}
        assert set(end.carried) == known
        assert set(end.sending_on) <= known
    if not spoilt:
        pair.assert_agreed()


def _begin(pair: Pair, end: End, script: Script) -> None:
    sa = next(sa for sa in end.responder.sas() if sa.state is State.ESTABLISHED)
    live = [child for child in sa.children.values() if child.is_live]
    match script.number(3):
        case 0:
            sa.initiate(RekeyIke(), pair.now)
        case 1 if live:
            sa.initiate(CreateChild(live[script.number(len(live))].spi_in, rekeying=True), pair.now)
        case _:
            sa.initiate(Liveness(), pair.now)
    end.responder.touch(sa)
    pair.collect()


def fragments(data: bytes) -> None:
    """Fragments in any order, of any numbers; no more is kept than the limits say, and whole messages come out."""
    script = Script(data)
    pair = Pair(1)
    sender, receiver = pair.left.sa.channel, pair.right.sa.channel
    assert sender is not None
    assert receiver is not None
    for channel in (sender, receiver):
        channel.set_fragment_size(576, 4)
    for _ in range(4 * MAX_STEPS):
        if script.is_over:
            return
        size = script.number(4000)
        plain = script.take(4) * (size // 4 + 1)
        datagrams = sender.seal_plain(
            ExchangeType.INFORMATIONAL,
            script.number(3),
            script.number(60),
            plain[:size],
            response=bool(script.number(2)),
        )
        order = Random(script.number(256))
        order.shuffle(datagrams)
        for datagram in datagrams[: 1 + script.number(MAX_FRAGMENTS)]:
            arriving = _changed(script, datagram) if script.number(8) == 0 else datagram
            try:
                payloads = receiver.open(Header.parse(arriving), arriving)
            except IkeError:
                continue
            if payloads is not None:
                whole = sum(len(body) for bodies in payloads.bodies.values() for body in bodies)
                assert whole <= MAX_REASSEMBLED_BYTES


def _sealed(
    channel: Channel, script: Script, exchange: ExchangeType, message_id: int, *, response: bool
) -> list[bytes]:
    """A message under the right keys: the fuzzer's own bytes, or payloads that it chose the types of."""
    if script.number(2):
        first, plain = script.number(64), script.take(script.number(600))
    else:
        kinds = [PayloadType(33 + script.number(16)) for _ in range(script.number(6))]
        first, plain = chain([(kind, script.take(script.number(80))) for kind in kinds])
    return channel.seal_plain(exchange, message_id, first, plain, response=response)


def _changed(script: Script, datagram: bytes) -> bytes:
    at = script.number(len(datagram))
    return datagram[:at] + script.take(1 + script.number(4)) + datagram[at + 1 :]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "codec": codec,
    "handshake": handshake,
    "authentication": authentication,
    "established": established,
    "fragments": fragments,
    "tunnels": tunnels,
}
