"""Tests of webhooks.

A test of an unsaved webhook (a draft) is created by the API, sent by a worker, and read by the API. A test of a saved
webhook is a sample event, matched to one subscription only.
"""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.delivery.identity import message_id, send_test_workflow_id
from domain.delivery.timeouts import TEST_BEGINS_SECONDS
from domain.wire.bodies import TEST
from storage.access.stores import find_store
from storage.deliveries.transitions import create_test
from storage.events.intake import NewEvent, insert_events
from storage.mapping import one_as
from storage.subscriptions.tables import DraftTest

DRAFT_TESTS_A_MINUTE = 10
"""Maximum number of draft tests per store and minute: enough while editing a webhook, too few to load a receiver."""

KEPT_FOR = timedelta(minutes=60)
"""Retention of a draft test, which a later one deletes. Only the page that started it reads it."""

_NO_SECRETS = dict.fromkeys(("sealed_headers", "sealed_authentication", "sealed_secret"))

_WAIT = text(f"""
SELECT CAST(ceil(extract(epoch FROM created_at + interval '1 minute' - clock_timestamp())) AS int) FROM draft_test
WHERE store_code = :store_code AND created_at > clock_timestamp() - interval '1 minute'
ORDER BY created_at DESC OFFSET {DRAFT_TESTS_A_MINUTE - 1} LIMIT 1
""")
_BEGIN = text(f"""
UPDATE draft_test SET begun_at = clock_timestamp()
FROM store WHERE store.code = draft_test.store_code AND draft_test.id = :id AND begun_at IS NULL
    AND draft_test.created_at > clock_timestamp() - interval '{TEST_BEGINS_SECONDS} seconds'
RETURNING draft_test.*, store.timezone
""")

# The sample is matched in the transaction that inserts it, so that no relay ever sees it.
_MATCHED = text("""
UPDATE event SET matched_at = clock_timestamp(), workflow_id = :workflow_id
WHERE store_code = :store_code AND event_id = :event_id RETURNING sequence, accepted_on
""")
_FORGET_DELIVERY = text("""
DELETE FROM delivery WHERE message_id = :message_id AND attempts = 0
    AND NOT EXISTS (SELECT FROM attempt WHERE attempt.accepted_on = delivery.accepted_on
        AND attempt.message_id = delivery.message_id)
RETURNING store_code, event_id
""")
_FORGET_EVENT = text("""
WITH forgotten AS (
    DELETE FROM event WHERE store_code = :store_code AND event_id = :event_id RETURNING accepted_on
)
DELETE FROM event_body USING forgotten WHERE event_body.accepted_on = forgotten.accepted_on
    AND store_code = :store_code AND event_id = :event_id
""")


async def open_draft_test(connection: AsyncConnection, draft: DraftTest) -> int:
    """Store the draft for a worker. Return 0, or the seconds to wait when the store is at its limit per minute."""
    old = col(DraftTest.created_at) < func.clock_timestamp() - KEPT_FOR
    await connection.execute(delete(DraftTest).where(old))
    await find_store(connection, draft.store_code, lock=True)
    wait = await connection.scalar(_WAIT, {"store_code": draft.store_code})
    if wait is not None:
        return max(1, int(wait))
    await connection.execute(insert(DraftTest).values(draft.model_dump(exclude={"created_at"})))
    return 0


async def begin_draft_test(connection: AsyncConnection, test_id: UUID) -> tuple[DraftTest, str] | None:
    """Take the test, to send it now; return it and the store's time zone. Return None when it was taken before, or is
    too old."""
    row = (await connection.execute(_BEGIN, {"id": test_id})).one_or_none()
    if row is None:
        return None
    columns = row._asdict()
    timezone: str = columns.pop("timezone")
    return DraftTest(**columns), timezone


async def end_draft_test(connection: AsyncConnection, test: DraftTest) -> None:
    """Store the result that was added to a test, and delete its secrets."""
    result = test.model_dump(exclude={"id", *_NO_SECRETS})
    this_test = update(DraftTest).where(col(DraftTest.id) == test.id)
    await connection.execute(this_test.values(**_NO_SECRETS, **result))


async def give_up_draft_test(connection: AsyncConnection, test_id: UUID) -> None:
    """Cancel a draft test that has not begun, and delete its secrets."""
    begun_at = func.coalesce(col(DraftTest.begun_at), func.clock_timestamp())
    this_test = update(DraftTest).where(col(DraftTest.id) == test_id)
    await connection.execute(this_test.values(begun_at=begun_at, **_NO_SECRETS))


async def draft_test_result(connection: AsyncConnection, test_id: UUID) -> DraftTest | None:
    """Return the test with its result, or None while there is none."""
    ended = select(DraftTest).where(col(DraftTest.id) == test_id, col(DraftTest.duration_ms).is_not(None))
    return one_as(DraftTest, await connection.execute(ended))


async def insert_test(connection: AsyncConnection, sample: NewEvent, subscription_id: UUID, url: str) -> UUID:
    """Store the sample for a saved webhook and its one delivery; return the delivery's message id."""
    identity = message_id(sample.event_id, subscription_id, TEST)
    await insert_events(connection, [sample])
    workflow_id = send_test_workflow_id(subscription_id)
    event = {"store_code": sample.store_code, "event_id": sample.event_id, "workflow_id": workflow_id}
    matched = (await connection.execute(_MATCHED, event)).one()
    own = {"message_id": identity, "event_name": sample.name, "subscription_id": subscription_id, "url": url}
    await create_test(connection, {**event, **matched._asdict(), **own})
    return identity


async def forget_test(connection: AsyncConnection, identity: UUID) -> None:
    """Delete a test of a saved webhook whose workflow was not started, unless it has an attempt."""
    row = (await connection.execute(_FORGET_DELIVERY, {"message_id": identity})).one_or_none()
    if row is not None:
        await connection.execute(_FORGET_EVENT, row._asdict())
