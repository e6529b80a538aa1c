"""Every statement that creates or changes a delivery.

`CARRIED_OUT_BY` lists the functions by the causes of `domain.delivery.lifecycle.TRANSITIONS`, and
`tests/storage/test_transitions.py` runs each over deliveries of every status. Rows are deleted elsewhere: by retention
(`storage/events/retention.py`), and a test whose start failed by `storage/subscriptions/draft_tests.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.identity import drain_workflow_id
from domain.delivery.lifecycle import (
    OPEN,
    TERMINAL,
    UNCHANGED,
    Cause,
    DeliveryStatus,
    Reason,
    SubscriptionStatus,
    Transition,
)
from domain.wire.bodies import MAIN, TEST
from storage.columns import as_arrays, by_column, in_list, unnest
from storage.deliveries.attempts import Outcome, by_day
from storage.deliveries.retries import WAITING_COLUMNS, WaitingRetry
from storage.deliveries.skip_scan import BRANCHES, IN_BRANCH
from storage.events.days import LAST_ATTEMPT_OF_DELIVERY

_PENDING, _HELD, _DELIVERED, _EXHAUSTED, _CANCELLED = (f"'{status}'" for status in DeliveryStatus)
_OPEN = in_list(OPEN)

ENDED_AT_ONCE = 1_000
"""Maximum number of deliveries ended in one transaction, which takes some tenths of a second. An outage may leave
millions, and a statement that exceeds the worker's statement time-out would be repeated for ever."""

_NO_NEXT_ATTEMPT = "next_attempt_at = NULL, not_before = NULL, ended_at = clock_timestamp()"
"""SQL assignments of a delivery that ends."""


# Creation: match, test, backfill, format migration

MATCHED_COLUMNS = """message_id uuid, store_code text, event_id uuid, event_name text, event_sequence bigint,
    accepted_on date, subscription_id uuid, variant text, url text, status text, reason text, workflow_id text,
    ordering_key bigint, request_id uuid, legacy bool"""
"""Columns of a delivery that a match creates. `request_id` and `legacy` belong to its first attempt; `request_id` is
null when the delivery is not attempted at once."""

_CREATE_MATCHED = text(f"""
WITH made AS MATERIALIZED (SELECT * FROM {unnest("made", MATCHED_COLUMNS)}
), intended AS (
    INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy)
    SELECT accepted_on, message_id, 1, request_id, 'automatic', :worker_id, legacy FROM made
    WHERE request_id IS NOT NULL ON CONFLICT (accepted_on, message_id, number) DO NOTHING
)
INSERT INTO delivery (message_id, store_code, event_id, event_name, event_sequence, accepted_on, subscription_id,
    variant, url, status, reason, workflow_id, ordering_key, ended_at)
SELECT message_id, store_code, event_id, event_name, event_sequence, accepted_on, subscription_id,
    variant, url, status, reason, workflow_id, ordering_key, CASE status WHEN {_EXHAUSTED} THEN clock_timestamp() END
FROM made ON CONFLICT (message_id) DO NOTHING
""")


async def create_matched(connection: AsyncConnection, made: Sequence[Sequence[Any]], *, worker_id: UUID) -> None:
    """Create the deliveries in `made` (`MATCHED_COLUMNS`) that do not exist, with the intents of first attempts."""
    columns = as_arrays(MATCHED_COLUMNS, zip(*made, strict=True))
    await connection.execute(_CREATE_MATCHED, {"worker_id": worker_id, **columns})


_CREATE_TEST = text(f"""
INSERT INTO delivery (message_id, store_code, event_id, event_name, event_sequence, accepted_on, subscription_id,
    variant, url, status, reason, workflow_id)
VALUES (:message_id, :store_code, :event_id, :event_name, :sequence, :accepted_on, :subscription_id, '{TEST}', :url,
    {_PENDING}, '{Reason.TEST}', :workflow_id)
""")


