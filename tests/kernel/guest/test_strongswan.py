"""strongSwan on both ends with the kernel's ESP, so that a failure of another module here is the product's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography import x509

from tests.lab.certificates import LabAuthority, certificate_pem
from tests.lab.namespaces import Lab
from tests.lab.strongswan import StrongSwanClient, StrongSwanGateway
from tests.lab.strongswan_config import ClientConfig, GatewayConfig
from tests.lab.topology import (
    CLIENT_IPV4,
    CLIENT_IPV6,
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    INSIDE_IPV4,
    INSIDE_IPV6,
    NAT_IPV4,
    Site,
)
from tests.lab.xfrm import kernel_sas, packets_to, policies

pytestmark = [pytest.mark.interop, pytest.mark.guest(name="without the gateway")]

GATEWAY_NAME = "gateway.lab.test"
SUITES = "aes256gcm16-esn,aes256-sha256-esn,chacha20poly1305-esn"


@pytest.fixture(scope="module")
def trust() -> LabAuthority:
    return LabAuthority.root()


@pytest.fixture(scope="module")
def gateway(lab: Lab, site: Site, trust: LabAuthority) -> Iterator[StrongSwanGateway]:
    config = GatewayConfig(
        identity=GATEWAY_NAME,
        credential=trust.issue(GATEWAY_NAME, [x509.DNSName(GATEWAY_NAME)], usage="server"),
        users={"alice@lab.test": "correct horse"},
        esp_proposals=SUITES,
        esp="kernel",
    )
    with StrongSwanGateway(site.gateway, config, lab.directory / "strongswan-gateway") as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("place", "address", "suite", "algorithm"),
    [
        ("client", GATEWAY_IPV4, "aes256gcm16-esn", "rfc4106(gcm(aes))"),
        ("client", GATEWAY_IPV6, "chacha20poly1305-esn", "rfc7539esp(chacha20,poly1305)"),
        ("home", GATEWAY_IPV4, "aes256-sha256-esn", "cbc(aes)"),
    ],
)
def test_strongswan_reaches_strongswan(
    lab: Lab,
    site: Site,
    trust: LabAuthority,
    gateway: StrongSwanGateway,
    place: str,
    address: str,
    suite: str,
    algorithm: str,
) -> None:
    namespace = {"client": site.client, "home": site.home}[place]
    config = ClientConfig(
        remote_address=address,
        remote_identity=GATEWAY_NAME,
        trust_pem=certificate_pem(trust.certificate),
        method="eap-mschapv2",
        identity="alice@lab.test",
        password="correct horse",
        esp_proposals=suite,
        esp="kernel",
    )
    outside = NAT_IPV4 if place == "home" else CLIENT_IPV6 if ":" in address else CLIENT_IPV4
    with StrongSwanClient(namespace, config, lab.directory / f"strongswan-{suite}") as client:
        client.connect()
        assert namespace.ping(INSIDE_IPV4, count=3) == 3
        assert namespace.ping(INSIDE_IPV6, count=3) == 3
        sas = kernel_sas(site.gateway)
        assert {sa.algorithm for sa in sas} == {algorithm}
        assert all(sa.extended_sequence_numbers for sa in sas)
        assert packets_to(site.gateway, address) == packets_to(site.gateway, outside) == 6
        assert {sa.udp_ports is not None for sa in sas} == {place == "home"}
        client.terminate()
    assert kernel_sas(site.gateway) == []
    assert policies(site.gateway) == []
