"""Waking a relay that sleeps: NOTIFY outside every event's transaction, and seldom.

A NOTIFY inside each commit takes a lock of the whole server and cost more than half of the throughput when measured, so
it runs on a connection of its own, after the commit, and at most every few milliseconds. A ring that gets lost costs
one poll interval of the relay, nothing else.
"""

import asyncio
import time
from contextlib import suppress

import asyncpg
import structlog

from storage.database import Database
from storage.outbox import OUTBOX_CHANNEL

INTERVAL_SECONDS = 0.02  # a relay that is awake polls at about this pace by itself
NOTIFY_SECONDS = 2.0  # a database slower than this is not helped by waiting for it
RECONNECT_SECONDS = 1.0  # while the database is down, no more than this many attempts to connect

_log = structlog.get_logger(__name__)


class RelayBell:
    """Rings at once when quiet, then at most every INTERVAL_SECONDS; `ring` never waits and never raises.

    Who emits one event does not wait out the interval that began with somebody else's batch: such rings have one of
    their own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection | None = None
        self._rung = False
        self._singly = False
        """Whether any of what is rung for came singly."""
        self._hurry = asyncio.Event()
        self._hurry_again_at = 0.0
        self._closing = False
        self._ringing: asyncio.Task[None] | None = None

    def ring(self, *, singly: bool = False) -> None:
        """Say that events were committed; `singly`: events that came one by one."""
        self._rung = True
        self._singly = self._singly or singly
        if singly and time.monotonic() >= self._hurry_again_at:
            self._hurry.set()
        if self._ringing is None or self._ringing.done():
            self._ringing = asyncio.create_task(self._ring_while_rung(), name="relay-bell")

    async def close(self) -> None:
        """Ring what was asked for and close the connection."""
        self._closing = True
        self._hurry.set()
        if self._ringing is not None:
            await self._ringing
        if self._connection is not None:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._connection.close(timeout=NOTIFY_SECONDS)
            self._connection = None

    async def _ring_while_rung(self) -> None:
        while self._rung:
            self._rung = False
            self._hurry.clear()
            if self._singly:
                self._singly = False
                self._hurry_again_at = time.monotonic() + INTERVAL_SECONDS
            try:
                await self._notify()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                _log.warning("relay not woken, it will poll", error=str(error) or type(error).__name__)
                self._drop_connection()
                await asyncio.sleep(RECONNECT_SECONDS)
            else:
                await self._pause()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._closing else INTERVAL_SECONDS):
                await self._hurry.wait()

    async def _notify(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.listener()
        await self._connection.execute(f"NOTIFY {OUTBOX_CHANNEL}", timeout=NOTIFY_SECONDS)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
