"""The commands of AAA: `ostiary user`, `device`, `policy`, `session`, `gateways`, `directory`."""

from aaa.cli.devices import device
from aaa.cli.directory import directory
from aaa.cli.gateways import gateways
from aaa.cli.policy import policy
from aaa.cli.sessions import session
from aaa.cli.users import user

__all__ = ["device", "directory", "gateways", "policy", "session", "user"]
