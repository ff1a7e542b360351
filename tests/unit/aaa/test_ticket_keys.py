"""Keys for tickets: shared by whoever has the database, made in time, gone when they are of no use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from aaa.backend import ticket_keys as module
from aaa.backend.ticket_keys import EPOCH_S, ticket_keys
from core.runtime import Runtime
from core.secrets import StoredSecret, get_or_create_secret

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
THIS = int(NOW.timestamp() // EPOCH_S)


def stored(runtime: Runtime) -> set[str]:
    """The names of all secrets."""
    with runtime.database.reading() as session:
        return set(session.scalars(select(StoredSecret.name)))


def test_the_first_time_there_is_no_last_epoch(runtime: Runtime) -> None:
    keys = ticket_keys(runtime.database, runtime.box, NOW)
    assert set(keys) == {THIS, THIS + 1}
    assert {len(key) for key in keys.values()} == {32}
    assert len(set(keys.values())) == 2


def test_everybody_gets_the_same(runtime: Runtime) -> None:
    assert ticket_keys(runtime.database, runtime.box, NOW) == ticket_keys(
        runtime.database, runtime.box, NOW + timedelta(minutes=1)
    )


def test_they_go_on(runtime: Runtime) -> None:
    first = ticket_keys(runtime.database, runtime.box, NOW)
    later = ticket_keys(runtime.database, runtime.box, NOW + timedelta(seconds=EPOCH_S))
    assert set(later) == {THIS, THIS + 1, THIS + 2}
    assert {epoch: later[epoch] for epoch in first} == first


def test_old_ones_go_and_other_secrets_stay(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        get_or_create_secret(session, runtime.box, "gateway:gateway-1")
    ticket_keys(runtime.database, runtime.box, NOW)
    ticket_keys(runtime.database, runtime.box, NOW + timedelta(seconds=2 * EPOCH_S))
    names = stored(runtime)
    assert "gateway:gateway-1" in names
    assert {name for name in names if name.startswith("ticket-key:")} == {
        f"ticket-key:{THIS + number}" for number in (1, 2, 3)
    }


def test_one_that_another_gateway_makes_at_the_same_moment(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, calls = module._in_transaction, []

    def collide(*args: object) -> dict[int, bytes]:
        calls.append(args)
        if len(calls) == 1:
            raise IntegrityError("insert", {}, Exception("unique"))
        return usual(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_in_transaction", collide)
    assert set(ticket_keys(runtime.database, runtime.box, NOW)) == {THIS, THIS + 1}
    monkeypatch.setattr(module, "_ATTEMPTS", 1)
    calls.clear()
    with pytest.raises(IntegrityError):
        ticket_keys(runtime.database, runtime.box, NOW)
