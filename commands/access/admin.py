"""`loyalty-webhooks admin|stores|keys …`: create and list administrators, stores and API keys."""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from commands.complaints import complain
from commands.configuration import EXIT_USAGE
from commands.database import EXIT_FAILED, in_database, operator
from domain.access import ALL_STORES, Scope, store_code_problem
from domain.timestamps import timezone_names
from storage.access.administration import add_administrator, add_key, add_store, end_key, replace_password
from storage.access.passwords import Passwords, password_problem
from storage.access.queries import list_administrators, list_keys
from storage.database import Database
from storage.operations.stores import list_stores

admin = typer.Typer(help="Administrators, who log in with a password.", no_args_is_help=True)
stores = typer.Typer(help="Stores, the tenants of an installation.", no_args_is_help=True)
keys = typer.Typer(help="Permanent API keys, for the header X-AUTH-TOKEN.", no_args_is_help=True)

ScopeOption = Annotated[list[Scope] | None, typer.Option("--scope", help="Right to grant; repeatable.")]
StoreOption = Annotated[
    list[str] | None, typer.Option("--store", help="Code of a store to grant access to; repeatable.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(admin, name="admin")
    app.add_typer(stores, name="stores")
    app.add_typer(keys, name="keys")


def _fail(message: str, status: int = EXIT_FAILED) -> typer.Exit:
    complain(message)
    return typer.Exit(status)


def _show(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    table = Table(*columns)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    Console().print(table)


def _minute(instant: datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


async def _unknown_stores(connection: AsyncConnection, codes: Iterable[str]) -> list[str]:
    known = {store.code for store in await list_stores(connection)} | {ALL_STORES}
    return [code for code in codes if code not in known]


@admin.command("create")
def create_admin(username: str, scope: ScopeOption = None, store: StoreOption = None) -> None:
    """Create an administrator, by default with every right in every store. Prompts for the password, or reads stdin."""
    password = _ask_password()
    codes = store or [ALL_STORES]

    async def work(database: Database) -> tuple[list[str], bool]:
        hashed = await Passwords().hash(password)
        async with database.transaction() as connection:
            unknown = await _unknown_stores(connection, codes)
            scopes = scope or [Scope.ADMIN]
            done = not unknown and await add_administrator(connection, operator(), username, hashed, scopes, codes)
            return unknown, done

    unknown, created = in_database(work)
    if unknown:
        raise _fail(f"There is no store {unknown[0]}.")
    if not created:
        raise _fail(f"Administrator {username} exists already; `admin reset-password` sets a new password.")
    typer.echo(f"Created administrator {username}.")


@admin.command("reset-password")
def reset_password(username: str) -> None:
    """Set a new password and end every session of the administrator. Prompts for the password, or reads stdin."""
    password = _ask_password()

    async def work(database: Database) -> bool:
        hashed = await Passwords().hash(password)
        async with database.transaction() as connection:
            return await replace_password(connection, operator(), username, hashed)

    if not in_database(work):
        raise _fail(f"There is no administrator {username}.")
    typer.echo(f"Changed the password of administrator {username}; earlier tokens expire within a second.")


@admin.command("list")
def list_admins() -> None:
    """List the administrators."""

    async def work(database: Database) -> list[tuple[object, ...]]:
        async with database.transaction() as connection:
            return [
                (
                    row.username,
                    "yes" if row.active else "no",
                    ", ".join(sorted(row.scopes)),
                    ", ".join(sorted(row.stores)),
                    _minute(row.last_login_at),
                )
                for row in await list_administrators(connection)
            ]

    _show(("User name", "Active", "Rights", "Stores", "Last log-in"), in_database(work))


@stores.command("create")
def create_store_command(
    code: str,
    name: Annotated[str | None, typer.Option(help="Display name; default: the code.")] = None,
    timezone: Annotated[str, typer.Option(help="IANA time zone in which the store's days begin and end.")] = "UTC",
) -> None:
    """Create a store. Its code is part of every API path and cannot change."""
    problem = store_code_problem(code)
    if problem is None and timezone not in timezone_names():
        problem = f"{timezone} is not an IANA time zone, such as Europe/Warsaw"
    if problem is not None:
        raise _fail(f"Not created: {problem}.", EXIT_USAGE)

    async def work(database: Database) -> bool:
        async with database.transaction() as connection:
            return await add_store(connection, operator(), code, name or code, timezone)

    if not in_database(work):
        raise _fail(f"Store {code} exists already.")
    typer.echo(f"Created store {code}.")


@stores.command("list")
def list_stores_command() -> None:
    """List the stores."""

    async def work(database: Database) -> list[tuple[object, ...]]:
        async with database.transaction() as connection:
            return [(store.code, store.name, store.timezone) for store in await list_stores(connection)]

    _show(("Code", "Name", "Time zone"), in_database(work))


@keys.command("create")
def create_key_command(
    name: str,
    scope: Annotated[list[Scope], typer.Option("--scope", help="Right to grant; repeatable.")],
    store: StoreOption = None,
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=36500, help="Default: until revoked.")] = None,
) -> None:
    """Create an API key, by default for every store, and print it. It cannot be shown again."""
    codes = store or [ALL_STORES]
    expires_at = None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)

    async def work(database: Database) -> tuple[list[str], str | None]:
        async with database.transaction() as connection:
            unknown = await _unknown_stores(connection, codes)
            if unknown:
                return unknown, None
            _, key = await add_key(connection, operator(), name, scope, codes, expires_at)
            return [], key

    unknown, key = in_database(work)
    if unknown:
        raise _fail(f"There is no store {unknown[0]}.")
    typer.echo(key)


@keys.command("list")
def list_keys_command() -> None:
    """List the API keys, including revoked and expired ones."""

    async def work(database: Database) -> list[tuple[object, ...]]:
        async with database.transaction() as connection:
            return [
                (
                    key.id,
                    key.name,
                    ", ".join(sorted(key.scopes)),
                    ", ".join(sorted(key.stores)),
                    _minute(key.expires_at),
                    _minute(key.revoked_at),
                    _minute(key.last_used_at),
                )
                for key in await list_keys(connection)
            ]

    _show(("Id", "Name", "Rights", "Stores", "Expires", "Revoked", "Last used"), in_database(work))


@keys.command("revoke")
def revoke_key_command(key_id: UUID) -> None:
    """Revoke an API key: it stops working within a second."""

    async def work(database: Database) -> str | None:
        async with database.transaction() as connection:
            return await end_key(connection, operator(), key_id)

    name = in_database(work)
    if name is None:
        raise _fail(f"There is no API key {key_id}.")
    typer.echo(f"Revoked API key {name}.")


def _ask_password() -> str:
    """Read a password from the terminal, or from standard input. Raises typer.Exit for an unsuitable password."""
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    problem = password_problem(password)
    if problem is not None:
        complain(f"Password refused: {problem}.")
        raise typer.Exit(EXIT_USAGE)
    return password
