"""Policies: the messages, and who has which."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest

from gateway.dataplane.xfrm.hashing import BY_REMOTE_ADDRESS, HashThresholds
from gateway.dataplane.xfrm.netlink import MalformedNetlink, attribute, parse_attributes
from gateway.dataplane.xfrm.policies import (
    Claim,
    PolicyKey,
    PolicyTable,
    Template,
    delete_policy,
    last_resort_policy,
    new_policy,
    parse_policy,
)
from gateway.dataplane.xfrm.selectors import Selector
from gateway.dataplane.xfrm.structures import POLICY_BYTES, Action, Attribute, Command, Direction
from tests.unit.gateway.dataplane.xfrm.kernel_messages import MESSAGES

OUT = Selector(4, 0x0A000000, 8, 0x0A630002, 32)
IN = Selector(4, 0x0A630002, 32, 0x0A000000, 8)
OTHER = Selector(4, 0x0B000000, 8, 0x0A630002, 32)
THERE = Template(7, ip_address("192.0.2.1"), ip_address("2001:db8::2"), 0xC11E0001)


# --- Messages -----------------------------------------------------------------------------------------------


def test_a_policy_is_laid_out_as_the_header_says() -> None:
    body = new_policy((Direction.OUT, OUT), THERE, if_id=0x6F000000)
    assert body[:56] == OUT.to_bytes()
    assert struct.unpack_from("=8Q", body, 56) == (*[(1 << 64) - 1] * 4, 0, 0, 0, 0)
    assert body[120:152] == bytes(32)
    assert struct.unpack_from("=IIBBBB", body, 152) == (0x4000 - 40, 0, 1, 0, 0, 0)
    attributes = parse_attributes(body[168:])
    template = attributes[Attribute.TMPL]
    assert len(template) == 64
    assert template[:16] == ip_address("2001:db8::2").packed
    assert template[16:20] == bytes.fromhex("c11e0001")
    assert template[20] == 50
    assert struct.unpack_from("=H", template, 24) == (10,)
    assert template[28:44] == ip_address("192.0.2.1").packed + bytes(12)
    assert struct.unpack_from("=IBBB", template, 44) == (7, 1, 0, 0)
    assert template[52:] == b"\xff" * 12
    assert attributes[Attribute.IF_ID] == struct.pack("=I", 0x6F000000)


def test_inward_only_the_reqid_is_demanded() -> None:
    body = new_policy((Direction.FWD, IN), Template(7), if_id=0)
    attributes = parse_attributes(body[168:])
    template = attributes[Attribute.TMPL]
    assert template[:20] == template[28:44] + bytes(4) == bytes(20)
    assert struct.unpack_from("=H", template, 24) == (2,)
    assert attributes.keys() == {Attribute.TMPL}


def test_deleting_names_the_selector_and_the_interface() -> None:
    body = delete_policy((Direction.FWD, IN), if_id=3)
    assert body == IN.to_bytes() + struct.pack("=IB3x", 0, 2) + attribute(Attribute.IF_ID, struct.pack("=I", 3))


def test_a_kernels_policies_are_read() -> None:
    found = [parse_policy(body) for kind, body in MESSAGES if kind == "policy"]
    ours = [policy for policy in found if policy.reqids]
    assert [(policy.direction, policy.reqids, policy.if_id) for policy in ours] == [
        (direction, (0x6F000001,), 0x6F000000) for direction in (2, 1, 0)
    ]
    guards = [policy for policy in found if policy.is_last_resort(111)]
    assert [(policy.direction, policy.action) for policy in guards] == [(2, 1), (0, 1), (0, 0), (0, 0)]
    assert not [policy for policy in found if policy.is_last_resort(112)]
    # What is neither belongs to a socket.
    assert [policy.direction for policy in found if policy not in ours and policy not in guards] == [4]


def test_a_policy_that_was_found_is_deleted_by_its_index() -> None:
    policy = parse_policy(next(body for kind, body in MESSAGES if kind == "policy"))
    assert policy.delete() == (
        policy.selector
        + struct.pack("=IB3x", policy.index, policy.direction)
        + attribute(Attribute.IF_ID, struct.pack("=I", 0x6F000000))
    )


@pytest.mark.parametrize("action", Action)
def test_what_was_made_is_known_again(action: Action) -> None:
    made = parse_policy(new_policy((Direction.OUT, OUT), THERE, if_id=5))
    assert (made.direction, made.reqids, made.if_id, made.action) == (1, (7,), 5, 0)
    assert not made.is_last_resort(111)
    guard = parse_policy(last_resort_policy((Direction.IN, IN), action, 111))
    assert guard.is_last_resort(111)
    assert not guard.is_last_resort(110)
    assert not replace(guard, reqids=(1,)).is_last_resort(111)
    assert guard.priority > made.priority


def test_a_last_resort_that_allows_comes_before_one_that_blocks() -> None:
    allow, block = (parse_policy(last_resort_policy((Direction.IN, IN), action, 111)) for action in Action)
    assert allow.priority < block.priority


def test_odd_templates_are_refused() -> None:
    with pytest.raises(MalformedNetlink, match="templates"):
        parse_policy(bytes(POLICY_BYTES) + attribute(Attribute.TMPL, bytes(63)))


def test_hash_thresholds_survive_a_round_trip() -> None:
    body = BY_REMOTE_ADDRESS.to_bytes()
    assert parse_attributes(body[4:]) == {3: b"\x00\x20", 4: b"\x00\x80"}
    assert HashThresholds.parse(body) == BY_REMOTE_ADDRESS
    # The kernel sends counts along.
    assert HashThresholds.parse(body[:4] + attribute(1, bytes(24)) + body[4:]) == BY_REMOTE_ADDRESS
    for size in range(len(body) - 2):
        with pytest.raises(MalformedNetlink):
            HashThresholds.parse(body[:size])


# --- The table ----------------------------------------------------------------------------------------------


def claim(reqid: int = 7, *keys: PolicyKey, outward: Template | None = THERE) -> Claim:
    return Claim(reqid, frozenset(keys or ((Direction.OUT, OUT), (Direction.IN, IN))), outward)


def told(table: PolicyTable, lineage: int, wanted: Claim | None) -> list[tuple[Command, PolicyKey]]:
    changes = table.set(lineage, wanted)
    return [(change.command, change.key) for change in changes]


def test_a_claim_makes_and_unmakes_its_policies() -> None:
    table = PolicyTable(0)
    assert told(table, 1, claim()) == [
        (Command.NEWPOLICY, (Direction.IN, IN)),
        (Command.NEWPOLICY, (Direction.OUT, OUT)),
    ]
    assert told(table, 1, claim()) == []
    assert len(table) == 2
    assert told(table, 1, None) == [
        (Command.DELPOLICY, (Direction.IN, IN)),
        (Command.DELPOLICY, (Direction.OUT, OUT)),
    ]
    assert len(table) == 0
    assert table.claim(1) is None
    assert told(table, 1, None) == []


def test_another_way_out_changes_only_the_outward_policy() -> None:
    table = PolicyTable(0)
    told(table, 1, claim())
    elsewhere = replace(THERE, remote=ip_address("198.51.100.3"))
    changes = table.set(1, claim(outward=elsewhere))
    assert [(change.command, change.body) for change in changes] == [
        (Command.UPDPOLICY, new_policy((Direction.OUT, OUT), elsewhere, if_id=0))
    ]


def test_without_a_way_out_there_is_no_outward_policy() -> None:
    table = PolicyTable(0)
    assert told(table, 1, claim(outward=None)) == [(Command.NEWPOLICY, (Direction.IN, IN))]
    assert told(table, 1, claim()) == [(Command.NEWPOLICY, (Direction.OUT, OUT))]
    assert told(table, 1, claim(outward=None)) == [(Command.DELPOLICY, (Direction.OUT, OUT))]


def test_what_is_new_comes_before_what_goes() -> None:
    table = PolicyTable(0)
    told(table, 1, claim(7, (Direction.OUT, OUT)))
    assert told(table, 1, claim(7, (Direction.OUT, OTHER))) == [
        (Command.NEWPOLICY, (Direction.OUT, OTHER)),
        (Command.DELPOLICY, (Direction.OUT, OUT)),
    ]


def test_of_two_claimants_the_newer_has_it_until_it_goes() -> None:
    table = PolicyTable(0)
    told(table, 1, claim(7))
    second = replace(THERE, reqid=8)
    assert {command for command, _ in told(table, 2, claim(8, outward=second))} == {Command.UPDPOLICY}
    # The older one moves meanwhile, of which the kernel need not know.
    moved = replace(THERE, remote=ip_address("198.51.100.3"))
    assert told(table, 1, claim(7, outward=moved)) == []
    changes = table.set(2, None)
    assert [(change.command, change.body) for change in changes] == [
        (Command.UPDPOLICY, new_policy((Direction.IN, IN), Template(7), if_id=0)),
        (Command.UPDPOLICY, new_policy((Direction.OUT, OUT), moved, if_id=0)),
    ]


def test_the_older_claimant_goes_unnoticed() -> None:
    table = PolicyTable(0)
    told(table, 1, claim(7))
    told(table, 2, claim(8, outward=replace(THERE, reqid=8)))
    assert told(table, 1, None) == []
    assert len(told(table, 2, None)) == 2
