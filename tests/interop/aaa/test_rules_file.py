"""The file of access rules is changed while a client is connected: nobody restarts anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from aaa import rules_change
from tests.interop.clients import Clients, use_tunnel
from tests.lab.enrolment import Enrolment
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import LabError, wait_for
from tests.lab.strongswan import StrongSwanClient
from tests.lab.topology import CLIENT_IPV4, GATEWAY_INSIDE_IPV4, INSIDE_IPV4, Site

pytestmark = pytest.mark.interop

HELP_DESK = f"{GATEWAY_INSIDE_IPV4}/32"
STAFF = '[[rules]]\nname = "staff"\n'
ABROAD = (
    f'[[rules]]\nname = "abroad"\neffect = "quarantine"\nfrom_networks = ["{CLIENT_IPV4}/32"]\n'
    f'networks = ["{HELP_DESK}"]\nreason = "call the help desk"\n'
)
CLOSED = '[[rules]]\nname = "closed"\neffect = "deny"\nreason = "closed for repair"\n'


@pytest.fixture(scope="module")
def rules_file(lab: Lab) -> Path:
    """With one rule for all."""
    file = lab.directory / "rules.toml"
    file.write_text(STAFF)
    return file


@pytest.fixture(scope="module")
def ostiary(lab: Lab, site: Site, rules_file: Path) -> Iterator[Ostiary]:
    """Gateway and worker, which has seen the rules."""
    settings: Mapping[str, Mapping[str, TomlValue]] = {
        "aaa": {"rules_file": str(rules_file)},
        "jobs": {"sweep_interval_s": 1.0},
    }
    with Ostiary(site.gateway, lab.directory / "ostiary", settings=settings, parts=("gateway", "worker")) as ostiary:
        ostiary.wait_for_audit(0, lambda event: event.action == rules_change.CHANGED, "of the rules at the beginning")
        yield ostiary


def selectors(client: StrongSwanClient) -> set[str]:
    """Of its child SA, where it is the only one."""
    [sa] = client.list_sas()
    return set(sa.remote_selectors) if sa.child_count == 1 else set()


def test_from_the_file_to_the_tunnel(
    ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment, rules_file: Path
) -> None:
    laptop = enrolment.laptop("alice", "alice-laptop")
    client = clients.eap_mschapv2(site.client, laptop)
    client.connect()
    use_tunnel(client)
    session, before = ostiary.live_session(laptop.device_id), selectors(client)

    mark = ostiary.audit_mark()
    rules_file.write_text(ABROAD + STAFF)
    wait_for(lambda: selectors(client) == {HELP_DESK}, 20.0, "the narrow child SA")
    assert client.namespace.ping(GATEWAY_INSIDE_IPV4) == 1
    assert client.namespace.ping(INSIDE_IPV4, wait_s=1) == 0
    event = ostiary.wait_for_audit(mark, lambda event: event.action == rules_change.CHANGED, "of the change")
    assert event.reason == "new: 'abroad'"

    # A mistake changes nothing, and is said.
    rules_file.write_text(ABROAD + "network = 7\n")
    with pytest.raises(LabError, match=r"rules\[0\].network: no such setting"):
        ostiary.command("check")
    explained = ostiary.command_json("policy", "explain", "--device", "alice-laptop", "--address", CLIENT_IPV4)
    assert (explained["rule"], explained["networks"]) == ("abroad", [HELP_DESK])

    rules_file.write_text(STAFF)
    wait_for(lambda: selectors(client) == before, 20.0, "the wide child SA")
    use_tunnel(client)
    assert ostiary.live_session(laptop.device_id).id == session.id

    mark = ostiary.audit_mark()
    rules_file.write_text(CLOSED + STAFF)
    ended = ostiary.wait_for_session(lambda row: row.id == session.id and row.ended_at is not None, "that has ended")
    assert ended.terminate_cause == "ADMIN_RESET"
    assert client.namespace.ping(INSIDE_IPV4, wait_s=1) == 0
    assert not client.initiate().ok
    refused = ostiary.wait_for_audit(mark, lambda event: event.action == "sign-in.refuse", "of the refused sign-in")
    assert (refused.detail["code"], refused.detail["rule"], refused.reason) == (
        "denied-by-rule",
        "closed",
        "closed for repair",
    )
