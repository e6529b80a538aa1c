"""How many events wait for a workflow, as the intake's limit and the metrics see it."""

import asyncio
import time

from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import Database
from storage.events.intake import outbox_span
from storage.events.outbox import Backlog, backlog

EXACT_EVENTS = 10_000  # counting so many entries of the index costs about 2 ms, a million a quarter of a second
FRESH_SECONDS = 1.0  # at the highest rate measured, the limit is overrun by two seconds of events at most
READ_SECONDS = 5.0  # a reading takes milliseconds; with a database that hangs, whoever waits for it hears so by then
REFRESH_SECONDS = 0.5  # older than this it is read again beside the request, which does not wait for it


async def read_backlog(connection: AsyncConnection, limit: int) -> Backlog:
    """The backlog: exact up to EXACT_EVENTS and near `limit`, an upper bound between; never more than `limit`."""
    counted = await backlog(connection, limit=min(EXACT_EVENTS, limit))
    if counted.events < EXACT_EVENTS:
        return counted
    span = await outbox_span(connection)
    if span < limit:
        return Backlog(max(span, counted.events), counted.oldest_seconds)
    return await backlog(connection, limit=limit)


class BacklogGauge:
    """The backlog, at most FRESH_SECONDS old; read once for all who ask at the same time."""

    def __init__(self, database: Database, limit: int) -> None:
        self.limit = limit
        self._database = database
        self._latest = Backlog(0, 0.0)
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def current(self) -> Backlog:
        """Raises what the database raises, when the figure is too old and cannot be read."""
        age = time.monotonic() - self._read_at
        if age > REFRESH_SECONDS and self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="backlog")
            self._reading.add_done_callback(self._read_ended)
        if age > FRESH_SECONDS and self._reading is not None:
            await asyncio.shield(self._reading)
        return self._latest

    async def close(self) -> None:
        """Wait for a reading under way."""
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def _read(self) -> None:
        began = time.monotonic()
        async with asyncio.timeout(READ_SECONDS), self._database.transaction() as connection:
            self._latest = await read_backlog(connection, self.limit)
        self._read_at = began

    def _read_ended(self, task: asyncio.Task[None]) -> None:
        self._reading = None
        if not task.cancelled():
            task.exception()  # whoever waited has it; when nobody did, the next reading tells
