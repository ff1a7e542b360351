"""A device that signs in anew under another decision, and sessions from which everything is taken for a time."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from aaa.interface import TerminateCause
from core.settings import PoolSettings
from gateway.control.change import SessionChange
from gateway.control.dynamic_authorization import SessionSelector
from gateway.dataplane.interface import ChildSa
from gateway.ike.constants import CfgAttribute, Esn, ExchangeType, PayloadType, ProtocolId, TransformType
from gateway.ike.payloads.configuration import Configuration, ConfigurationAttribute
from gateway.ike.payloads.delete import Delete
from gateway.ike.payloads.security_association import Proposal, Transform, proposals_to_bytes
from gateway.ike.selectors import TrafficSelector, selectors_to_bytes
from gateway.pool import Pools
from gateway.sessions import Sessions
from tests.peers.initiator import Initiator, Phase
from tests.unit.gateway.ike.wire import mschapv2
from tests.unit.gateway.shell import LAPTOP, Shell

NETWORK = IPv4Network("10.1.0.0/16")
DEVICE = SessionSelector(None, LAPTOP.device_id, None, None)


class Returning(Initiator):
    """A client that asks for the address that it has."""

    had = IPv4Address("0.0.0.0")

    def first_auth_payloads(self) -> list[tuple[PayloadType, bytes]]:
        """With a CFG_REQUEST of its own."""
        request = Configuration(1, (ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_ADDRESS, self.had.packed),))
        others = [payload for payload in super().first_auth_payloads() if payload[0] != PayloadType.CP]
        return [*others, (PayloadType.CP, request.to_bytes())]


def sign_in_anew(shell: Shell) -> None:
    """The device begins a second session before it lets go of its first one."""
    (session,) = shell.sessions
    assert session.lease is not None
    assert session.lease.ipv4 is not None
    client = shell.client(initiator=Returning)
    assert isinstance(client, Returning)
    client.had = session.lease.ipv4
    client.start()
    shell.run()
    assert client.phase is Phase.ESTABLISHED


def two_pools() -> Shell:
    shell = Shell()
    shell.sessions._pools = Pools(
        (
            PoolSettings(name="staff", ipv4=IPv4Network("10.99.0.0/29"), ipv6=None),
            PoolSettings(name="quarantine", ipv4=IPv4Network("10.98.0.0/29"), ipv6=None),
        )
    )
    return shell


def addresses(sessions: Sessions) -> list[str]:
    return [str(session.lease.ipv4) for session in sessions if session.lease is not None]


def test_a_device_that_signs_in_anew_keeps_its_address() -> None:
    shell = two_pools()
    shell.connect()
    sign_in_anew(shell)
    assert addresses(shell.sessions) == ["10.99.0.2", "10.99.0.2"]


def test_a_device_that_signs_in_anew_under_another_decision_has_an_address_of_its_pool() -> None:
    """Filters behind the gateway go by the address: a device in quarantine must not keep that of a good one."""
    shell = two_pools()
    shell.connect()
    shell.aaa.access = replace(LAPTOP, pool="quarantine")
    sign_in_anew(shell)
    assert addresses(shell.sessions) == ["10.99.0.2", "10.98.0.2"]


def test_who_is_to_reach_something_again_after_nothing_has_to_sign_in_anew() -> None:
    """Its child SA is gone, and no client expects to be offered another one."""
    shell = Shell()
    shell.connect()
    shell.engine.change(DEVICE, SessionChange(networks=()))
    shell.run()
    assert shell.plane.installed == {}
    assert len(shell.sessions) == 1
    shell.engine.change(DEVICE, SessionChange(networks=(NETWORK,)))
    shell.run()
    assert [cause for _, cause in shell.aaa.ended] == [TerminateCause.NAS_REQUEST]


def test_who_reaches_nothing_and_shall_not_stays() -> None:
    shell = Shell()
    shell.connect()
    for _ in range(2):
        shell.engine.change(DEVICE, SessionChange(networks=()))
        shell.run()
    assert len(shell.sessions) == 1


class TestSigningInAnewWithoutAChildSa:
    """The child SA comes later (RFC 6023), and is with the old one's addresses all the same."""

    def sign_in(self, shell: Shell) -> Returning:
        (session,) = shell.sessions
        assert session.lease is not None
        assert session.lease.ipv4 is not None
        client = shell.client(replace(mschapv2(), childless=True), initiator=Returning)
        assert isinstance(client, Returning)
        client.had = session.lease.ipv4
        client.start()
        shell.run()
        assert client.phase is Phase.ESTABLISHED
        return client

    def make_child(self, shell: Shell, client: Initiator, spi: int) -> ChildSa:
        transforms = (
            Transform(TransformType.ENCR, client.config.child_suite.encr, client.config.child_suite.key_bits),
            Transform(TransformType.ESN, Esn.NO_ESN),
        )
        offer = Proposal(1, ProtocolId.ESP, spi.to_bytes(4, "big"), transforms)
        client.request(
            ExchangeType.CREATE_CHILD_SA,
            [
                (PayloadType.SA, proposals_to_bytes((offer,))),
                (PayloadType.NONCE, b"n" * 32),
                (PayloadType.TSI, selectors_to_bytes(client.config.initiator_selectors)),
                (PayloadType.TSR, selectors_to_bytes(client.config.responder_selectors)),
            ],
        )
        shell.run()
        (made,) = (child for child in shell.plane.installed.values() if child.spi_out == spi)
        return made

    def test_while_the_old_session_is_there(self) -> None:
        shell = Shell()
        old = shell.connect()
        (before,) = shell.plane.installed.values()
        made = self.make_child(shell, self.sign_in(shell), 0x1234)
        assert (made.lineage, made.remote_selectors) == (before.lineage, before.remote_selectors)
        assert shell.plane.sending == {before.spi_in}
        old.delete()
        shell.run()
        assert shell.plane.sending == {made.spi_in}

    def test_when_the_old_session_has_gone(self) -> None:
        """Nobody would start it later."""
        shell = Shell()
        old = shell.connect()
        client = self.sign_in(shell)
        old.delete()
        shell.run()
        made = self.make_child(shell, client, 0x1234)
        assert shell.plane.sending == {made.spi_in}

    def test_after_a_change_of_what_it_may_reach(self) -> None:
        shell = Shell()
        shell.connect()
        client = self.sign_in(shell)
        (before,) = shell.plane.installed.values()
        shell.engine.change(DEVICE, SessionChange(networks=(IPv4Network("10.1.4.0/24"),)))
        shell.run()
        assert self.make_child(shell, client, 0x1234).lineage == before.lineage

    def test_a_second_one_follows_none(self) -> None:
        shell = Shell()
        shell.connect()
        client = self.sign_in(shell)
        first, second = (self.make_child(shell, client, spi) for spi in (0x1234, 0x1235))
        assert first.lineage != second.lineage
        assert second.spi_in in shell.plane.sending


