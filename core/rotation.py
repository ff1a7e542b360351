"""A new key for secrets at rest: every encrypted column of every part is encrypted again."""

from __future__ import annotations

from sqlalchemy import Column, select, update
from sqlalchemy.orm import Session

from core import audit
from core.audit import Actor
from core.runtime import Runtime
from core.secrets import encrypted_columns


def rotate_keys(runtime: Runtime, actor: Actor) -> int:
    """Put a new key first in the key file, and encrypt everything anew under it.

    Old keys stay in the file: backups of the database need them, and so does a process that was just about to
    write. A failure in the middle leaves everything readable; run it again.

    Returns:
        How many secrets were encrypted anew.

    Raises:
        SecretError: a secret can't be decrypted with the keys at hand, or the file can't be written.
    """
    # First of all: a key that does not open what is stored must show before another one is added to it.
    with runtime.database.reading() as session:
        for column in encrypted_columns():
            for token in session.scalars(select(column).where(column.is_not(None))):
                runtime.box.decrypt(token)
    runtime.box.add_key()
    with runtime.database.transaction() as session:
        count = sum(_reencrypt(runtime, session, column) for column in encrypted_columns())
        audit.record(session, actor, "secrets.rotate", "key:secrets", detail={"secrets": count})
    return count


def _reencrypt(runtime: Runtime, session: Session, column: Column[bytes]) -> int:
    table = column.table
    keys = list(table.primary_key.columns)
    rows = session.execute(select(column, *keys).where(column.is_not(None)).with_for_update()).all()
    for token, *values in rows:
        statement = update(table).values({column.name: runtime.box.rotate(token)})
        for key, value in zip(keys, values, strict=True):
            statement = statement.where(key == value)
        session.execute(statement)
    return len(rows)
