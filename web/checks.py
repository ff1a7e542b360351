"""The portal's part of `ostiary check`: its port. Its certificate is looked at by `pki.checks`."""

from __future__ import annotations

from core.checks import Check
from core.settings import Settings
from web.server import PortalError, listen


def checks(settings: Settings) -> list[Check]:
    """What the portal needs of this machine."""
    name = f"web: TCP {settings.web.host} port {settings.web.port}"
    try:
        listen(settings.web).close()
    except PortalError as error:
        if error.in_use:
            return [Check(name, None, "in use; as it should be while the portal runs", error.fix or "")]
        return [Check(name, False, error.message, error.fix or "")]
    return [Check(name, True, "free")]
