from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aaa.accounting import gateway_started
from aaa.interface import GatewayHello
from aaa.radius_service.daemon import refuse_names_of_gateways
from core.errors import OstiaryError
from core.settings import RadiusClientSettings
from tests.unit.aaa.installation import open_runtime


@pytest.mark.parametrize(("name", "is_taken"), [("Gateway-7", True), ("wifi", False)])
def test_a_client_is_not_called_as_a_gateway(tmp_path: Path, name: str, is_taken: bool) -> None:
    client = RadiusClientSettings.model_validate(
        {"name": name, "addresses": ["10.0.0.7/32"], "secret_file": tmp_path / "secret"}
    )
    with open_runtime(tmp_path / "state") as runtime:
        with runtime.database.transaction() as session:
            gateway_started(session, GatewayHello("gateway-7", "127.0.0.1", 3799, "userspace"))
        radius = runtime.settings.radius.model_copy(update={"clients": (client,)})
        other = replace(runtime, settings=runtime.settings.model_copy(update={"radius": radius}))
        if not is_taken:
            refuse_names_of_gateways(other)
            return
        with pytest.raises(OstiaryError, match="a RADIUS client is named 'Gateway-7', as a gateway is"):
            refuse_names_of_gateways(other)
