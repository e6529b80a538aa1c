"""`loyalty-webhooks migrate`: migrate the database to the schema of this version."""

from typing import Annotated

import typer

from commands.database.connection import in_database
from storage.migrate import migrate as bring_to_head
from storage.migrate import sql_between
from storage.revisions import current, head, is_behind


def migrate(
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL and change nothing.")] = False,
) -> None:
    """Migrate the database of DATABASE_URL to the schema of this version. Safe to repeat and to run concurrently.

    API and workers may keep running, including those of the previous version: migrate before replacing them.
    """
    if sql:
        before = in_database(current)
        typer.echo(sql_between(before, head()) if is_behind(before) else "-- nothing to do")
        return
    before, after = in_database(bring_to_head)
    if before == after:
        typer.echo(f"The database is at revision {after} already.")
    else:
        source = "an empty schema" if before is None else f"revision {before}"
        typer.echo(f"Migrated the database from {source} to revision {after}.")
