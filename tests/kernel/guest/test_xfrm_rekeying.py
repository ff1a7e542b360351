"""Child SAs that follow one another, and what a pair may carry, enforced by the kernel's policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.dataplane.interface import DataPlaneError
from tests.kernel.guest.planes import (
    CLIENT_INNER,
    CLIENT_SPI,
    ESN,
    GATEWAY_OWN,
    SERVER,
    SERVER_6,
    Planes,
    Road,
    build_road,
    child_sa,
    other_half,
    selectors_of,
)
from tests.lab.namespaces import Lab
from tests.lab.xfrm import kernel_sas, policies

pytestmark = [pytest.mark.interop, pytest.mark.guest(name="without the gateway")]

OTHER_SERVER = "10.1.7.10"


@pytest.fixture(scope="module")
def road(lab: Lab) -> Road:
    """One for all."""
    return build_road(lab)


@pytest.fixture(params=["on", "off"])
def planes(road: Road, request: pytest.FixtureRequest) -> Iterator[Planes]:
    """Fresh ones for each test, with and without an XFRM interface."""
    with Planes(road, xfrm_interface=request.param) as planes:
        yield planes


def sent_by(planes: Planes) -> set[int]:
    """SPIs of the gateway's outbound states that have carried something."""
    return {sa.spi for sa in kernel_sas(planes.road.gateway) if sa.spi >> 16 == CLIENT_SPI >> 16 and sa.packets}


def test_a_rekeying_by_the_peer_loses_nothing(planes: Planes) -> None:
    old, new = child_sa(), child_sa(ESN, number=1)
    planes.install(old)
    path = planes.path()
    assert path.carries()
    # The gateway answers CREATE_CHILD_SA: it receives on both pairs, and still sends on the old one.
    planes.gateway.install(new, outbound=False)
    assert path.carries()
    assert sent_by(planes) == {old.spi_out}
    # The client has the answer, and uses the new pair at once.
    planes.client.install(other_half(new))
    assert path.carries()
    planes.loop.run(1.0, until=lambda: planes.counters(new).packets_out or not path.down())
    assert sent_by(planes) == {old.spi_out, new.spi_out}
    before = planes.counters(old)
    assert path.carries()
    assert planes.counters(old) == before
    # Both delete the old pair.
    assert planes.gateway.remove(old.spi_in) == before
    planes.client.remove(old.spi_out)
    assert path.carries()
    assert len(kernel_sas(planes.road.gateway)) == 2


def test_a_pair_that_waits_sends_when_told(planes: Planes) -> None:
    old, new = child_sa(), child_sa(number=1)
    planes.install(old)
    planes.gateway.install(new, outbound=False)
    planes.client.install(other_half(new), outbound=False)
    planes.gateway.start_outbound(new.spi_in)
    planes.gateway.start_outbound(new.spi_in)
    assert planes.path().down()
    assert sent_by(planes) == {new.spi_out}
    with pytest.raises(DataPlaneError, match="child SA 00000bad is gone"):
        planes.gateway.start_outbound(0xBAD)


def test_the_older_pair_carries_on_when_the_newer_one_goes(planes: Planes) -> None:
    """Both ends rekeyed at once, and one of the two new pairs is deleted again (RFC 7296 section 2.8.1)."""
    pairs = [child_sa(number=number) for number in range(3)]
    for pair in pairs:
        planes.install(pair)
    path = planes.path()
    for pair in reversed(pairs[1:]):
        assert path.carries()
        assert sent_by(planes) == {pair.spi_out}
        planes.gateway.remove(pair.spi_in)
        planes.client.remove(pair.spi_out)
    assert path.carries()
    assert sent_by(planes) == {pairs[0].spi_out}


def test_pairs_of_a_lineage_share_their_policies(planes: Planes) -> None:
    idle = policies(planes.road.gateway)
    planes.gateway.install(child_sa())
    one = policies(planes.road.gateway)
    planes.gateway.install(child_sa(number=1), outbound=False)
    assert policies(planes.road.gateway) == one
    planes.gateway.remove(child_sa().spi_in)
    # Nothing has allowed the newer one to send.
    assert [text for text in one if "dir out" not in text] == [
        text for text in policies(planes.road.gateway) if "dir out" not in text
    ]
    planes.gateway.remove(child_sa(number=1).spi_in)
    assert policies(planes.road.gateway) == idle


def test_of_two_lineages_with_the_same_selectors_the_newer_one_carries(planes: Planes) -> None:
    """A client that signed in anew before its old SA is gone, with the address that it had."""
    old, new = child_sa(), child_sa(number=1, lineage=2)
    planes.install(old)
    path = planes.path()
    assert path.carries()
    planes.gateway.install(new)
    # The client does not know the new one yet: what it sends on the old one is refused.
    assert not path.up()
    planes.client.install(other_half(new))
    assert path.carries()
    planes.gateway.remove(new.spi_in)
    planes.client.remove(new.spi_out)
    assert path.carries()


