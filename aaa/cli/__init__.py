"""The commands of AAA: `ostiary user`, `ostiary device`, `ostiary session`, `ostiary gateways`."""

from aaa.cli.devices import device
from aaa.cli.gateways import gateways
from aaa.cli.sessions import session
from aaa.cli.users import user

__all__ = ["device", "gateways", "session", "user"]
