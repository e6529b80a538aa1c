"""Recoveries and backfills in tests: noted as the API notes them, whose begin is the test's."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from domain.delivery.identity import message_id
from local.stack_file import Stack
from storage.deliveries.bulk_actions import (
    BulkActionKind,
    BulkActionProgress,
    NewBulkAction,
    TimeWindow,
    begin_bulk_action,
    bulk_action_progress,
)
from storage.events.intake import content_digest
from tests.ground import STORE, Ground


def everything(statuses: tuple[str, ...] = ()) -> TimeWindow:
    """From long ago until later."""
    return TimeWindow(datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(hours=1), statuses)


async def begun_bulk_action(
    ground: Ground, kind: BulkActionKind, subscription_id: UUID, count: int, rate_per_second: int | None = None
) -> UUID:
    """The id of an act on everything, noted as running."""
    window = everything(("exhausted",) if kind is BulkActionKind.RECOVER else ())
    act = NewBulkAction(uuid4(), kind, STORE, subscription_id, window, rate_per_second, count)
    async with ground.database.transaction() as connection:
        assert await begin_bulk_action(connection, act)
    return act.id


async def progress_of(ground: Ground, action_id: UUID, kind: BulkActionKind) -> BulkActionProgress:
    """How far it is."""
    async with ground.database.transaction() as connection:
        found = await bulk_action_progress(connection, STORE, action_id, kind)
    assert found is not None
    return found


async def fail_many(ground: Ground, subscription_id: UUID, event_id: UUID, count: int, **columns: Any) -> None:
    """Deliveries that have ended without success, as an outage of days leaves them."""
    values: dict[str, Any] = {"status": "exhausted", "reason": "schedule_used_up"} | columns
    names = ", ".join(values)
    await ground.execute(
        f"""
        INSERT INTO delivery (message_id, store_code, event_id, event_name, event_sequence, accepted_on,
            subscription_id, variant, url, ended_at, {names})
        SELECT gen_random_uuid(), event.store_code, event.event_id, event.name, event.sequence, event.accepted_on,
            subscription.id, 'main', subscription.url, now(), {", ".join(":" + name for name in values)}
        FROM event, subscription, generate_series(1, :many)
        WHERE event.event_id = :event_id AND subscription.id = :subscription_id
        """,
        many=count,
        event_id=event_id,
        subscription_id=subscription_id,
        **values,
    )


async def copy_exhausted(stack: Stack, subscription_id: UUID, event_name: str, url: str, count: int) -> list[str]:
    """As many events, each with a delivery that ended without success, written by COPY; the deliveries' ids."""
    data, now = '{"customer":{}}', datetime.now(UTC)
    digest = content_digest(event_name, {"customer": {}})
    event_ids = [uuid4() for _ in range(count)]
    connection = await asyncpg.connect(stack.database)
    try:
        await connection.copy_records_to_table(
            "event",
            records=[
                (stack.store, event_id, event_name, now, now.isoformat(), now, digest, now) for event_id in event_ids
            ],
            columns=(
                *("store_code", "event_id", "name", "created_at", "created_at_text", "accepted_at"),
                *("digest", "matched_at"),
            ),
        )
        await connection.copy_records_to_table(
            "event_body",
            records=[(now.date(), stack.store, event_id, data) for event_id in event_ids],
            columns=("accepted_on", "store_code", "event_id", "data"),
        )
        rows = await connection.fetch("SELECT event_id, sequence FROM event WHERE event_id = ANY($1)", event_ids)
        filed = (now.date(), stack.store, event_name, subscription_id, "main", url)
        ended = ("exhausted", "schedule_used_up", now, now)
        deliveries = [
            (*filed, message_id(one, subscription_id, "main"), one, sequence, *ended) for one, sequence in rows
        ]
        await connection.copy_records_to_table(
            "delivery",
            records=deliveries,
            columns=(
                *("accepted_on", "store_code", "event_name", "subscription_id", "variant", "url"),
                *("message_id", "event_id", "event_sequence", "status", "reason", "created_at", "ended_at"),
            ),
        )
    finally:
        await connection.close()
    return [str(row[len(filed)]) for row in deliveries]
