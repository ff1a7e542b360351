"""strongSwan on the move (MOBIKE, RFC 4555), with ESP in userspace on both sides.

Its userspace ESP always asks for UDP encapsulation, so the gateway takes it for behind a NAT wherever it is; moving
without encapsulation is tried with the kernel's ESP, in `tests/kernel`.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from aaa.models import TunnelSession
from tests.interop.clients import Clients, use_tunnel
from tests.lab.enrolment import Laptop
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import LabError, wait_for
from tests.lab.roaming import Roamer
from tests.lab.strongswan import StrongSwanClient
from tests.lab.topology import GATEWAY_IPV4, INSIDE_IPV4, Site

pytestmark = pytest.mark.interop

MOVE_TIMEOUT_S = 10.0
TRANSFER_S = 6
PATIENCE_S = 6.0


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """A gateway that asks often, is patient for seconds instead of minutes, and tells its session's state soon."""
    return {
        "gateway": {
            "dpd_interval_s": 1.0,
            "retransmit_timeouts_s": [0.5, 0.5],
            "mobike_patience_s": PATIENCE_S,
        },
        "aaa": {"interim_interval_s": 0.5},
    }


@pytest.fixture
def roamer(site: Site) -> Iterator[Roamer]:
    """The client with all its links."""
    roamer = Roamer(site)
    yield roamer
    roamer.close()


@pytest.fixture
def client(roamer: Roamer, clients: Clients, laptop: Laptop) -> StrongSwanClient:
    """strongSwan, connected over eth0."""
    client = clients.eap_mschapv2(roamer.namespace, laptop)
    client.connect()
    assert "peer supports MOBIKE" in client.log()
    return client


def wait_until_seen_at(ostiary: Ostiary, session_id: str, *addresses: str) -> None:
    """The gateway tells of the session at one of these addresses."""

    def is_there(row: TunnelSession) -> bool:
        host = row.remote_address.rpartition(":")[0].strip("[]")
        return row.id == session_id and row.ended_at is None and host in addresses

    ostiary.wait_for_session(is_there, f"at {' or '.join(addresses)}", MOVE_TIMEOUT_S)


def use_again(client: StrongSwanClient) -> None:
    """The tunnel works where the client is now. What was on its way when it moved may be lost."""
    wait_for(lambda: client.namespace.ping(INSIDE_IPV4, wait_s=1) == 1 or None, 5.0, "an answer at the new place")
    use_tunnel(client)


def test_from_link_to_link_into_a_nat_and_out_of_it(
    ostiary: Ostiary, roamer: Roamer, client: StrongSwanClient, laptop: Laptop
) -> None:
    live = ostiary.live_session(laptop.device_id)
    [before] = client.list_sas()
    mark = ostiary.audit_mark()
    for device in ("wifi", "phone", "wifi", "eth0"):
        wait_until_seen_at(ostiary, live.id, *roamer.move(device))
        use_again(client)
    assert client.log().count("N(UPD_SA_ADDR)") >= 4
    # The gateway asked whether it receives there before it sent the tunnel's packets.
    assert "N(COOKIE2)" in client.log()
    [after] = client.list_sas()
    assert (after.spis, after.virtual_addresses) == (before.spis, before.virtual_addresses)
    assert ostiary.audit_since(mark) == []
    client.terminate()


@pytest.mark.parametrize("reverse", [False, True], ids=["uploading", "downloading"])
def test_a_transfer_goes_on(
    ostiary: Ostiary,
    site: Site,
    roamer: Roamer,
    client: StrongSwanClient,
    laptop: Laptop,
    reverse: bool,
) -> None:
    live = ostiary.live_session(laptop.device_id)
    server = site.inside.start("iperf3", "-s", "-1", "--forceflush", log_file=client.directory / "iperf3-server.log")
    wait_for(lambda: "listening" in server.log(), 5.0, "iperf3's server")
    command = ("iperf3", "-c", INSIDE_IPV4, "-t", str(TRANSFER_S), "-J", *(["-R"] if reverse else []))
    transfer = roamer.namespace.start(*command, log_file=client.directory / "iperf3.json")
    ostiary.wait_for_session(
        lambda row: row.id == live.id and max(row.packets_in, row.packets_out) > 1000, "with a transfer under way"
    )
    wait_until_seen_at(ostiary, live.id, *roamer.move("phone"))
    assert transfer.wait(TRANSFER_S + 20.0) == 0, transfer.log()
    intervals = _intervals(transfer.log())
    assert intervals[0] > 0
    assert intervals[-1] > 0, "nothing more was transferred after the change"
    assert ostiary.live_session(laptop.device_id).id == live.id
    client.terminate()


