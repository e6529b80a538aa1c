"""Limiter leases: one worker at a time applies a subscription's limits, because two would send at twice the limit."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.operations.workers import LEASE_SECONDS

_TAKE = text(f"""
INSERT INTO limiter_lease (subscription_id, worker_id) VALUES (:subscription_id, :worker_id)
ON CONFLICT (subscription_id) DO UPDATE SET worker_id = :worker_id, seen_at = clock_timestamp()
WHERE limiter_lease.worker_id = :worker_id
    OR limiter_lease.seen_at < clock_timestamp() - interval '{LEASE_SECONDS} seconds'
""")


async def take_lease(connection: AsyncConnection, subscription_id: UUID, worker_id: UUID) -> bool:
    """Take or renew the lease; return False while another worker holds it."""
    values = {"subscription_id": subscription_id, "worker_id": worker_id}
    return (await connection.execute(_TAKE, values)).rowcount == 1


async def release_lease(connection: AsyncConnection, subscription_id: UUID, worker_id: UUID) -> None:
    """Release the lease, so that any worker can take it."""
    await connection.execute(
        text("DELETE FROM limiter_lease WHERE subscription_id = :subscription_id AND worker_id = :worker_id"),
        {"subscription_id": subscription_id, "worker_id": worker_id},
    )
