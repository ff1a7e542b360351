"""The day on which a laptop is lost, with everything real: gateway, portal, two strongSwan clients, a browser.

ines-laptop ── NAT ──┐                              ┌── console: chromium, on a host inside
                     ├── internet ── gateway ───────┤
noor-laptop ─────────┘               (Ostiary)      └── iperf3
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, Playwright, expect
from sqlalchemy import update

from core.clock import utc_now
from core.runtime import Runtime
from posture.devices import find
from tests.bench.throughput import IPERF_PORT, iperf3
from tests.browser.chromium import chromium_inside, running_chromium
from tests.browser.pictures import take, take_both, take_on_phone
from tests.browser.steps import Authenticator, add_device, add_user, become_administrator
from tests.browser.working_day import write_working_day
from tests.lab.enrolment import Enrolment
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary
from tests.lab.processes import wait_for
from tests.lab.strongswan import StrongSwanClient
from tests.lab.strongswan_config import ClientConfig
from tests.lab.topology import GATEWAY_INSIDE_IPV4, GATEWAY_IPV4, INSIDE_IPV4, NAT_IPV4, Site, build_site
from web.models import ConsoleSession
from web.second_factor import FRESH_FOR

pytestmark = pytest.mark.interop

PROMISED_S = 1.0
"""Until a revoked device is out; on an idle machine it is some milliseconds."""
PINGS = 5
MANY_BYTES = 5_000_000
"""Less than a second of one TCP stream carries, even on a busy machine."""


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Namespaces and a scratch directory."""
    with Lab() as lab:
        yield lab


@pytest.fixture
def site(lab: Lab) -> Site:
    """The network."""
    return build_site(lab)


@pytest.fixture
def ostiary(lab: Lab, site: Site) -> Iterator[Ostiary]:
    """Gateway and portal of a company that has worked without a console so far."""
    ostiary = Ostiary(
        site.gateway,
        lab.directory / "ostiary",
        settings={"web": {"public_host": GATEWAY_INSIDE_IPV4}},
        parts=("gateway", "web"),
    )
    write_working_day(ostiary.runtime, utc_now())
    with ostiary:
        yield ostiary


@pytest.fixture
def browser(playwright: Playwright, site: Site, lab: Lab) -> Iterator[Browser]:
    """Chromium on the host inside, which is where the security team sits."""
    with running_chromium(playwright, chromium_inside(site.inside, lab.directory)) as browser:
        yield browser


@pytest.fixture
def noor(ostiary: Ostiary, site: Site, lab: Lab) -> Iterator[StrongSwanClient]:
    """A colleague's laptop, signed in with its certificate; it is to stay connected whatever happens to others."""
    enrolment = Enrolment(ostiary.runtime)
    laptop = enrolment.laptop("noor", "noor-laptop")
    config = ClientConfig(
        remote_address=GATEWAY_IPV4,
        remote_identity=ostiary.settings.gateway.identity,
        trust_pem=enrolment.authority.trust_pem(),
        method="eap-tls",
        identity=laptop.host_name,
        credential=enrolment.certificate(laptop),
    )
    with StrongSwanClient(site.client, config, lab.directory / "noor") as client:
        client.connect()
        assert site.client.ping(INSIDE_IPV4, count=PINGS, size_bytes=1200) == PINGS
        yield client


def test_a_stolen_laptop(page: Page, ostiary: Ostiary, site: Site, lab: Lab, noor: StrongSwanClient) -> None:
    """First-run link, second factor, a user, a device; its tunnel is seen live, revoked, gone, and refused after."""
    announced = dict(line.split(": ", 1) for line in ostiary.ready_lines["web"])
    authenticator = become_administrator(page, announced["First administrator"], take)
    add_user(page, "ines", "Inês Duarte")
    access_code = add_device(page, "ines", "ines-laptop", take)
    config = ClientConfig(
        remote_address=GATEWAY_IPV4,
        remote_identity=ostiary.settings.gateway.identity,
        trust_pem=ostiary.command("ca", "trust"),
        method="eap-mschapv2",
        identity="ines",
        password=access_code,
    )
    with StrongSwanClient(site.home, config, lab.directory / "ines") as ines:
        _see_it_live(page, ostiary, site, ines, lab)
        _revoke(page, ostiary, site, ines, authenticator)
        _see_it_gone(page, site, noor)
        _come_back(page, ostiary, ines)
    ostiary.verify_audit_chain()


def _see_it_live(page: Page, ostiary: Ostiary, site: Site, ines: StrongSwanClient, lab: Lab) -> None:
    """Its row appears and counts by itself; then the overview and the device's page."""
    page.get_by_role("link", name="Sessions").click()
    expect(page.locator("#live-title .count")).to_have_text("1")
    # No reload from here.
    virtual_address = ines.connect().virtual_ipv4
    with ostiary.runtime.database.reading() as session:
        device_id = find(session, "ines-laptop").id
    row = page.locator(f"#session-{ostiary.live_session(device_id).id}")
    for text in ("ines-laptop", "ines", "EAP-MSCHAPv2", "gateway-1", virtual_address, NAT_IPV4, "strongSwan"):
        expect(row).to_contain_text(text)
    expect(page.get_by_role("status")).to_have_text("2 live sessions")

    assert site.home.ping(INSIDE_IPV4, count=PINGS) == PINGS
    expect(row).not_to_contain_text(re.compile(r"\b0 B"))
    pinged = _bytes_to_client(row)
    _download_through(site, lab)
    wait_for(lambda: _bytes_to_client(row) > pinged + MANY_BYTES, 10.0, "the stream's bytes", interval_s=0.2)
    [sa] = ines.list_sas()
    assert sa.bytes_in > MANY_BYTES
    take_both(page, "sessions")
    take_on_phone(page, "sessions")

    page.get_by_role("link", name="Overview").click()
    expect(page.locator(".tile-value").first).to_have_text("2")
    expect(page.get_by_text("2 sessions")).to_be_visible()
    expect(page.locator(".row", has_text="gateway-1").get_by_text("Up", exact=True)).to_be_visible()
    take_both(page, "overview")
    take_on_phone(page, "overview")
    page.get_by_role("link", name="Devices", exact=True).click()
    expect(page.get_by_role("row").filter(has_text="ines-laptop")).to_contain_text("1 live")
    take(page, "devices")
    take_on_phone(page, "devices")
    page.get_by_role("link", name="ines-laptop").click()
    expect(page.locator("#device-live-title .count")).to_have_text("1")
    expect(page.get_by_role("row").filter(has_text="sign-in.accept")).to_contain_text("ines-laptop")
    take(page, "device")


