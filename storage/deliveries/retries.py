"""Retries by standalone activities, their overload limit, and the work whose owner `reconcile` looks for."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import DeliveryStatus
from domain.wire.bodies import TEST
from storage.columns import unnest
from storage.deliveries.skip_scan import ALL_BRANCHES, IN_ANY_BRANCH
from storage.mapping import all_as, rows_as

MOST_OF_A_SUBSCRIPTION = 100
"""Maximum number of one subscription's deliveries that wait in Temporal. A standalone activity costs some 27 ms of CPU
and 13 KiB, a held row a few microseconds when it is drained in bulk."""

MOST_IN_ALL = 1_000
"""Maximum number of deliveries of all subscriptions that wait in Temporal. A start costs it 12 ms of CPU: when 10,000
deliveries failed at once, these took 95 s, and events of other subscriptions came up to 1.6 s late meanwhile."""

MOST_DUE_IN_A_SECOND = 20
"""Maximum number of retries, of all subscriptions together, that Temporal gets for one second. On two cores with
PostgreSQL it finishes 128 standalone activities a second; more of them would be late and delay first attempts."""

MOST_READ = 4
"""Maximum number of rows read for deliveries without a due instant, as a multiple of the round's size."""

OVERDUE_SECONDS = 60.0
"""Age at which a delivery that should have been attempted is assumed to have no running owner."""

OVERDUE_COUNTED = 1_000
"""Maximum number of overdue deliveries that are counted for people."""


class WaitingRetry(NamedTuple):
    """A delivery that waits for its next attempt, with the id and search attributes of its activity."""

    message_id: UUID
    retry_id: str
    store_code: str
    event_id: UUID
    event_name: str
    url: str
    due_in_seconds: float
    """Not positive when the attempt is due, or when the last one has no outcome yet."""


WAITING_COLUMNS = """delivery.message_id, delivery.retry_id, delivery.store_code, delivery.event_id,
    delivery.event_name, delivery.url,
    CAST(coalesce(extract(epoch FROM delivery.next_attempt_at - clock_timestamp()), 0) AS float8) AS due_in_seconds"""
"""SQL over a row `delivery`: the columns of `WaitingRetry`."""

_PENDING_OF_EVENTS = text(f"""
SELECT delivery.message_id FROM delivery
JOIN {unnest("given", "store_code text, event_id uuid")} USING (store_code, event_id)
WHERE delivery.status = '{DeliveryStatus.PENDING}' AND delivery.variant <> '{TEST}'
""")


async def pending_of_events(connection: AsyncConnection, events: Sequence[tuple[str, UUID]]) -> list[UUID]:
    """Return the message ids of unsettled deliveries of these events (store code, event id)."""
    values = {"store_code": [store for store, _ in events], "event_id": [event_id for _, event_id in events]}
    return list(await connection.scalars(_PENDING_OF_EVENTS, values))


_OTHERS = "delivery.message_id NOT IN (SELECT message_id FROM planned)"
"""SQL: exclude the planned retries from the waiting rows, where they already are after an earlier failure."""

_OVERLOAD = text(f"""
WITH planned AS MATERIALIZED (
    SELECT message_id, subscription_id, clock_timestamp() + make_interval(secs => next_in_seconds) AS due
    FROM {unnest("planned", "message_id uuid, subscription_id uuid, next_in_seconds float8")}
), numbered AS (
    SELECT message_id, subscription_id, date_trunc('second', due) AS due_second,
        row_number() OVER (PARTITION BY subscription_id ORDER BY due) AS of_subscription,
        row_number() OVER (PARTITION BY date_trunc('second', due) ORDER BY due) AS of_second, due
    FROM planned
), every AS MATERIALIZED (
    SELECT count(*) AS waiting FROM (
        SELECT FROM delivery WHERE delivery.status = '{DeliveryStatus.PENDING}' AND delivery.next_attempt_at IS NOT NULL
            AND {_OTHERS}
        ORDER BY delivery.next_attempt_at LIMIT {MOST_IN_ALL}
    ) AS rows
), subscription AS MATERIALIZED (
    SELECT given.subscription_id, counted.waiting
    FROM (SELECT DISTINCT subscription_id FROM planned) AS given CROSS JOIN LATERAL (
        SELECT count(*) AS waiting FROM (
            SELECT FROM delivery WHERE delivery.subscription_id = given.subscription_id
                AND delivery.status = '{DeliveryStatus.PENDING}' AND delivery.next_attempt_at IS NOT NULL AND {_OTHERS}
            LIMIT {MOST_OF_A_SUBSCRIPTION}
        ) AS rows
    ) AS counted
), second AS MATERIALIZED (
    SELECT given.due_second, counted.waiting
    FROM (SELECT DISTINCT due_second FROM numbered) AS given CROSS JOIN LATERAL (
        SELECT count(*) AS waiting FROM (
            SELECT FROM delivery WHERE delivery.status = '{DeliveryStatus.PENDING}'
                AND delivery.next_attempt_at >= given.due_second
                AND delivery.next_attempt_at < given.due_second + interval '1 second'
            LIMIT {MOST_DUE_IN_A_SECOND}
        ) AS rows
    ) AS counted
), kept AS (
    SELECT message_id, row_number() OVER (ORDER BY due) AS in_all
    FROM numbered JOIN subscription USING (subscription_id) JOIN second USING (due_second)
    WHERE of_subscription + subscription.waiting <= {MOST_OF_A_SUBSCRIPTION}
        AND of_second + second.waiting <= {MOST_DUE_IN_A_SECOND}
)
SELECT message_id FROM planned
EXCEPT SELECT message_id FROM kept, every WHERE in_all + every.waiting <= {MOST_IN_ALL}
""")


