"""The audit of changes. Each entry is written in the transaction of its change, so neither exists without the other."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.access.tables import AuditEntry
from storage.listing import Condition, FieldKind, ListField, filtered
from storage.mapping import all_as, table_of

_C = table_of(AuditEntry).c

AUDIT_FIELDS: Mapping[str, ListField] = {
    "at": ListField(_C.at, FieldKind.INSTANT),
    "actor": ListField(_C.actor, FieldKind.TEXT),
    "action": ListField(_C.action, FieldKind.TEXT),
    "objectType": ListField(_C.object_type, FieldKind.TEXT),
    "objectId": ListField(_C.object_id, FieldKind.TEXT),
}
"""Fields for filters of the audit."""


async def record(
    connection: AsyncConnection,
    actor: str,
    action: str,
    object_type: str,
    object_id: str | UUID,
    store_code: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Write one entry. `changes` is JSON; the caller masks each secret in it (`MASK`)."""
    entry = insert(AuditEntry).values(actor=actor, action=action, object_type=object_type, object_id=str(object_id))
    await connection.execute(entry.values(store_code=store_code, changes=dict(changes or {})))


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return `{"field": {"before": …, "after": …}}` for the fields that differ."""
    return {
        name: {"before": before.get(name), "after": value} for name, value in after.items() if before.get(name) != value
    }


async def audit_page(
    connection: AsyncConnection, store_code: str | None, conditions: Sequence[Condition], before: int | None, items: int
) -> list[AuditEntry]:
    """Return a page of the store's entries (None: the installation's), newest first, older than the entry `before`."""
    query = select(AuditEntry).where(_C.store_code.is_(None) if store_code is None else _C.store_code == store_code)
    if before is not None:
        query = query.where(_C.id < before)
    query = filtered(query, AUDIT_FIELDS, conditions).order_by(_C.id.desc()).limit(items)
    return all_as(AuditEntry, await connection.execute(query))


_EXISTING = text("""
SELECT id FROM subscription WHERE store_code = :store_code AND deleted_at IS NULL AND id = ANY(:ids)
UNION ALL SELECT message_id FROM delivery WHERE store_code = :store_code AND message_id = ANY(:ids)
UNION ALL SELECT id FROM bulk_action WHERE store_code = :store_code AND id = ANY(:ids)
""")


async def existing_objects(connection: AsyncConnection, store_code: str, ids: Collection[UUID]) -> set[UUID]:
    """Return those of the ids that are webhooks, deliveries or bulk actions of the store and not deleted."""
    return set(await connection.scalars(_EXISTING, {"store_code": store_code, "ids": list(ids)}))
