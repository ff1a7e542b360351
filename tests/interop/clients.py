"""Clients of the interop tests: what each is configured with, and what a working tunnel must show on both ends."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aaa.models import TunnelSession
from tests.lab.certificates import Identity
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.namespaces import Namespace
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.strongswan import InitiateResult, SaView, StrongSwanClient
from tests.lab.strongswan_config import ClientConfig, EspPlace
from tests.lab.topology import GATEWAY_IPV4, INSIDE_IPV4, INSIDE_IPV6

PINGS = 3
LARGE_PING_BYTES = 1300
"""Near the tunnel's MTU of 1400."""
_LOG_TAIL_CHARACTERS = 12_000


class Clients:
    """Starts strongSwan clients of one test and stops them all at its end."""

    def __init__(self, ostiary: Ostiary, trust_pem: str, directory: Path, *, esp: EspPlace = "userspace") -> None:
        self.started: list[StrongSwanClient] = []
        self._esp = esp
        self._ostiary = ostiary
        self._trust_pem = trust_pem
        self._directory = directory
        self._numbers = itertools.count(1)

    def eap_mschapv2(self, where: Namespace, laptop: Laptop, **changes: Any) -> StrongSwanClient:
        """A client with this laptop's user name and access code."""
        return self._start(
            where, method="eap-mschapv2", identity=laptop.user_name, password=laptop.access_code, changes=changes
        )

    def eap_tls(self, where: Namespace, laptop: Laptop, credential: Identity, **changes: Any) -> StrongSwanClient:
        """A client with a certificate, inside EAP."""
        return self._start(where, method="eap-tls", identity=laptop.host_name, credential=credential, changes=changes)

    def eap_ttls(self, where: Namespace, laptop: Laptop, **changes: Any) -> StrongSwanClient:
        """A client with this laptop's user name and access code, which it says inside a tunnel."""
        return self._start(
            where, method="eap-ttls", identity=laptop.user_name, password=laptop.access_code, changes=changes
        )

    def certificate(self, where: Namespace, laptop: Laptop, credential: Identity, **changes: Any) -> StrongSwanClient:
        """A client with a certificate, in IKE itself."""
        return self._start(where, method="pubkey", identity=laptop.host_name, credential=credential, changes=changes)

    def site(self, where: Namespace, *, identity: str, **changes: Any) -> StrongSwanClient:
        """The gateway of another site, with a pre-shared key and networks of its own."""
        values = {"method": "psk", "gateway_method": "psk", "virtual_addresses": ""}
        return self._start(where, identity=identity, changes=changes, **values)

    def stop(self) -> None:
        """Stop all."""
        for client in self.started:
            client.stop()

    def _start(self, where: Namespace, *, changes: dict[str, Any], **values: Any) -> StrongSwanClient:
        config = ClientConfig(
            remote_address=GATEWAY_IPV4,
            remote_identity=self._ostiary.settings.gateway.identity,
            trust_pem=self._trust_pem,
            esp=self._esp,
            **values,
        )
        client = StrongSwanClient(
            where, dataclasses.replace(config, **changes), self._directory / f"client-{next(self._numbers)}"
        )
        self.started.append(client)
        client.start()
        return client


@dataclass(frozen=True, slots=True)
class Deployment:
    """A gateway with settings of its own, an enrolled laptop, and clients."""

    ostiary: Ostiary
    enrolment: Enrolment
    laptop: Laptop
    clients: Clients


@contextmanager
def deployment(
    where: Namespace, directory: Path, settings: Mapping[str, Mapping[str, TomlValue]]
) -> Iterator[Deployment]:
    """Run one, in the place of the module's gateway."""
    with Ostiary(where, directory / "ostiary", settings=settings) as ostiary:
        enrolment = Enrolment(ostiary.runtime)
        clients = Clients(ostiary, enrolment.authority.trust_pem(), directory / "clients")
        try:
            yield Deployment(ostiary, enrolment, enrolment.laptop("alice", "alice-laptop"), clients)
        finally:
            clients.stop()


def refused(client: StrongSwanClient, ostiary: Ostiary, code: str) -> str:
    """Try to connect, in vain; the reason that the audit log has."""
    mark = ostiary.audit_mark()
    assert not client.initiate().ok
    event = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.refuse", "that someone was refused")
    assert event.detail["code"] == code
    assert ostiary.sessions(live=True) == []
    return event.reason


def use_tunnel(client: StrongSwanClient, *, large: bool = True) -> SaView:
    """Ping the host inside over IPv4 and IPv6; the client's SA after it.

    Args:
        client: connected.
        large: try packets of nearly the tunnel's MTU as well.

    The packets are counted on the SA, since a ping alone might have gone around the tunnel.
    """
    assert client.namespace.ping(INSIDE_IPV4, count=PINGS) == PINGS
    assert client.namespace.ping(INSIDE_IPV6, count=PINGS) == PINGS
    if large:
        assert client.namespace.ping(INSIDE_IPV4, size_bytes=LARGE_PING_BYTES) == 1
        assert client.namespace.ping(INSIDE_IPV6, size_bytes=LARGE_PING_BYTES) == 1
    [sa] = client.list_sas()
    assert sa.packets_out >= 2 * PINGS
    assert sa.packets_in >= 2 * PINGS
    return sa


def leave(client: StrongSwanClient, ostiary: Ostiary, laptop: Laptop, *, packets: int = 2 * PINGS) -> TunnelSession:
    """Disconnect, and check that the gateway accounted for what the client sent and received."""
    live = ostiary.live_session(laptop.device_id)
    client.terminate()
    session = ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended")
    assert session.terminate_cause == "USER_REQUEST"
    assert session.packets_in >= packets
    assert session.packets_out >= packets
    assert session.bytes_in > 0
    assert session.bytes_out > 0
    return session


def connect_and_check(
    client: StrongSwanClient, ostiary: Ostiary, laptop: Laptop, method: str, *, large: bool = True
) -> InitiateResult:
    """Connect, use the tunnel both ways over IPv4 and IPv6, disconnect; both ends must tell the same story."""
    mark = ostiary.audit_mark()
    result = client.connect()
    use_tunnel(client, large=large)
    accepted = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.accept", "that someone was let in")
    assert accepted.actor == f"device:{laptop.device_name}"
    assert accepted.detail["method"] == method
    session = leave(client, ostiary, laptop)
    assert session.user_name == laptop.user_name
    assert session.method == method
    assert session.virtual_ipv4 == result.virtual_ipv4
    assert session.virtual_ipv6 == result.virtual_ipv6
    return result


def show_logs(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add to a report what the gateway and the clients of this test wrote."""
    given = list(getattr(item, "funcargs", {}).values())
    own = [value for value in given if isinstance(value, Deployment)]
    for value in [*given, *(part for one in own for part in (one.ostiary, one.clients))]:
        if isinstance(value, Ostiary):
            report.sections.append(("the gateway's log", value.log()[-_LOG_TAIL_CHARACTERS:]))
        if isinstance(value, Clients):
            for client in value.started:
                report.sections.append((f"log of {client.directory.name}", client.log()[-_LOG_TAIL_CHARACTERS:]))
