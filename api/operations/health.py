"""Readiness of the API process: one check per dependency, with a reason if it fails."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError

from storage.database import Database
from storage.revisions import current, head, is_behind
from storage.unavailable import is_unavailable

CHECK_SECONDS = 1.5
"""Timeout of a check. Checks run concurrently, so a probe is answered within two seconds whatever hangs."""


async def readiness(database: Database, temporal: Client) -> dict[str, str | None]:
    """Check database, migrations and Temporal, within CHECK_SECONDS. Return why each fails, None if it is healthy.

    A reason never contains an address or a credential.
    """
    checks = {
        "database": _reason(_database(database), "cannot be reached"),
        "migrations": _reason(_migrations(database), "cannot be read: the database cannot be reached"),
        "temporal": _reason(_temporal(temporal), "cannot be reached"),
    }
    return dict(zip(checks, await asyncio.gather(*checks.values()), strict=True))


async def _reason(check: Awaitable[str | None], unavailable: str) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check
    except TimeoutError:
        return f"did not answer within {CHECK_SECONDS} s"
    except Exception as error:
        if not is_unavailable(error):
            raise
        return unavailable


async def _database(database: Database) -> None:
    async with database.transaction():
        pass


async def _migrations(database: Database) -> str | None:
    revision = await current(database)
    if not is_behind(revision):
        return None
    return f"the schema is at {revision or 'nothing'}, this version needs {head()}; run `loyalty-webhooks migrate`"


async def _temporal(temporal: Client) -> str | None:
    try:
        healthy = await temporal.service_client.check_health(timeout=timedelta(seconds=CHECK_SECONDS))
    except (RPCError, RuntimeError):  # RuntimeError: the first connection of a lazy client failed
        return "cannot be reached"
    return None if healthy else "reports that it is not serving"
