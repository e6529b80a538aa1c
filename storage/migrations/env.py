"""Alembic's entry: runs the migrations over an asyncpg connection handed over by `storage.migrate`."""

from alembic import context
from sqlmodel import SQLModel

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=SQLModel.metadata, compare_server_default=True)
with context.begin_transaction():
    context.run_migrations()
