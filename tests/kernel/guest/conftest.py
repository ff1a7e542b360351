"""One network, one gateway with the kernel's data plane for all tests of a guest; both ends' logs where one fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping

import pytest

from tests.bench.throughput import IPERF_PORT
from tests.interop.clients import Clients, show_logs
from tests.kernel.machine import in_time_travel
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.namespaces import Lab, Namespace
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.processes import wait_for
from tests.lab.topology import Site, build_site
from tests.lab.xfrm import policies

SETTINGS: dict[str, dict[str, TomlValue]] = {"gateway": {"data_plane": "kernel"}}
HOURS_SETTINGS = SETTINGS | {"aaa": {"interim_interval_s": 600.0}}
"""Where hours pass, accounting each second would make them long."""


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Namespaces and scratch directory of the guest."""
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def site(lab: Lab) -> Site:
    """The network of the guest."""
    return build_site(lab)


@pytest.fixture(scope="session")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """Settings over the lab's own."""
    return HOURS_SETTINGS if in_time_travel() else SETTINGS


@pytest.fixture(scope="session")
def ostiary(lab: Lab, site: Site, gateway_settings: Mapping[str, Mapping[str, TomlValue]]) -> Iterator[Ostiary]:
    """The gateway; at the end it must stop by itself and leave nothing behind."""
    with Ostiary(site.gateway, lab.directory / "ostiary", settings=gateway_settings) as ostiary:
        yield ostiary


@pytest.fixture(scope="session")
def idle_policies(ostiary: Ostiary) -> list[str]:
    """The policies of the gateway's kernel while there is no client."""
    return policies(ostiary.namespace)


@pytest.fixture(scope="session")
def enrolment(ostiary: Ostiary) -> Enrolment:
    """Enrols users and laptops."""
    return Enrolment(ostiary.runtime)


@pytest.fixture(scope="session")
def laptop(enrolment: Enrolment) -> Laptop:
    """A laptop that several tests may use, one after the other."""
    return enrolment.laptop("alice", "alice-laptop")


@pytest.fixture
def clients(ostiary: Ostiary, enrolment: Enrolment, lab: Lab, request: pytest.FixtureRequest) -> Iterator[Clients]:
    """Starts the clients of one test; their ESP is the kernel's too."""
    directory = lab.directory / f"{abs(hash(request.node.nodeid)):x}"
    clients = Clients(ostiary, enrolment.authority.trust_pem(), directory, esp="kernel")
    yield clients
    clients.stop()


@pytest.fixture(scope="session")
def iperf3_server(lab: Lab, site: Site) -> Namespace:
    """The host inside, with a server of iperf3 on it."""
    server = site.inside.start(
        *("iperf3", "-s", "--forceflush", "-p", str(IPERF_PORT)), log_file=lab.directory / "iperf3.log"
    )
    wait_for(lambda: "listening" in server.log(), 5.0, "iperf3's server")
    return site.inside


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the gateway and the clients wrote where a test fails."""
    report = yield
    if report.failed:
        show_logs(item, report)
    return report
