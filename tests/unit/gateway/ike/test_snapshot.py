"""An SA written to bytes and read by another process: both sides go on as if nothing had happened."""

from __future__ import annotations

import json
from ipaddress import IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.constants import Encr, ExchangeType, Group, Integ, NotifyType, Prf
from gateway.ike.events import CloseCause
from gateway.ike.exchanges.mobike import Mobility
from gateway.ike.path import Path
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.payloads.redirect import GatewayId
from gateway.ike.proposals import ChildSuite, IkeSuite
from gateway.ike.sa import IkeSa
from gateway.ike.selectors import TrafficSelector
from gateway.ike.snapshot import SnapshotError, restore, snapshot
from gateway.ike.states import State
from tests.peers.initiator import InitiatorConfig, Phase
from tests.peers.mobike import MobileInitiator, address_payload
from tests.unit.gateway.ike.test_sign_in import by_certificate
from tests.unit.gateway.ike.wire import GATEWAY, Client, Wire, everything, mschapv2, responder_config

SUITES = [
    IkeSuite(Encr.AES_GCM_16, 256, Integ.NONE, Prf.HMAC_SHA2_256, Group.CURVE25519),
    IkeSuite(Encr.CHACHA20_POLY1305, 0, Integ.NONE, Prf.HMAC_SHA2_384, Group.ECP_256),
    IkeSuite(Encr.AES_CBC, 192, Integ.HMAC_SHA2_512_256, Prf.HMAC_SHA2_512, Group.ECP_521),
]


def restart(wire: Wire, *, clock: float = 7.0) -> IkeSa:
    """Another process with another clock takes the one SA over; the clients notice nothing."""
    data = snapshot(wire.sa, wire.now)
    after = Wire(wire.config, seed=99, now=clock)
    wire.responder, wire.now, wire.random = after.responder, clock, after.random
    sa = restore(data, wire.responder, wire.config, wire.random.randbytes, clock)
    wire.responder.adopt(sa)
    return sa


def facts(sa: IkeSa) -> dict[str, Any]:
    """Everything that must be the same afterwards."""
    names = (
        "spi_i", "spi_r", "suite", "keys", "path", "nat_local", "nat_remote", "peer_fragments", "client",
        "peer_identity", "children", "state",
    )  # fmt: skip
    return {
        **{name: getattr(sa, name) for name in names},
        "peer": (sa.peer.next_id, sa.peer.answered),
        "own": (sa.own.next_id, sa.own.message_id),
        "mobility": sa.mobility,
        "window": (sa.peer.window, sa.channel.window if sa.channel is not None else None),
        "redirect": (sa.willing.came_from,) if sa.willing is not None and sa.willing.is_willing else None,
    }


def speak_both_ways(wire: Wire, client: Client) -> None:
    """A liveness check of the client, and one of the gateway."""
    initiator = client.initiator
    before, asked = initiator.message_id, initiator.requests_seen
    initiator.request(ExchangeType.INFORMATIONAL, [])
    wire.run()
    assert initiator.message_id == before + 1
    wire.advance(wire.config.dpd_interval_s + 0.1)
    assert initiator.requests_seen == asked + 1
    assert (wire.sa.state, wire.sa.own.message_id) == (State.ESTABLISHED, None)


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_both_sides_go_on(suite: IkeSuite) -> None:
    wire, config = Wire(), mschapv2()
    config.suite = suite
    client = wire.connect(config)
    speak_both_ways(wire, client)
    before = facts(wire.sa)
    sa = restart(wire)
    assert facts(sa) == before
    speak_both_ways(wire, client)
    client.initiator.delete()
    wire.run()
    assert wire.causes == [CloseCause.PEER_DELETE]


def every_kind() -> InitiatorConfig:
    """A child SA with everything that may be in one."""
    config = by_certificate("rsa")
    config.ask_ipv6 = True
    config.fragment_size_bytes = 576
    any6 = (TrafficSelector.from_network(IPv6Network("::/0")),)
    config.initiator_selectors += any6
    config.responder_selectors += any6
    config.child_suite = ChildSuite(Encr.AES_CBC, 128, Integ.HMAC_SHA2_384_192, True)
    return config


def test_nothing_is_lost() -> None:
    wire = Wire(responder_config(fragment_size_bytes=576))
    outer = Path(GATEWAY, 4500, "203.0.113.7", 61001)
    client = wire.connect(every_kind(), local=Path("10.0.0.2", 500, "192.0.2.200", 500), outer=outer)
    before = facts(wire.sa)
    # The cached response is several fragments here.
    (answered,) = before["peer"][1].values()
    assert len(answered.response) > 1
    assert (before["nat_local"], before["nat_remote"], before["peer_fragments"]) == (True, True, True)
    sa = restart(wire)
    assert facts(sa) == before
    speak_both_ways(wire, client)


