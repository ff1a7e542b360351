"""libreswan as a client: another implementation than strongSwan's, with certificates and the kernel's ESP."""

from __future__ import annotations

import pytest

from tests.bench.throughput import iperf3
from tests.interop.pinging import pinging
from tests.kernel.guest.traffic import carried_at_client, carried_at_gateway
from tests.lab.certificates import KeyKind
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.libreswan import LibreswanClient, LibreswanConfig
from tests.lab.namespaces import Lab, Namespace
from tests.lab.ostiary import Ostiary
from tests.lab.topology import CLIENT_IPV4, GATEWAY_IPV4, INSIDE_IPV4, Site
from tests.lab.xfrm import kernel_sas, policies

pytestmark = pytest.mark.interop

HOME_IPV4 = "192.168.77.2"


@pytest.mark.parametrize(
    ("place", "kind", "ike", "esp", "algorithm"),
    [
        ("client", "p256", "aes_gcm256-sha2_256;dh19", "aes_gcm256", "rfc4106(gcm(aes))"),
        ("client", "rsa2048", "aes256-sha2_256;dh14", "aes256-sha2_256", "cbc(aes)"),
        ("home", "rsa2048", "aes_gcm256-sha2_512;dh31", "chacha20_poly1305", "rfc7539esp(chacha20,poly1305)"),
    ],
)
def test_certificate(
    lab: Lab,
    ostiary: Ostiary,
    idle_policies: list[str],
    site: Site,
    enrolment: Enrolment,
    laptop: Laptop,
    iperf3_server: Namespace,
    place: str,
    kind: KeyKind,
    ike: str,
    esp: str,
    algorithm: str,
) -> None:
    del iperf3_server
    namespace, address = {"client": (site.client, CLIENT_IPV4), "home": (site.home, HOME_IPV4)}[place]
    config = LibreswanConfig(
        local_address=address,
        remote_address=GATEWAY_IPV4,
        remote_identity=ostiary.settings.gateway.identity,
        trust_pem=enrolment.authority.trust_pem(),
        credential=enrolment.certificate(laptop, kind),
        ike=ike,
        esp=esp,
    )
    with LibreswanClient(namespace, config, lab.directory / f"libreswan-{place}-{kind}") as client:
        client.connect()
        live = ostiary.live_session(laptop.device_id)
        assert live.method == "certificate"
        assert namespace.ping(INSIDE_IPV4, count=3) == 3
        carried = carried_at_gateway(site.gateway)
        assert (carried.packets_in, carried.packets_out) == (3, 3)
        assert carried_at_client(namespace) == carried
        assert iperf3(namespace, INSIDE_IPV4, 1) > 1
        assert iperf3(namespace, INSIDE_IPV4, 1, reverse=True) > 1
        assert {sa.algorithm for sa in kernel_sas(site.gateway)} == {algorithm}
        client.terminate()
        ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended")
    assert kernel_sas(site.gateway) == []
    assert policies(site.gateway) == idle_policies


def test_it_rekeys_under_traffic(
    lab: Lab, ostiary: Ostiary, site: Site, enrolment: Enrolment, laptop: Laptop, idle_policies: list[str]
) -> None:
    config = LibreswanConfig(
        local_address=CLIENT_IPV4,
        remote_address=GATEWAY_IPV4,
        remote_identity=ostiary.settings.gateway.identity,
        trust_pem=enrolment.authority.trust_pem(),
        credential=enrolment.certificate(laptop, "p256"),
    )
    with LibreswanClient(site.client, config, lab.directory / "libreswan-rekeying") as client:
        client.connect()
        live = ostiary.live_session(laptop.device_id)
        with pinging(site.client, client.directory) as pings:
            client.rekey_child()
            client.wait_for_log(r"initiator rekeyed Child SA #\d+ using #\d+")
            client.rekey_ike()
            client.wait_for_log(r"initiator rekeyed IKE SA #\d+")
            client.rekey_child()
            client.wait_for_log(r"(?s)initiator rekeyed IKE SA.*initiator rekeyed Child SA")
        client.terminate()
        session = ostiary.wait_for_session(
            lambda row: row.id == live.id and row.ended_at is not None, "that has ended"
        )
    assert (session.packets_in, session.packets_out) == (pings.sent, pings.sent)
    assert kernel_sas(site.gateway) == []
    assert policies(site.gateway) == idle_policies
