"""From datagrams to sessions: AAA, addresses, data plane and accounting, all around the engine by script."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from aaa.interface import Refusal, TerminateCause
from gateway.control.dynamic_authorization import SessionSelector
from gateway.dataplane.interface import Counters, EspCipher
from gateway.engine import ACCOUNTING_SWEEP_S, HEARTBEAT_S
from gateway.handshake_reporter import AUDIT_EVENTS_BURST
from gateway.ike import driver
from gateway.ike.child import ChildState
from gateway.ike.constants import ExchangeType, Group, PayloadType, ProtocolId
from gateway.ike.path import Path
from gateway.ike.payloads.delete import Delete
from gateway.ike.responder import FAULT_PAUSE_S
from gateway.ike.selectors import TrafficSelector
from gateway.sessions import CONFIRMATION_S, MOVES_BURST
from tests.peers.initiator import Initiator, InitiatorConfig, Phase
from tests.unit.gateway.ike import offers
from tests.unit.gateway.ike.test_sign_in import by_certificate
from tests.unit.gateway.ike.wire import GATEWAY, mschapv2
from tests.unit.gateway.shell import LAPTOP, Shell

DEVICE = SessionSelector(None, "device-7", None, None)


def assert_nothing_left(shell: Shell) -> None:
    """No session, no lease, no SPI, no half-open SA."""
    assert list(shell.sessions) == []
    assert (shell.plane.installed, shell.plane.sending) == ({}, set())
    assert shell.engine.responder.half_open == 0
    # The whole pool is free: five clients at once get an address.
    shell.aaa.access = replace(LAPTOP, device_id="others")
    assert [shell.connect().phase for _ in range(5)] == [Phase.ESTABLISHED] * 5


class TestUp:
    @pytest.mark.parametrize("thinks", [False, True])
    @pytest.mark.parametrize("config", [mschapv2, by_certificate])
    def test_a_session(self, config: type[InitiatorConfig], thinks: bool) -> None:
        shell = Shell()
        shell.aaa.thinks = thinks
        client = shell.connect(config())
        for _ in range(10):
            shell.aaa.answer_all()
            shell.run()
        assert client.phase is Phase.ESTABLISHED
        (start,) = shell.aaa.started
        assert (start.gateway, start.remote_address) == ("gateway-1", "198.51.100.1:500")
        assert (start.virtual_ipv4, start.virtual_ipv6) == ("10.99.0.2", None)
        assert start.ike_suite == "AES_GCM_16_256/PRF_HMAC_SHA2_256/CURVE25519"
        assert start.esp_suite == "AES_GCM_16_256"
        (child,) = shell.plane.installed.values()
        assert (child.spi_in, child.spi_out) == (client.spi_out, client.spi_in)
        assert client.child_keys is not None
        assert child.keys_in.encryption == client.child_keys.encr_i
        assert child.keys_out.encryption == client.child_keys.encr_r
        assert (child.suite.cipher, child.suite.key_bits) == (EspCipher.AES_GCM_16, 256)
        assert child.endpoints.remote == IPv4Address("198.51.100.1")
        assert not child.endpoints.udp_encapsulation
        assert len(shell.sessions) == 1
        # The gateway's networks, since the rule names none.
        assert [str(s) for s in child.local_selectors] == ["10.1.0.0-10.1.255.255"]

    def test_the_rules_networks_and_dns_go_first(self) -> None:
        shell = Shell()
        shell.aaa.access = replace(LAPTOP, networks=(IPv4Network("10.7.0.0/24"),), dns=(IPv4Address("10.7.0.53"),))
        client = shell.connect()
        assert [str(s) for s in client.selectors[1]] == ["10.7.0.0-10.7.0.255"]
        assert client.dns == [IPv4Address("10.7.0.53").packed]

    def test_udp_encapsulation_behind_a_nat(self) -> None:
        shell = Shell()
        shell.connect(nat=True)
        (child,) = shell.plane.installed.values()
        assert child.endpoints.udp_encapsulation
        assert child.endpoints.remote_port == 61_000

    def test_the_device_gets_its_address_again(self) -> None:
        shell = Shell()
        first = shell.connect()
        first.delete()
        shell.run()
        assert shell.connect().virtual_ipv4 == first.virtual_ipv4


class TestDown:
    def test_the_client_leaves(self) -> None:
        shell = Shell()
        client = shell.connect()
        shell.plane.traffic = Counters(1000, 10, 2000, 20, 0.0, 0, 0)
        client.delete()
        shell.run()
        ((usage, cause),) = shell.aaa.ended
        assert cause is TerminateCause.USER_REQUEST
        assert (usage.bytes_in, usage.packets_in, usage.bytes_out, usage.packets_out) == (1000, 10, 2000, 20)
        assert usage.session_id == shell.aaa.started[0].session_id
        assert_nothing_left(shell)

    def test_the_client_is_lost(self) -> None:
        shell = Shell()
        shell.connect()
        shell.network_is_up = False
        shell.advance(70)
        shell.network_is_up = True
        assert [cause for _, cause in shell.aaa.ended] == [TerminateCause.LOST_SERVICE]
        assert_nothing_left(shell)

    def test_traffic_keeps_a_session(self) -> None:
        shell = Shell()
        shell.connect()
        shell.network_is_up = False
        for _ in range(20):
            shell.plane.traffic = Counters(1, 1, 1, 1, shell.loop.now, 0, 0)
            shell.advance(10)
        assert shell.aaa.ended == []

    def test_the_lifetime_is_over(self) -> None:
        shell = Shell()
        shell.aaa.access = replace(LAPTOP, session_lifetime_s=20.0)
        client = shell.connect()
        shell.advance(21)
        assert client.phase is Phase.CLOSED
        assert [cause for _, cause in shell.aaa.ended] == [TerminateCause.SESSION_TIMEOUT]

    def test_the_device_signs_in_anew(self) -> None:
        shell = Shell()
        first = shell.connect()
        again = mschapv2()
        again.initial_contact = True
        second = shell.connect(again)
        assert second.phase is Phase.ESTABLISHED
        # It is the same device, and has its address back.
        assert second.virtual_ipv4 == first.virtual_ipv4
        assert [cause for _, cause in shell.aaa.ended] == [TerminateCause.NAS_REQUEST]
        assert len(shell.plane.installed) == 1

    def test_a_device_with_as_many_sessions_as_it_may_loses_its_oldest(self) -> None:
        shell = Shell()
        clients = [shell.connect() for _ in range(4)]
        assert [client.phase for client in clients] == [Phase.ESTABLISHED] * 4
        fifth = shell.connect()
        assert fifth.phase is Phase.ESTABLISHED
        assert (clients[0].phase, clients[0].error) == (Phase.CLOSED, "deleted by the gateway")
        assert [client.phase for client in clients[1:]] == [Phase.ESTABLISHED] * 3
        assert [cause for _, cause in shell.aaa.ended] == [TerminateCause.NAS_REQUEST]
        assert (len(shell.sessions), len(shell.plane.installed)) == (4, 4)

    def test_another_device_is_not_counted(self) -> None:
        shell = Shell()
        clients = [shell.connect() for _ in range(4)]
        shell.aaa.access = replace(LAPTOP, device_id="device-8")
        assert shell.connect().phase is Phase.ESTABLISHED
        assert [client.phase for client in clients] == [Phase.ESTABLISHED] * 4

    def test_the_child_sa_alone(self) -> None:
        shell = Shell()
        client = shell.connect()
        shell.plane.traffic = Counters(7, 1, 0, 0, 0.0, 0, 0)
        body = Delete(ProtocolId.ESP, (client.spi_in.to_bytes(4, "big"),)).to_bytes()
        client.request(ExchangeType.INFORMATIONAL, [(PayloadType.DELETE, body)])
        shell.run()
        assert (shell.plane.installed, len(shell.sessions)) == ({}, 1)
        shell.plane.traffic = Counters(0, 0, 0, 0, 0.0, 0, 0)
        client.delete()
        shell.run()
        # What it carried is not forgotten.
        assert shell.aaa.ended[0][0].bytes_in == 7

    def test_the_gateway_stops(self) -> None:
        shell = Shell()
        clients = [shell.connect(), shell.connect()]

        async def stop() -> None:
            stopping = asyncio.ensure_future(shell.engine.stop(1.0))
            await asyncio.sleep(0)
            shell.run()
            await stopping

        asyncio.run(stop())
        assert {client.phase for client in clients} == {Phase.CLOSED}
        assert [cause for _, cause in shell.aaa.ended] == [TerminateCause.ADMIN_REBOOT] * 2
        assert (shell.plane.installed, shell.plane.sending) == ({}, set())


class TestThrownOut:
    def test_all_sessions_of_a_device(self) -> None:
        shell = Shell()
        clients = [shell.connect(), shell.connect()]
        shell.aaa.access = replace(LAPTOP, device_id="device-8")
        other = shell.connect()
        assert shell.engine.disconnect(DEVICE) == 2
        # The tunnels are gone when the call returns, whatever the clients do.
        assert len(shell.plane.installed) == 1
        shell.run()
        assert [client.phase for client in (*clients, other)] == [Phase.CLOSED, Phase.CLOSED, Phase.ESTABLISHED]
        assert [cause for _, cause in shell.aaa.ended] == [TerminateCause.ADMIN_RESET] * 2
        assert shell.engine.disconnect(DEVICE) == 0

    def test_one_session(self) -> None:
        shell = Shell()
        shell.connect()
        shell.connect()
        session_id = shell.aaa.started[1].session_id
        assert shell.engine.disconnect(SessionSelector(session_id, None, None, None)) == 1
        assert [usage.session_id for usage, _ in shell.aaa.ended] == [session_id]

    @pytest.mark.parametrize(
        ("selector", "count"),
        [
            (SessionSelector(None, None, "alice", None), 1),
            (SessionSelector(None, None, None, "10.99.0.2"), 1),
            (SessionSelector(None, "device-7", "alice", "10.99.0.2"), 1),
            (SessionSelector(None, "device-7", "bob", None), 0),
            (SessionSelector("another", "device-7", None, None), 0),
            (SessionSelector(None, None, None, "10.99.0.3"), 0),
        ],
    )
    def test_all_that_is_given_must_match(self, selector: SessionSelector, count: int) -> None:
        shell = Shell()
        shell.connect()
        assert shell.engine.disconnect(selector) == count

    def test_one_that_is_just_signing_in(self) -> None:
        """AAA has said yes; the last message of the client is on its way."""
        shell = Shell()
        client = shell.client()
        client.start()
        while not any(session.access for session in shell.sessions):
            for path, initiator in shell.clients.items():
                for datagram in initiator.datagrams_to_send():
                    shell.engine.receive_ike(datagram, path)
            sent, shell.sent = shell.sent, []
            for datagram, _ in sent:
                client.receive_datagram(datagram)
        assert shell.engine.disconnect(DEVICE) == 1
        shell.run()
        assert client.phase is not Phase.ESTABLISHED
        assert shell.aaa.started == []
        assert_nothing_left(shell)

    @staticmethod
    def up_but_not_confirmed(shell: Shell) -> Initiator:
        """A client that is in, while AAA still thinks about the start of its session."""
        shell.aaa.thinks = True
        client = shell.connect()
        while client.phase is not Phase.ESTABLISHED:
            shell.aaa.answer_all()
            shell.run()
        assert len(shell.aaa.started) == len(shell.aaa.waiting) == 1
        return client

    @pytest.mark.parametrize("thinks", [False, True])
    def test_one_that_was_revoked_between_decision_and_start(self, thinks: bool) -> None:
        shell = Shell()
        shell.aaa.refuse_start = Refusal("revoked-device", "revoked a moment ago")
        client = self.up_but_not_confirmed(shell) if thinks else shell.connect()
        shell.aaa.answer_all()
        shell.run()
        assert client.phase is Phase.CLOSED
        assert [cause for _, cause in shell.aaa.ended] == [TerminateCause.ADMIN_RESET]
        assert shell.plane.installed == {}

    def test_one_whose_start_nobody_confirms(self) -> None:
        """What was decided since the sign-in may be another thing, and nobody can be asked."""
        shell = Shell()
        client = self.up_but_not_confirmed(shell)
        phases = []
        for seconds in (CONFIRMATION_S - 1, 1 + 2 * ACCOUNTING_SWEEP_S):
            shell.advance(seconds)
            phases.append(client.phase)
        assert phases == [Phase.ESTABLISHED, Phase.CLOSED]
        assert [cause for _, cause in shell.aaa.ended] == [TerminateCause.NAS_ERROR]
        # The answer comes too late, and does no harm.
        shell.aaa.thinks = False
        shell.aaa.answer_all()
        shell.run()
        assert_nothing_left(shell)

    def test_one_that_was_confirmed_stays(self) -> None:
        shell = Shell()
        client = self.up_but_not_confirmed(shell)
        shell.advance(CONFIRMATION_S - 1)
        shell.aaa.answer_all()
        shell.advance(2 * CONFIRMATION_S)
        assert client.phase is Phase.ESTABLISHED


class TestRefused:
    def test_by_aaa(self) -> None:
        shell = Shell()
        shell.aaa.certificate = Refusal("revoked-certificate", "revoked")
        assert shell.connect(by_certificate()).error == "AUTHENTICATION_FAILED"
        # It has written the event itself.
        assert shell.aaa.failed == []
        assert_nothing_left(shell)

    def test_by_a_wrong_password(self) -> None:
        shell = Shell()
        assert shell.connect(mschapv2(password="wrong")).error == "AUTHENTICATION_FAILED"
        assert all(conversation.closed for conversation in shell.aaa.conversations)
        assert_nothing_left(shell)

    def test_by_a_pool_without_addresses(self) -> None:
        shell = Shell()
        for number in range(5):
            shell.aaa.access = replace(LAPTOP, device_id=f"device-{number}")
            assert shell.connect().phase is Phase.ESTABLISHED
        assert shell.connect().error == "INTERNAL_ADDRESS_FAILURE"
        ((_, code, reason, detail),) = shell.aaa.failed
        assert (code, reason) == ("internal-address-failure", "pool of the gateway has no free address")
        assert detail["suite"].startswith("AES_GCM_16_256")

    def test_by_a_pool_that_is_not_there(self) -> None:
        shell = Shell()
        shell.aaa.access = replace(LAPTOP, pool="nowhere")
        assert shell.connect().error == "INTERNAL_ADDRESS_FAILURE"

    def test_by_the_data_plane(self) -> None:
        shell = Shell()
        shell.plane.broken = True
        assert shell.connect().error == "TEMPORARY_FAILURE"
        assert shell.aaa.failed[0][1:3] == ("temporary-failure", "no room")
        shell.plane.broken = False
        assert_nothing_left(shell)

    def test_by_its_selectors(self) -> None:
        shell = Shell()
        shell.aaa.access = replace(LAPTOP, networks=(IPv4Network("10.9.0.0/16"),))
        config = mschapv2()
        config.responder_selectors = (TrafficSelector(7, 0, 0, 65535, 1, 2),)
        assert shell.connect(config).error == "TS_UNACCEPTABLE"
        assert_nothing_left(shell)

    def test_without_an_sa(self) -> None:
        shell, config = Shell(), mschapv2()
        config.proposals, config.ke_group = offers.ANDROID_11, Group.MODP_2048
        assert shell.connect(config).error == "NO_PROPOSAL_CHOSEN"
        ((context, code, reason, detail),) = shell.aaa.failed
        assert (context.remote_address, context.sign_in_id, code) == ("198.51.100.1", "", "no-proposal-chosen")
        assert "AES128_XCBC" in reason
        assert detail == {"client": "Android 11", "cause": "proposal"}

    def test_a_flood_of_failures_is_counted_but_not_written(self) -> None:
        shell, config = Shell(), mschapv2()
        config.proposals, config.ke_group = offers.ANDROID_11, Group.MODP_2048
        client = shell.client(config)
        for _ in range(int(AUDIT_EVENTS_BURST) + 50):
            client.start()
            shell.run()
        assert len(shell.aaa.failed) == AUDIT_EVENTS_BURST
        shell.advance(10)
        client.start()
        shell.run()
        assert shell.aaa.failed[-1][3]["failures_left_out_before"] == "50"

    def test_a_handshake_that_stops(self) -> None:
        shell = Shell()
        shell.aaa.thinks = True
        shell.connect()
        shell.advance(31)
        ((context, code, _, _),) = shell.aaa.failed
        assert (context.ike_identity, code) == ("alice", "handshake-timeout")
        shell.aaa.answer_all()
        shell.aaa.thinks = False
        assert_nothing_left(shell)


class TestMeanwhile:
    def test_interim_accounting(self) -> None:
        shell = Shell()
        shell.connect()
        shell.plane.traffic = Counters(5, 1, 6, 2, 0.0, 0, 0)
        shell.advance(60 + ACCOUNTING_SWEEP_S)
        (usage,) = shell.aaa.updated
        assert (usage.bytes_in, usage.bytes_out) == (5, 6)
        shell.advance(60)
        assert len(shell.aaa.updated) == 2

    def test_heartbeats(self) -> None:
        shell = Shell()
        shell.advance(10 * HEARTBEAT_S)
        assert shell.aaa.heartbeats in (10, 11)

    def test_a_new_binding_of_a_nat_moves_the_child_sa(self) -> None:
        shell = Shell()
        client = shell.connect(nat=True)
        old = Path(GATEWAY, 500, "198.51.100.1", 61_000)
        shell.clients[old._replace(remote_port=62_000)] = shell.clients.pop(old)
        client.request(ExchangeType.INFORMATIONAL, [])
        shell.run()
        ((spi_in, endpoints),) = shell.plane.moves
        assert (spi_in, endpoints.remote_port) == (client.spi_out, 62_000)

    def test_one_that_gets_a_new_binding_with_each_message_is_followed_now_and_then(self) -> None:
        shell = Shell()
        client = shell.connect(nat=True)
        path = Path(GATEWAY, 500, "198.51.100.1", 61_000)
        for port in range(62_000, 62_200):
            moved = path._replace(remote_port=port)
            shell.clients[moved] = shell.clients.pop(path)
            client.request(ExchangeType.INFORMATIONAL, [])
            shell.run()
            path = moved
        assert len(shell.plane.moves) == MOVES_BURST
        shell.advance(2 * ACCOUNTING_SWEEP_S)
        assert [endpoints.remote_port for _, endpoints in shell.plane.moves[int(MOVES_BURST) :]] == [62_199]

    def test_a_data_plane_that_cannot_move_ends_nothing(self) -> None:
        shell = Shell()
        client = shell.connect(nat=True)
        shell.plane.broken = True
        old = Path(GATEWAY, 500, "198.51.100.1", 61_000)
        shell.clients[old._replace(remote_port=62_000)] = shell.clients.pop(old)
        client.request(ExchangeType.INFORMATIONAL, [])
        shell.run()
        assert len(shell.sessions) == 1

    def test_authentic_esp_from_elsewhere_moves_ike_along(self) -> None:
        shell = Shell()
        client = shell.connect(nat=True)
        shell.engine.remote_moved(client.spi_out, IPv4Address("198.51.100.1"), 63_000)
        shell.engine.remote_moved(0xDEAD, IPv4Address("198.51.100.9"), 1)
        (session,) = shell.sessions
        assert session.sa.path.remote_port == 63_000

    def test_and_all_other_child_sas(self) -> None:
        shell = Shell()
        client = shell.connect(nat=True)
        (session,) = shell.sessions
        other = replace(session.sa.children[client.spi_out], spi_in=0xC0FFEE01)
        session.sa.children[other.spi_in] = other
        shell.sessions.install(session, other, shell.loop.now, outbound=True)
        shell.engine.remote_moved(client.spi_out, IPv4Address("198.51.100.9"), 63_000)
        ended_at = {spi_in: (str(to.remote), to.remote_port) for spi_in, to in shell.plane.moves}
        assert ended_at == dict.fromkeys((client.spi_out, other.spi_in), ("198.51.100.9", 63_000))

    def test_but_not_for_a_late_packet_of_one_that_was_replaced(self) -> None:
        """By its way of then: the data plane has moved that pair, which has to come back."""
        shell = Shell()
        client = shell.connect(nat=True)
        (session,) = shell.sessions
        session.sa.children[client.spi_out].state = ChildState.DELETED
        shell.engine.remote_moved(client.spi_out, IPv4Address("198.51.100.9"), 63_000)
        assert session.sa.path.remote_port == 61_000
        ((spi_in, endpoints),) = shell.plane.moves
        assert (spi_in, endpoints.remote_port) == (client.spi_out, 61_000)


class TestFaults:
    """Whatever goes wrong inside, the gateway lives, and the next client gets in."""

    def test_a_fault_in_the_core(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shell = Shell()
        with monkeypatch.context() as patch:
            patch.setattr(shell.engine.responder, "_begin", lambda *_: 1 / 0)
            shell.connect()
        assert shell.connect().phase is Phase.ESTABLISHED

    def test_a_fault_while_an_event_is_served(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shell = Shell()
        with monkeypatch.context() as patch:
            patch.setattr(shell.sessions, "assign", lambda *_, **__: 1 / 0)
            assert shell.connect().phase is Phase.AUTH
        assert shell.connect().phase is Phase.ESTABLISHED
        shell.advance(31)
        # The one that it hit is cleared away by the half-open timeout.
        assert len(list(shell.sessions)) == 1

    def test_a_fault_in_a_timer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shell = Shell()
        shell.connect()
        client = shell.connect()
        with monkeypatch.context() as patch:
            patch.setattr(driver, "handle_timer", lambda *_: 1 / 0)
            shell.loop.advance(shell.settings.dpd_interval_s)
        shell.loop.advance(FAULT_PAUSE_S)
        assert shell.connect().phase is Phase.ESTABLISHED
        client.request(ExchangeType.INFORMATIONAL, [])
        shell.run()
        before = client.requests_seen
        shell.advance(shell.settings.dpd_interval_s + 1)
        assert client.requests_seen == before + 1