async def create_test(connection: AsyncConnection, values: Mapping[str, Any]) -> None:
    """Create the one delivery of a sample event, from the statement's columns."""
    await connection.execute(_CREATE_TEST, values)


class Backfill(NamedTuple):
    """Subscription and bulk action that deliveries are created for."""

    action_id: UUID
    store_code: str
    event_name: str
    subscription_id: UUID
    url: str


_CREATE_BACKFILLED = text(f"""
INSERT INTO delivery (message_id, store_code, event_id, event_name, event_sequence, accepted_on, subscription_id,
    variant, url, status, reason, workflow_id, bulk_action_id)
SELECT made.message_id, :store_code, made.event_id, :event_name, made.event_sequence, made.accepted_on,
    :subscription_id, made.variant, :url, {_HELD}, '{Reason.BACKFILLED}', :workflow_id, :action_id
FROM {unnest("made", "message_id uuid, event_id uuid, event_sequence bigint, accepted_on date, variant text")}
ON CONFLICT (message_id) DO NOTHING
""")


async def create_backfilled(
    connection: AsyncConnection, backfill: Backfill, columns: Mapping[str, Sequence[Any]]
) -> int:
    """Create held deliveries of events that have none, from the statement's columns; return how many."""
    values = {**backfill._asdict(), "workflow_id": drain_workflow_id(backfill.subscription_id), **columns}
    return (await connection.execute(_CREATE_BACKFILLED, values)).rowcount


_ADOPT = text(f"""
INSERT INTO delivery (message_id, store_code, event_id, event_name, event_sequence, accepted_on, subscription_id,
    variant, url, status, reason, workflow_id, ordering_key)
SELECT adopted.message_id, modern.store_code, adopted.event_id, modern.event_name, adopted.event_sequence,
    adopted.accepted_on, modern.id, '{MAIN}', modern.url, {_HELD}, '{Reason.SUBSCRIPTION_PAUSED}', :workflow_id,
    adopted.ordering_key
FROM {unnest("adopted", "message_id uuid, event_id uuid, event_sequence bigint, accepted_on date, ordering_key bigint")}
JOIN subscription AS modern ON modern.id = :modern_id
ON CONFLICT (message_id) DO NOTHING
""")


async def adopt(connection: AsyncConnection, modern_id: UUID, columns: Mapping[str, Sequence[Any]]) -> None:
    """Create held deliveries at a pair's modern subscription for those open at the legacy one only."""
    values = {**columns, "modern_id": modern_id, "workflow_id": drain_workflow_id(modern_id)}
    await connection.execute(_ADOPT, values)


# Attempts: outcomes and withdrawn intents

# An outcome to be retried does not change the status: a delivery that was held meanwhile stays held, for its reason. It
# commits the id of the activity that owns the later attempts, before that activity is started.

_OUTCOME = """message_id uuid, number int, began_seconds_ago float8, duration_ms int, status_code int, failure text,
    detail text, response_excerpt text, body_sha256 bytea, url text, status text, reason text, failures int,
    next_in_seconds float8, workflow_id text, holds_group bool, retry_after_seconds float8, signed_at bigint"""
