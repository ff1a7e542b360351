"""How the gateway signs: with which of its keys, by which method, as a client's messages allow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.clients import connect_and_check, deployment
from tests.lab.namespaces import Lab
from tests.lab.topology import Site

pytestmark = pytest.mark.interop

ED25519_FIRST = {
    "gateway_key_type": "ed25519",
    "gateway_extra_key_types": ["rsa-3072", "ecdsa-p256"],
}


@pytest.mark.parametrize(
    ("pki", "gateway", "signed"),
    [
        ({"gateway_key_type": "rsa-3072"}, {}, {"yes": "RSA_EMSA_PKCS1_SHA2_", "no": "RSA signature"}),
        ({"gateway_key_type": "rsa-3072"}, {"rsa_pss": True}, {"yes": "RSA_EMSA_PSS_SHA2_", "no": "RSA signature"}),
        ({"gateway_key_type": "ecdsa-p256"}, {}, {"yes": "ECDSA_WITH_SHA256_DER", "no": "ECDSA-256 signature"}),
        # Without RFC 7427 there is no Ed25519; then it is the next one's turn.
        (ED25519_FIRST, {}, {"yes": "ED25519", "no": "RSA signature"}),
    ],
    ids=["rsa", "rsa-pss", "ecdsa", "ed25519-and-others"],
)
def test_the_gateway_signs(
    site: Site,
    lab: Lab,
    request: pytest.FixtureRequest,
    pki: dict[str, Any],
    gateway: dict[str, Any],
    signed: dict[str, str],
) -> None:
    directory = lab.directory / request.node.callspec.id
    with deployment(site.gateway, directory, {"pki": pki, "gateway": gateway}) as own:
        identity = own.ostiary.settings.gateway.identity
        for rfc7427, method in signed.items():
            options = {"signature_authentication": rfc7427 == "yes"}
            credential = own.enrolment.certificate(own.laptop)
            for way in ("certificate", "eap-mschapv2"):
                if way == "certificate":
                    client = own.clients.certificate(site.client, own.laptop, credential, **options)
                else:
                    client = own.clients.eap_mschapv2(site.client, own.laptop, **options)
                result = connect_and_check(client, own.ostiary, own.laptop, way, large=False)
                assert f"authentication of '{identity}' with {method}" in result.output, way
                client.stop()


def test_eap_tls_with_an_ed25519_gateway(site: Site, lab: Lab) -> None:
    """The certificate inside EAP is the first one as well."""
    with deployment(site.gateway, lab.directory / "inside", {"pki": ED25519_FIRST}) as own:
        credential = own.enrolment.certificate(own.laptop)
        client = own.clients.eap_tls(site.client, own.laptop, credential)
        connect_and_check(client, own.ostiary, own.laptop, "eap-tls", large=False)
