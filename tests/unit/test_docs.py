"""The documentation agrees with the code where a machine can tell: links, commands, settings, codes, diagrams."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import get_args

import click
import pytest
from pydantic import BaseModel

from aaa.directory.errors import DirectoryError
from aaa.eap.errors import FailureCode
from core.cli import root
from core.settings import Settings, load_settings
from gateway.ike.errors import ChildSaNotFound, IkeError, InvalidKePayload, NoAdditionalSas, StateNotFound
from gateway.ike.states import mermaid
from pki.errors import RefusalCode

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")
_TWO_CELLS = re.compile(r"^\| ([^|]+) \| ([^|]+) \|", re.MULTILINE)
TABLES = {"pools", "site_peers", "ppks", "rules", "trusted_authorities", "directories", "clients", "servers"}
"""Settings that are lists of tables; the page has a table for each."""


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, the empty one for those without."""
    return [content for name, content in _BLOCK.findall(text) if name == language]


def anchors(page: Path) -> set[str]:
    """What a code host makes of the headings."""
    prose = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _HEADING.findall(prose)}


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every `ostiary` command line that a page prints in a block of its own."""
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8"), ""):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("ostiary ") and "   " not in line:
                    yield f"{page.name}: {line}", shlex.split(line)[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.is_file(), target
        if anchor:
            assert anchor in anchors(file), target


def test_the_state_diagram_is_the_generated_one() -> None:
    page = (ROOT / "docs" / "protocol-core.md").read_text(encoding="utf-8")
    assert [block.strip() for block in blocks(page, "mermaid")] == [mermaid()]


def test_the_import_table_says_what_the_import_rules_say() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layered, gateway, *_ = project["tool"]["importlinter"]["contracts"]
    layers = [{name.strip() for name in layer.split("|")} for layer in layered["layers"]]
    expected = {
        name: set[str]().union(*layers[number + 1 :]) for number, layer in enumerate(layers) for name in layer
    }
    let_through = {ignored.rpartition("-> ")[2].partition(".")[0] for ignored in gateway["ignore_imports"]}
    expected["gateway"] -= set(gateway["forbidden_modules"]) - let_through
    rows = re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert {name: set(_CODE.findall(cell)) for name, cell in rows if name in expected} == expected


def test_printed_commands_exist() -> None:
    found = list(commands())
    assert len(found) > 20
    for where, words in found:
        command: click.Command = root
        rest = list(words)
        context = click.Context(command)
        while isinstance(command, click.Group):
            inner = command.get_command(context, rest.pop(0))
            assert inner is not None, where
            command = inner
        command.make_context(where, rest).close()


def test_printed_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for page in PAGES:
        assert set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.M)) <= targets, page.name


def test_printed_settings_are_accepted(tmp_path: Path) -> None:
    found = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"), "toml")]
    assert len(found) > 1
    for number, block in enumerate(found):
        file = tmp_path / f"{number}.toml"
        file.write_text(block, encoding="utf-8")
        load_settings(file)


def settings_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, object]]:
    """Section, key and default of each setting that is no section of its own, nor a list of tables."""
    for key, info in section.model_fields.items():
        default = info.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from settings_of(type(default), f"{prefix}.{key}".lstrip("."))
        elif not TABLES & {key}:
            yield prefix, key, default


def shown(default: object) -> list[str]:
    """How a default stands in the table, between backticks; nothing where the table says it in words."""
    match default:
        case bool():
            return [str(default).lower()]
        case int() | float():
            return [f"{default:g}" if default < 1e6 else f"{default:.0f}"]
        case str() | IPv4Address():
            return [str(default)]
        case _:
            return []


def test_every_setting_is_explained_with_its_default() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    found = list(settings_of(Settings))
    assert len(found) > 60
    for section, key, default in found:
        part = page.partition(f"### `[{section}]`\n")[2].partition("\n### ")[0] if section else page
        (keys, defaults) = next(
            (tuple(map(_CODE.findall, cells)) for cells in _TWO_CELLS.findall(part) if f"`{key}`" in cells[0]),
            ([], []),
        )
        assert key in keys, f"{section}.{key}"
        if shown(default):
            assert len(keys) == len(defaults) or len(keys) == 1, f"{section}.{key}"
            assert defaults[keys.index(key)] == shown(default)[0], f"{section}.{key}"


def subclasses(error: type[IkeError]) -> Iterator[type[IkeError]]:
    """All of them, at whatever depth."""
    for subclass in error.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


NO_REFUSALS = (InvalidKePayload, ChildSaNotFound, NoAdditionalSas, StateNotFound)
"""The answer to a wrong group is an invitation to try again; the others go to peers that are signed in already."""


def refusal_codes() -> set[str]:
    """Every code that `sign-in.refuse` or `session.refuse` can carry."""
    codes = {code.value for code in FailureCode} | set(get_args(RefusalCode))
    for error in subclasses(IkeError):
        if error.notify is not None and error not in NO_REFUSALS:
            codes.add(error.code or error.notify.name.lower().replace("_", "-"))
    directory_errors: list[type[DirectoryError]] = [DirectoryError, *DirectoryError.__subclasses__()]
    codes |= {error.code for error in directory_errors}
    patterns = {"aaa": r'(?:Refusal|_deny)\(\s*"([a-z-]+)"', "gateway": r'report_failure\(\s*"([a-z-]+)"'}
    for folder, pattern in patterns.items():
        for file in (ROOT / folder).rglob("*.py"):
            codes.update(re.findall(pattern, file.read_text(encoding="utf-8")))
    return codes | {"temporary-failure"}  # of a child SA that the data plane refuses


def test_every_refusal_is_explained() -> None:
    section = OPERATIONS.partition("\n## When a sign-in is refused")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*)\|", section, re.M)
    assert {code for cell in cells for code in _CODE.findall(cell)} == refusal_codes()