_RECORD_SQL = f"""
WITH outcome AS MATERIALIZED (
    SELECT *, clock_timestamp() + make_interval(secs => retry_after_seconds) AS not_before
    FROM {unnest("outcome", _OUTCOME)}
), recorded AS (
    UPDATE attempt SET
        started_at = clock_timestamp() - make_interval(secs => outcome.began_seconds_ago),
        outcome_at = clock_timestamp(), duration_ms = outcome.duration_ms, status_code = outcome.status_code,
        failure = outcome.failure, detail = outcome.detail,
        response_excerpt = outcome.response_excerpt, body_sha256 = outcome.body_sha256, signed_at = outcome.signed_at
    FROM outcome WHERE attempt.accepted_on = :day AND attempt.message_id = outcome.message_id
        AND attempt.number = outcome.number
)
UPDATE delivery SET
    status = CASE WHEN outcome.status IN ({_PENDING}, '{UNCHANGED}') THEN delivery.status ELSE outcome.status END,
    reason = CASE WHEN outcome.status IN ({_PENDING}, '{UNCHANGED}')
            OR outcome.reason = '{Reason.OVERLOAD}' AND delivery.status = {_HELD}
        THEN delivery.reason ELSE outcome.reason END,
    url = outcome.url, attempts = greatest(delivery.attempts, outcome.number),
    failures = CASE WHEN outcome.status = '{UNCHANGED}' THEN delivery.failures ELSE outcome.failures END,
    last_status_code = outcome.status_code, last_failure = outcome.failure,
    next_attempt_at = CASE WHEN outcome.status <> '{UNCHANGED}'
            THEN clock_timestamp() + make_interval(secs => outcome.next_in_seconds)
        WHEN delivery.status IN {_OPEN} THEN greatest(delivery.next_attempt_at, outcome.not_before) END,
    not_before = CASE WHEN outcome.status IN {_OPEN} THEN outcome.not_before
        WHEN outcome.status = '{UNCHANGED}' AND delivery.status IN {_OPEN}
            THEN greatest(delivery.not_before, outcome.not_before) END,
    ended_at = CASE WHEN outcome.status IN {in_list(TERMINAL)} THEN clock_timestamp()
        WHEN outcome.status = '{UNCHANGED}' THEN delivery.ended_at END,
    workflow_id = coalesce(outcome.workflow_id, delivery.workflow_id),
    retry_id = CASE WHEN outcome.status = {_HELD} THEN NULL
        WHEN outcome.status = {_PENDING} AND delivery.status = {_PENDING}
            THEN coalesce(delivery.retry_id, delivery.message_id || '/' || outcome.number)
        ELSE delivery.retry_id END,
    holds_group = CASE outcome.status WHEN '{UNCHANGED}' THEN delivery.holds_group
        WHEN {_EXHAUSTED} THEN outcome.holds_group ELSE false END
FROM outcome WHERE delivery.message_id = outcome.message_id AND (
    outcome.status IN ({_DELIVERED}, '{UNCHANGED}')
    OR delivery.status IN {_OPEN} AND (outcome.number > delivery.attempts
        OR outcome.number = delivery.attempts AND delivery.reason IS DISTINCT FROM '{Reason.RECOVERED}')
)
"""
_RECORD = text(_RECORD_SQL)
_RECORD_EXHAUSTED = text(_RECORD_SQL + " RETURNING delivery.subscription_id, outcome.status, outcome.reason")


async def record(connection: AsyncConnection, outcomes: Sequence[Outcome]) -> list[tuple[UUID, str | None]]:
    """Write outcomes and the new state of their deliveries; return (subscription, reason) of each delivery exhausted.

    An outcome may come late, from a worker that was assumed dead while others continued, or after a recovery: then only
    a success changes the delivery. The last one may be recorded twice, if its first commit was not confirmed.
    """
    exhausted: list[tuple[UUID, str | None]] = []
    for day, rows in by_day(outcomes):
        values = {"day": day, **by_column(rows, _OUTCOME)}
        if all(outcome.status != DeliveryStatus.EXHAUSTED for outcome in rows):
            await connection.execute(_RECORD, values)
            continue
        ended = await connection.execute(_RECORD_EXHAUSTED, values)
        exhausted += [(row.subscription_id, row.reason) for row in ended if row.status == DeliveryStatus.EXHAUSTED]
    return exhausted


# Locked rows are skipped: their outcome is being written, which gives them an id or ends them.
_OWN = text(f"""
WITH given AS MATERIALIZED (SELECT unnest(CAST(:message_ids AS uuid[])) AS message_id
), assigned AS (
    UPDATE delivery SET retry_id = delivery.message_id || '/' || delivery.attempts
    FROM (
        SELECT delivery.message_id FROM delivery JOIN given USING (message_id)
        WHERE delivery.status = {_PENDING} AND delivery.retry_id IS NULL
        ORDER BY delivery.message_id FOR UPDATE OF delivery SKIP LOCKED
    ) AS without_id
    WHERE delivery.message_id = without_id.message_id RETURNING {WAITING_COLUMNS}
)
SELECT * FROM assigned
UNION ALL
SELECT {WAITING_COLUMNS} FROM delivery JOIN given USING (message_id)
WHERE delivery.status = {_PENDING} AND delivery.retry_id IS NOT NULL
""")


