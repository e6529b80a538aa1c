"""`loyalty-webhooks migrate`: bring the database to the schema of this code."""

from typing import Annotated

import typer

from commands.database import in_database
from storage.migrate import current, head, is_behind, sql_between
from storage.migrate import migrate as bring_to_head


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("migrate")(migrate)


def migrate(
    sql: Annotated[bool, typer.Option("--sql", help="Print what would be done, and do nothing.")] = False,
) -> None:
    """Bring the database of DATABASE_URL to the schema of this code. Safe to run again, and by several at once.

    API and workers may run meanwhile, those of the version before included: run it before they are replaced.
    """
    if sql:
        before = in_database(current)
        typer.echo(sql_between(before, head()) if is_behind(before) else "-- nothing to do")
        return
    before, after = in_database(bring_to_head)
    if before == after:
        typer.echo(f"The database is at revision {after} already.")
    else:
        typer.echo(f"The database went from {'empty' if before is None else f'revision {before}'} to revision {after}.")
