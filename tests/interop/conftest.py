"""One network and one gateway for each module; the logs of both ends are shown where a test fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping

import pytest

from tests.interop.clients import Clients, show_logs
from tests.lab.enrolment import Enrolment, Laptop
from tests.lab.namespaces import Lab
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.topology import Site, build_site


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Namespaces and scratch directory of the module."""
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def site(lab: Lab) -> Site:
    """The network of the module."""
    return build_site(lab)


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """Settings over the lab's own; a module that needs others defines this fixture anew."""
    return {}


@pytest.fixture(scope="module")
def ostiary(lab: Lab, site: Site, gateway_settings: Mapping[str, Mapping[str, TomlValue]]) -> Iterator[Ostiary]:
    """The module's gateway; at its end it must stop by itself and leave nothing behind."""
    with Ostiary(site.gateway, lab.directory / "ostiary", settings=gateway_settings) as ostiary:
        yield ostiary


@pytest.fixture(scope="module")
def enrolment(ostiary: Ostiary) -> Enrolment:
    """Enrols users and laptops."""
    return Enrolment(ostiary.runtime)


@pytest.fixture(scope="module")
def laptop(enrolment: Enrolment) -> Laptop:
    """A laptop that several tests may use, one after the other."""
    return enrolment.laptop("alice", "alice-laptop")


@pytest.fixture
def clients(ostiary: Ostiary, enrolment: Enrolment, lab: Lab, request: pytest.FixtureRequest) -> Iterator[Clients]:
    """Starts the clients of one test."""
    directory = lab.directory / f"{abs(hash(request.node.nodeid)):x}"
    clients = Clients(ostiary, enrolment.authority.trust_pem(), directory)
    yield clients
    clients.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the gateway and the clients wrote where a test fails."""
    report = yield
    if report.failed:
        show_logs(item, report)
    return report