async def own_retries(connection: AsyncConnection, message_ids: Sequence[UUID]) -> list[WaitingRetry]:
    """Return the pending ones of these deliveries, each with the id of its activity; not those being written.
    Deliveries without an id get one, which the transaction commits before the caller starts the activity."""
    rows = await connection.execute(_OWN, {"message_ids": list(message_ids)})
    return [WaitingRetry(**row._mapping) for row in rows]


def _applies(reason: str) -> str:
    """Return SQL over a row `delivery`: false if the reason is a disabled or deleted subscription that no longer is."""
    return f"""CASE {reason} WHEN '{Reason.SUBSCRIPTION_DELETED}' THEN
        EXISTS (SELECT FROM subscription WHERE id = delivery.subscription_id AND deleted_at IS NOT NULL)
    WHEN '{Reason.SUBSCRIPTION_DISABLED}' THEN EXISTS (
        SELECT FROM subscription WHERE id = delivery.subscription_id AND status = '{SubscriptionStatus.DISABLED}')
    ELSE true END"""


# An intent is deleted only while it is open: a worker that found its lease lapsed has closed it and owns the delivery.
# A delivery whose subscription was enabled meanwhile stays pending, and `schedule-retries` or `watch_overdue` starts
# its activity.
_WITHDRAWN = "message_id uuid, number int, status text, reason text, workflow_id text"
_WITHDRAW = text(f"""
WITH withdrawn AS MATERIALIZED (SELECT * FROM {unnest("withdrawn", _WITHDRAWN)}
), gone AS (
    DELETE FROM attempt USING withdrawn
    WHERE attempt.accepted_on = :day AND attempt.message_id = withdrawn.message_id
        AND attempt.number = withdrawn.number AND attempt.outcome_at IS NULL
    RETURNING attempt.message_id
)
UPDATE delivery SET status = withdrawn.status, reason = withdrawn.reason, retry_id = NULL,
    workflow_id = coalesce(withdrawn.workflow_id, delivery.workflow_id),
    ended_at = CASE WHEN withdrawn.status <> {_HELD} THEN clock_timestamp() END
FROM withdrawn JOIN gone ON gone.message_id = withdrawn.message_id
WHERE delivery.message_id = withdrawn.message_id AND delivery.status = {_PENDING} AND {_applies("withdrawn.reason")}
""")


async def withdraw(connection: AsyncConnection, withdrawn: Sequence[Outcome]) -> None:
    """Delete intents of queued attempts without a request; their pending deliveries get the outcome's status."""
    for day, rows in by_day(withdrawn):
        await connection.execute(_WITHDRAW, {"day": day} | by_column(rows, _WITHDRAWN))


# Suspension and ends without an attempt

_HOLD = text(f"""
UPDATE delivery SET status = {_HELD}, reason = :reason, workflow_id = :workflow_id, retry_id = NULL
WHERE message_id = :id AND status = {_PENDING}
""")


async def hold(connection: AsyncConnection, message_id: UUID, reason: Reason, workflow_id: str) -> None:
    """Give a pending delivery to its subscription's drain."""
    await connection.execute(_HOLD, {"id": message_id, "reason": reason, "workflow_id": workflow_id})


# The subscription may have been enabled again since the caller read it.
_END = text(f"""
UPDATE delivery SET status = :status, reason = :reason, {_NO_NEXT_ATTEMPT}
WHERE message_id = :message_id AND status IN {_OPEN} AND {_applies(":reason")}
""")


