"""A subscription's status and who may change it: paused by a person, disabled by a person or by its receiver."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.keeping import end_open

_CHANGE = text("""
UPDATE subscription SET status = :status, status_reason = :reason, status_since = clock_timestamp(),
    updated_at = clock_timestamp()
WHERE id = :id AND deleted_at IS NULL AND status = ANY(:before)
""")

_WELL_AGAIN = text("DELETE FROM subscription_health WHERE subscription_id = :id")


async def _change(
    connection: AsyncConnection, subscription_id: UUID, *, status: str, reason: str | None, before: list[str]
) -> bool:
    values = {"id": subscription_id, "status": status, "reason": reason, "before": before}
    return (await connection.execute(_CHANGE, values)).rowcount == 1


async def pause(connection: AsyncConnection, subscription_id: UUID, *, reason: str) -> bool:
    """Let deliveries wait as rows; False when it was not active. What is under way is finished."""
    return await _change(connection, subscription_id, status="paused", reason=reason, before=["active"])


async def resume(connection: AsyncConnection, subscription_id: UUID) -> bool:
    """End a pause; False when it was not paused. The caller wakes the keeper, which lets go what was held."""
    return await _change(connection, subscription_id, status="active", reason=None, before=["paused"])


async def disable(connection: AsyncConnection, subscription_id: UUID, *, reason: str) -> bool:
    """Send nothing more; what waits is exhausted. False when it was disabled already, which keeps its first reason."""
    changed = await _change(connection, subscription_id, status="disabled", reason=reason, before=["active", "paused"])
    if changed:
        await end_open(connection, subscription_id, status="exhausted", reason="subscription_disabled", pending=True)
    return changed


async def enable(connection: AsyncConnection, subscription_id: UUID) -> bool:
    """Send again, with a clean record of health; False when it was not disabled. What was exhausted stays so."""
    changed = await _change(connection, subscription_id, status="active", reason=None, before=["disabled"])
    if changed:
        await connection.execute(_WELL_AGAIN, {"id": subscription_id})
    return changed
