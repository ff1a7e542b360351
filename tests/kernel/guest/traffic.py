"""What went through a tunnel, as the kernel's own counters tell it: a ping alone may have gone around."""

from __future__ import annotations

from dataclasses import dataclass

from aaa.models import TunnelSession
from tests.lab.namespaces import Namespace
from tests.lab.ostiary import Ostiary
from tests.lab.processes import wait_for
from tests.lab.strongswan import StrongSwanClient
from tests.lab.xfrm import KernelSa, kernel_sas

QUIET_INTERVAL_S = 0.3


@dataclass(frozen=True, slots=True)
class Carried:
    """Inner packets and bytes of one client; in is from the client."""

    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int


def carried_at_gateway(gateway: Namespace) -> Carried:
    """What the associations of the gateway's kernel have carried, of all its clients."""
    inward, outward = split_by_direction(gateway)
    return _sum(inward, outward)


def carried_at_client(client: Namespace) -> Carried:
    """The same as the client's kernel counts it."""
    inward, outward = split_by_direction(client)
    return _sum(outward, inward)


def split_by_direction(namespace: Namespace) -> tuple[list[KernelSa], list[KernelSa]]:
    """The associations towards addresses of this namespace, and those away from it."""
    own = {address.partition("/")[0] for address in namespace.ip("-o", "addr").split() if "/" in address}
    sas = kernel_sas(namespace)
    return [sa for sa in sas if sa.destination in own], [sa for sa in sas if sa.destination not in own]


def _sum(inward: list[KernelSa], outward: list[KernelSa]) -> Carried:
    return Carried(
        sum(sa.packets for sa in inward),
        sum(sa.inner_bytes for sa in inward),
        sum(sa.packets for sa in outward),
        sum(sa.inner_bytes for sa in outward),
    )


def quiet(gateway: Namespace) -> Carried:
    """Wait until nothing more goes through its tunnels; what went through."""
    previous: list[Carried] = []

    def unchanged() -> Carried | None:
        previous.append(carried_at_gateway(gateway))
        return previous[-1] if previous[-2:-1] == previous[-1:] else None

    return wait_for(unchanged, 10.0, "the tunnels to fall silent", interval_s=QUIET_INTERVAL_S)


def leave_and_compare(client: StrongSwanClient, ostiary: Ostiary, device_id: str) -> TunnelSession:
    """Disconnect; the accounting must have what the gateway's kernel has counted.

    Only for a client that is alone, and whose SAs were not rekeyed: the kernel forgets what old ones carried. They
    may have moved.
    """
    live = ostiary.live_session(device_id)
    kernel = quiet(ostiary.namespace)
    client.terminate()
    session = ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended")
    assert Carried(session.packets_in, session.bytes_in, session.packets_out, session.bytes_out) == kernel
    assert kernel_sas(ostiary.namespace) == []
    return session