async def end(connection: AsyncConnection, identity: UUID, status: DeliveryStatus, reason: Reason) -> bool:
    """End an open delivery without an attempt; return False if it has ended or the reason does not apply any more."""
    values = {"message_id": identity, "status": status, "reason": reason}
    return (await connection.execute(_END, values)).rowcount == 1


# Here and below, locked rows are skipped: a recorder is writing their outcome and may be about to lock rows locked
# here, which would deadlock. The next attempt, or the drain's next round, ends them.
_END_HELD = text(f"""
UPDATE delivery SET status = :status, reason = :reason, {_NO_NEXT_ATTEMPT} FROM (
    SELECT message_id FROM delivery WHERE subscription_id = :subscription_id AND status = {_HELD}
    ORDER BY event_sequence, message_id LIMIT :most FOR UPDATE SKIP LOCKED
) AS waiting
WHERE delivery.message_id = waiting.message_id
""")

_END_PENDING = text(f"""
WITH RECURSIVE {BRANCHES}
UPDATE delivery SET status = :status, reason = :reason, {_NO_NEXT_ATTEMPT} FROM (
    SELECT waiting.message_id FROM branch CROSS JOIN LATERAL (
        SELECT delivery.message_id FROM delivery WHERE {IN_BRANCH} LIMIT :most FOR UPDATE SKIP LOCKED
    ) AS waiting WHERE branch.status = {_PENDING} LIMIT :most
) AS waiting
WHERE delivery.message_id = waiting.message_id
""")


async def end_open(
    connection: AsyncConnection, subscription_id: UUID, *, status: DeliveryStatus, reason: Reason
) -> int:
    """End at most `ENDED_AT_ONCE` open deliveries of a subscription, return how many; the drain ends the rest."""
    values = {"subscription_id": subscription_id, "status": status, "reason": reason}
    held = (await connection.execute(_END_HELD, {**values, "most": ENDED_AT_ONCE})).rowcount
    if held == ENDED_AT_ONCE:
        return held
    pending = await connection.execute(_END_PENDING, {**values, "most": ENDED_AT_ONCE - held})
    return held + pending.rowcount


_BEFORE_SCHEDULE = "clock_timestamp() - make_interval(secs => :seconds)"
# A pause or a limit may have held them for longer, without a probe.
_OUTWAITED = text(f"""
UPDATE delivery SET status = {_EXHAUSTED}, reason = '{Reason.BREAKER_OPEN}', {_NO_NEXT_ATTEMPT},
    holds_group = (SELECT ordered AND after_exhausted = 'hold' FROM subscription WHERE subscription.id = :id)
FROM (
    SELECT message_id FROM delivery
    WHERE subscription_id = :id AND status = {_HELD} AND created_at < {_BEFORE_SCHEDULE}
        AND NOT EXISTS (SELECT FROM bulk_action WHERE bulk_action.id = delivery.bulk_action_id
            AND bulk_action.created_at >= {_BEFORE_SCHEDULE})
        AND EXISTS (SELECT FROM subscription JOIN subscription_health ON subscription_id = subscription.id
            WHERE subscription.id = :id AND greatest(status_since, breaker_opened_at) < {_BEFORE_SCHEDULE}
                AND breaker_opened_at IS NOT NULL)
    ORDER BY event_sequence, message_id LIMIT :most FOR UPDATE SKIP LOCKED
) AS outwaited
WHERE delivery.message_id = outwaited.message_id
""")


async def exhaust_outwaited(connection: AsyncConnection, subscription_id: UUID, schedule_seconds: float) -> int:
    """Exhaust at most `ENDED_AT_ONCE` deliveries, return how many: those whose receiver was probed in vain for a whole
    retry schedule since they were created or their bulk action began."""
    values = {"id": subscription_id, "seconds": schedule_seconds, "most": ENDED_AT_ONCE}
    return (await connection.execute(_OUTWAITED, values)).rowcount


