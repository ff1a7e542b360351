"""The settings of certificate authorities that are trusted beside our own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from core.settings.section import Section
from core.settings.values import HostName, HostOrNetwork, HttpUrl, Port

MOST_TRUSTED_AUTHORITIES = 16
"""CERTREQ names the keys of all of them in IKE_SA_INIT, which can't be fragmented."""


class TrustedAuthoritySettings(Section):
    """A certificate authority that is not ours, whose clients may sign in."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,32}$")
    file: Path
    """PEM: its root or roots, and what CAs below them clients may not send."""
    user_from: Literal["upn", "mail", "dns", "cn"] | None = None
    """The name in its certificates that is the user's; None where they name devices only."""
    device_from: Literal["uri", "dns", "cn"] | None = None
    """The name in its certificates that is the device's; `uri` is `urn:uuid:` and the id in our inventory."""
    domains: tuple[HostName, ...] = Field((), max_length=32)
    """Domains that are ours: there `alice@corp.example` is also `alice`."""
    revocation: Literal["required", "best-effort", "off"] = "required"
    ocsp_urls: tuple[HttpUrl, ...] = Field((), max_length=8)
    """Asked instead of the responders that the certificates name."""
    crl_urls: tuple[HttpUrl, ...] = Field((), max_length=8)
    """Fetched instead of the lists that the certificates name; one for each CA of a path."""
    allowed_hosts: tuple[HostOrNetwork, ...] = Field((), max_length=64)
    """Where answers may come from beside public addresses."""
    allowed_ports: tuple[Port, ...] = Field((80, 443), min_length=1, max_length=16)

    @model_validator(mode="after")
    def _names_its_holders(self) -> TrustedAuthoritySettings:
        if self.user_from is None and self.device_from is None:
            raise ValueError("say which name tells whose a certificate is: user_from, device_from or both")
        if self.user_from == self.device_from:
            raise ValueError("user_from and device_from must not be the same name")
        return self


class RevocationSettings(Section):
    """How trusted authorities are asked whether a certificate was revoked."""

    timeout_s: float = Field(default=3.0, gt=0, le=20)
    """A sign-in waits no longer than this."""
    cache_lifetime_s: float = Field(default=3600.0, ge=0)
    """After this time an answer is asked for anew; where none is to be had, the old one counts until its own end."""
    crl_limit_bytes: int = Field(default=10 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024)
