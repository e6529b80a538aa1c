"""Worker processes and their leases: an attempt in flight belongs to its worker as long as the worker is seen."""

import os
import socket
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

LEASE_SECONDS = 3
"""Time without a sign of life after which a worker counts as dead, and its attempts may be repeated."""

TOUCH_SECONDS = 1.0
"""Interval of a worker's signs of life; two may be lost before its leases lapse."""

LONGEST_ATTEMPT_SECONDS = 600
"""Maximum age of a lease: longer than any attempt can queue and run in a live worker, so an older lease is orphaned."""

FORGOTTEN_AFTER_DAYS = 7
"""Retention of a dead worker's row, to which its attempts refer."""

# After an outage of the database no worker has a recent sign of life. The first query afterwards must not count all
# other workers as dead, which are about to record the outcomes of their attempts.
_LEASES_CAN_LAPSE = f"""EXISTS (SELECT FROM worker AS steady
    WHERE steady.seen_at > clock_timestamp() - interval '{LEASE_SECONDS} seconds'
        AND steady.steady_since < clock_timestamp() - interval '{LEASE_SECONDS} seconds')"""

SENDER_ID = f"""CASE WHEN
    attempt.outcome_at IS NULL
    AND attempt.started_at > clock_timestamp() - interval '{LONGEST_ATTEMPT_SECONDS} seconds'
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


async def leave(connection: AsyncConnection, worker_id: UUID) -> None:
    """Release all leases on an orderly stop, and delete workers that died long ago."""
    await connection.execute(
        text("""
            DELETE FROM worker WHERE id = :id OR seen_at < clock_timestamp() - make_interval(days => :days)
        """),
        {"id": worker_id, "days": FORGOTTEN_AFTER_DAYS},
    )