_END_LOST_TESTS = text(f"""
UPDATE delivery SET status = {_CANCELLED}, reason = '{Reason.TEST_LOST}', ended_at = clock_timestamp()
WHERE variant = '{TEST}' AND status = {_PENDING} AND attempts = 0
    AND created_at < clock_timestamp() - make_interval(secs => :seconds)
    AND NOT EXISTS (SELECT FROM attempt WHERE attempt.accepted_on = delivery.accepted_on
        AND attempt.message_id = delivery.message_id)
""")


async def end_lost_tests(connection: AsyncConnection, *, seconds: float) -> int:
    """Cancel tests that were not started within this time; return how many."""
    return (await connection.execute(_END_LOST_TESTS, {"seconds": seconds})).rowcount


_CANCEL_ERASED = text(f"""
UPDATE delivery SET status = {_CANCELLED}, reason = '{Reason.EVENT_ERASED}', {_NO_NEXT_ATTEMPT}
WHERE store_code = :store_code AND event_id = ANY(CAST(:ids AS uuid[])) AND status IN {_OPEN}
""")


async def cancel_erased(connection: AsyncConnection, store_code: str, event_ids: Sequence[UUID]) -> int:
    """Cancel the open deliveries of these events; return how many."""
    values = {"store_code": store_code, "ids": list(event_ids)}
    return (await connection.execute(_CANCEL_ERASED, values)).rowcount


# Operator actions

_CANCEL = text(f"""
UPDATE delivery SET status = {_CANCELLED}, reason = '{Reason.CANCELLED_BY_PERSON}', {_NO_NEXT_ATTEMPT},
    holds_group = false
WHERE message_id = :id AND (status IN {_OPEN} OR holds_group)
""")


async def cancel(connection: AsyncConnection, message_id: UUID) -> bool:
    """Cancel an open delivery, or an exhausted one that holds its successors; return False if it had ended."""
    return (await connection.execute(_CANCEL, {"id": message_id})).rowcount == 1


# `attempts` becomes the number of the last attempt begun, so that `record` ignores a failure that began before.
_RECOVER = text(f"""
WITH page AS MATERIALIZED (
    SELECT delivery.message_id, attempt.number AS begun FROM delivery {LAST_ATTEMPT_OF_DELIVERY}
    WHERE delivery.message_id = ANY(:ids) AND status = ANY(:statuses) AND status IN {in_list(TERMINAL)}
    ORDER BY created_at, delivery.message_id FOR UPDATE OF delivery
)
UPDATE delivery SET status = {_HELD}, reason = '{Reason.RECOVERED}', failures = 0, next_attempt_at = NULL,
    ended_at = NULL, not_before = NULL, retry_id = NULL, holds_group = false, workflow_id = :workflow_id,
    bulk_action_id = :action_id, attempts = greatest(delivery.attempts, page.begun)
FROM page WHERE delivery.message_id = page.message_id
""")


async def recover(
    connection: AsyncConnection,
    message_ids: Sequence[UUID],
    *,
    statuses: Sequence[str],
    subscription_id: UUID,
    action_id: UUID,
) -> int:
    """Reopen those of the given deliveries whose status is one of `statuses`, and return how many. The retry schedule
    starts anew, attempt numbers continue."""
    drain = {"workflow_id": drain_workflow_id(subscription_id), "action_id": action_id}
    values = {"ids": list(message_ids), "statuses": list(statuses), **drain}
    return (await connection.execute(_RECOVER, values)).rowcount


# An event may have two deliveries in legacy format, but one in modern format: it is open while either of the two is.
WAITING_AT_MODERN = f"""
SELECT held.message_id, (
    SELECT coalesce(max(CASE WHEN former.status IN {_OPEN} THEN 2 ELSE 1 END), 0) FROM delivery AS former
    WHERE former.event_id = held.event_id AND former.subscription_id = :id AND former.variant <> '{TEST}'
) AS former
FROM delivery AS held WHERE held.subscription_id = :modern_id AND held.status = {_HELD} AND held.variant <> '{TEST}'
"""
"""SQL: deliveries held at the modern subscription of a pair. `former` is the event's state at the legacy subscription:
2 open, 1 ended, 0 no delivery."""

