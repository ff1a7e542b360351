"""Known attacks on RADIUS, and where each is tried, on the server and on the client.

Names without a path are of this directory, others of `tests`.

- CVE-2024-3596 (BlastRADIUS), a request that nothing vouches for, so that its answer can be turned into another:
  test_wire::TestAuthentic::test_message_authenticator_is_demanded,
  test_server::TestWhoIsAnswered::test_a_request_without_message_authenticator,
  interop/test_radius::TestClients::test_no_message_authenticator
- CVE-2024-3596, an answer without Message-Authenticator, or not in front: test_sign_in::TestMethods,
  test_server::TestWhoIsAnswered::test_status_server, test_sign_in::test_proxies_find_their_way_back
- CVE-2026-35333, an attribute of length 0 or 1:
  test_wire::TestLengths::test_attribute_of_length_below_two_or_past_the_end
- attributes by the thousand: test_wire::TestCounts
- Message-Authenticator missing: test_wire::TestAuthentic::test_message_authenticator_is_demanded
- Message-Authenticator twice: test_wire::TestCounts::test_two_message_authenticators
- Message-Authenticator wrong: test_wire::TestAuthentic::test_every_changed_byte_is_noticed,
  test_wire::TestAuthentic::test_another_secret,
  test_wire::TestAuthentic::test_accounting_with_a_wrong_message_authenticator
- a request from another address: test_server::TestWhoIsAnswered::test_nobody_else,
  test_server::TestWhoIsAnswered::test_each_client_with_its_own_secret, test_parts::TestClients
- a request from another port, or with an identifier that was used: test_server::TestRepetitions
- a request that is played again: test_server::TestRepetitions, test_server::TestState
- a State that was guessed, is old or another's: test_server::TestState
- Access-Reject with EAP-Success, or Access-Accept without: test_sign_in::TestMethods,
  test_sign_in::TestDecision::test_refused
- keys missing, or encrypted twice under one salt: test_sign_in::TestMethods, interop/test_radius::TestEap
- a Class that was changed, or is another client's: test_parts::TestGrant, test_accounting::TestWhoseSession
- sign-ins that are begun and never ended: test_server::TestLimits
- passwords that are tried out: test_sign_in::TestAbuse
- what a caller says of itself in a log: test_parts::test_who_calls
- to the client, an answer from another address, with another identifier or by another server:
  test_client::TestAnswers::test_from_another_server, test_client::TestAnswers::test_what_is_none
- to the client, an answer without Message-Authenticator, with two, or a wrong one (CVE-2024-3596):
  test_client::TestAnswers::test_what_is_none, test_client::TestAnswers::test_every_changed_byte_is_noticed
- to the client, Access-Reject with EAP-Success, Access-Accept without it or without keys:
  test_pass_through::TestRefused::test_by_server_or_rules, test_client::TestKeys
- to the client, a namesake from another domain: test_pass_through::TestRefused::test_by_server_or_rules
- anything else that is sent: fuzz/test_radius::test_a_campaign_breaks_nothing_and_leaves_nothing
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parents[2]
ROWS = re.findall(r"^- (.*?)(?=^- |\Z)", __doc__ or "", re.M | re.S)


def names_in(module: str) -> set[str]:
    """`function`, `Class` and `Class::function` of a test module."""
    file = TESTS / f"{module}.py" if "/" in module else HERE / f"{module}.py"
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.partition(":")[0][:60])
def test_each_threat_is_tried(row: str) -> None:
    _, _, nodes = " ".join(row.split()).partition(": ")
    assert nodes
    for node in nodes.split(", "):
        module, _, name = node.partition("::")
        assert name in names_in(module), node


def test_the_list_is_read() -> None:
    assert len(ROWS) > 15
