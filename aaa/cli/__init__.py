"""The commands of AAA: `ostiary user`, `ostiary device`, `ostiary policy`, `ostiary session`, `ostiary gateways`."""

from aaa.cli.devices import device
from aaa.cli.gateways import gateways
from aaa.cli.policy import policy
from aaa.cli.sessions import session
from aaa.cli.users import user

__all__ = ["device", "gateways", "policy", "session", "user"]
