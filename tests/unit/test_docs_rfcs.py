"""The table of RFCs names code that is there, and for each row a test that is there, with the peer that it says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "rfcs.md"
PEERS = {
    "strongSwan": ("tests/interop/",),
    "strongSwan, kernel ESP": ("tests/kernel/guest/",),
    "libreswan": ("tests/interop/",),
    "libreswan, kernel ESP": ("tests/kernel/guest/",),
    "kernel ESP": ("tests/kernel/guest/",),
    "wpa_supplicant": ("tests/interop/",),
    "eapol_test": ("tests/interop/",),
    "FreeRADIUS": ("tests/interop/",),
    "FreeRADIUS, as server": ("tests/interop/",),
    "strongSwan, eap-radius": ("tests/interop/",),
    "OpenSSL": ("tests/interop/", "tests/unit/"),
    "pyrad": ("tests/interop/",),
    "OpenLDAP": ("tests/interop/aaa/directory/",),
    "Samba": ("tests/interop/aaa/directory/",),
    "ldap3": ("tests/unit/aaa/directory/",),
    "vectors": ("tests/unit/",),
    "own initiator": ("tests/unit/",),
    "both ends ours": ("tests/unit/", "tests/interop/"),
    "replayed messages": ("tests/unit/",),
    "messages made by hand": ("tests/unit/",),
}
"""Who may stand in the column, and where tests with that peer live; the page says who they are."""
_QUOTED = re.compile(r"`([^`]+)`")


def rows() -> list[tuple[str, str, str, str, str]]:
    """RFC and section, what, code, test, peer."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 5 and not cells[0].startswith(("RFC, section", "-")):
            found.append((cells[0], cells[1], cells[2], cells[3], cells[4]))
    return found


@cache
def names_in(file: Path) -> set[str]:
    """`function`, `Class` and `Class::function` that a test module defines."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return names


def test_there_is_a_table() -> None:
    assert len(rows()) > 40


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}: {row[1]}"[:80])
def test_a_row_is_true(row: tuple[str, str, str, str, str]) -> None:
    section, _, code, tests, peer = row
    assert re.match(r"RFC \d{4}|draft-", section), section
    files = _QUOTED.findall(code)
    assert files, "no code"
    for file in files:
        assert (ROOT / file).is_file(), file
    nodes = _QUOTED.findall(tests)
    assert nodes, "no test"
    peers = [name.strip() for name in peer.split(";")]
    for node in nodes:
        assert any(node.startswith(PEERS.get(name, ())) for name in peers), f"no peer for {node}"
        path, _, name = node.partition("::")
        assert (ROOT / path).is_file(), path
        if name:
            assert name in names_in(ROOT / path), node
    for name in peers:
        assert name in PEERS, name
        assert any(node.startswith(PEERS[name]) for node in nodes), f"no test with {name}"


def test_every_peer_is_introduced() -> None:
    introduced = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", PAGE.read_text(encoding="utf-8"), re.M)
    assert {name.strip() for cell in introduced for name in cell.split(";")} - {"peer", "---"} == set(PEERS)
