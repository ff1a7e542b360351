"""The settings of keys that are shared beforehand: with gateways of other sites, and against quantum computers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from pydantic import Field, field_validator

from core.settings.section import Section
from core.settings.values import MOST_NETWORKS, Network

MOST_SITE_PEERS, MOST_PPKS = 256, 256


class SitePeerSettings(Section):
    """The gateway of another site, which proves itself by a pre-shared key. People and devices never do."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,31}$")
    identity: str = Field(pattern=r"^[A-Za-z0-9.:@_-]{1,253}$")
    """What it calls itself: a host name, a mail address or an IP address."""
    secret_file: Path
    networks: tuple[Network, ...] = Field(min_length=1, max_length=MOST_NETWORKS)
    """Behind it; it has them instead of virtual addresses."""

    @field_validator("networks")
    @classmethod
    def _are_not_everything(cls, networks: tuple[Network, ...]) -> tuple[Network, ...]:
        for network in networks:
            if network.prefixlen == 0:
                raise ValueError(f"{network} is everything, and not a site's own")
        check_apart({str(network): [network] for network in networks})
        return networks


class PpkSettings(Section):
    """A post-quantum pre-shared key (RFC 8784)."""

    name: str = Field(pattern=r"^[\x21-\x7e]{1,64}$")
    """By which client and gateway mean the same key."""
    secret_file: Path


def check_apart(owners: dict[str, Sequence[Network]]) -> None:
    """Raise ValueError where networks of two owners have an address in common."""
    for (one, ones), (other, others) in combinations(owners.items(), 2):
        for network in ones:
            for beside in others:
                if network.version == beside.version and network.overlaps(beside):
                    raise ValueError(f"{network} of {one} and {beside} of {other} overlap")
