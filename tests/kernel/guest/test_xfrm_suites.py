"""The kernel data plane carries every suite over every kind of path, and counts as the kernel does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.dataplane.interface import EspCipher, EspIntegrity, EspSuite
from tests.kernel.guest.planes import (
    CLIENT_SPI,
    GATEWAY_OWN,
    GATEWAY_OWN_6,
    GATEWAY_SPI,
    SERVER,
    SERVER_6,
    Planes,
    Road,
    build_road,
    child_sa,
)
from tests.lab.namespaces import Lab
from tests.lab.xfrm import kernel_sas

pytestmark = [pytest.mark.interop, pytest.mark.guest(name="without the gateway")]

SUITES = [
    EspSuite(EspCipher.AES_GCM_16, 128, EspIntegrity.NONE, False),
    EspSuite(EspCipher.AES_GCM_16, 192, EspIntegrity.NONE, True),
    EspSuite(EspCipher.AES_GCM_16, 256, EspIntegrity.NONE, True),
    EspSuite(EspCipher.CHACHA20_POLY1305, 256, EspIntegrity.NONE, True),
    EspSuite(EspCipher.CHACHA20_POLY1305, 256, EspIntegrity.NONE, False),
    EspSuite(EspCipher.AES_CBC, 128, EspIntegrity.HMAC_SHA1_96, False),
    EspSuite(EspCipher.AES_CBC, 128, EspIntegrity.HMAC_SHA2_256_128, False),
    EspSuite(EspCipher.AES_CBC, 256, EspIntegrity.HMAC_SHA2_384_192, True),
    EspSuite(EspCipher.AES_CBC, 192, EspIntegrity.HMAC_SHA2_512_256, True),
]


@pytest.fixture(scope="module")
def road(lab: Lab) -> Road:
    """One for all."""
    return build_road(lab)


@pytest.fixture(scope="module", params=["on", "off"])
def planes(road: Road, request: pytest.FixtureRequest) -> Iterator[Planes]:
    """With and without an XFRM interface."""
    with Planes(road, xfrm_interface=request.param) as planes:
        yield planes


@pytest.mark.parametrize("udp", [False, True], ids=["plain", "in-udp"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_carries_both_ip_versions_both_ways(planes: Planes, suite: EspSuite, version: int, udp: bool) -> None:
    child = child_sa(suite, version=version, udp=udp)
    planes.install(child)
    try:
        sent = 0
        for server in (SERVER, SERVER_6, GATEWAY_OWN, GATEWAY_OWN_6):
            path = planes.path(server)
            for payload in (b"a", b"ab", bytes(1000)):
                assert path.carries(payload), (server, len(payload))
                sent += 1
        counters = planes.counters(child)
        assert (counters.packets_in, counters.packets_out) == (sent, sent)
        inner = 2 * (3 * (20 + 8) + 1003) + 2 * (3 * (40 + 8) + 1003)
        assert (counters.bytes_in, counters.bytes_out) == (inner, inner)
        assert (counters.replays, counters.failures) == (0, 0)
        kernel = {sa.spi: (sa.packets, sa.inner_bytes) for sa in kernel_sas(planes.road.gateway)}
        assert kernel == {GATEWAY_SPI: (sent, inner), CLIENT_SPI: (sent, inner)}
    finally:
        client = planes.client.remove(child.spi_out)
        gateway = planes.gateway.remove(child.spi_in)
    assert client is not None
    assert gateway is not None
    assert (gateway.packets_in, gateway.bytes_in) == (client.packets_out, client.bytes_out)
    assert kernel_sas(planes.road.gateway) == []
