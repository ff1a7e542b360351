"""Real clients that fail in real ways, and whether the gateway tells rightly why; nftables loses packets between."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime

import pytest
from cryptography import x509

from aaa.handshakes import HandshakeFilter, recent_handshakes
from aaa.models import HandshakeRecord
from core.clock import utc_now
from tests.interop.clients import Clients
from tests.lab.certificates import LabAuthority, certificate_pem
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.namespaces import Namespace
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import wait_for
from tests.lab.topology import CLIENT_IPV4, GATEWAY_IPV4, NAT_IPV4, Site

pytestmark = pytest.mark.interop

HALF_OPEN_S, SLOW_S = 4.0, 1.0
"""Less than the time in which the client gives up by itself."""
REPORTED_S = HALF_OPEN_S + 6.0


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """A gateway of little patience, with a pool of one address for Gwen."""
    pools = [{"name": "staff", "ipv4": "10.99.0.0/24"}, {"name": "tiny", "ipv4": "10.98.0.0/30"}]
    return {
        "gateway": {"half_open_timeout_s": HALF_OPEN_S, "slow_handshake_s": SLOW_S, "pools": pools},
        "aaa": {
            "sign_in_failures_per_minute": 1000,
            "rules": [{"name": "guests", "users": ["gwen"], "pool": "tiny"}, {"name": "staff"}],
        },
    }


@contextlib.contextmanager
def lost_between(router: Namespace, rule: str) -> Iterator[None]:
    """Drop what the nftables rule names, on its way through a router."""
    router.nft(
        f"""
        table ip losses {{
            chain passing {{
                type filter hook forward priority filter
                {rule} counter drop
            }}
        }}
        """
    )
    try:
        yield
    finally:
        router.run("nft", "delete", "table", "ip", "losses")


def explained(ostiary: Ostiary, since: datetime, code: str) -> HandshakeRecord:
    """The explanation of a handshake that came to its end after `since`."""

    def newest() -> HandshakeRecord | None:
        with ostiary.runtime.database.reading() as session:
            return next(iter(recent_handshakes(session, HandshakeFilter(code=code, since=since), limit=1)), None)

    return wait_for(newest, REPORTED_S, f"an explanation of {code}", interval_s=0.05)


def assert_explained(
    ostiary: Ostiary, since: datetime, code: str, cause: str, *parts: str, remote: str = CLIENT_IPV4
) -> HandshakeRecord:
    """It says what it should; returns it."""
    row = explained(ostiary, since, code)
    print(f"{row.code} ({row.cause}): {row.explanation}")
    assert (row.outcome, row.cause, row.remote_address) == ("failed", cause, remote)
    for part in parts:
        assert part in row.explanation
    assert row.advice
    assert row.timeline[-1][1].endswith(f"failed: {code}")
    return row


def test_wrong_proposal(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    since = utc_now()
    assert not clients.eap_mschapv2(site.client, laptop, proposals="aes256-sha256-modp1024").initiate().ok
    row = assert_explained(
        ostiary, since, "no-proposal-chosen", "proposal", "no key exchange group", "it offers MODP_1024"
    )
    assert row.client == "strongSwan"
    assert row.offered == "[AES_CBC_256 HMAC_SHA2_256_128 HMAC_SHA2_256 MODP_1024]"
    assert row.allowed.startswith("policy modern: ")
    assert "swanctl.conf" in row.advice[0]
    # The same on the command line.
    shown = ostiary.command("gateway", "explain", "--code", "no-proposal-chosen", "--client", "strongswan")
    assert row.explanation in shown
    assert row.offered in ostiary.command("gateway", "explain", str(row.id))


def test_wrong_proposal_for_the_tunnel(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    since = utc_now()
    assert not clients.eap_mschapv2(site.client, laptop, esp_proposals="aes256-sha1").initiate().ok
    assert_explained(
        ostiary,
        since,
        "no-proposal-chosen",
        "proposal",
        "for the tunnel (ESP) no integrity",
        "it offers HMAC_SHA1_96",
    )


def test_wrong_authority(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    since, trust_pem = utc_now(), certificate_pem(LabAuthority.root().certificate)
    assert not clients.eap_mschapv2(site.client, laptop, trust_pem=trust_pem).initiate().ok
    row = assert_explained(
        ostiary,
        since,
        "client-gave-up",
        "gateway-certificate",
        "strongSwan gave up with AUTHENTICATION_FAILED as soon as it had the gateway's certificate",
        ostiary.settings.gateway.identity,
    )
    assert "x509ca" in row.advice[0]
    event = next(event for event in ostiary.audit_since(0) if event.detail.get("sign_in_id") == row.sign_in_id)
    assert (event.action, event.detail["cause"]) == ("sign-in.refuse", "gateway-certificate")


def test_wrong_identity(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    since = utc_now()
    assert not clients.eap_mschapv2(site.client, laptop, remote_identity="other.example").initiate().ok
    row = assert_explained(ostiary, since, "client-gave-up", "identity", "it asked for 'other.example' (IDr)")
    assert ["asked for (IDr)", "other.example"] in row.facts


def test_blocked_port(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    """UDP 4500 is dropped on the way; IKE_SA_INIT on 500 passes."""
    since = utc_now()
    with lost_between(site.internet, "udp dport 4500"):
        assert not clients.eap_mschapv2(site.home, laptop).initiate().ok
        row = assert_explained(
            ostiary, since, "handshake-timeout", "network", "IKE_AUTH never came", "UDP 4500", remote=NAT_IPV4
        )
    assert ["NAT", "in front of the client"] in row.facts
    assert not row.proven
    assert any(step.startswith("See what arrives: tcpdump") for step in row.advice)
    # It had not said who it is.
    assert not [event for event in ostiary.audit_since(0) if event.detail.get("sign_in_id") == row.sign_in_id]


def test_blocked_answers(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    """What the gateway sends from UDP 500 is dropped on the way."""
    since = utc_now()
    with lost_between(site.internet, f"ip saddr {GATEWAY_IPV4} udp sport 500"):
        assert not clients.eap_mschapv2(site.client, laptop).initiate().ok
        assert_explained(
            ostiary, since, "handshake-timeout", "network", "sent IKE_SA_INIT 4 times and got an answer each time"
        )


def test_lost_fragments_of_the_client(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, laptop: Laptop
) -> None:
    """Long datagrams are dropped, so that only the last fragment arrives."""
    credential, since = enrolment.certificate(laptop), utc_now()
    with lost_between(site.internet, "udp dport 4500 udp length > 540"):
        client = clients.certificate(site.client, laptop, credential, fragment_size_bytes=576)
        assert not client.initiate().ok
        row = assert_explained(
            ostiary, since, "handshake-timeout", "fragment", "The last and shortest one came", "drops UDP datagrams"
        )
    assert row.explanation.startswith("Fragments 1 to ")
    assert row.proven
    assert "charon.fragment_size" in row.advice[0]


def test_lost_fragments_of_the_gateway(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    since = utc_now()
    with lost_between(site.internet, f"ip saddr {GATEWAY_IPV4} udp sport 4500 udp length > 1000"):
        assert not clients.eap_mschapv2(site.client, laptop).initiate().ok
        row = assert_explained(ostiary, since, "handshake-timeout", "fragment", "does not reach it whole")
    assert "gateway.fragment_size_bytes" in row.advice[0]
    assert "came 3 times more" in row.timeline[1][1]


def test_wrong_password(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    since = utc_now()
    assert not clients.eap_mschapv2(site.client, laptop, password="not the access code").initiate().ok
    row = assert_explained(ostiary, since, "wrong-credential", "credential", "The code is none of user alice.")
    assert row.identity == "alice"
    assert any("EAP response MSCHAPv2" in what for _, what in row.timeline)
    assert ostiary.command_json("gateway", "explain", row.sign_in_id)[0]["explanation"] == row.explanation


def test_another_eap_method(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    since = utc_now()
    assert not clients.eap_mschapv2(site.client, laptop, authentication="eap-ttls").initiate().ok
    text = "wants EAP-TTLS, and the gateway has only EAP-MSCHAPV2 (26), EAP-TLS (13) to offer"
    row = assert_explained(ostiary, since, "no-common-method", "eap", text)
    assert any("Nak" in what for _, what in row.timeline)


def test_certificate_of_another_authority(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    since, name = utc_now(), laptop.host_name
    stranger = LabAuthority.root("someone else").issue(name, [x509.DNSName(name)], usage="client")
    assert not clients.certificate(site.client, laptop, stranger).initiate().ok
    assert_explained(ostiary, since, "untrusted-certificate", "client-certificate", "None of our CAs signed")


def test_no_address_left(ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment) -> None:
    first = clients.eap_mschapv2(site.client, enrolment.laptop("gwen", "gwen-laptop"))
    first.connect()
    since = utc_now()
    assert not clients.eap_mschapv2(site.home, enrolment.laptop("gwen", "gwen-phone")).initiate().ok
    assert_explained(
        ostiary, since, "internal-address-failure", "address-pool", "pool tiny has no free address", remote=NAT_IPV4
    )
    first.terminate()


def test_nothing_that_may_be_reached(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    since = utc_now()
    assert not clients.eap_mschapv2(site.client, laptop, remote_selectors="172.16.0.0/16").initiate().ok
    row = assert_explained(
        ostiary, since, "ts-unacceptable", "traffic-selectors", "nothing of what it asked to reach"
    )
    assert row.offered.startswith("172.16.0.0-172.16.255.255")
    assert "10.1.0.0/24" in row.allowed


def test_slow_database(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    """Another process keeps the database locked for a while: the sign-in waits, and succeeds."""
    client = clients.eap_mschapv2(site.client, laptop)
    since = utc_now()
    with contextlib.closing(
        sqlite3.connect(ostiary.settings.state_dir / "ostiary.db", isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(2.0, other.execute, ["COMMIT"])
        release.start()
        client.connect()
        release.join()
    row = explained(ostiary, since, "slow-handshake")
    print(row.explanation)
    assert (row.outcome, row.cause) == ("slow", "backend")
    assert "the gateway waited for the database" in row.explanation
    assert row.duration_ms > 1000 * SLOW_S
    assert row.timeline[-1][1] == "connected"
    client.terminate()


def test_everything_was_counted(ostiary: Ostiary) -> None:
    """The gateway says it with its heartbeat, and what is left when it stops."""
    ostiary.stop()
    rows = ostiary.command_json("gateway", "counters")
    counted = {
        (row["outcome"], row["cause"], row["code"]): row["count"] for row in rows if row["client"] == "strongSwan"
    }
    assert counted["failed", "fragment", "handshake-timeout"] == 2
    assert counted["failed", "network", "handshake-timeout"] == 2
    assert counted["failed", "credential", "wrong-credential"] == 1
    assert counted["slow", "backend", "slow-handshake"] == 1
    assert counted["established", None, None] >= 1
    ostiary.start()
    assert ostiary.command_json("gateway", "counters") == rows
