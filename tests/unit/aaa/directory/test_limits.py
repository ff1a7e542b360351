"""What a server leaves out because of a limit of its own."""

from __future__ import annotations

from typing import Any

import pytest

from aaa.directory.client import Client
from aaa.directory.errors import PartialAnswer
from tests.unit.aaa.directory.people import directory

SIZE_LIMIT_EXCEEDED = 4


class Limited(Client):
    """A server that has found more than it gives."""

    def __init__(self, gives: int) -> None:
        self.url = "ldaps://ldap.corp.example"
        self._settings = directory()
        self._gives = gives

    def _search(self, *_: object, **__: object) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        found = [{"type": "searchResEntry", "dn": f"cn={n}", "raw_attributes": {}} for n in range(self._gives)]
        return {"result": SIZE_LIMIT_EXCEEDED, "description": "sizeLimitExceeded", "message": ""}, found


def test_as_many_as_we_asked_for_are_enough() -> None:
    assert len(Limited(11).search("dc=corp", "(cn=*)", ["cn"], most=11)) == 11


@pytest.mark.parametrize("gives", [0, 10])
def test_fewer_are_no_answer(gives: int) -> None:
    """The group that was left out may be the one that a rule denies."""
    with pytest.raises(PartialAnswer):
        Limited(gives).search("dc=corp", "(cn=*)", ["cn"], most=11)
