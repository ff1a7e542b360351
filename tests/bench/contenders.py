"""The two gateways that are compared, with the same certificate, user and suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509

from pki.authority import CertificateAuthority
from pki.system import gateway_names, system_certificate
from tests.lab.certificates import Identity
from tests.lab.enrolment import Enrolment
from tests.lab.namespaces import Namespace
from tests.lab.ostiary import Ostiary
from tests.lab.processes import Process
from tests.lab.strongswan import StrongSwanGateway
from tests.lab.strongswan_config import ClientConfig, EspPlace, GatewayConfig
from tests.lab.topology import GATEWAY_IPV4, INSIDE_NETWORKS

USER = "bench"
POOL_IPV4 = "10.96.0.0/14"
POOL_IPV6 = "fd96::/108"


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway that answers."""

    process: Process
    """The root of its processes, for their CPU time."""
    client: ClientConfig
    """What a client is told to reach it."""


class Contender(Protocol):
    """A gateway to be measured."""

    name: str

    def running(self, namespace: Namespace, directory: Path) -> AbstractContextManager[RunningGateway]:
        """Start it in the namespace, freshly; stopped when the block ends."""


def in_turn(contenders: Sequence[Contender], round_number: int) -> Sequence[Contender]:
    """The contenders in the order of this round: who was first comes last in the next."""
    return contenders if round_number % 2 == 0 else contenders[::-1]


class OstiaryContender:
    """The product, as it is shipped but for a pool that is large enough and a limit on half-open SAs that lets one
    load generator play many clients."""

    name = "ostiary"

    def __init__(self, namespace: Namespace, directory: Path, esp: EspPlace = "userspace") -> None:
        """Enrol the user and issue the certificate with which both contenders answer.

        Args:
            namespace: where it will run.
            directory: for its state.
            esp: who does ESP, for both contenders and their client.
        """
        self.esp = esp
        self._ostiary = Ostiary(
            namespace,
            directory,
            settings={
                "log": {"level": "info", "format": "console"},
                "gateway": {
                    "data_plane": esp,
                    "pools": [{"name": "staff", "ipv4": POOL_IPV4, "ipv6": POOL_IPV6}],
                    "half_open_limit_per_address": 10_000,
                    "sessions_per_device": 100_000,
                    "cookie_threshold": 10_000,
                },
                "aaa": {"interim_interval_s": 60.0},
            },
        )
        laptop = Enrolment(self._ostiary.runtime).laptop(USER, "bench-laptop")
        self.access_code = laptop.access_code
        authority = CertificateAuthority.open(self._ostiary.runtime)
        self.trust_pem = authority.trust_pem()
        names = gateway_names(self._ostiary.settings)
        issued = system_certificate(self._ostiary.runtime, authority, "gateway", names)
        end_entity, *intermediates = (x509.load_der_x509_certificate(der) for der in issued.chain_der)
        self.credential = Identity(end_entity, issued.private_key, tuple(intermediates))
        self.identity = self._ostiary.settings.gateway.identity

    @property
    def client(self) -> ClientConfig:
        """The client of both contenders."""
        return ClientConfig(
            remote_address=GATEWAY_IPV4,
            remote_identity=self.identity,
            trust_pem=self.trust_pem,
            method="eap-mschapv2",
            identity=USER,
            password=self.access_code,
            esp=self.esp,
        )

    @contextmanager
    def running(self, namespace: Namespace, directory: Path) -> Iterator[RunningGateway]:
        """Start it; the state directory is that of the enrolment."""
        del namespace, directory
        self._ostiary.start()
        try:
            yield RunningGateway(self._ostiary.process(), self.client)
        finally:
            self._ostiary.stop()

    def close(self) -> None:
        """Close the database."""
        self._ostiary.runtime.close()


class StrongSwanContender:
    """Debian's strongSwan, with ESP where the other one has it."""

    name = "strongswan"

    def __init__(self, like: OstiaryContender) -> None:
        self._like = like

    @contextmanager
    def running(self, namespace: Namespace, directory: Path) -> Iterator[RunningGateway]:
        """Start it with the other contender's certificate and user."""
        config = GatewayConfig(
            identity=self._like.identity,
            credential=self._like.credential,
            users={USER: self._like.access_code},
            pool_ipv4=POOL_IPV4,
            pool_ipv6=POOL_IPV6,
            local_selectors=",".join(INSIDE_NETWORKS),
            esp=self._like.esp,
        )
        with StrongSwanGateway(namespace, config, directory) as gateway:
            yield RunningGateway(gateway.process, self._like.client)
