"""The settings of the RADIUS server: who may ask it, and how much it takes on at a time."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from core.settings.section import Section
from core.settings.shared_keys import check_apart
from core.settings.values import Address, Network, Port, Seconds

MOST_RADIUS_CLIENTS = 1024
DomainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,253}$"), AfterValidator(str.lower)]


class RadiusClientSettings(Section):
    """A network access server: another gateway, a Wi-Fi controller, an access point, a switch."""

    name: str = Field(pattern=r"^[A-Za-z0-9.-]{1,48}$")
    """By which rules (`gateways`), sessions and the audit log name it."""
    addresses: tuple[Network, ...] = Field(min_length=1, max_length=32)
    """It asks from these, and nobody else does: single addresses, or a network of several that share the secret."""
    secret_file: Path

    @field_validator("addresses")
    @classmethod
    def _are_not_everything(cls, addresses: tuple[Network, ...]) -> tuple[Network, ...]:
        for network in addresses:
            if network.prefixlen == 0:
                raise ValueError(f"{network} is everybody")
        return addresses


class UpstreamServerSettings(Section):
    """A RADIUS server of the company."""

    name: str = Field(pattern=r"^[A-Za-z0-9.-]{1,32}$")
    address: Address
    port: Port = 1812
    secret_file: Path


class UpstreamSettings(Section):
    """RADIUS servers of the company, which then have every EAP sign-in; the access rules stay ours."""

    servers: tuple[UpstreamServerSettings, ...] = Field((), max_length=8)
    """In the order in which they are tried."""
    domains: tuple[DomainName, ...] = Field((), max_length=32)
    """Those that are ours, `corp.example` or `CORP`: in them `alice@corp.example` and `CORP\\alice` are `alice`."""
    user_name_is_proved: bool = False
    """User-Name in their Access-Accept is the name that was authenticated, never that which a client calls itself
    outside of a tunnel; without, only EAP-MSCHAPv2 lets anybody in.
    """
    timeouts_s: Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=8)] = (1.0, 1.5, 2.5)
    """Waits for an answer before each repetition and, the last one, before the next server is asked."""
    dead_time_s: Seconds = 60.0
    """How long a server that gave no answer is asked after the others."""

    @field_validator("servers")
    @classmethod
    def _names_are_unique(cls, servers: tuple[UpstreamServerSettings, ...]) -> tuple[UpstreamServerSettings, ...]:
        if len({server.name for server in servers}) != len(servers):
            raise ValueError("each RADIUS server needs a name of its own")
        return servers


class RadiusSettings(Section):
    """The AAA service for other gateways and Wi-Fi; it runs where it has a client."""

    listen: tuple[Address, ...] = Field(
        (IPv4Address("0.0.0.0"), IPv6Address("::")),  # noqa: S104
        min_length=1,
        max_length=16,
    )
    authentication_port: Port = 1812
    accounting_port: Port = 1813
    clients: tuple[RadiusClientSettings, ...] = Field((), max_length=MOST_RADIUS_CLIENTS)
    conversation_timeout_s: Seconds = 30.0
    """How long a sign-in may rest between two messages of the client."""
    conversations_limit: int = Field(default=4000, ge=1, le=100_000)
    """Sign-ins under way at a time."""
    conversations_limit_per_client: int = Field(default=1000, ge=1, le=100_000)
    """Of one network access server, so that none takes the others' share."""

    upstream: UpstreamSettings = UpstreamSettings()

    @model_validator(mode="after")
    def _clients_are_apart(self) -> RadiusSettings:
        names = [client.name for client in self.clients]
        if len({name.casefold() for name in names}) != len(names):
            raise ValueError("each RADIUS client needs a name of its own")
        owners: dict[str, Sequence[Network]] = {f"client {client.name}": client.addresses for client in self.clients}
        check_apart(owners)
        if self.authentication_port == self.accounting_port:
            raise ValueError("authentication_port and accounting_port must not be the same")
        return self
