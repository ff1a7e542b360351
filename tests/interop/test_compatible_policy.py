"""The proposal policy for clients that can't do better, with a peer that offers what they do."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from gateway.ike.policy import COMPATIBLE
from tests.interop.clients import Clients, use_tunnel
from tests.lab.enrolment import Laptop
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.topology import Site

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """A gateway that lets them in."""
    return {"gateway": {"proposal_policy": "compatible"}}


def test_the_weaknesses_are_said_at_start(ostiary: Ostiary) -> None:
    said = [json.loads(line) for line in ostiary.log().splitlines() if "weak algorithms are allowed" in line]
    assert [entry["weakness"] for entry in said] == list(COMPATIBLE.weaknesses)


@pytest.mark.parametrize(
    ("ike", "esp", "prf", "suite"),
    [
        # Android 11, and Windows with MODP-2048 switched on in its registry.
        ("aes256gcm16-aes128gcm16-prfaesxcbc-prfsha1-modp4096", "aes256gcm16", "PRF_HMAC_SHA1", "AES_GCM_16/256"),
        ("aes256-sha256-modp2048", "aes256-sha1", "PRF_HMAC_SHA2_256", "AES_CBC/256/HMAC_SHA1_96"),
    ],
)
def test_suites(site: Site, clients: Clients, laptop: Laptop, ike: str, esp: str, prf: str, suite: str) -> None:
    client = clients.eap_mschapv2(site.client, laptop, proposals=ike, esp_proposals=esp)
    assert prf in client.connect().output
    assert use_tunnel(client).esp_suite == suite
    client.terminate()


@pytest.mark.parametrize(
    "ike", ["aes256-sha256-modp1024", "3des-sha1-modp2048", "aes256-md5-modp2048", "aes256-sha1-modp2048"]
)
def test_what_is_too_weak_even_so(site: Site, clients: Clients, laptop: Laptop, ike: str) -> None:
    result = clients.eap_mschapv2(site.client, laptop, proposals=ike).initiate()
    assert not result.ok
    assert "N(NO_PROP)" in result.output
