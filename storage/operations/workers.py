"""Worker processes and the leases they hold: an attempt under way is its worker's as long as the worker is seen."""

import os
import socket
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

LEASE_SECONDS = 3
"""A worker not seen for so long counts as dead, and what it had under way may be attempted again."""

TOUCH_SECONDS = 1.0
"""How often a worker says that it lives; two may be lost before its leases lapse."""

LONGEST_ATTEMPT_SECONDS = 600
"""Longer than any attempt can queue and run in a live worker: a lease older than this is an orphan."""

FORGOTTEN_AFTER_DAYS = 7
"""How long the row of a worker that died is kept, for whoever reads the attempts it left."""

# When the database was away, nobody could say that they live; whoever asks first on its return must not take all others
# for dead, who are about to write what came of their attempts.
_LEASES_CAN_LAPSE = f"""EXISTS (SELECT FROM worker AS steady
    WHERE steady.seen_at > clock_timestamp() - interval '{LEASE_SECONDS} seconds'
        AND steady.steady_since < clock_timestamp() - interval '{LEASE_SECONDS} seconds')"""

SENDER_ID = f"""CASE WHEN
    attempt.outcome_at IS NULL
    AND attempt.started_at > clock_timestamp() - interval '{LONGEST_ATTEMPT_SECONDS} seconds'
    AND EXISTS (SELECT FROM worker WHERE worker.id = attempt.worker_id AND (
        worker.seen_at > clock_timestamp() - interval '{LEASE_SECONDS} seconds' OR NOT {_LEASES_CAN_LAPSE}))
THEN attempt.worker_id END"""
"""SQL over a row `attempt`: the worker whose lease on it is live; null when nobody is sending it."""

_TOUCH = text(f"""
INSERT INTO worker (id, host, pid) VALUES (:id, :host, :pid)
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp(), steady_since =
    CASE WHEN worker.seen_at > clock_timestamp() - interval '{LEASE_SECONDS} seconds' THEN worker.steady_since
        ELSE clock_timestamp() END
""")


async def touch(connection: AsyncConnection, worker_id: UUID) -> None:
    """Say that this worker process lives; the first call registers it."""
    await connection.execute(_TOUCH, {"id": worker_id, "host": socket.gethostname(), "pid": os.getpid()})


async def leave(connection: AsyncConnection, worker_id: UUID) -> None:
    """Give up all leases at once, on an orderly stop, and forget workers that died long ago."""
    await connection.execute(
        text("""
            DELETE FROM worker WHERE id = :id OR seen_at < clock_timestamp() - make_interval(days => :days)
        """),
        {"id": worker_id, "days": FORGOTTEN_AFTER_DAYS},
    )