def test_a_restriction_holds_at_once_in_both_directions(planes: Planes) -> None:
    child = child_sa()
    planes.install(child)
    allowed, denied, allowed_6 = planes.path(SERVER), planes.path(OTHER_SERVER), planes.path(SERVER_6)
    assert allowed.carries()
    assert denied.carries()
    assert allowed_6.carries()
    planes.gateway.restrict(child.spi_in, selectors_of("10.1.0.0/24"))
    assert allowed.carries()
    assert not denied.up()
    assert not denied.down()
    assert not allowed_6.up()
    assert not allowed_6.down()
    assert not planes.path(GATEWAY_OWN).up()
    planes.gateway.restrict(child.spi_in, ())
    assert not allowed.up()
    assert not allowed.down()
    # And back, when access is given again.
    planes.gateway.restrict(child.spi_in, selectors_of("10.1.0.0/16"))
    assert allowed.carries()
    assert denied.carries()
    assert not allowed_6.up()
    assert planes.counters(child).packets_in > 6
    assert planes.gateway.remove(child.spi_in) is not None
    planes.gateway.restrict(child.spi_in, ())


def test_where_a_restriction_can_not_be_made_nothing_passes(planes: Planes) -> None:
    """Access was to be taken away, and the kernel has another program's policy where ours would have to be."""
    old, new = child_sa(), child_sa(number=1)
    planes.install(old)
    planes.install(new)
    assert planes.path().carries()
    gateway = planes.road.gateway
    interface = [] if "policies" in planes.gateway.description else ["if_id", hex(111 << 24)]
    theirs = ("src", "10.1.0.0/24", "dst", f"{CLIENT_INNER}/32", "dir", "out")
    gateway.ip("xfrm", "policy", "add", *theirs, *interface)
    with pytest.raises(DataPlaneError, match="another program"):
        planes.gateway.restrict(new.spi_in, selectors_of("10.1.0.0/24"))
    assert kernel_sas(gateway) == []
    assert not planes.path().up()
    planes.loop.run(0.1)
    assert sorted(planes.told.ends) == [(old.spi_in, "hard"), (new.spi_in, "hard")]
    counters = planes.gateway.remove(new.spi_in)
    assert counters is not None
    assert counters.packets_in == 1
    gateway.ip("xfrm", "policy", "delete", *theirs, *interface)


def test_a_narrower_pair_of_the_lineage_takes_the_place_of_a_restricted_one(planes: Planes) -> None:
    """Quarantine: what is there is narrowed, a new child SA with fewer selectors is made, the old one deleted."""
    old = child_sa()
    planes.install(old)
    allowed, denied = planes.path(SERVER), planes.path(OTHER_SERVER)
    assert denied.carries()
    narrow = selectors_of("10.1.0.0/24")
    planes.gateway.restrict(old.spi_in, narrow)
    new = child_sa(number=1, local_selectors=narrow)
    planes.install(new)
    assert allowed.carries()
    planes.gateway.remove(old.spi_in)
    planes.client.remove(old.spi_out)
    assert allowed.carries()
    assert not denied.down()
    # And back: a wider one is negotiated when the quarantine is over.
    wide = child_sa(number=2)
    planes.install(wide)
    planes.gateway.remove(new.spi_in)
    assert allowed.carries()
    assert denied.carries()


def test_selectors_of_protocols_and_ports_hold(planes: Planes) -> None:
    narrow = selectors_of("10.1.0.0/24", protocol=17, ports=(7, 7))
    child = child_sa(local_selectors=narrow)
    planes.gateway.install(child)
    planes.client.install(replace(other_half(child), remote_selectors=selectors_of("10.1.0.0/24")))
    assert planes.path().carries()
    assert not planes.path(port=9).up()
    assert not planes.path(port=9).down()
    assert planes.road.client.ping(SERVER, wait_s=1) == 0


def test_icmp_by_type(planes: Planes) -> None:
    """Echo requests and replies, and nothing else."""
    echo = selectors_of("10.1.0.0/24", protocol=1, ports=(0x0800, 0x08FF))
    reply = selectors_of("10.1.0.0/24", protocol=1, ports=(0x0000, 0x00FF))
    child = child_sa(local_selectors=echo + reply)
    planes.gateway.install(child)
    planes.client.install(replace(other_half(child), remote_selectors=selectors_of("10.1.0.0/24")))
    assert planes.road.client.ping(SERVER, wait_s=1) == 1
    assert not planes.path().up()


def test_the_more_specific_of_two_child_sas_has_the_packets(planes: Planes) -> None:
    everything = child_sa(lineage=1)
    echo_only = child_sa(number=1, lineage=2, local_selectors=selectors_of("10.1.0.0/16", protocol=17, ports=(7, 7)))
    planes.install(echo_only)
    planes.install(everything)
    assert planes.path().carries()
    assert sent_by(planes) == {echo_only.spi_out}
    assert planes.path(port=9).carries()
    assert sent_by(planes) == {echo_only.spi_out, everything.spi_out}
