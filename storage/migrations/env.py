"""Alembic's entry point: run the migrations on the connection of `storage.migrate`, or render them as SQL."""

from alembic import context

from storage.migrate import METADATA

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
else:
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=METADATA,
        compare_server_default=True,
        transaction_per_migration=True,
    )
with context.begin_transaction():
    context.run_migrations()
