"""Reading the audit: pages newest first, of a store or of the installation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.access.tables import AuditEntry
from storage.listing import Condition, FieldKind, ListField, filtered
from storage.mapping import all_as, columns_for, table_of

_C = table_of(AuditEntry).c

AUDIT_FIELDS: Mapping[str, ListField] = {
    "at": ListField(_C.at, FieldKind.INSTANT),
    "actor": ListField(_C.actor, FieldKind.TEXT),
    "action": ListField(_C.action, FieldKind.TEXT),
    "objectType": ListField(_C.object_type, FieldKind.TEXT),
    "objectId": ListField(_C.object_id, FieldKind.TEXT),
}
"""What the audit may be filtered by."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line: who did what to which object, and what changed by it."""

    id: int
    at: datetime
    actor: str
    action: str
    object_type: str
    object_id: str
    changes: Mapping[str, Any]


async def audit_page(
    connection: AsyncConnection,
    store_code: str | None,
    conditions: Sequence[Condition],
    before: int | None,
    items: int,
) -> list[AuditRow]:
    """The next lines of the store (None: of the installation), newest first; `before`: older than that line."""
    query = select(*columns_for(AuditEntry, AuditRow)).where(
        _C.store_code.is_(None) if store_code is None else _C.store_code == store_code
    )
    if before is not None:
        query = query.where(_C.id < before)
    query = filtered(query, AUDIT_FIELDS, conditions).order_by(_C.id.desc()).limit(items)
    return all_as(AuditRow, await connection.execute(query))


_STANDING = text("""
SELECT id FROM subscription WHERE store_code = :store_code AND deleted_at IS NULL AND id = ANY(:ids)
UNION ALL SELECT message_id FROM delivery WHERE store_code = :store_code AND message_id = ANY(:ids)
UNION ALL SELECT id FROM window_act WHERE store_code = :store_code AND id = ANY(:ids)
""")


async def standing_objects(connection: AsyncConnection, store_code: str, ids: Collection[UUID]) -> set[UUID]:
    """Those of the ids that are webhooks, deliveries, recoveries or backfills of the store, and not deleted since."""
    return set(await connection.scalars(_STANDING, {"store_code": store_code, "ids": list(ids)}))
