"""A log of days gone by: events accepted long ago, with deliveries and attempts."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

from storage.events.days import make_days
from tests.ground import STORE, Ground


def day_of(age: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=age)


async def old_event(
    ground: Ground, age: int, *statuses: str, store: str = STORE, matched: bool = True, erased: bool = False
) -> UUID:
    """An event accepted so many days ago, with a delivery of each status and one attempt each."""
    identity = uuid4()
    day = day_of(age)
    await make_days(ground.database, day, day)
    await ground.execute(
        """
        INSERT INTO event (store_code, event_id, name, created_at, created_at_text, digest, accepted_at, matched_at)
        VALUES (:store, :id, 'CustomerUpdated', now(), '', '', :at, CASE WHEN :matched THEN now() END)
        """,
        store=store,
        id=identity,
        at=datetime(day.year, day.month, day.day, 12, tzinfo=UTC),
        matched=matched,
    )
    if not erased:
        await ground.execute(
            "INSERT INTO event_body VALUES (:day, :store, :id, '{}')", day=day, store=store, id=identity
        )
    for status in statuses:
        await ground.execute(
            """
            WITH made AS (
                INSERT INTO delivery (message_id, store_code, event_id, event_name, accepted_on, subscription_id,
                    variant, url, status)
                VALUES (gen_random_uuid(), :store, :id, 'CustomerUpdated', :day, gen_random_uuid(), 'main', '', :status)
                RETURNING message_id
            )
            INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy)
            SELECT :day, message_id, 1, message_id, 'automatic', message_id, false FROM made
            """,
            store=store,
            id=identity,
            day=day,
            status=status,
        )
    return identity
