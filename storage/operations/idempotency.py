"""Calls that create something, remembered by the key their caller gave, so that a repeat creates nothing more."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

KEPT_HOURS = 24  # callers repeat within minutes


@dataclass(frozen=True, slots=True)
class EarlierCall:
    """A call that came before under the same key: the digest of its body, and what it made."""

    digest: bytes
    object_id: UUID


_DROP_OLD = text("DELETE FROM idempotency_key WHERE created_at < clock_timestamp() - make_interval(hours => :hours)")
_CLAIM = text("""
INSERT INTO idempotency_key (store_code, actor, key, digest, object_id)
VALUES (:store_code, :actor, :key, :digest, :object_id) ON CONFLICT DO NOTHING RETURNING true
""")
_EARLIER = text("""
SELECT digest, object_id FROM idempotency_key WHERE store_code = :store_code AND actor = :actor AND key = :key
""")


async def claim_key(
    connection: AsyncConnection, store_code: str, actor: str, key: str, digest: bytes, object_id: UUID
) -> EarlierCall | None:
    """Take the key for what this transaction will create; else the call that took it before.

    Of two at once the second waits for the first to commit, and then finds it.
    """
    await connection.execute(_DROP_OLD, {"hours": KEPT_HOURS})
    name = {"store_code": store_code, "actor": actor, "key": key}
    if await connection.scalar(_CLAIM, {**name, "digest": digest, "object_id": object_id}) is not None:
        return None
    row = (await connection.execute(_EARLIER, name)).one()
    return EarlierCall(row[0], row[1])