def _revoke(page: Page, ostiary: Ostiary, site: Site, ines: StrongSwanClient, authenticator: Authenticator) -> None:
    """With a reason and a code; the gateway's answer is shown, and the laptop has lost its tunnel."""
    _let_the_second_factor_grow_stale(ostiary.runtime)
    page.get_by_role("link", name="Revoke").click()
    expect(page.get_by_text("1 tunnel ends")).to_be_visible()
    page.get_by_label("Lost or stolen").check()
    page.get_by_label("In your words").fill("left on the train")
    page.get_by_label("Code from your authenticator app").fill(authenticator.next_code())
    take(page, "revoke")
    pressed_at = time.time()
    page.get_by_role("button", name="Revoke ines-laptop").click()
    told_s = ines.wait_until_told("received DELETE for IKE_SA", 5.0) - pressed_at
    wait_for(lambda: ines.list_sas() == [], 2.0, "the end of the laptop's SA")
    assert site.home.ping(INSIDE_IPV4, wait_s=1) == 0
    expect(page.get_by_role("heading", name="ines-laptop is revoked")).to_be_visible()
    answer = page.locator(".enforcement .row")
    expect(answer).to_contain_text("gateway-1")
    expect(answer).to_contain_text("Done")
    # What the page says below its answer does not contradict it.
    assert page.get_by_text("Not connected.").is_visible()
    timing = page.locator(".enforcement .timing")
    expect(timing).to_have_text(re.compile(r"^\d+(\.\d)? ms$"))
    print(f"revoked: the gateway answered in {timing.inner_text()}, the client was told after {1000 * told_s:.0f} ms")
    assert told_s < PROMISED_S
    take(page, "revoked")


def _see_it_gone(page: Page, site: Site, noor: StrongSwanClient) -> None:
    """The lost laptop's session has ended, its colleague's goes on until it hangs up."""
    page.get_by_role("link", name="Sessions").click()
    live = page.locator("section", has=page.locator("#live-title"))
    expect(live.get_by_role("row").filter(has_text="noor-laptop")).to_be_visible()
    expect(live.get_by_text("ines-laptop")).to_have_count(0)
    ended = page.locator("section", has=page.locator("#recent-title"))
    expect(ended.get_by_role("row").filter(has_text="ines-laptop")).to_contain_text("Admin reset")
    assert site.client.ping(INSIDE_IPV4) == 1
    noor.terminate()
    expect(page.get_by_text("Nobody is connected")).to_be_visible()


def _come_back(page: Page, ostiary: Ostiary, ines: StrongSwanClient) -> None:
    """The thief has laptop and code, and is refused; the audit log says why."""
    mark = ostiary.audit_mark()
    assert not ines.initiate().ok
    ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.refuse", "of the refusal")
    page.get_by_role("link", name="Audit log", exact=True).first.click()
    expect(page.get_by_text("The chain is whole.")).to_be_visible()
    refusal = page.get_by_role("row").filter(has_text="sign-in.refuse").first
    expect(refusal).to_contain_text("ines-laptop")
    expect(refusal).to_contain_text("left on the train")
    revocation = page.get_by_role("row").filter(has_text="device.revoke")
    expect(revocation).to_contain_text("maria")
    expect(revocation).to_contain_text("Lost or stolen: left on the train")
    take_both(page, "audit")
    refusal.get_by_text("Details").click()
    expect(refusal.get_by_text("revoked-device")).to_be_visible()


def _bytes_to_client(row: Locator) -> int:
    """As the row tells them exactly, on hover."""
    title = row.locator("[title*='bytes to it']").get_attribute("title") or ""
    found = re.search(r"([\d,]+) bytes to it", title)
    assert found is not None
    return int(found[1].replace(",", ""))


def _download_through(site: Site, lab: Lab) -> None:
    """A second of one TCP stream, from the host inside to the laptop."""
    server = site.inside.start(
        *("iperf3", "--server", "--one-off", "--forceflush", "--port", str(IPERF_PORT)),
        log_file=lab.directory / "iperf3.log",
    )
    wait_for(lambda: "listening" in server.log(), 5.0, "iperf3's server")
    iperf3(site.home, INSIDE_IPV4, 1, reverse=True)
    server.wait(5.0)


def _let_the_second_factor_grow_stale(runtime: Runtime) -> None:
    """What some minutes at the console do; a revocation then asks for a fresh code."""
    with runtime.database.transaction() as session:
        session.execute(update(ConsoleSession).values(second_factor_at=utc_now() - FRESH_FOR))