def test_from_ipv4_to_ipv6_and_back(
    ostiary: Ostiary, roamer: Roamer, client: StrongSwanClient, laptop: Laptop
) -> None:
    """The gateway has told the client of its IPv6 address when it signed in."""
    assert re.search(r"parsed IKE_AUTH response \d+ \[ AUTH .* N\(MOBIKE_SUP\) N\(ADD_6_ADDR\) \]", client.log())
    live = ostiary.live_session(laptop.device_id)
    wait_until_seen_at(ostiary, live.id, roamer.lose_ipv4())
    use_again(client)
    wait_until_seen_at(ostiary, live.id, roamer.regain_ipv4())
    use_again(client)
    assert ostiary.live_session(laptop.device_id).id == live.id
    client.terminate()


def test_moving_goes_on_after_rekeying(
    ostiary: Ostiary, roamer: Roamer, client: StrongSwanClient, laptop: Laptop
) -> None:
    live = ostiary.live_session(laptop.device_id)
    wait_until_seen_at(ostiary, live.id, *roamer.move("wifi"))
    client.rekey_ike()
    client.rekey_child()
    wait_until_seen_at(ostiary, live.id, *roamer.move("phone"))
    use_again(client)
    client.terminate()


def test_nowhere_for_a_while(ostiary: Ostiary, roamer: Roamer, client: StrongSwanClient, laptop: Laptop) -> None:
    """A laptop in the lift: longer than the gateway waits for others, and then it is somewhere else."""
    live = ostiary.live_session(laptop.device_id)
    roamer.namespace.ip("link", "set", "eth0", "down")
    with pytest.raises(LabError, match="that has ended"):
        ostiary.wait_for_session(lambda row: row.id == live.id and row.ended_at is not None, "that has ended", 3.0)
    wait_until_seen_at(ostiary, live.id, *roamer.move("wifi"))
    use_again(client)
    client.terminate()


def test_nowhere_for_good(ostiary: Ostiary, roamer: Roamer, client: StrongSwanClient, laptop: Laptop) -> None:
    live = ostiary.live_session(laptop.device_id)
    client.kill()
    ended = ostiary.wait_for_session(
        lambda row: row.id == live.id and row.ended_at is not None, "that has ended", PATIENCE_S + 10.0
    )
    assert ended.terminate_cause == "LOST_SERVICE"
    assert ended.ended_at is not None
    assert (ended.ended_at - ended.started_at).total_seconds() >= PATIENCE_S
    assert roamer.uses == "eth0"


def test_a_new_address_of_the_gateway_is_told(ostiary: Ostiary, site: Site, client: StrongSwanClient) -> None:
    """SIGHUP reads the settings again; the client then tries what it was told when it finds no other way."""
    new = "192.0.2.77"
    site.gateway.ip("address", "add", f"{new}/24", "dev", "outside")
    text = ostiary.config_file.read_text(encoding="utf-8")
    ostiary.config_file.write_text(text.replace(f'"{GATEWAY_IPV4}"', f'"{GATEWAY_IPV4}", "{new}"'), encoding="utf-8")
    try:
        ostiary.process().send(signal.SIGHUP)
        client.wait_for_log(r"parsed INFORMATIONAL request \d+ \[ N\(ADD_4_ADDR\) N\(ADD_6_ADDR\) \]", 5.0)
        use_again(client)
    finally:
        ostiary.config_file.write_text(text, encoding="utf-8")
        ostiary.process().send(signal.SIGHUP)
        site.gateway.ip("address", "delete", f"{new}/24", "dev", "outside")
    client.terminate()


def _intervals(text: str) -> list[int]:
    """Bytes in each second, as iperf3 says."""
    result: dict[str, Any] = json.loads(text)
    return [int(interval["sum"]["bytes"]) for interval in result["intervals"]]
