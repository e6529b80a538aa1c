"""`loyalty-webhooks migrate`: bring the database to the schema of this version."""

import asyncio

import typer
from sqlalchemy.exc import DBAPIError

from commands.complaints import complain
from settings import Settings
from storage.database import Database
from storage.migrate import migrate as migrate_database
from storage.unavailable import is_unavailable

EXIT_NO_DATABASE = 1


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("migrate")(migrate)


def migrate() -> None:
    """Bring the database of DATABASE_URL to the schema of this version; run again, it does nothing."""
    try:
        before, after = asyncio.run(_migrate(Settings().sqlalchemy_url))
    except (DBAPIError, OSError) as error:
        if not is_unavailable(error):
            raise
        complain("The database of DATABASE_URL cannot be reached, or cannot write at the moment.")
        raise typer.Exit(EXIT_NO_DATABASE) from None
    was = "as it was" if before == after else f"it was at {before or 'nothing'}"
    typer.echo(f"The schema is at {after}; {was}.")


async def _migrate(sqlalchemy_url: str) -> tuple[str | None, str]:
    database = Database(sqlalchemy_url, pool_size=2, name="loyalty-webhooks migrate")
    try:
        return await migrate_database(database)
    finally:
        await database.close()
