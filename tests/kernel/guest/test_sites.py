"""Another site with the kernel's ESP on both sides: its networks are routed, carried and guarded."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.interop.clients import Clients
from tests.lab.branch import (
    BRANCH_IDENTITY,
    BRANCH_IPV4,
    BRANCH_IPV6,
    BRANCH_KEY,
    BRANCH_NETWORKS,
    branch_settings,
    build_branch,
    carries,
)
from tests.lab.namespaces import Lab, Namespace
from tests.lab.ostiary import Ostiary
from tests.lab.topology import CLIENT_IPV4, CLIENT_IPV6, GATEWAY_IPV4, GATEWAY_IPV6, INSIDE_IPV4, INSIDE_IPV6, Site

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def branch(lab: Lab, site: Site) -> Iterator[Namespace]:
    """A host of the branch; and in between is somebody who would carry its packets in the clear."""
    host = build_branch(lab, site)
    in_the_clear = [
        ("-4", "10.20.0.0/24", CLIENT_IPV4),
        ("-6", "fd20::/64", CLIENT_IPV6),
        ("-4", "10.1.0.0/24", GATEWAY_IPV4),
        ("-6", "fd01::/64", GATEWAY_IPV6),
    ]
    for family, network, hop in in_the_clear:
        site.internet.ip(family, "route", "add", network, "via", hop)
    yield host
    for family, network, hop in in_the_clear:
        site.internet.ip(family, "route", "del", network, "via", hop)


@pytest.mark.parametrize("interface", ["on", "off"])
def test_a_site(lab: Lab, site: Site, ostiary: Ostiary, branch: Namespace, interface: str) -> None:
    """In the place of the guest's own gateway."""
    ostiary.stop()
    try:
        settings = branch_settings(lab, data_plane="kernel", xfrm_interface=interface)
        with Ostiary(site.gateway, lab.directory / f"sites-{interface}", settings=settings) as own:
            clients = Clients(own, "", lab.directory / f"sites-{interface}" / "clients", esp="kernel")
            try:
                use_site(own, site, clients, branch)
            finally:
                clients.stop()
    finally:
        ostiary.start()


def use_site(own: Ostiary, site: Site, clients: Clients, branch: Namespace) -> None:
    """Connect, rekey, disconnect; what is not in the tunnel does not arrive, neither before nor after."""
    assert nothing_passes(branch, site)
    client = clients.site(
        site.client,
        identity=BRANCH_IDENTITY,
        pre_shared_key=BRANCH_KEY,
        child_options={"local_ts": ",".join(BRANCH_NETWORKS)},
    )
    client.connect()
    assert carries(branch, site)
    assert arrives(branch, site.inside, INSIDE_IPV4)
    client.rekey_child()
    assert carries(branch, site)
    [sa] = client.list_sas()
    assert min(sa.packets_in, sa.packets_out) >= 12
    live = own.live_session("site:branch")
    client.terminate()
    ended = own.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended")
    assert min(ended.packets_in, ended.packets_out) >= 24
    client.stop()
    assert nothing_passes(branch, site)


def nothing_passes(branch: Namespace, site: Site) -> bool:
    """Whether the guards hold, though there is a way in the clear: of a ping, the answer alone might be stopped."""
    return not any(
        arrives(source, target, address)
        for source, target, address in (
            (branch, site.inside, INSIDE_IPV4),
            (branch, site.inside, INSIDE_IPV6),
            (site.inside, branch, BRANCH_IPV4),
            (site.inside, branch, BRANCH_IPV6),
        )
    )


def arrives(source: Namespace, target: Namespace, address: str) -> bool:
    """Whether a datagram does."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        target.call(lambda: socket.socket(family, socket.SOCK_DGRAM)) as far,
        source.call(lambda: socket.socket(family, socket.SOCK_DGRAM)) as near,
    ):
        far.bind((address, 0))
        far.settimeout(0.5)
        near.sendto(b"in the clear", far.getsockname()[:2])
        try:
            return far.recv(100) == b"in the clear"
        except TimeoutError:
            return False
