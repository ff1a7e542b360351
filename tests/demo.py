"""`python -m tests.demo`: the whole story in network namespaces, with Debian's strongSwan as the laptop.

    laptop ── NAT router ── internet ── gateway (Ostiary) ── company network

Ends with 0 only if all of it happened.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp

from core.errors import OstiaryError
from tests.bench.throughput import IPERF_PORT, iperf3
from tests.lab.certificates import load_identity
from tests.lab.enrolment import Laptop
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary
from tests.lab.processes import LabError, wait_for
from tests.lab.strongswan import StrongSwanClient
from tests.lab.strongswan_config import ClientConfig
from tests.lab.topology import GATEWAY_INSIDE_IPV4, GATEWAY_IPV4, INSIDE_IPV4, INSIDE_IPV6, Site, build_site
from tests.lab.web_visitor import Page, WebVisitor

PORTAL = f"https://{GATEWAY_INSIDE_IPV4}:8443"
ADMIN_PASSWORD = "three geese walk past the gate"
USER = "maria"
DEVICE = "maria-laptop"
LOST = "Lost or stolen"
NOTE = "left on the 07:14 train"
IPERF_SECONDS = 3
_ACCESS_CODE = re.compile(r"\b[2-9a-z]{5}(?:-[2-9a-z]{5}){4}\b")
_TOTP_SECRET = re.compile(r"\b[A-Z2-7]{32}\b")
_DEVICE_LINK = re.compile(r"/devices/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


class Story:
    """Prints what happens, each step with the time that it took."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty()

    def chapter(self, title: str) -> None:
        """A heading."""
        print(f"\n{self._paint(title, '1')}", flush=True)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[list[str]]:
        """One step; what is appended to the list is printed below it."""
        started_at, facts = time.monotonic(), list[str]()
        try:
            yield facts
        except BaseException:
            print(f"  {self._paint('✗', '31')} {text}", flush=True)
            raise
        elapsed_s = time.monotonic() - started_at
        took = f"{1000 * elapsed_s:5.0f} ms" if elapsed_s < 1 else f"{elapsed_s:5.1f} s "
        print(f"  {self._paint('✓', '32')} {text:<82}{self._paint(took, '2')}", flush=True)
        for fact in facts:
            print(f"      {fact}", flush=True)

    def _paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text


def main() -> int:
    """Tell the story; the exit status."""
    story, started_at = Story(), time.monotonic()
    print(__doc__.split("\n\n")[1])
    try:
        with Lab() as lab:
            tell(story, lab)
    except (LabError, OstiaryError) as error:
        print(f"\nThe story ended early: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything was taken down.", file=sys.stderr)
        return 130
    print(f"\nAll of it happened, in {time.monotonic() - started_at:.1f} s.")
    return 0


def tell(story: Story, lab: Lab) -> None:
    """The chapters in order.

    Raises:
        LabError: something did not happen.
    """
    story.chapter("The stage")
    with story.step("network namespaces: laptop behind a NAT, internet, gateway, host inside"):
        site = build_site(lab)
    settings: dict[str, dict[str, Any]] = {
        "log": {"level": "info", "format": "console"},
        "web": {"public_host": GATEWAY_INSIDE_IPV4},
        "pki": {"gateway_key_type": "rsa-3072"},
    }
    ostiary = Ostiary(site.gateway, lab.directory / "ostiary", settings=settings, parts=("up",))
    with story.step("Ostiary is up: gateway, portal and worker; its CA is made") as facts:
        ostiary.start()
        facts.extend(ostiary.ready_lines["up"])
    try:
        _in_service(story, lab, site, ostiary)
        story.chapter("Closing time")
        with story.step("Ostiary stopped and left no device, route or process behind"):
            ostiary.stop()
    finally:
        ostiary.kill()
        ostiary.runtime.close()


