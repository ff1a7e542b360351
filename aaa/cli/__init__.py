"""The commands of AAA: `ostiary user`, `ostiary device`, `ostiary session`."""

from aaa.cli.devices import device
from aaa.cli.sessions import session
from aaa.cli.users import user

__all__ = ["device", "session", "user"]