def test_a_retransmission_of_the_last_request_is_answered_from_the_restored_cache() -> None:
    wire = Wire()
    client = wire.client()
    client.initiator.start()
    wire.run_until(lambda: bool(wire.established))
    last_response = wire.from_gateway[-1]
    client.initiator.phase = Phase.AUTH
    restart(wire)
    sent = len(wire.from_gateway)
    wire.retransmit(client)
    assert wire.from_gateway[sent:] == [last_response]


@pytest.mark.parametrize("came_from", ["", "gateway-2.example", "192.0.2.9", "2001:db8::9"])
def test_what_the_peer_can_do_is_kept(came_from: str) -> None:
    wire = Wire(responder_config(window_size=4))
    client = wire.client(initiator=MobileInitiator)
    initiator = client.initiator
    assert isinstance(initiator, MobileInitiator)
    initiator.announced.append(address_payload("198.51.100.50"))
    if came_from:
        redirected = notify_payload(NotifyType.REDIRECTED_FROM, GatewayId.of(came_from).to_bytes())
        initiator.first_notifies.append(redirected)
    else:
        initiator.first_notifies.append(notify_payload(NotifyType.REDIRECT_SUPPORTED))
    initiator.start()
    wire.run()
    before = facts(wire.sa)
    assert (before["mobility"], before["window"]) == (Mobility(("198.51.100.50",)), (4, 4))
    assert before["redirect"] == (GatewayId.of(came_from) if came_from else None,)
    sa = restart(wire)
    assert facts(sa) == before
    # It moves, and an older update would be known as such.
    client.outer = Path(GATEWAY, 500, "198.51.100.99", 500)
    initiator.move(Path("198.51.100.99", 500, GATEWAY, 500))
    wire.run()
    assert (sa.path, sa.esp.path) == (client.outer, client.outer)
    assert sa.mobility is not None
    assert sa.mobility.last_update == initiator.message_id - 1
    moved = facts(sa)
    assert facts(restart(wire)) == moved


def test_a_connection_that_was_lost_in_the_meantime_is_noticed() -> None:
    wire = Wire()
    wire.connect()
    restart(wire)
    wire.filter = lambda to_gateway, batch: []
    wire.advance(wire.config.dpd_interval_s + sum(wire.config.retransmit_timeouts_s) + 0.1)
    assert wire.causes == [CloseCause.LOST]


def test_the_session_ends_when_it_would_have_ended() -> None:
    wire = Wire()
    wire.connect()
    wire.sa.limit_session(100.0, wire.now)
    wire.responder.touch(wire.sa)
    wire.advance(60.0)
    restart(wire)
    wire.advance(39.0)
    assert wire.state is State.ESTABLISHED
    wire.advance(1.5)
    assert wire.causes == [CloseCause.SESSION_TIMEOUT]


def test_keepalives_go_on() -> None:
    wire = Wire()
    wire.connect(local=Path("10.0.0.2", 500, "192.0.2.200", 500), outer=Path(GATEWAY, 500, "10.0.0.2", 500))
    restart(wire)
    before = len(wire.from_gateway)
    wire.advance(wire.config.keepalive_interval_s)
    assert [data for data, _ in wire.from_gateway[before:]] == [b"\xff"]


def test_a_restored_sa_without_a_child() -> None:
    wire = Wire()
    client = wire.connect()
    wire.sa.children = {}
    assert restart(wire).children == {}
    speak_both_ways(wire, client)


def test_no_iv_comes_twice_after_a_restart() -> None:
    """Two copies of one state, as after a failover that was none, must not encrypt under the same nonce."""
    wire = Wire()
    client = wire.connect()
    data = snapshot(wire.sa, wire.now)
    answers = []
    client.initiator.request(ExchangeType.INFORMATIONAL, [])
    (request,) = client.initiator.datagrams_to_send()
    for seed in (1, 2):
        copy = Wire(wire.config, seed=seed, now=wire.now)
        copy.responder.adopt(restore(data, copy.responder, copy.config, copy.random.randbytes, copy.now))
        copy.inject(request, client.outer)
        answers.append(copy.from_gateway[0][0])
    assert answers[0][32:40] != answers[1][32:40]


