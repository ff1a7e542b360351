"""Every way in, with traffic both ways after it, counted by both ends."""

from __future__ import annotations

import pytest

from tests.interop.clients import Clients, connect_and_check, leave, use_tunnel
from tests.lab.certificates import KeyKind
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.ostiary import DNS, Ostiary
from tests.lab.topology import GATEWAY_IPV6, NAT_IPV4, Site, forget_nat_mappings

pytestmark = pytest.mark.interop


def test_eap_mschapv2(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop)
    result = connect_and_check(client, ostiary, laptop, "eap-mschapv2")
    assert result.virtual_ipv4.startswith("10.99.0.")
    assert result.virtual_ipv6.startswith("fd99::")
    assert DNS in result.output, "the client was not told the DNS server"


def test_domain_and_case_of_the_user_name_do_not_matter(
    ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop
) -> None:
    client = clients.eap_mschapv2(site.client, laptop, identity="CORP\\Alice")
    assert client.connect().ok
    assert client.list_sas()[0].state == "ESTABLISHED"
    client.terminate()


@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_eap_tls_1_2(
    ostiary: Ostiary,
    site: Site,
    clients: Clients,
    enrolment: Enrolment,
    laptop: Laptop,
    kind: KeyKind,
) -> None:
    client = clients.eap_tls(site.client, laptop, enrolment.certificate(laptop, kind))
    result = connect_and_check(client, ostiary, laptop, "eap-tls")
    assert "negotiated TLS 1.2" in result.output


@pytest.mark.parametrize(
    ("kind", "authentication", "rfc7427", "expected"),
    [
        ("rsa2048", "pubkey", False, "RSA signature"),
        ("p256", "pubkey", False, "ECDSA-256 signature"),
        ("p384", "pubkey", False, "ECDSA-384 signature"),
        ("rsa2048", "rsa-sha256", True, "RSA_EMSA_PKCS1_SHA2_256"),
        ("rsa2048", "rsa-sha512", True, "RSA_EMSA_PKCS1_SHA2_512"),
        ("rsa2048", "rsa/pss-sha256", True, "RSA_EMSA_PSS_SHA2_256"),
        ("p256", "ecdsa-sha256", True, "ECDSA_WITH_SHA256_DER"),
        ("p384", "ecdsa-sha384", True, "ECDSA_WITH_SHA384_DER"),
        ("ed25519", "pubkey", True, "ED25519"),
    ],
)
def test_certificate(
    ostiary: Ostiary,
    site: Site,
    clients: Clients,
    enrolment: Enrolment,
    laptop: Laptop,
    kind: KeyKind,
    authentication: str,
    rfc7427: bool,
    expected: str,
) -> None:
    credential = enrolment.certificate(laptop, kind)
    client = clients.certificate(
        site.client, laptop, credential, authentication=authentication, signature_authentication=rfc7427
    )
    result = connect_and_check(client, ostiary, laptop, "certificate")
    assert f"(myself) with {expected}" in result.output


def test_behind_nat(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.home, laptop)
    result = client.connect()
    assert "local host is behind NAT" in result.output
    use_tunnel(client)
    session = ostiary.live_session(laptop.device_id)
    address, _, port = session.remote_address.rpartition(":")
    assert address == NAT_IPV4
    # The masquerade picks ports at random: the gateway has to answer to where the packet came from.
    assert port != "4500"
    client.terminate()


def test_nat_that_forgets(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    """The laptop's packets suddenly come from another port: authentic ones move the SA there."""
    client = clients.eap_mschapv2(site.home, laptop)
    client.connect()
    use_tunnel(client)
    before = ostiary.live_session(laptop.device_id)
    forget_nat_mappings(site)
    use_tunnel(client)
    moved = ostiary.wait_for_session(
        lambda row: row.id == before.id and row.remote_address != before.remote_address, "that has moved"
    )
    assert moved.remote_address.startswith(f"{NAT_IPV4}:")
    leave(client, ostiary, laptop)


def test_ipv6_outside(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop, remote_address=GATEWAY_IPV6)
    connect_and_check(client, ostiary, laptop, "eap-mschapv2")


@pytest.mark.parametrize(
    ("ike", "esp", "suite"),
    [
        ("aes128gcm16-prfsha256-ecp256", "aes128gcm16", "AES_GCM_16/128"),
        ("aes256gcm16-prfsha384-ecp384", "aes256gcm16", "AES_GCM_16/256"),
        ("chacha20poly1305-prfsha256-x25519", "chacha20poly1305", "CHACHA20_POLY1305"),
        ("aes256gcm16-prfsha512-ecp521", "chacha20poly1305", "CHACHA20_POLY1305"),
        ("aes128-sha256-modp2048", "aes128-sha256", "AES_CBC/128/HMAC_SHA2_256_128"),
        ("aes256-sha384-modp3072", "aes256-sha384", "AES_CBC/256/HMAC_SHA2_384_192"),
        ("aes256-sha512-modp4096", "aes256-sha512", "AES_CBC/256/HMAC_SHA2_512_256"),
    ],
)
def test_suites(
    ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop, ike: str, esp: str, suite: str
) -> None:
    client = clients.eap_mschapv2(site.client, laptop, proposals=ike, esp_proposals=esp)
    client.connect()
    assert use_tunnel(client).esp_suite == suite
    client.terminate()


def test_extended_sequence_numbers_are_negotiated(
    ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop
) -> None:
    """libipsec has no ESN, so the client drops the child that it was given; what was agreed stands in its log."""
    client = clients.eap_mschapv2(site.client, laptop, esp_proposals="aes256gcm16-esn")
    result = client.initiate()
    assert not result.ok
    assert "selected proposal: ESP:AES_GCM_16_256/EXT_SEQ" in result.output
    assert "ESN not supported" in result.output


def test_client_without_ipv6(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop, virtual_addresses="0.0.0.0", remote_selectors="10.1.0.0/16")
    result = client.connect()
    [sa] = client.list_sas()
    assert sa.virtual_addresses == (result.virtual_ipv4,)
    assert sa.remote_selectors == ("10.1.0.0/24",), "the gateway did not narrow to what it reaches"
    client.terminate()
