"""Tests of a saved webhook: a sample event, matched to one subscription only."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.identity import message_id, send_test_workflow_id
from domain.wire.bodies import TEST
from storage.deliveries.transitions import create_test
from storage.events.intake import NewEvent, insert_events

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


async def insert_test(connection: AsyncConnection, sample: NewEvent, subscription_id: UUID, url: str) -> UUID:
    """Store the sample and its one delivery; return the delivery's message id."""
    identity = message_id(sample.event_id, subscription_id, TEST)
    workflow_id = send_test_workflow_id(subscription_id)
    await insert_events(connection, [sample])
    event = {"store_code": sample.store_code, "event_id": sample.event_id}
    matched = (await connection.execute(_MATCHED, {**event, "workflow_id": workflow_id})).one()
    values = {
        **event,
        "message_id": identity,
        "event_name": sample.name,
        "sequence": matched.sequence,
        "accepted_on": matched.accepted_on,
        "subscription_id": subscription_id,
        "url": url,
        "workflow_id": workflow_id,
    }
    await create_test(connection, values)
    return identity


async def forget_test(connection: AsyncConnection, identity: UUID) -> None:
    """Delete a test whose workflow was not started, unless it has an attempt."""
    row = (await connection.execute(_FORGET_DELIVERY, {"message_id": identity})).one_or_none()
    if row is not None:
        await connection.execute(_FORGET_EVENT, {"store_code": row.store_code, "event_id": row.event_id})
