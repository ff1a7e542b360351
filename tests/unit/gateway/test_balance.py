"""Clients that are sent to other gateways: while this one drains, and when it has enough of them."""

from __future__ import annotations

from aaa.interface import TerminateCause
from gateway.ike.payloads.redirect import GatewayId
from tests.peers.initiator import Initiator, Phase
from tests.peers.redirect import WillingInitiator
from tests.unit.gateway.shell import Shell

OTHER = GatewayId.of("192.0.2.2")


def shell(*, session_limit: int | None = None, in_ike_sa_init: bool = True, per_s: float = 4.0) -> Shell:
    """A gateway that knows another one."""
    made = Shell()
    made.engine.balance.configure(
        ["192.0.2.2"], in_ike_sa_init=in_ike_sa_init, session_limit=session_limit, drained_per_s=per_s
    )
    return made


def connect(made: Shell, *, willing: bool = True) -> Initiator:
    """A client, as far as it gets."""
    client = made.client(initiator=WillingInitiator if willing else Initiator)
    client.start()
    made.run()
    return client


def sent_to(client: Initiator) -> GatewayId | None:
    """Where a client was sent."""
    assert isinstance(client, WillingInitiator)
    return client.sent_to


class TestLimit:
    def test_above_it_new_clients_go_elsewhere(self) -> None:
        made = shell(session_limit=2)
        inside = [connect(made) for _ in range(2)]
        assert [client.phase for client in inside] == [Phase.ESTABLISHED] * 2
        assert sent_to(connect(made)) == OTHER
        assert [sent_to(client) for client in inside] == [None, None]
        # Whoever does not understand it gets in.
        assert connect(made, willing=False).phase is Phase.ESTABLISHED

    def test_below_it_they_stay_again(self) -> None:
        made = shell(session_limit=1)
        first = connect(made)
        first.delete()
        made.run()
        assert len(made.sessions) == 0
        assert connect(made).phase is Phase.ESTABLISHED

    def test_in_ike_auth(self) -> None:
        made = shell(session_limit=1, in_ike_sa_init=False)
        connect(made)
        client = connect(made)
        assert isinstance(client, WillingInitiator)
        assert (client.sent_to, client.sent_in) == (OTHER, "IKE_AUTH")
        assert len(made.sessions) == 1
        assert len(made.plane.installed) == 1
        # Nobody was let in, so nobody is accounted for.
        assert len(made.aaa.started) == 1

    def test_no_limit(self) -> None:
        made = shell()
        assert all(connect(made).phase is Phase.ESTABLISHED for _ in range(3))


class TestDraining:
    def test_those_that_come_and_those_that_are_in(self) -> None:
        made = shell()
        inside, stubborn = [connect(made) for _ in range(3)], connect(made, willing=False)
        assert made.engine.drain(True) == 3
        made.advance(2.0)
        assert [sent_to(client) for client in inside] == [OTHER] * 3
        assert stubborn.requests_seen == 0
        newcomer = connect(made)
        assert isinstance(newcomer, WillingInitiator)
        assert (newcomer.sent_to, newcomer.sent_in) == (OTHER, "IKE_SA_INIT")

    def test_so_many_a_second_the_oldest_first(self) -> None:
        made = shell(per_s=2.0)
        inside = [connect(made) for _ in range(4)]
        made.engine.drain(True)
        gone = []
        for _ in range(4):
            made.advance(0.5)
            gone.append([sent_to(client) is not None for client in inside])
        assert gone == [
            [True, True, False, False],
            [True, True, True, False],
            [True, True, True, True],
            [True, True, True, True],
        ]

    def test_each_is_told_once(self) -> None:
        made = shell()
        client = connect(made)
        made.engine.drain(True)
        made.advance(10.0)
        assert client.requests_seen == 1

    def test_who_does_not_go_is_disconnected(self) -> None:
        made = shell()
        client = connect(made)
        made.engine.drain(True)
        made.advance(32.0)
        assert client.error == "deleted by the gateway"
        assert [cause for _, cause in made.aaa.ended] == [TerminateCause.NAS_REQUEST]
        assert made.plane.installed == {}

    def test_who_goes_is_accounted_for_as_sent(self) -> None:
        made = shell()
        client = connect(made)
        made.engine.drain(True)
        made.advance(1.0)
        client.delete()
        made.run()
        assert [cause for _, cause in made.aaa.ended] == [TerminateCause.NAS_REQUEST]

    def test_it_can_be_taken_back(self) -> None:
        made = shell(per_s=2.0)
        inside = [connect(made) for _ in range(3)]
        made.engine.drain(True)
        assert made.engine.drain(False) == 0
        made.advance(5.0)
        assert [sent_to(client) for client in inside] == [None] * 3
        assert connect(made).phase is Phase.ESTABLISHED

    def test_without_another_gateway_it_is_refused(self) -> None:
        made = Shell()
        assert made.engine.drain(True) is None
        assert connect(made).phase is Phase.ESTABLISHED

    def test_it_goes_on_after_the_settings_were_read_again(self) -> None:
        made = shell()
        made.engine.drain(True)
        made.engine.balance.configure(["vpn-c.example"], in_ike_sa_init=True, session_limit=None, drained_per_s=1.0)
        assert sent_to(connect(made)) == GatewayId.of("vpn-c.example")
        made.engine.balance.configure([], in_ike_sa_init=True, session_limit=None, drained_per_s=1.0)
        assert connect(made).phase is Phase.ESTABLISHED

    def test_a_stopping_gateway_sends_nobody_away(self) -> None:
        made = shell()
        client = connect(made)
        made.engine.drain(True)
        made.engine.balance.stop()
        made.advance(3.0)
        assert sent_to(client) is None
