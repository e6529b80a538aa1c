"""The audit: who changed what, when. Written in the transaction of the change: neither is there without the other."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.access.tables import AuditEntry

MASK = "•••"
"""Stands for a secret wherever it would be read."""


async def record(
    connection: AsyncConnection,
    *,
    actor: str,
    action: str,
    object_type: str,
    object_id: str | UUID,
    store_code: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Write one row. `changes` is JSON, each secret in it masked by the caller (`MASK`)."""
    row = {
        "actor": actor,
        "action": action,
        "object_type": object_type,
        "object_id": str(object_id),
        "store_code": store_code,
        "changes": dict(changes or {}),
    }
    await connection.execute(insert(AuditEntry).values(row))


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`{"field": {"before": …, "after": …}}` of what differs."""
    return {
        name: {"before": before.get(name), "after": value} for name, value in after.items() if before.get(name) != value
    }
