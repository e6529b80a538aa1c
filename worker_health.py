"""The small HTTP side of `worker.py`: `/healthz` (alive), `/readyz` (database and relay), `/metrics`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from storage.database import Database

CHECK_SECONDS = 2.0
"""An answer that takes longer is a failure to whoever probes."""


@asynccontextmanager
async def worker_health(
    host: str, port: int, *, database: Database, registry: CollectorRegistry, working: Callable[[], bool]
) -> AsyncIterator[None]:
    """Serve until the block ends; port 0: serve nothing. `working` says whether relay and Temporal worker run."""
    if port == 0:
        yield
        return

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        checks = {
            "database": await _database_reason(database),
            "worker": None if working() else "not polling Temporal (yet)",
        }
        reasons = {name: reason for name, reason in checks.items() if reason is not None}
        return web.json_response(
            {"status": "not ready" if reasons else "ready", "reasons": reasons}, status=503 if reasons else 200
        )

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def _database_reason(database: Database) -> str | None:
    """Why the database cannot be used; None when it can."""
    try:
        async with asyncio.timeout(CHECK_SECONDS), database.transaction() as connection:
            await connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        return f"cannot be reached: {type(error).__name__}"
    return None
