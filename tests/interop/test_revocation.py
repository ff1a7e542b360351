"""Thrown out at the press of a button, and kept out."""

from __future__ import annotations

import time

import pytest

from aaa.enforcement import disconnect_session, revoke_device
from tests.interop.clients import Clients, use_tunnel
from tests.lab.enrolment import ACTOR, Enrolment
from tests.lab.ostiary import Ostiary
from tests.lab.processes import wait_for
from tests.lab.topology import INSIDE_IPV4, Site

pytestmark = pytest.mark.interop

GENEROUS_S = 1.0
"""What is promised; on an idle machine it is some milliseconds."""


@pytest.mark.parametrize("method", ["eap-mschapv2", "eap-tls", "certificate"])
def test_revoked_device_is_out_within_a_second(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, method: str
) -> None:
    laptop = enrolment.laptop("frank", f"frank-{method}")
    if method == "eap-mschapv2":
        client = clients.eap_mschapv2(site.client, laptop)
    elif method == "eap-tls":
        client = clients.eap_tls(site.client, laptop, enrolment.certificate(laptop))
    else:
        client = clients.certificate(site.client, laptop, enrolment.certificate(laptop))
    client.connect()
    use_tunnel(client)

    mark = ostiary.audit_mark()
    pressed_at = time.time()
    result = site.gateway.call(lambda: revoke_device(ostiary.runtime, laptop.device_id, "reported stolen", ACTOR))
    [answer] = result.answers
    assert answer.acknowledged
    elapsed_s = client.wait_until_told("received DELETE for IKE_SA", 5.0) - pressed_at
    print(f"revoked: acknowledged after {answer.elapsed_ms:.0f} ms, client told after {1000 * elapsed_s:.0f} ms")
    assert elapsed_s < GENEROUS_S
    wait_for(lambda: client.list_sas() == [], 2.0, "the end of the client's SA")
    assert site.client.ping(INSIDE_IPV4, wait_s=1) == 0
    [session] = [row for row in ostiary.sessions() if row.device_id == laptop.device_id]
    assert session.terminate_cause == "ADMIN_RESET"
    assert any(event.action == "device.revoke" for event in ostiary.audit_since(mark))

    mark = ostiary.audit_mark()
    assert not client.initiate().ok
    refused = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.refuse", "of the refusal")
    assert refused.detail["code"] == "revoked-device"
    assert "reported stolen" in refused.reason
    assert ostiary.sessions(live=True) == []
    ostiary.verify_audit_chain()


def test_other_devices_of_the_user_stay(ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment) -> None:
    kept, lost = enrolment.laptop("grace", "grace-kept"), enrolment.laptop("grace", "grace-lost")
    staying = clients.eap_mschapv2(site.client, kept)
    leaving = clients.eap_mschapv2(site.home, lost)
    staying.connect()
    leaving.connect()
    site.gateway.call(lambda: revoke_device(ostiary.runtime, lost.device_id, "left in a taxi", ACTOR))
    wait_for(lambda: leaving.list_sas() == [], 2.0, "the end of the lost device's SA")
    use_tunnel(staying)
    staying.terminate()


def test_disconnected_session_may_come_back(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment
) -> None:
    laptop = enrolment.laptop("heidi", "heidi-laptop")
    client = clients.eap_mschapv2(site.client, laptop)
    client.connect()
    session = ostiary.live_session(laptop.device_id)
    site.gateway.call(lambda: disconnect_session(ostiary.runtime, session.id, "please sign in again", ACTOR))
    wait_for(lambda: client.list_sas() == [], 2.0, "the end of the client's SA")
    client.connect()
    use_tunnel(client)
    client.terminate()
