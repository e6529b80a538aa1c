"""`loyalty-webhooks migrate`: bring the database to the schema of this code."""

import typer

from commands.database import in_database
from storage.migrate import migrate as bring_to_head


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("migrate")(migrate)


def migrate() -> None:
    """Bring the database of DATABASE_URL to the schema of this code. Safe to run again, and by several at once."""
    before, after = in_database(bring_to_head)
    if before == after:
        typer.echo(f"The database is at revision {after} already.")
    else:
        typer.echo(f"The database went from {'empty' if before is None else f'revision {before}'} to revision {after}.")