class TestNarrowByWish:
    """A client that asked for one subnet only, where it may reach more."""

    ASKED = IPv4Network("10.1.4.0/24")
    ELSEWHERE = IPv4Network("10.1.9.0/24")

    def connect(self) -> tuple[Shell, Initiator]:
        shell = Shell()
        selectors = (TrafficSelector.from_network(self.ASKED),)
        client = shell.connect(replace(mschapv2(), responder_selectors=selectors))
        assert client.phase is Phase.ESTABLISHED
        return shell, client

    def reached(self, shell: Shell) -> list[str]:
        return [str(one) for child in shell.plane.installed.values() for one in child.local_selectors]

    def change(self, shell: Shell, *networks: IPv4Network | IPv6Network) -> None:
        shell.engine.change(DEVICE, SessionChange(networks=networks))
        shell.advance(1)

    def test_more_changes_nothing_for_it(self) -> None:
        shell, _ = self.connect()
        before = dict(shell.plane.installed)
        self.change(shell, NETWORK, IPv4Network("10.2.0.0/16"))
        assert shell.plane.installed == before
        assert len(shell.sessions) == 1

    def test_what_it_asked_for_comes_back_by_a_new_sign_in(self) -> None:
        """Nothing was left of its wish, so its child SA had to go; and it waits for no other."""
        shell, _ = self.connect()
        self.change(shell, self.ELSEWHERE)
        assert self.reached(shell) == []
        assert len(shell.sessions) == 1
        self.change(shell, self.ELSEWHERE, IPv4Network("10.2.0.0/16"))
        assert len(shell.sessions) == 1
        self.change(shell, NETWORK)
        assert [cause for _, cause in shell.aaa.ended] == [TerminateCause.NAS_REQUEST]

    def test_a_client_that_let_its_child_sa_go_is_left_alone(self) -> None:
        shell, client = self.connect()
        delete = Delete(ProtocolId.ESP, (client.spi_in.to_bytes(4, "big"),))
        client.request(ExchangeType.INFORMATIONAL, [(PayloadType.DELETE, delete.to_bytes())])
        shell.run()
        assert shell.plane.installed == {}
        self.change(shell, self.ELSEWHERE)
        self.change(shell, NETWORK)
        assert len(shell.sessions) == 1

    def test_a_client_without_addresses_of_the_only_family_that_is_left(self) -> None:
        shell, _ = self.connect()
        self.change(shell, IPv6Network("fd12::/64"))
        assert self.reached(shell) == []
        self.change(shell, NETWORK)
        assert [cause for _, cause in shell.aaa.ended] == [TerminateCause.NAS_REQUEST]