async def overload(connection: AsyncConnection, planned: Sequence[tuple[UUID, UUID, float]]) -> set[UUID]:
    """Return the deliveries that exceed the limits of waiting retries and have to be held instead.

    `planned`: (message id, subscription id, seconds until the next attempt) of attempts that just failed. Workers that
    count at the same moment may each use up the rest of a limit.
    """
    message_ids, subscription_ids, seconds = map(list, zip(*planned, strict=True))
    values = {"message_id": message_ids, "subscription_id": subscription_ids, "next_in_seconds": seconds}
    return set(await connection.scalars(_OVERLOAD, values))


# Not `clock_timestamp()`: it is volatile, so PostgreSQL would not use an index with it. The few destinations that have
# deliveries without an instant are found by a skip scan of the log's index. Were they many, as after the loss of
# Temporal's database, the inner LIMIT bounds a round; the next ones reach the other destinations.
_OVERDUE = text(f"""
WITH RECURSIVE {ALL_BRANCHES}
(SELECT next_attempt_at AS since, message_id FROM delivery
WHERE status = '{DeliveryStatus.PENDING}' AND next_attempt_at < statement_timestamp() - make_interval(secs => :seconds)
    AND (next_attempt_at, message_id) > (:since, :message_id)
ORDER BY next_attempt_at, message_id LIMIT :most)
UNION ALL
(SELECT waiting.created_at, waiting.message_id FROM branch CROSS JOIN LATERAL (
    SELECT delivery.created_at, delivery.message_id FROM delivery WHERE {IN_ANY_BRANCH}
        AND delivery.created_at < statement_timestamp() - make_interval(secs => :seconds)
        AND (delivery.created_at, delivery.message_id) > (:since, :message_id)
        AND delivery.next_attempt_at IS NULL AND delivery.variant <> '{TEST}'
    ORDER BY delivery.created_at, delivery.message_id LIMIT :most
) AS waiting WHERE branch.status = '{DeliveryStatus.PENDING}' LIMIT :most * {MOST_READ})
ORDER BY since, message_id LIMIT :most
""")

OverdueCursor: TypeAlias = tuple[datetime, UUID]
"""Position among the overdue deliveries: due instant, or else creation, and message id."""

LONGEST_OVERDUE: OverdueCursor = (datetime.fromtimestamp(0, UTC), UUID(int=0))
"""Cursor before the first overdue delivery."""


async def overdue(
    connection: AsyncConnection, *, most: int, after: OverdueCursor = LONGEST_OVERDUE
) -> list[OverdueCursor]:
    """Return pending deliveries behind the cursor, due or else created `OVERDUE_SECONDS` ago, the oldest first."""
    since, message_id = after
    values = {"seconds": OVERDUE_SECONDS, "most": most, "since": since, "message_id": message_id}
    return [(row.since, row.message_id) for row in await connection.execute(_OVERDUE, values)]


async def count_overdue(connection: AsyncConnection) -> int:
    """Return the number of overdue deliveries, counted up to `OVERDUE_COUNTED`."""
    return len(await overdue(connection, most=OVERDUE_COUNTED))


class OwnedDelivery(NamedTuple):
    """A pending delivery and its owner: the activity of its retries, or the workflow of its first attempt."""

    message_id: UUID
    retry_id: str | None
    workflow_id: str | None


# A sequential scan: there is no index of pending deliveries, because nearly every delivery would enter it for a moment.
_OWNED = text(f"""
SELECT delivery.message_id, delivery.retry_id, event.workflow_id FROM delivery
LEFT JOIN event ON event.store_code = delivery.store_code AND event.event_id = delivery.event_id
WHERE delivery.status = '{DeliveryStatus.PENDING}' AND delivery.variant <> '{TEST}' ORDER BY delivery.event_sequence
""")


async def owned_deliveries(connection: AsyncConnection) -> list[OwnedDelivery]:
    """Return every pending delivery, oldest event first. Reads the whole table of deliveries."""
    return list(rows_as(OwnedDelivery, await connection.execute(_OWNED)))


class RunningBulkAction(NamedTuple):
    """A recovery or backfill that has not ended."""

    id: UUID
    kind: Literal["recover", "backfill"]
    subscription_id: UUID
    url: str


class PendingWork(NamedTuple):
    """Work that workers find by themselves: unmatched events and held deliveries."""

    unmatched_events: int
    held_deliveries: int


_RUNNING = text("""
SELECT action.id, action.kind, action.subscription_id, subscription.url
FROM bulk_action AS action JOIN subscription ON subscription.id = action.subscription_id
WHERE action.status = 'running' AND action.created_at <= clock_timestamp() - make_interval(secs => :at_least)
ORDER BY action.created_at, action.id
""")

_PENDING_WORK = text(f"""
SELECT (SELECT count(*) FROM event WHERE matched_at IS NULL) AS unmatched_events,
    (SELECT count(*) FROM delivery WHERE status = '{DeliveryStatus.HELD}') AS held_deliveries
""")


async def running_bulk_actions(
    connection: AsyncConnection, *, at_least_seconds: float = 0.0
) -> list[RunningBulkAction]:
    """Return the bulk actions that have been running for at least this time, oldest first."""
    return all_as(RunningBulkAction, await connection.execute(_RUNNING, {"at_least": at_least_seconds}))


async def pending_work(connection: AsyncConnection) -> PendingWork:
    """Count the unmatched events and the held deliveries."""
    return PendingWork(**(await connection.execute(_PENDING_WORK)).one()._asdict())
