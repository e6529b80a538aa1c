"""Worker processes and their leases: an attempt in flight belongs to its worker as long as the worker is seen."""

import os
import socket
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Column, Integer, Text, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import Field, col

from domain.delivery.timeouts import LONGEST_LEASE_SECONDS
from storage.columns import TableModel, instant

LEASE_SECONDS = 3
"""Time without a sign of life after which a worker counts as dead, and its attempts may be repeated."""

TOUCH_SECONDS = 1.0
"""Interval of a worker's signs of life; two may be lost before its leases lapse."""

FORGOTTEN_AFTER = timedelta(days=7)
"""Retention of a dead worker's row, to which its attempts refer."""


class WorkerProcess(TableModel, table=True):
    """A worker process; `seen_at` is touched every second. An attempt's lease lives as long as its worker does."""

    __tablename__ = "worker"

    id: UUID = Field(primary_key=True)
    host: str = Field(sa_column=Column(Text, nullable=False))
    pid: int = Field(sa_column=Column(Integer, nullable=False))
    started_at: datetime = instant(default_now=True)
    seen_at: datetime = instant(default_now=True)
    steady_since: datetime = instant(default_now=True)
    """Instant since which it was seen without a gap of a lease. If no worker is steady, the database was away."""


# After an outage of the database no worker has a recent sign of life. The first query afterwards must not count all
# other workers as dead, which are about to record the outcomes of their attempts.
_LEASES_CAN_LAPSE = f"""EXISTS (SELECT FROM worker AS steady
    WHERE steady.seen_at > clock_timestamp() - interval '{LEASE_SECONDS} seconds'
        AND steady.steady_since < clock_timestamp() - interval '{LEASE_SECONDS} seconds')"""

SENDER_ID = f"""CASE WHEN
    attempt.outcome_at IS NULL
    AND attempt.started_at > clock_timestamp() - interval '{LONGEST_LEASE_SECONDS} seconds'
    AND EXISTS (SELECT FROM worker WHERE worker.id = attempt.worker_id AND (
        worker.seen_at > clock_timestamp() - interval '{LEASE_SECONDS} seconds' OR NOT {_LEASES_CAN_LAPSE}))
THEN attempt.worker_id END"""
"""SQL over a row `attempt`: the worker with a live lease on it; null when no worker is sending it."""

_TOUCH = text(f"""
INSERT INTO worker (id, host, pid) VALUES (:id, :host, :pid)
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp(), steady_since =
    CASE WHEN worker.seen_at > clock_timestamp() - interval '{LEASE_SECONDS} seconds' THEN worker.steady_since
        ELSE clock_timestamp() END
""")


async def touch(connection: AsyncConnection, worker_id: UUID) -> None:
    """Record a sign of life of this worker process; the first call registers it."""
    await connection.execute(_TOUCH, {"id": worker_id, "host": socket.gethostname(), "pid": os.getpid()})


async def live_workers(connection: AsyncConnection) -> list[WorkerProcess]:
    """Return the workers with a recent sign of life, in the same order for every caller."""
    alive = col(WorkerProcess.seen_at) > func.clock_timestamp() - timedelta(seconds=LEASE_SECONDS)
    found = await connection.execute(select(WorkerProcess).where(alive).order_by(col(WorkerProcess.id)))
    return [WorkerProcess(**row._asdict()) for row in found]


async def leave(connection: AsyncConnection, worker_id: UUID) -> None:
    """Release all leases on an orderly stop, and delete workers that died long ago."""
    long_dead = col(WorkerProcess.seen_at) < func.clock_timestamp() - FORGOTTEN_AFTER
    await connection.execute(delete(WorkerProcess).where((col(WorkerProcess.id) == worker_id) | long_dead))
