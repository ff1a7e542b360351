"""What a peer may say inside a TLS tunnel of EAP, and around it."""

from __future__ import annotations

from collections.abc import Callable

from aaa.eap.errors import EapError
from aaa.eap.packet import EapPacket, response
from aaa.eap.peap_tlvs import parse_tlvs
from aaa.eap.server import Authenticated, Failed, NeedPassword, PasswordRight, PasswordVerdict, PasswordWrong, Send
from aaa.eap.ttls_avps import avps_to_bytes, parse_avps
from tests.peers.eap import EapPeer, GtcPeer, PeapPeer, TtlsPeer
from tests.unit.aaa.eap.authority import house
from tests.unit.aaa.eap.conversation import converse, inside_tunnels, make_server

_MAX_PACKETS = 20


class _ScriptedPeap(PeapPeer):
    """Signs in as it should, and then says this of the result."""

    script = b""

    def conclude(self, packet: EapPacket) -> bytes:
        return self.script


def tunnels(data: bytes) -> None:
    """Parse, or EapError; and nobody is let in without a right password, and without binding it to the tunnel."""
    if not data:
        return
    _KINDS[data[0] % len(_KINDS)](data[1:])


def _avps(data: bytes) -> None:
    try:
        avps = parse_avps(data)
    except EapError:
        return
    assert parse_avps(avps_to_bytes(avps)) == avps


def _tlvs(data: bytes) -> None:
    try:
        tlvs = parse_tlvs(data)
    except EapError:
        return
    assert parse_tlvs(b"".join(tlv.to_bytes() for tlv in tlvs)) == tlvs


def _inside_ttls(data: bytes) -> None:
    _refused(TtlsPeer("outside", GtcPeer(""), [house().root.der], avps=data or b"\0"), _wrong)


def _result_of_peap(data: bytes) -> None:
    peer = _ScriptedPeap("outside", GtcPeer("alice", "secret"), [house().root.der])
    peer.script = data or b"\0"
    _refused(peer, lambda _question: PasswordRight("laptop"))


def _refused(peer: EapPeer, check: Callable[[NeedPassword], PasswordVerdict]) -> None:
    done = converse(make_server(["ttls", "peap"], inside=inside_tunnels()), peer, (), check)
    assert isinstance(done.step, Failed)


def _wrong(_question: NeedPassword) -> PasswordVerdict:
    return PasswordWrong()


def _around(data: bytes) -> None:
    """Type data instead of TLS, cut into packets by its first byte."""
    server = make_server(["peap", "ttls"], inside=inside_tunnels())
    step = server.receive(response(server.start()[1], 1, b"outside"))
    size = 1 + (data[0] if data else 0)
    for number in range(_MAX_PACKETS):
        if not isinstance(step, Send):
            break
        asked = EapPacket.parse(step.packet)
        step = server.receive(response(asked.identifier, asked.type, data[1 + number * size :][:size]))
    assert not isinstance(step, Authenticated)


_KINDS = (_avps, _tlvs, _inside_ttls, _result_of_peap, _around)
