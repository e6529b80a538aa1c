"""Readiness of the API process: one check per dependency, with a reason if it fails."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError

from storage.database import Database
from storage.migrate import current, head, is_behind
from storage.unavailable import is_unavailable

CHECK_SECONDS = 1.5
"""Timeout of a check. Checks run concurrently, so a probe is answered within two seconds whatever hangs."""


@dataclass(frozen=True, slots=True)
class Check:
    """Check of one dependency. `reason` is None if healthy; it never contains an address or a credential."""

    name: str
    reason: str | None


async def readiness(database: Database, temporal: Client) -> list[Check]:
    """Check database, migrations and Temporal, within CHECK_SECONDS."""
    checks: dict[str, Callable[[], Awaitable[str | None]]] = {
        "database": lambda: _database(database),
        "migrations": lambda: _migrations(database),
        "temporal": lambda: _temporal(temporal),
    }
    reasons = await asyncio.gather(*(_bounded(check) for check in checks.values()))
    return [Check(name, reason) for name, reason in zip(checks, reasons, strict=True)]


async def _bounded(check: Callable[[], Awaitable[str | None]]) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return f"did not answer within {CHECK_SECONDS} s"


async def _database(database: Database) -> str | None:
    try:
        async with database.transaction():
            return None
    except Exception as error:
        if not is_unavailable(error):
            raise
        return "cannot be reached"


async def _migrations(database: Database) -> str | None:
    try:
        revision = await current(database)
    except Exception as error:
        if not is_unavailable(error):
            raise
        return "cannot be read: the database cannot be reached"
    if not is_behind(revision):
        return None
    return f"the schema is at {revision or 'nothing'}, this version needs {head()}; run `loyalty-webhooks migrate`"


async def _temporal(temporal: Client) -> str | None:
    try:
        healthy = await temporal.service_client.check_health(timeout=timedelta(seconds=CHECK_SECONDS))
    except (RPCError, RuntimeError):  # RuntimeError: the first connection of a lazy client failed
        return "cannot be reached"
    return None if healthy else "reports that it is not serving"
