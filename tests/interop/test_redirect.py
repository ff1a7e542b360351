"""strongSwan is sent to another gateway (RFC 5685): before it is in, when it has proved who it is, and later."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping

import pytest

from tests.interop.clients import Clients, use_tunnel
from tests.lab.enrolment import Laptop
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import wait_for
from tests.lab.second_gateway import SECOND_GATEWAY_IPV4, build_second_gateway, second_ostiary
from tests.lab.topology import GATEWAY_IPV4, Site

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """A gateway that knows the other one."""
    return {"gateway": {"redirect_targets": [SECOND_GATEWAY_IPV4]}}


@pytest.fixture(scope="module")
def second(lab: Lab, site: Site, ostiary: Ostiary) -> Iterator[Ostiary]:
    """The other one, which knows the first."""
    namespace = build_second_gateway(lab, site)
    with second_ostiary(ostiary, namespace, lab.directory / "second", {"redirect_targets": [GATEWAY_IPV4]}) as second:
        yield second


@pytest.fixture
def settings_of_the_first(ostiary: Ostiary) -> Iterator[Ostiary]:
    """The first gateway, whose file may be changed; afterwards it is what it was."""
    before = ostiary.config_file.read_text(encoding="utf-8")
    yield ostiary
    ostiary.config_file.write_text(before, encoding="utf-8")
    read_again(ostiary)


def read_again(ostiary: Ostiary) -> None:
    """SIGHUP, and wait until it is done."""
    count = ostiary.log().count("settings read again")
    ostiary.process().send(signal.SIGHUP)
    wait_for(lambda: ostiary.log().count("settings read again") > count or None, 5.0, "the settings read again")


def change(ostiary: Ostiary, line: str) -> None:
    """Add a setting to the section of the gateway."""
    text = ostiary.config_file.read_text(encoding="utf-8")
    ostiary.config_file.write_text(text.replace("[gateway]\n", f"[gateway]\n{line}\n"), encoding="utf-8")
    read_again(ostiary)


def wait_until_at(ostiary: Ostiary, laptop: Laptop, gateway: str) -> None:
    """The laptop has one session, at this gateway."""

    def there() -> bool | None:
        live = [row.gateway for row in ostiary.sessions(live=True) if row.device_id == laptop.device_id]
        return live == [gateway] or None

    wait_for(there, 10.0, f"the only session of {laptop.device_name} at {gateway}", interval_s=0.05)


@pytest.fixture
def draining(ostiary: Ostiary) -> Iterator[None]:
    """The first gateway drains during the test."""
    assert "sends its clients away" in ostiary.command("gateways", "drain", "gateway-1")
    yield
    assert "takes in clients again" in ostiary.command("gateways", "serve", "gateway-1")


@pytest.mark.usefixtures("second", "draining")
def test_in_its_first_exchange(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop)
    client.connect()
    log = client.log()
    assert "parsed IKE_SA_INIT response 0 [ N(REDIR) ]" in log
    assert re.search(r"generating IKE_SA_INIT request 0 \[.* N\(REDIR_FROM\)", log)
    wait_until_at(ostiary, laptop, "gateway-2")
    assert client.list_sas()[0].remote_address.startswith(SECOND_GATEWAY_IPV4)
    use_tunnel(client)
    client.terminate()


@pytest.mark.usefixtures("second", "draining")
def test_when_it_has_proved_who_it_is(
    settings_of_the_first: Ostiary, site: Site, clients: Clients, laptop: Laptop
) -> None:
    """strongSwan 5.9.8 takes it, and crashes when it begins anew at the other gateway: it frees something twice."""
    change(settings_of_the_first, 'redirect_in = "ike-auth"')
    mark = settings_of_the_first.audit_mark()
    client = clients.eap_mschapv2(site.client, laptop)
    client.initiate()
    assert re.search(
        r"parsed IKE_AUTH response \d+ \[ AUTH N\(REDIR\) \]\n"
        r".* authentication of '\S+' with EAP successful\n"
        rf".* redirected to {SECOND_GATEWAY_IPV4}\n"
        rf".* initiating IKE_SA gateway\[\d\] to {SECOND_GATEWAY_IPV4}",
        client.log(),
    )
    let_in = [event.action for event in settings_of_the_first.audit_since(mark)]
    assert "sign-in.accept" in let_in
    assert settings_of_the_first.sessions(live=True) == []


@pytest.mark.usefixtures("second")
def test_when_it_is_in(ostiary: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    client = clients.eap_mschapv2(site.client, laptop)
    client.connect()
    use_tunnel(client)
    first = ostiary.live_session(laptop.device_id)
    assert first.gateway == "gateway-1"
    assert ": 1 session changed" in ostiary.command("gateways", "drain", "gateway-1")
    try:
        client.wait_for_log(r"parsed INFORMATIONAL request \d+ \[ N\(REDIR\) \]", 5.0)
        wait_until_at(ostiary, laptop, "gateway-2")
        ended = ostiary.wait_for_session(
            lambda row: row.id == first.id and row.ended_at is not None, "that has ended"
        )
        assert ended.terminate_cause == "NAS_REQUEST"
        wait_for(lambda: len(client.list_sas()) == 1 or None, 5.0, "the end of the old SA")
        use_tunnel(client)
    finally:
        ostiary.command("gateways", "serve", "gateway-1")
    client.terminate()


@pytest.mark.usefixtures("second")
def test_when_there_are_enough(settings_of_the_first: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    change(settings_of_the_first, "session_limit = 1")
    first = clients.eap_mschapv2(site.client, laptop)
    first.connect()
    wait_until_at(settings_of_the_first, laptop, "gateway-1")
    second = clients.eap_mschapv2(site.home, laptop)
    second.connect()
    assert "N(REDIR)" in second.log()
    assert "N(REDIR)" not in first.log()

    def both() -> bool | None:
        gateways = sorted(row.gateway for row in settings_of_the_first.sessions(live=True))
        return gateways == ["gateway-1", "gateway-2"] or None

    wait_for(both, 5.0, "a session at each gateway")
    second.terminate()
    first.terminate()


@pytest.mark.usefixtures("draining")
def test_not_round_and_round(ostiary: Ostiary, second: Ostiary, site: Site, clients: Clients, laptop: Laptop) -> None:
    """Both drain: whom one has sent to the other, the other does not send back."""
    second.command("gateways", "drain", "gateway-2")
    try:
        client = clients.eap_mschapv2(site.client, laptop)
        client.connect()
        assert client.log().count("N(REDIR) ]") == 1
        wait_until_at(ostiary, laptop, "gateway-2")
        client.terminate()
    finally:
        second.command("gateways", "serve", "gateway-2")
