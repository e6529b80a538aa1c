"""Waking a relay that sleeps: by NOTIFY, and seldom.

A NOTIFY inside each commit takes a lock of the whole server and cost more than half of the throughput when measured. So
it runs on a connection of its own, after the commit, and at most every few milliseconds; only the commit of an event
that comes alone carries it, which wakes the relay a third of a millisecond sooner. A ring that gets lost costs one poll
interval of the relay, nothing else.
"""

import asyncio
import time
from contextlib import suppress
from enum import StrEnum

import asyncpg
import structlog

from storage.database import Database
from storage.events.outbox import OUTBOX_CHANNEL

INTERVAL_SECONDS = 0.02  # a relay that is awake polls at about this pace by itself
NOTIFY_SECONDS = 2.0  # a database slower than this is not helped by waiting for it
RECONNECT_SECONDS = 1.0  # while the database is down, no more than this many attempts to connect

_log = structlog.get_logger(__name__)


class Emitted(StrEnum):
    """How events come, which have an interval each."""

    SINGLY = "singly"
    TOGETHER = "together"


class RelayBell:
    """Rings at once when quiet, then at most every INTERVAL_SECONDS; `ring` never waits and never raises.

    Who emits one event does not wait out the interval that began with somebody else's batch: single events have one of
    their own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection | None = None
        self._rung: set[Emitted] = set()
        self._changed = asyncio.Event()
        self._again_at = dict.fromkeys(Emitted, 0.0)
        self._closing = False
        self._ringing: asyncio.Task[None] | None = None

    def ring(self, emitted: Emitted) -> None:
        """Say that events were committed."""
        self._rung.add(emitted)
        self._changed.set()
        if self._ringing is None or self._ringing.done():
            self._ringing = asyncio.create_task(self._ring_while_rung(), name="relay-bell")

    def lets_commit_ring(self, emitted: Emitted) -> bool:
        """Whether a ring would go out at once: then the commit may ring by itself, and the interval begins."""
        now = time.monotonic()
        if now < self._again_at[emitted]:
            return False
        self._again_at[emitted] = now + INTERVAL_SECONDS
        return True

    async def close(self) -> None:
        """Ring what was asked for and close the connection."""
        self._closing = True
        self._changed.set()
        if self._ringing is not None:
            await self._ringing
        if self._connection is not None:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._connection.close(timeout=NOTIFY_SECONDS)
            self._connection = None

    async def _ring_while_rung(self) -> None:
        while self._rung:
            self._changed.clear()
            early = min(self._again_at[one] for one in self._rung) - time.monotonic()
            if early > 0 and not self._closing:
                with suppress(TimeoutError):
                    async with asyncio.timeout(early):
                        await self._changed.wait()
                continue
            for one in self._rung:
                self._again_at[one] = time.monotonic() + INTERVAL_SECONDS
            self._rung.clear()
            try:
                await self._notify()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                _log.warning("relay not woken, it will poll", error=str(error) or type(error).__name__)
                self._drop_connection()
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _notify(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.listener()
        await self._connection.execute(f"NOTIFY {OUTBOX_CHANNEL}", timeout=NOTIFY_SECONDS)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
