"""Clients of the settings: which are refused, and what `ostiary check` says of their secrets."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from aaa.radius_service.clients import load_clients
from aaa.radius_service.daemon import run
from core.errors import OstiaryError
from core.key_files import SharedKeyError
from core.runtime import Runtime
from core.settings import (
    AaaSettings,
    GatewaySettings,
    RadiusClientSettings,
    RadiusSettings,
    Settings,
    UpstreamServerSettings,
    UpstreamSettings,
)

GOOD = "kq7Yb2xW9pLmT4sV"


def client(
    folder: Path, name: str = "wifi", address: str = "10.0.0.1/32", secret: str = GOOD
) -> RadiusClientSettings:
    file = folder / f"{name}.secret"
    file.touch(mode=0o600)
    file.write_text(secret + "\n")
    return RadiusClientSettings(name=name, addresses=(ip_network(address),), secret_file=file)


class TestRefused:
    @pytest.mark.parametrize("addresses", [[], ["0.0.0.0/0"], ["::/0"]])
    def test_clients_that_are_nobody_or_everybody(self, tmp_path: Path, addresses: list[str]) -> None:
        with pytest.raises(ValidationError):
            RadiusClientSettings(name="wifi", addresses=addresses, secret_file=tmp_path)

    def test_addresses_of_two(self, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="overlap"):
            RadiusSettings(clients=(client(tmp_path, "a"), client(tmp_path, "b", "10.0.0.0/24")))

    def test_names_of_two(self, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="name of its own"):
            RadiusSettings(clients=(client(tmp_path, "a"), client(tmp_path, "A", "10.0.0.2/32")))

    def test_the_gateway_s_name(self, tmp_path: Path) -> None:
        """A rule that names it would mean both."""
        radius = RadiusSettings(clients=(client(tmp_path, "Gateway-1"),))
        with pytest.raises(ValidationError, match="as the gateway is"):
            Settings(gateway=GatewaySettings(name="gateway-1"), radius=radius)

    def test_one_port_for_both(self) -> None:
        with pytest.raises(ValidationError, match="must not be the same"):
            RadiusSettings(authentication_port=1812, accounting_port=1812)

    def test_eap_as_the_only_proof_of_the_gateway(self, tmp_path: Path) -> None:
        """What proves the company's server to the client does not prove the gateway."""
        server = UpstreamServerSettings(name="company", address=ip_address("10.0.0.9"), secret_file=tmp_path)
        radius = RadiusSettings(upstream=UpstreamSettings(servers=(server,), domains=("CORP",)))
        assert radius.upstream.domains == ("corp",)
        with pytest.raises(ValidationError, match="has others do EAP"):
            Settings(gateway=GatewaySettings(eap_only=True), aaa=AaaSettings(eap_methods=("tls",)), radius=radius)
        with pytest.raises(ValidationError, match="name of its own"):
            UpstreamSettings(servers=(server, server))


class TestSecrets:
    def test_good(self, tmp_path: Path) -> None:
        settings = RadiusSettings(clients=(client(tmp_path), client(tmp_path, "b", "fd00::/64", GOOD[::-1])))
        first, second = load_clients(settings)
        assert (first.name, first.secret.reveal()) == ("wifi", GOOD.encode())
        assert first.is_one_machine
        assert not second.is_one_machine
        assert GOOD not in repr(first)

    @pytest.mark.parametrize("secret", ["", "testing123", "a" * 40, "x" * 15, "0xzz"])
    def test_that_would_keep_nobody_out(self, tmp_path: Path, secret: str) -> None:
        with pytest.raises(SharedKeyError):
            load_clients(RadiusSettings(clients=(client(tmp_path, secret=secret),)))

    def test_that_others_can_read(self, tmp_path: Path) -> None:
        settings = RadiusSettings(clients=(client(tmp_path),))
        settings.clients[0].secret_file.chmod(0o644)
        with pytest.raises(SharedKeyError, match="others"):
            load_clients(settings)

    def test_of_two_clients(self, tmp_path: Path) -> None:
        settings = RadiusSettings(clients=(client(tmp_path), client(tmp_path, "b", "10.0.0.2/32")))
        with pytest.raises(SharedKeyError, match="same secret"):
            load_clients(settings)


def test_without_a_client_it_does_not_start(runtime: Runtime) -> None:
    with pytest.raises(OstiaryError, match="no RADIUS client"):
        run(runtime)