class TestQuietMoments:
    @pytest.mark.parametrize("state", [State.HALF_OPEN, State.EAP, State.EAP_DONE])
    def test_not_before_it_is_up(self, state: State) -> None:
        wire = Wire()
        client = wire.client()
        client.initiator.start()
        wire.run_until(lambda: wire.state is state)
        with pytest.raises(SnapshotError, match="not established"):
            snapshot(wire.sa, wire.now)

    def test_not_while_aaa_thinks(self) -> None:
        wire = Wire()
        wire.aaa.hold = True
        wire.connect()
        with pytest.raises(SnapshotError):
            snapshot(wire.sa, wire.now)

    def test_not_while_our_own_request_is_on_its_way(self) -> None:
        wire = Wire()
        wire.connect()
        wire.filter = lambda to_gateway, batch: []
        wire.advance(wire.config.dpd_interval_s)
        with pytest.raises(SnapshotError, match="under way"):
            snapshot(wire.sa, wire.now)
        wire.filter = everything
        wire.advance(wire.config.retransmit_timeouts_s[0])
        snapshot(wire.sa, wire.now)

    def test_not_while_a_client_that_has_moved_is_asked_whether_it_is_there(self) -> None:
        wire = Wire()
        client = wire.client(initiator=MobileInitiator)
        client.initiator.start()
        wire.run()
        assert isinstance(client.initiator, MobileInitiator)
        client.initiator.move(Path("198.51.100.99", 500, GATEWAY, 500))
        client.outer = Path(GATEWAY, 500, "198.51.100.99", 500)
        wire.filter = lambda to_gateway, batch: batch if to_gateway else []
        wire.run()
        with pytest.raises(SnapshotError):
            snapshot(wire.sa, wire.now)

    def test_not_while_an_earlier_request_is_missing(self) -> None:
        wire = Wire(responder_config(window_size=2))
        client = wire.connect()
        channel, ahead = client.initiator.channel, client.initiator.message_id + 1
        assert channel is not None
        for datagram in channel.seal(ExchangeType.INFORMATIONAL, ahead, [], response=False):
            wire.inject(datagram, client.outer)
        with pytest.raises(SnapshotError):
            snapshot(wire.sa, wire.now)

    def test_not_when_it_is_over(self) -> None:
        wire = Wire()
        client = wire.connect()
        client.initiator.delete()
        wire.run()
        with pytest.raises(SnapshotError):
            snapshot(wire.sa, wire.now)

    def test_not_while_it_closes(self) -> None:
        wire = Wire()
        wire.connect()
        wire.filter = lambda to_gateway, batch: []
        wire.sa.close(CloseCause.ADMIN, wire.now)
        with pytest.raises(SnapshotError):
            snapshot(wire.sa, wire.now)


@pytest.fixture(scope="module")
def good() -> tuple[Wire, bytes]:
    """A gateway, and a snapshot of its SA."""
    wire = Wire()
    wire.connect()
    return wire, snapshot(wire.sa, wire.now)


def read(wire: Wire, data: bytes) -> IkeSa:
    """Restore into the gateway's owner."""
    return restore(data, wire.responder, wire.config, wire.random.randbytes, wire.now)


class TestBytesThatAreNoSnapshot:
    @pytest.mark.parametrize(
        "data",
        [b"", b"{", b"{}", b"[]", b"null", b"7", b'"text"', b"\xff\xfe", b'{"version":2}', b"[" * 100_000, b"NaN"],
    )
    def test_garbage(self, good: tuple[Wire, bytes], data: bytes) -> None:
        with pytest.raises(SnapshotError):
            read(good[0], data)

    @pytest.mark.parametrize("version", [0, 1, 99, "1", None])
    def test_another_version(self, good: tuple[Wire, bytes], version: object) -> None:
        record = json.loads(good[1])
        record["version"] = version
        with pytest.raises(SnapshotError, match="version"):
            read(good[0], json.dumps(record).encode())

    def test_every_field_missing_or_of_another_type(self, good: tuple[Wire, bytes]) -> None:
        wire, data = good
        for name in json.loads(data):
            wrongs: tuple[object, ...] = (..., None, "zz", -1, 1.5, [], ["x"], {}, True)
            for wrong in wrongs:
                record = json.loads(data)
                if wrong is ...:
                    del record[name]
                else:
                    record[name] = wrong
                try:
                    sa = read(wire, json.dumps(record).encode())
                except SnapshotError:
                    continue
                # What is accepted must be a whole SA, not something that fails on its first packet.
                assert facts(sa)["state"] is State.ESTABLISHED, name
                snapshot(sa, wire.now)

    @given(st.data())
    def test_truncated_or_changed(self, good: tuple[Wire, bytes], data: st.DataObject) -> None:
        wire, whole = good
        at = data.draw(st.integers(0, len(whole) - 1))
        changed = data.draw(st.sampled_from([whole[:at], whole[:at] + b"x" + whole[at + 1 :], whole[at:]]))
        try:
            read(wire, changed)
        except SnapshotError:
            return
        # A changed letter in a name, a key or an SPI may pass: whoever stores snapshots authenticates them.
        assert len(changed) == len(whole)

    def test_keys_of_the_wrong_size(self, good: tuple[Wire, bytes]) -> None:
        wire, data = good
        record = json.loads(data)
        for index in range(7):
            changed = json.loads(json.dumps(record))
            changed["keys"][index] += "00"
            with pytest.raises(SnapshotError):
                read(wire, json.dumps(changed).encode())
