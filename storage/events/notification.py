"""Outbox notifications: wake a sleeping relay after events were committed, debounced.

A NOTIFY inside each commit takes a server-wide lock and cost more than half of the throughput when measured. So it is
sent on a separate connection, after the commit, and at most once per interval. A lost notification delays the relay by
one poll interval, nothing else.
"""

import asyncio
from contextlib import suppress

import asyncpg
import structlog

from storage.database import Database
from storage.events.outbox import OUTBOX_CHANNEL
from storage.unavailable import BROKEN_CONNECTION

INTERVAL_SECONDS = 0.02
"""Minimum time between two notifications. It bounds their rate, and adds at most this to an event's latency."""

NOTIFY_SECONDS = 2.0
"""Time-out of a NOTIFY. The events are stored already, so there is no reason to wait for a slower server."""

RECONNECT_SECONDS = 1.0
"""Pause after a broken connection, so that a server that is down gets at most this many connection attempts."""

_log = structlog.get_logger(__name__)


class OutboxNotifier:
    """Debounced notifications: the first one is sent at once, the next after INTERVAL_SECONDS.

    `notify` neither waits nor raises.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection | None = None
        self._due = False
        self._closing = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None

    def notify(self) -> None:
        """Schedule a notification, after events were committed."""
        self._due = True
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_while_due(), name="outbox-notifier")

    async def close(self) -> None:
        """Send the notification that is due and close the connection."""
        self._closing.set()
        if self._sending is not None:
            await self._sending
        if self._connection is not None:
            with suppress(*BROKEN_CONNECTION):
                await self._connection.close(timeout=NOTIFY_SECONDS)
            self._connection = None

    async def _send_while_due(self) -> None:
        """Send notifications until none becomes due within an interval."""
        while self._due:
            self._due = False
            try:
                await self._send()
            except BROKEN_CONNECTION as error:
                _log.warning("relay not notified, it will poll", error=str(error) or type(error).__name__)
                self._drop_connection()
                self._due = True
                pause = RECONNECT_SECONDS
            else:
                pause = INTERVAL_SECONDS
            if self._closing.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._closing.wait()

    async def _send(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.listener()
        await self._connection.execute(f"NOTIFY {OUTBOX_CHANNEL}", timeout=NOTIFY_SECONDS)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
