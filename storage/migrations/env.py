"""Alembic's entry point: run the migrations on the connection of `storage.migrate`, or render them as SQL."""

from alembic import context
from sqlmodel import SQLModel

import storage.access.tables
import storage.deliveries.tables
import storage.events.tables
import storage.expiry.tables
import storage.operations.tables
import storage.subscriptions.tables  # noqa: F401  the imports fill SQLModel.metadata

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
else:
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=SQLModel.metadata,
        compare_server_default=True,
        transaction_per_migration=True,
    )
with context.begin_transaction():
    context.run_migrations()
