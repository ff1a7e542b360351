"""The database schema, step by step (Alembic): inside the package, applied at the start of every process."""

from core.migrations.migrate import current_revision, head_revision, is_known, upgrade

__all__ = ["current_revision", "head_revision", "is_known", "upgrade"]