def _in_service(story: Story, lab: Lab, site: Site, ostiary: Ostiary) -> None:
    trust_pem = ostiary.command("ca", "trust")
    console = WebVisitor(site.inside, trust_pem)
    story.chapter("The console")
    _create_administrator(story, console, ostiary)
    laptop = _enrol(story, console)

    base = ClientConfig(
        remote_address=GATEWAY_IPV4,
        remote_identity=ostiary.settings.gateway.identity,
        trust_pem=trust_pem,
        method="eap-mschapv2",
        identity=laptop.user_name,
        password=laptop.access_code,
    )
    story.chapter("The laptop signs in with its access code (EAP-MSCHAPv2)")
    with StrongSwanClient(site.home, base, lab.directory / "mschapv2") as client:
        _connect(story, client, "EAP_MSCHAPV2")
        _use(story, site, client)
        with story.step("the console shows the session"):
            expect(console.open(f"{PORTAL}/sessions"), DEVICE, "EAP-MSCHAPv2")
        with story.step("the laptop leaves"):
            client.terminate()
            ostiary.wait_for_session(lambda row: row.terminate_cause == "USER_REQUEST", "that was left")

    story.chapter("The laptop signs in with its certificate (EAP-TLS)")
    with story.step("`ostiary device certificate` makes its key and certificate") as facts:
        files = ostiary.command_json("device", "certificate", DEVICE, "--output", str(lab.directory / "files"))
        credential = load_identity(Path(files["certificate_file"]), Path(files["private_key_file"]))
        facts.append(f"valid until {files['certificate_expires_at']:.16}")
    tls = ClientConfig(
        remote_address=base.remote_address,
        remote_identity=base.remote_identity,
        trust_pem=trust_pem,
        method="eap-tls",
        identity=laptop.host_name,
        credential=credential,
    )
    with StrongSwanClient(site.home, tls, lab.directory / "tls") as client:
        _connect(story, client, "EAP_TLS")
        _ping(story, site)
        story.chapter("The laptop is stolen")
        _revoke(story, site, console, client, laptop)
        _come_back(story, ostiary, console, client)


def _create_administrator(story: Story, console: WebVisitor, ostiary: Ostiary) -> None:
    with story.step("first administrator: first-run link, password, second factor"):
        link = re.search(r"https://\S+/first-run/\S+", "\n".join(ostiary.ready_lines["up"]))
        if link is None:
            raise LabError("Ostiary printed no first-run link")
        page = console.submit(console.open(link[0]), name="ines", password=ADMIN_PASSWORD, repeated=ADMIN_PASSWORD)
        secret = find(_TOTP_SECRET, page)
        expect(console.submit(page, code=pyotp.TOTP(secret).now()), "ines")
    with story.step("the link opens nothing a second time"):
        if console.open(link[0]).status != 404:
            raise LabError("the first-run link still works")


def _enrol(story: Story, console: WebVisitor) -> Laptop:
    with story.step(f"user {USER} is added"):
        page = console.open(f"{PORTAL}/add-user")
        expect(console.submit(page, name=USER, display_name="Maria Silva"), USER)
    with story.step(f"device {DEVICE} is added; its access code is shown once") as facts:
        page = console.open(f"{PORTAL}/devices/add")
        page = console.submit(page, owner=USER, name=DEVICE, platform="Linux")
        found = _DEVICE_LINK.search(page.html)
        if found is None:
            raise LabError(f"the device was not added: {page.text[:500]}")
        laptop = Laptop(USER, found[1], DEVICE, find(_ACCESS_CODE, page))
        facts.append(f"access code {laptop.access_code[:5]}-…, for this device, for some hours")
    return laptop


def _connect(story: Story, client: StrongSwanClient, method: str) -> None:
    with story.step("connected: handshake, addresses and tunnel") as facts:
        result = client.connect()
        if f"EAP method {method} succeeded" not in result.output:
            raise LabError(f"{method} was not used:\n{result.output}")
        [sa] = client.list_sas()
        facts.append(
            f"addresses {result.virtual_ipv4} and {result.virtual_ipv6}, reaching {', '.join(sa.remote_selectors)}"
        )
        facts.append(f"IKE {sa.ike_suite}, ESP {sa.esp_suite}, through the NAT")


