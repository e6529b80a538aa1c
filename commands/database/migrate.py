"""`loyalty-webhooks migrate`: migrate the database to the schema of this version."""

from typing import Annotated

import typer

from commands.configuration import Installation, with_installation
from commands.database.connection import in_database
from commands.terminal import show
from storage.migrate import migrate as bring_to_head
from storage.migrate import sql_between
from storage.revisions import current, head, is_behind


@with_installation
def migrate(
    installation: Installation,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL and change nothing.")] = False,
) -> None:
    """Migrate the database to the schema of this version. Safe to repeat and to run concurrently.

    API and workers may keep running, including those of the previous version: migrate before replacing them.
    """
    if sql:
        before = in_database(installation, current)
        typer.echo(sql_between(before, head()) if is_behind(before) else "-- nothing to do")
        return
    before, after = in_database(installation, bring_to_head)
    source = "an empty schema" if before is None else f"revision {before}"
    done = f"Migrated the database from {source} to revision {after}."
    show(
        f"The database is at revision {after} already." if before == after else done, {"before": before, "after": after}
    )
