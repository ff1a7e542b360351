"""Split DNS (RFC 8598), with the one client of the lab that asks for it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping

import pytest

from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.libreswan import LibreswanClient, LibreswanConfig
from tests.lab.namespaces import Lab
from tests.lab.ostiary import DNS, Ostiary, TomlValue
from tests.lab.processes import LabError
from tests.lab.topology import CLIENT_IPV4, GATEWAY_IPV4, Site

pytestmark = pytest.mark.interop

DOMAINS = ["corp.example", "xn--mnchen-3ya.example"]


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """Two domains for the lab's name server."""
    return {"gateway": {"dns_domains": DOMAINS}}


def test_libreswan_is_told_the_domains(
    lab: Lab, ostiary: Ostiary, site: Site, enrolment: Enrolment, laptop: Laptop
) -> None:
    config = LibreswanConfig(
        local_address=CLIENT_IPV4,
        remote_address=GATEWAY_IPV4,
        remote_identity=ostiary.settings.gateway.identity,
        trust_pem=enrolment.authority.trust_pem(),
        credential=enrolment.certificate(laptop),
    )
    with LibreswanClient(site.client, config, lab.directory / "libreswan") as client:
        # It knows no ESP but the kernel's; where that is missing, it gives up when it has read the gateway's answer.
        with contextlib.suppress(LabError):
            client.connect()
        log = client.log()
    assert f"received INTERNAL_IP4_DNS {DNS}" in log
    assert re.findall(r"Received INTERNAL_DNS_DOMAIN: (\S+)", log) == DOMAINS
    assert ostiary.live_session(laptop.device_id).client == "libreswan"