def _use(story: Story, site: Site, client: StrongSwanClient) -> None:
    _ping(story, site)
    server = site.inside.start(
        "iperf3", "-s", "--forceflush", "-p", str(IPERF_PORT), log_file=client.directory / "iperf3.log"
    )
    wait_for(lambda: "listening" in server.log(), 5.0, "iperf3's server")
    with story.step("iperf3 through the tunnel, one TCP stream, both ways") as facts:
        upload = iperf3(site.home, INSIDE_IPV4, IPERF_SECONDS)
        download = iperf3(site.home, INSIDE_IPV4, IPERF_SECONDS, reverse=True)
        facts.append(f"{upload:.0f} Mbit/s up, {download:.0f} Mbit/s down")
        [sa] = client.list_sas()
        facts.append(f"the SA carried {sa.bytes_out / 1e6:.0f} MB up and {sa.bytes_in / 1e6:.0f} MB down")
        if min(sa.bytes_out, sa.bytes_in) < 1_000_000:
            raise LabError("the stream did not go through the tunnel")
    server.stop()


def _ping(story: Story, site: Site) -> None:
    with story.step("a host inside answers over IPv4 and IPv6"):
        if site.home.ping(INSIDE_IPV4, count=3) != 3 or site.home.ping(INSIDE_IPV6, count=3) != 3:
            raise LabError("pings were lost")


def _revoke(story: Story, site: Site, console: WebVisitor, client: StrongSwanClient, laptop: Laptop) -> None:
    page = console.open(f"{PORTAL}/devices/{laptop.device_id}/revoke")
    with story.step("Revoke is pressed in the console") as facts:
        pressed_at = time.time()
        answer = console.submit(page, cause=LOST, note=NOTE)
        expect(answer, "is revoked")
        told_at = client.wait_until_told("received DELETE for IKE_SA", 5.0)
        wait_for(lambda: client.list_sas() == [], 5.0, "the end of the laptop's tunnel")
        facts.append(f"the tunnel was gone {1000 * (told_at - pressed_at):.0f} ms after the press, on the laptop too")
    with story.step("the host inside answers no more"):
        if site.home.ping(INSIDE_IPV4, wait_s=1):
            raise LabError("the tunnel still carries packets")


def _come_back(story: Story, ostiary: Ostiary, console: WebVisitor, client: StrongSwanClient) -> None:
    with story.step("the thief tries to connect again, and is refused") as facts:
        mark = ostiary.audit_mark()
        if client.initiate().ok:
            raise LabError("a revoked device was let in")
        event = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.refuse", "of the refusal")
        facts.append(f"audit log: {event.actor} refused, {event.detail['code']}: {event.reason}")
        if NOTE not in event.reason:
            raise LabError("the audit log does not say why")
        expect(console.open(f"{PORTAL}/audit"), "sign-in.refuse")
    with story.step("the audit log's hash chain is whole") as facts:
        facts.append(ostiary.command("audit", "verify").strip())


def find(pattern: re.Pattern[str], page: Page) -> str:
    """The first match in what the page shows.

    Raises:
        LabError: there is none.
    """
    found = pattern.search(page.text)
    if found is None:
        raise LabError(f"{page.url} (status {page.status}) does not show {pattern.pattern}: {page.text[:500]}")
    return found[0]


def expect(page: Page, *texts: str) -> None:
    """The page says yes and shows all of `texts`.

    Raises:
        LabError: it does not.
    """
    missing = [text for text in texts if text not in page.text]
    if page.status != 200 or missing:
        raise LabError(f"{page.url} answered {page.status} without {missing}: {page.text[:500]}")


if __name__ == "__main__":
    sys.exit(main())
