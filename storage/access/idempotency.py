"""Idempotency keys of calls that create an object, so that a repeated call creates nothing."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from storage.access.tables import IdempotencyKey

KEPT_FOR = timedelta(hours=24)
"""Lifetime of a key. Clients repeat a request within minutes."""


async def claim_key(
    connection: AsyncConnection, store_code: str, actor: str, key: str, digest: bytes, object_id: UUID
) -> IdempotencyKey | None:
    """Claim the key for the object that this transaction will create, or return the call that claimed it before. Of two
    concurrent calls the second waits for the first to commit, and then finds it."""
    expired = col(IdempotencyKey.created_at) < func.clock_timestamp() - KEPT_FOR
    await connection.execute(delete(IdempotencyKey).where(expired))
    name = {"store_code": store_code, "actor": actor, "key": key}
    claim = insert(IdempotencyKey).values(**name, digest=digest, object_id=object_id).on_conflict_do_nothing()
    if await connection.scalar(claim.returning(col(IdempotencyKey.key))) is not None:
        return None
    earlier = await connection.execute(select(IdempotencyKey).filter_by(**name))
    return IdempotencyKey(**earlier.one()._asdict())
