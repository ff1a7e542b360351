"""The last message of IKE_AUTH: without a child SA (RFC 6023), which comes later, and with a lifetime (RFC 4478)."""

from __future__ import annotations

import pytest

from tests.interop.clients import Clients, leave, use_tunnel
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.ostiary import Ostiary
from tests.lab.topology import Site

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("way", ["eap-mschapv2", "certificate"])
def test_the_child_sa_follows(
    ostiary: Ostiary,
    site: Site,
    clients: Clients,
    enrolment: Enrolment,
    laptop: Laptop,
    way: str,
) -> None:
    options = {"childless": "force"}
    if way == "certificate":
        credential = enrolment.certificate(laptop)
        client = clients.certificate(site.client, laptop, credential, connection_options=options)
    else:
        client = clients.eap_mschapv2(site.client, laptop, connection_options=options)
    result = client.connect()
    assert "N(CHDLESS_SUP)" in result.output
    established = result.output.index("IKE_SA gateway[1] established")
    assert "generating CREATE_CHILD_SA request" in result.output[established:]
    assert result.output.index("installing new virtual IP") < result.output.index(
        "generating CREATE_CHILD_SA request"
    )
    # Its keys are of a key exchange of their own, as those of the first child SA otherwise are not.
    assert "KE" in result.output[established:]
    use_tunnel(client)
    client.rekey_child()
    use_tunnel(client)
    leave(client, ostiary, laptop)


def test_behind_nat(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.home, laptop, connection_options={"childless": "force"})
    client.connect()
    use_tunnel(client)
    leave(client, ostiary, laptop)


def test_the_client_is_told_when_to_sign_in_anew(site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop, connection_options={"rekey_time": "4h"})
    result = client.connect()
    # It takes off what it has set for that, a tenth of its own rekey time.
    assert "received AUTH_LIFETIME of 43200s, scheduling reauthentication in 41760s" in result.output
    client.terminate()