_SWITCH_OVER = f"""
UPDATE delivery SET status = {_CANCELLED}, reason = '{Reason.SWITCHED_OVER}', {_NO_NEXT_ATTEMPT}, holds_group = false
"""
_CANCEL_DONE = text(f"""{_SWITCH_OVER}
FROM ({WAITING_AT_MODERN}) AS waiting
WHERE waiting.former = 1 AND delivery.message_id = waiting.message_id AND delivery.status = {_HELD}
""")
_CANCEL_MOVED = text(f"""{_SWITCH_OVER}
WHERE subscription_id = :id AND status IN {_OPEN} AND variant <> '{TEST}' AND EXISTS (
    SELECT FROM delivery AS held WHERE held.event_id = delivery.event_id AND held.subscription_id = :modern_id
        AND held.status = {_HELD}
)
""")


async def cancel_switched_over(connection: AsyncConnection, legacy_id: UUID, modern_id: UUID) -> tuple[int, int]:
    """Assign each waiting event to one subscription of the pair.

    Return the number of deliveries cancelled at the modern one, because their event has ended at the legacy one, and at
    the legacy one, because the modern one sends their event.
    """
    values = {"id": legacy_id, "modern_id": modern_id}
    dropped = (await connection.execute(_CANCEL_DONE, values)).rowcount
    return dropped, (await connection.execute(_CANCEL_MOVED, values)).rowcount


# Ordering

_ASSIGN_KEYS = text(f"""
UPDATE delivery SET ordering_key = assigned.ordering_key
FROM {unnest("assigned", "message_id uuid, ordering_key bigint")}
WHERE delivery.message_id = assigned.message_id AND delivery.status = {_HELD}
""")


async def assign_ordering_keys(
    connection: AsyncConnection, message_ids: Sequence[UUID], ordering_keys: Sequence[int]
) -> None:
    """Write the ordering keys of held deliveries."""
    await connection.execute(_ASSIGN_KEYS, {"message_id": list(message_ids), "ordering_key": list(ordering_keys)})


async def release_groups(connection: AsyncConnection, subscription_id: UUID) -> None:
    released = text("UPDATE delivery SET holds_group = false WHERE subscription_id = :id AND holds_group")
    await connection.execute(released, {"id": subscription_id})


_RECORDED = (Cause.SUCCESS, Cause.FAILURE, Cause.MANUAL_FAILURE, Cause.FINAL_FAILURE, Cause.ERASED_BODY)

CARRIED_OUT_BY: Mapping[Cause, tuple[Callable[..., Any], ...]] = {
    Cause.MATCH: (create_matched,),
    Cause.SEND_TEST: (create_test,),
    Cause.BACKFILL: (create_backfilled,),
    **dict.fromkeys(_RECORDED, (record,)),
    Cause.SUSPEND: (hold, withdraw),
    Cause.OUTWAIT: (exhaust_outwaited,),
    **dict.fromkeys((Cause.DISABLE, Cause.DELETE), (end_open, end, withdraw)),
    Cause.ERASE: (cancel_erased,),
    Cause.CANCEL: (cancel,),
    Cause.RETRY: (own_retries,),
    Cause.RECOVER: (recover,),
    Cause.ADOPT: (adopt,),
    Cause.SWITCH_OVER: (cancel_switched_over,),
    Cause.LOSE_TEST: (end_lost_tests,),
    Cause.ASSIGN_ORDER_KEY: (assign_ordering_keys,),
    Cause.RELEASE_ORDER: (release_groups,),
}
"""The functions that carry out the transitions of each cause."""


def carried_out_by(row: Transition) -> tuple[Callable[..., Any], ...]:
    """Return the functions that carry out a transition: an attempt is withdrawn only from a pending delivery."""
    return tuple(
        one for one in CARRIED_OUT_BY[row.cause] if one is not withdraw or row.source == DeliveryStatus.PENDING
    )
