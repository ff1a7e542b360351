"""EAP sign-ins by RADIUS, per CPU second of the server: `ostiary radius` and Debian's FreeRADIUS, in turn.

The client is wpa_supplicant's `eapol_test`, one after the other, on the same link; TLS 1.2 with ECDSA P-256.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from cryptography import x509

from tests.interop.radius import SECRET, radius_server
from tests.lab.certificates import LabAuthority, certificate_pem
from tests.lab.eapol import run_eapol, tls_network
from tests.lab.enrolment import Enrolment
from tests.lab.freeradius import FreeRadius
from tests.lab.namespaces import Lab
from tests.lab.processes import LabError
from tests.lab.topology import GATEWAY_INSIDE_IPV4, INSIDE_IPV4, Site

Method = Literal["EAP-MSCHAPv2", "EAP-TLS"]
_OSTIARY_PORT, _FREERADIUS_PORT = 1812, 2812
_WARM_UP = 3
_SERVER_NAME = "radius.lab.test"


@dataclass(frozen=True, slots=True)
class RadiusResult:
    """All rounds of one server with one method."""

    name: str
    method: Method
    per_cpu_s_of_rounds: tuple[float, ...]

    @property
    def per_cpu_s(self) -> float:
        """The median of the rounds."""
        return median(self.per_cpu_s_of_rounds)


@dataclass(frozen=True, slots=True)
class _Server:
    name: str
    port: int
    trust_pem: str
    cpu_s: Callable[[], float]


def measure_radius(lab: Lab, site: Site, *, rounds: int, count: int) -> list[RadiusResult]:
    """Measure both servers in turn.

    Args:
        lab: owns the scratch directory.
        site: the network.
        rounds: how often each one gets its turn.
        count: sign-ins in each turn.

    Raises:
        LabError: a sign-in failed.
    """
    directory = lab.directory / "radius-bench"
    authority = LabAuthority.root()
    with radius_server(site.inside, directory / "ostiary") as ostiary:
        enrolment = Enrolment(ostiary.runtime)
        laptop = enrolment.laptop("alice", "alice-laptop")
        credential, trust = enrolment.certificate(laptop), enrolment.authority.trust_pem()
        other = FreeRadius(
            site.inside,
            directory / "freeradius",
            address=INSIDE_IPV4,
            port=_FREERADIUS_PORT,
            client=GATEWAY_INSIDE_IPV4,
            secret=SECRET,
            credential=authority.issue(_SERVER_NAME, [x509.DNSName(_SERVER_NAME)], usage="server"),
            trust_pem=trust + certificate_pem(enrolment.authority.issuing),
            users={laptop.user_name: laptop.access_code},
        )
        with other:
            servers = (
                _Server("ostiary", _OSTIARY_PORT, trust, ostiary.process("radius").cpu_s),
                _Server("freeradius", _FREERADIUS_PORT, certificate_pem(authority.certificate), other.cpu_s),
            )
            password = {
                "eap": "MSCHAPV2",
                "identity": f'"{laptop.user_name}"',
                "password": f'"{laptop.access_code}"',
            }

            def network(server: _Server, method: Method) -> dict[str, str]:
                if method == "EAP-MSCHAPv2":
                    return password
                place = directory / server.name
                return tls_network(place, laptop.host_name, credential, server.trust_pem, tls_1_3=False)

            return [
                result
                for method in ("EAP-MSCHAPv2", "EAP-TLS")
                for result in _measure(site, directory, servers, network, method, rounds, count)
            ]


def _measure(
    site: Site,
    directory: Path,
    servers: Sequence[_Server],
    network: Callable[[_Server, Method], dict[str, str]],
    method: Method,
    rounds: int,
    count: int,
) -> list[RadiusResult]:
    figures: dict[str, list[float]] = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            _sign_in(site, directory, server, network(server, method), _WARM_UP)
            before = server.cpu_s()
            _sign_in(site, directory, server, network(server, method), count)
            # In ticks of the clock: too few sign-ins can't be told from none.
            figures[server.name].append(count / max(server.cpu_s() - before, 0.01))
    return [RadiusResult(name, method, tuple(values)) for name, values in figures.items()]


def _sign_in(site: Site, directory: Path, server: _Server, network: dict[str, str], count: int) -> None:
    for _ in range(count):
        place = directory / f"{server.name}-peer"
        result = run_eapol(place, network, INSIDE_IPV4, server.port, SECRET, namespace=site.gateway)
        if not result.ok:
            raise LabError(f"eapol_test and {server.name}:\n{result.output[-4000:]}")
