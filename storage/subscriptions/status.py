"""Changes of a subscription's status: paused by a person, disabled by a person or because of its receiver."""

from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import DeliveryStatus, Reason, SubscriptionStatus
from domain.delivery.notices import BY_PERSON, FAILING, NoticeKind
from storage.access.audit import record
from storage.deliveries.transitions import end_open, release_groups
from storage.subscriptions.notices import Occurrence, note
from storage.subscriptions.tables import Subscription, SubscriptionHealth

SYSTEM = "system"
"""Actor of changes that no person made."""

OWN_REASONS = frozenset({FAILING, FailureKind.http_gone.value})
"""Reasons for which the system disables a subscription."""


async def _change(
    connection: AsyncConnection, subscription_id: UUID, *, status: str, reason: str | None, before: list[str]
) -> bool:
    now = func.clock_timestamp()
    statement = (
        update(Subscription)
        .where(
            col(Subscription.id) == subscription_id,
            col(Subscription.deleted_at).is_(None),
            col(Subscription.status).in_(before),
        )
        .values(status=status, status_reason=reason, status_since=now, updated_at=now)
    )
    return (await connection.execute(statement)).rowcount == 1


async def pause(connection: AsyncConnection, subscription_id: UUID, *, reason: str) -> bool:
    """Pause an active subscription, so that its deliveries are held; return False if it was not active.

    Attempts in flight are finished.
    """
    return await _change(
        connection, subscription_id, status=SubscriptionStatus.PAUSED, reason=reason, before=[SubscriptionStatus.ACTIVE]
    )


async def resume(connection: AsyncConnection, subscription_id: UUID) -> bool:
    """End a pause; return False if there was none. The caller wakes the drain, which sends the held deliveries."""
    return await _change(
        connection, subscription_id, status=SubscriptionStatus.ACTIVE, reason=None, before=[SubscriptionStatus.PAUSED]
    )


async def disable(connection: AsyncConnection, subscription_id: UUID, *, reason: str) -> bool:
    """Disable a subscription and exhaust its open deliveries; the drain exhausts the rest of a large number.

    Return False if it was disabled already; then the first reason stays.
    """
    occurrences = await _disable(connection, subscription_id, reason)
    await note(connection, occurrences)
    return bool(occurrences)


async def disable_by_system(connection: AsyncConnection, subscription_id: UUID, *, reason: str) -> list[Occurrence]:
    """Disable a subscription for one of `OWN_REASONS`, with an audit entry.

    Return the occurrences to note, none if it was disabled already. The caller notes them with all others, as the last
    step of its transaction.
    """
    query = select(col(Subscription.store_code), col(Subscription.status)).where(
        col(Subscription.id) == subscription_id, col(Subscription.deleted_at).is_(None)
    )
    before = (await connection.execute(query.with_for_update(key_share=True))).one_or_none()
    occurrences = await _disable(connection, subscription_id, reason)
    if occurrences and before is not None:
        await record(
            connection,
            actor=SYSTEM,
            action="disable",
            object_type="subscription",
            object_id=subscription_id,
            store_code=before.store_code,
            changes={"status": {"before": before.status, "after": SubscriptionStatus.DISABLED}, "reason": reason},
        )
    return occurrences


async def _disable(connection: AsyncConnection, subscription_id: UUID, reason: str) -> list[Occurrence]:
    if not await _change(
        connection,
        subscription_id,
        status=SubscriptionStatus.DISABLED,
        reason=reason,
        before=[SubscriptionStatus.ACTIVE, SubscriptionStatus.PAUSED],
    ):
        return []
    why = Reason.SUBSCRIPTION_DISABLED
    ended = await end_open(connection, subscription_id, status=DeliveryStatus.EXHAUSTED, reason=why)
    by = reason if reason in OWN_REASONS else BY_PERSON
    occurrences = [Occurrence(subscription_id, NoticeKind.DISABLED, by)]
    return occurrences + ([Occurrence(subscription_id, NoticeKind.EXHAUSTED, why, ended)] if ended else [])


async def enable(connection: AsyncConnection, subscription_id: UUID) -> bool:
    """Enable a disabled subscription and reset its health; return False if it was not disabled.

    Exhausted deliveries stay exhausted.
    """
    changed = await _change(
        connection, subscription_id, status=SubscriptionStatus.ACTIVE, reason=None, before=[SubscriptionStatus.DISABLED]
    )
    if changed:
        health = col(SubscriptionHealth.subscription_id) == subscription_id
        await connection.execute(delete(SubscriptionHealth).where(health))
        await release_groups(connection, subscription_id)
    return changed
