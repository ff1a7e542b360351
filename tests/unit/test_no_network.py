"""The rule that the other unit tests live under."""

from __future__ import annotations

import os
import socket

import pytest


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_network_sockets_are_refused(family: socket.AddressFamily) -> None:
    with pytest.raises(AssertionError, match="network socket"):
        socket.socket(family, socket.SOCK_DGRAM)
    with pytest.raises(AssertionError, match="network socket"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)


def test_sockets_within_the_machine_are_not() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.send(b"x")
        assert right.recv(1) == b"x"


def test_shell_of_the_developer_does_not_matter() -> None:
    assert [name for name in os.environ if name.upper().startswith("OSTIARY_")] == []
