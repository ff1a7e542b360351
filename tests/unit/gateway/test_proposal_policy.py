"""The setting that names a proposal policy, and what is said of it."""

from __future__ import annotations

from typing import get_args

import pytest

from core.settings import GatewaySettings
from gateway.checks import proposal_policy
from gateway.ike.config import ResponderConfig
from gateway.ike.policy import COMPATIBLE, MODERN, POLICIES


def test_every_policy_can_be_named() -> None:
    field = GatewaySettings.model_fields["proposal_policy"]
    assert get_args(field.annotation) == tuple(POLICIES)
    assert POLICIES[field.default] is ResponderConfig.__dataclass_fields__["policy"].default is MODERN


@pytest.mark.parametrize("name", ["modern", "cnsa2"])
def test_nothing_to_warn_of(name: str) -> None:
    found = proposal_policy(GatewaySettings.model_validate({"proposal_policy": name}))
    assert (found.ok, found.message) == (True, name)


def test_each_weakness_is_named() -> None:
    found = proposal_policy(GatewaySettings(proposal_policy="compatible"))
    assert found.ok is None
    assert found.fix
    for weakness in COMPATIBLE.weaknesses:
        assert weakness in found.message
