"""Backlog of accepted events that no workflow has taken, for the limit of the intake and for metrics."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncConnection

from api.ttl_cache import TtlCache
from storage.database import Database
from storage.events.intake import outbox_span
from storage.events.outbox import EventBacklog, backlog

EXACT_EVENTS = 10_000
"""Largest backlog that is counted exactly. Counting 10,000 index entries takes about 2 ms, a million 250 ms."""

FRESH_SECONDS = 1.0
"""Maximum age of the figure. At the highest measured rate, intake overruns the limit by the events of two seconds."""

REFRESH_SECONDS = 0.5
"""Age at which the figure is refreshed in the background, so that requests do not wait for the reading."""

READ_SECONDS = 5.0
"""Timeout of a reading, which takes milliseconds. Callers get an error after this time if the database hangs."""


async def read_backlog(connection: AsyncConnection, limit: int) -> EventBacklog:
    """Return the backlog: exact up to EXACT_EVENTS and near `limit`, an upper bound between; at most `limit`."""
    counted = await backlog(connection, limit=min(EXACT_EVENTS, limit))
    if counted.events < EXACT_EVENTS:
        return counted
    span = await outbox_span(connection)
    if span < limit:
        return EventBacklog(max(span, counted.events), counted.oldest_seconds)
    return await backlog(connection, limit=limit)


class BacklogGauge:
    """Cached backlog; concurrent callers share one reading."""

    def __init__(self, database: Database, limit: int) -> None:
        self.limit = limit
        self._database = database
        self._cache: TtlCache[None, EventBacklog] = TtlCache(FRESH_SECONDS, refresh_seconds=REFRESH_SECONDS)

    async def current(self) -> EventBacklog:
        """Return the backlog, at most FRESH_SECONDS old. Raises the error of the database if it cannot be read."""
        return await self._cache.get(None, lambda: self._database.repeated(self._read)) or EventBacklog(0, 0.0)

    async def close(self) -> None:
        """Wait for the readings in progress."""
        await self._cache.close()

    async def _read(self) -> EventBacklog:
        async with asyncio.timeout(READ_SECONDS), self._database.transaction() as connection:
            return await read_backlog(connection, self.limit)
