"""Awkward networks and floods: small links, cookies, a wrong guess of the key exchange group."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from tests.interop.clients import Clients, connect_and_check
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.topology import Site

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """Cookies for everybody, and RSA certificates, whose chain no small link carries in one piece."""
    return {"gateway": {"cookie_threshold": 0}, "pki": {"gateway_key_type": "rsa-3072", "key_type": "rsa-3072"}}


def test_fragments_on_a_small_link(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    """The link takes 1280 bytes and the router drops IP fragments: only RFC 7383 gets through."""
    credential = enrolment.certificate(laptop, "rsa4096")
    client = clients.certificate(site.narrow, laptop, credential)
    result = connect_and_check(client, ostiary, laptop, "certificate", large=False)
    assert re.search(r"splitting IKE message \(\d+ bytes\) into [2-9] fragments", result.output)
    assert re.search(r"reassembled fragmented IKE message \(\d+ bytes\)", result.output)


def test_fragments_smaller_than_the_gateway_makes(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    """Windows cuts at 576 bytes: a dozen fragments."""
    credential = enrolment.certificate(laptop, "rsa4096")
    client = clients.eap_tls(site.narrow, laptop, credential, fragment_size_bytes=576)
    connect_and_check(client, ostiary, laptop, "eap-tls", large=False)


def test_client_without_fragmentation_on_a_large_link(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    """Without RFC 7383 the network's own fragments must do."""
    credential = enrolment.certificate(laptop, "rsa4096")
    client = clients.certificate(site.client, laptop, credential, fragmentation="no")
    result = connect_and_check(client, ostiary, laptop, "certificate")
    assert "fragment" not in result.output


def test_cookie(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop)
    result = connect_and_check(client, ostiary, laptop, "eap-mschapv2")
    assert "parsed IKE_SA_INIT response 0 [ N(COOKIE) ]" in result.output


def test_group_that_the_gateway_does_not_want(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    """The client's key is of a group that is not spoken here; it also offered one that is."""
    client = clients.eap_mschapv2(site.client, laptop, proposals="aes256gcm16-prfsha256-ecp256bp-x25519")
    result = connect_and_check(client, ostiary, laptop, "eap-mschapv2")
    assert "N(INVAL_KE)" in result.output
    assert "it requested CURVE_25519" in result.output
