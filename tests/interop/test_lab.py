"""The lab itself: strongSwan on both ends, so that a failure of another module here is the product's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509

from tests.lab.certificates import LabAuthority, certificate_pem, new_key
from tests.lab.namespaces import PREFIX, Lab, run
from tests.lab.strongswan import StrongSwanClient, StrongSwanGateway
from tests.lab.strongswan_config import ClientConfig, GatewayConfig
from tests.lab.topology import GATEWAY_IPV4, INSIDE_IPV4, INSIDE_IPV6, Site

pytestmark = pytest.mark.interop

GATEWAY_NAME = "gateway.lab.test"


@pytest.fixture(scope="module")
def authority() -> LabAuthority:
    return LabAuthority.root()


@pytest.mark.parametrize(
    ("method", "tls_version"),
    [("eap-mschapv2", "1.3"), ("eap-tls", "1.2"), ("eap-tls", "1.3"), ("pubkey", "1.3")],
)
def test_strongswan_reaches_strongswan(
    lab: Lab,
    site: Site,
    authority: LabAuthority,
    method: Literal["eap-mschapv2", "eap-tls", "pubkey"],
    tls_version: Literal["1.2", "1.3"],
) -> None:
    trust = certificate_pem(authority.certificate)
    server = GatewayConfig(
        identity=GATEWAY_NAME,
        credential=authority.issue(GATEWAY_NAME, [x509.DNSName(GATEWAY_NAME)], usage="server"),
        method=method,
        users={"alice@lab.test": 'correct "horse'},
        client_trust_pem=trust,
    )
    client = ClientConfig(
        remote_address=GATEWAY_IPV4,
        remote_identity=GATEWAY_NAME,
        trust_pem=trust,
        method=method,
        identity="alice@lab.test",
        password='correct "horse' if method == "eap-mschapv2" else None,
        credential=None
        if method == "eap-mschapv2"
        else authority.issue("alice", [x509.RFC822Name("alice@lab.test")], usage="client", key=new_key("rsa2048")),
        tls_version=tls_version,
    )
    name = f"{method}-{tls_version}"
    with (
        StrongSwanGateway(site.gateway, server, lab.directory / f"gateway-{name}") as gateway,
        StrongSwanClient(site.client, client, lab.directory / f"client-{name}") as peer,
    ):
        result = peer.connect()
        assert result.virtual_ipv4.startswith("10.99.")
        assert result.virtual_ipv6.startswith("fd99::")
        if method == "eap-tls":
            assert f"negotiated TLS {tls_version}" in result.output
        assert site.client.ping(INSIDE_IPV4, count=2) == 2
        assert site.client.ping(INSIDE_IPV6, count=2) == 2
        [sa] = peer.list_sas()
        assert (sa.packets_in, sa.packets_out) == (4, 4)
        peer.terminate()
        assert gateway.list_sas() == []


def test_what_a_killed_run_left_behind_is_removed() -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    name = f"{PREFIX}-{dead.pid}-1-left"
    run(["ip", "netns", "add", name])
    with Lab():
        assert not Path("/run/netns", name).exists()
