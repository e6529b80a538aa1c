"""`loyalty-webhooks admin|stores|keys …`: create and list administrators, stores and API keys."""

import asyncio
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer
from pydantic.alias_generators import to_camel
from sqlalchemy.ext.asyncio import AsyncConnection

from commands.configuration import Installation, with_installation
from commands.database.connection import in_transaction, operator
from commands.terminal import EXIT_USAGE, failed, show, show_records
from domain.access import ALL_STORES, Scope, store_code_problem
from domain.timestamps import timezone_names
from storage.access.administration import add_administrator, add_key, add_store, end_key, replace_password
from storage.access.passwords import Passwords, password_problem
from storage.access.queries import list_administrators, list_keys
from storage.access.stores import list_stores as all_stores

admin = typer.Typer(help="Administrators, who log in with a password.", no_args_is_help=True)
stores = typer.Typer(help="Stores, the tenants of an installation.", no_args_is_help=True)
keys = typer.Typer(help="Permanent API keys, for the header X-AUTH-TOKEN.", no_args_is_help=True)

ScopeOption = Annotated[list[Scope] | None, typer.Option("--scope", help="Right to grant; repeatable.")]
StoreOption = Annotated[
    list[str] | None, typer.Option("--store", help="Code of a store to grant access to; repeatable.")
]


Username = Annotated[str, typer.Argument(metavar="USERNAME", help="Name to log in with.")]


@admin.command("create")
@with_installation
def create_admin(
    installation: Installation, username: Username, scope: ScopeOption = None, store: StoreOption = None
) -> None:
    """Create an administrator, by default with every right in every store. Prompts for the password, or reads stdin."""
    hashed = _ask_password()
    codes = store or [ALL_STORES]

    async def work(connection: AsyncConnection) -> bool:
        await _check_stores(connection, codes)
        return await add_administrator(connection, operator(), username, hashed, scope or [Scope.ADMIN], codes)

    if not in_transaction(installation, work):
        raise failed(f"Administrator {username} exists already; `admin reset-password` sets a new password.")
    show(f"Created administrator {username}.", {"username": username})


@admin.command("reset-password")
@with_installation
def reset_password(installation: Installation, username: Username) -> None:
    """Set a new password and end every session of the administrator. Prompts for the password, or reads stdin."""
    hashed = _ask_password()
    if not in_transaction(installation, lambda connection: replace_password(connection, operator(), username, hashed)):
        raise failed(f"There is no administrator {username}.")
    text = f"Changed the password of administrator {username}; earlier tokens expire within a second."
    show(text, {"username": username})


@admin.command("list")
@with_installation
def list_admins(installation: Installation) -> None:
    """List the administrators."""
    _list(in_transaction(installation, list_administrators), "username", "active", "scopes", "stores", "last_login_at")


@stores.command("create")
@with_installation
def create_store(
    installation: Installation,
    code: Annotated[str, typer.Argument(metavar="CODE", help="Store code, such as `default`.")],
    name: Annotated[str | None, typer.Option(help="Display name; default: the code.")] = None,
    timezone: Annotated[str, typer.Option(help="IANA time zone in which the store's days begin and end.")] = "UTC",
) -> None:
    """Create a store. Its code is part of every API path and cannot change."""
    problem = store_code_problem(code)
    if problem is None and timezone not in timezone_names():
        problem = f"{timezone} is not an IANA time zone, such as Europe/Warsaw"
    if problem is not None:
        raise failed(f"Not created: {problem}.", EXIT_USAGE)
    if not in_transaction(
        installation, lambda connection: add_store(connection, operator(), code, name or code, timezone)
    ):
        raise failed(f"Store {code} exists already.")
    show(f"Created store {code}.", {"code": code})


@stores.command("list")
@with_installation
def list_stores(installation: Installation) -> None:
    """List the stores."""
    _list(in_transaction(installation, all_stores), "code", "name", "timezone")


@keys.command("create")
@with_installation
def create_key(
    installation: Installation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name for people, shown in lists.")],
    scope: Annotated[list[Scope], typer.Option("--scope", help="Right to grant; repeatable.")],
    store: StoreOption = None,
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=36500, help="Days; default: never expires.")] = None,
) -> None:
    """Create an API key, by default for every store, and print it alone. It cannot be shown again."""
    codes = store or [ALL_STORES]
    expires_at = None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)

    async def work(connection: AsyncConnection) -> tuple[UUID, str]:
        await _check_stores(connection, codes)
        return await add_key(connection, operator(), name, scope, codes, expires_at)

    key_id, key = in_transaction(installation, work)
    show(key, {"id": key_id, "key": key})


@keys.command("list")
@with_installation
def list_api_keys(installation: Installation) -> None:
    """List the API keys, including revoked and expired ones."""
    fields = ("id", "name", "scopes", "stores", "expires_at", "revoked_at", "last_used_at")
    _list(in_transaction(installation, list_keys), *fields)


@keys.command("revoke")
@with_installation
def revoke_key(
    installation: Installation,
    key_id: Annotated[UUID, typer.Argument(metavar="ID", help="Id, from `keys list`.")],
) -> None:
    """Revoke an API key: it stops working within a second."""
    name = in_transaction(installation, lambda connection: end_key(connection, operator(), key_id))
    if name is None:
        raise failed(f"There is no API key {key_id}.")
    show(f"Revoked API key {name}.", {"id": key_id, "name": name})


async def _check_stores(connection: AsyncConnection, codes: Iterable[str]) -> None:
    """Raise typer.Exit for a code without a store."""
    known = {store.code for store in await all_stores(connection)} | {ALL_STORES}
    for code in codes:
        if code not in known:
            raise failed(f"There is no store {code}.")


def _ask_password() -> str:
    """Read a password from the terminal or standard input. Return its hash. Raises typer.Exit if it is unsuitable."""
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    problem = password_problem(password)
    if problem is not None:
        raise failed(f"Password refused: {problem}.", EXIT_USAGE)
    return asyncio.run(Passwords().hash(password))


def _list(rows: Iterable[object], *fields: str) -> None:
    show_records([{to_camel(field): getattr(row, field) for field in fields} for row in rows])
