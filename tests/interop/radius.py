"""`ostiary radius` inside the company network, and the gateway's namespace as the place of its clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.namespaces import Namespace
from tests.lab.ostiary import Ostiary, Part, TomlValue
from tests.lab.topology import GATEWAY_INSIDE_IPV4, GATEWAY_INSIDE_IPV6, INSIDE_IPV4

SECRET = "a secret of the lab 7vQ2x"
NAS = "office"
SERVER = f"{INSIDE_IPV4}:1812"
ACCOUNTING = f"{INSIDE_IPV4}:1813"


@contextmanager
def radius_server(
    where: Namespace,
    directory: Path,
    *,
    addresses: Sequence[str] = (GATEWAY_INSIDE_IPV4, GATEWAY_INSIDE_IPV6),
    settings: Mapping[str, Mapping[str, TomlValue]] | None = None,
    parts: Sequence[Part] = ("radius",),
) -> Iterator[Ostiary]:
    """Run one with one client; or other parts, of which it is one."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "radius.secret"
    file.touch(mode=0o600)
    file.write_text(SECRET + "\n", encoding="ascii")
    client = {"name": NAS, "addresses": list(addresses), "secret_file": str(file)}
    sections = {"radius": {"clients": [client]}, **(settings or {})}
    with Ostiary(where, directory / "ostiary", settings=sections, parts=parts) as ostiary:
        yield ostiary
