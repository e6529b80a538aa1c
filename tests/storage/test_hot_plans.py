"""With tens of thousands of rows of each kind, no statement of the delivery's way reads a table from end to end."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.breaker import BreakerRules
from storage.database import Database
from storage.deliveries.actions import delivery_for_action
from storage.deliveries.attempts import Intent, Outcome, intend
from storage.deliveries.bulk_actions import BulkActionKind, NewBulkAction, begin_bulk_action, count_recoverable
from storage.deliveries.bulk_pages import go_on
from storage.deliveries.held import subscriptions_to_drain
from storage.deliveries.matching import match
from storage.deliveries.open import held_fresh, held_of, held_retries_due, load
from storage.deliveries.ordering import assign_missing_keys, first_of_groups, first_of_these, first_unmatched
from storage.deliveries.retries import MOST_OF_A_SUBSCRIPTION, overdue, overload, pending_of_events
from storage.deliveries.transitions import end, end_open, exhaust_outwaited, own_retries, record
from storage.events.outbox import ClaimLimits, backlog, claim, claim_lapsed
from storage.subscriptions.state import failing, record_health
from tests.bulk_actions import everything
from tests.databases import cloned_database
from tests.ground import STORE, Ground, today
from tests.storage.plans import explained

DONE = 30_000
HELD = 30_000
CLAIMED = 600
BACKLOG = 30_000
BATCH = 600
FUTURE = 30_000
"""Retries that are not due, of each kind: by activities, and of one subscription by its drain."""

ORDERED = uuid4()
DRAINED = uuid4()


@pytest.fixture(scope="module")
async def laden_url(database_template: str) -> AsyncIterator[str]:
    """A database apart from the module's, which tests with `ground` clear."""
    async with cloned_database(database_template) as url:
        yield url


@pytest.fixture(scope="module")
async def laden(laden_url: str) -> AsyncIterator[Ground]:
    """Events that are delivered, some that are claimed, and a long backlog behind them."""
    database = Database(laden_url, pool_size=2)
    ground = Ground(database)
    await ground.add_store()
    subscription_id = await ground.subscribe("CustomerUpdated", "http://receiver.example.com/")
    for condition, count in (("true", DONE), ("false", CLAIMED), ("NULL", BACKLOG)):
        await ground.execute(
            f"""
            INSERT INTO event (store_code, event_id, name, created_at, created_at_text, digest, workflow_id,
                claimed_until, matched_at)
            SELECT :store, gen_random_uuid(), 'CustomerUpdated', now(), '', '',
                CASE WHEN {condition} IS NOT NULL THEN 'events/' || n / 300 END,
                CASE WHEN {condition} IS NOT NULL THEN now() + interval '1 hour' END,
                CASE WHEN {condition} THEN now() END
            FROM generate_series(1, :count) AS n
            """,
            store=STORE,
            count=count,
        )
    await ground.execute(
        "INSERT INTO event_body (accepted_on, store_code, event_id, data) "
        "SELECT accepted_on, store_code, event_id, '{}' FROM event"
    )
    await ground.execute(
        """
        INSERT INTO delivery (message_id, store_code, event_id, event_name, event_sequence, subscription_id, variant,
            url, status, attempts)
        SELECT gen_random_uuid(), store_code, event_id, name, sequence, :subscription, 'main',
            'http://receiver.example.com/', 'delivered', 1
        FROM event WHERE matched_at IS NOT NULL
        """,
        subscription=subscription_id,
    )
    await ground.execute(
        """
        INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy, outcome_at,
            status_code)
        SELECT accepted_on, message_id, 1, gen_random_uuid(), 'automatic', gen_random_uuid(), false, now(), 200
        FROM delivery
        """
    )
    await hold_lines(ground)
    await wait_for_retries(ground)
    await ground.execute(
        """
        INSERT INTO subscription_health (subscription_id, failures_in_row)
        SELECT gen_random_uuid(), 0 FROM generate_series(1, 2000)
        """
    )
    async with database.engine.connect() as connection:
        autocommitting = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommitting.execute(
            text("VACUUM (ANALYZE) event, delivery, attempt, subscription_health, subscription")
        )
    yield ground
    await database.close()


async def hold_lines(ground: Ground) -> None:
    """Held deliveries of a subscription ordered by customer: most of one customer's, the rest of a thousand others."""
    fields = {"id": ORDERED, "ordered": True, "order_key": "customer"}
    await ground.subscribe("CustomerUpdated", "http://ordered.example.com/", **fields)
    await ground.execute(
        """
        INSERT INTO delivery (message_id, store_code, event_id, event_name, event_sequence, subscription_id, variant,
            url, status, reason, ordering_key, holds_group)
        SELECT gen_random_uuid(), store_code, event_id, name, sequence, :subscription, 'main',
            'http://ordered.example.com/', CASE WHEN n % 500 = 0 THEN 'exhausted' ELSE 'held' END, 'limited',
            CASE WHEN n % 20 = 0 THEN 1 + n % 1000 ELSE 0 END, n % 500 = 0
        FROM (SELECT *, row_number() OVER (ORDER BY sequence) AS n FROM event WHERE matched_at IS NOT NULL) AS event
        LIMIT :count
        """,
        subscription=ORDERED,
        count=HELD,
    )


async def wait_for_retries(ground: Ground) -> None:
    """Deliveries whose retries are hours away: pending ones of many subscriptions, held ones of one."""
    await ground.subscribe("CustomerDeactivated", "http://drained.example.com/", id=DRAINED)
    await ground.execute(
        """
        INSERT INTO delivery (message_id, store_code, event_id, event_name, event_sequence, subscription_id, variant,
            url, status, attempts, failures, retry_id, next_attempt_at, created_at)
        SELECT gen_random_uuid(), event.store_code, event_id, name, sequence, subscription.id, 'main', subscription.url,
            CASE WHEN subscription.id = :drained THEN 'held' ELSE 'pending' END, 1, 1,
            CASE WHEN subscription.id <> :drained THEN event_id || '/1' END,
            now() + make_interval(secs => 3600 + event.n), now() - interval '1 hour'
        FROM (SELECT *, row_number() OVER (ORDER BY sequence) AS n FROM event WHERE matched_at IS NOT NULL) AS event
        JOIN (
            SELECT gen_random_uuid() AS id, 'http://retried.example.com/' || n AS url, n
            FROM generate_series(1, :subscriptions) AS n
            UNION ALL SELECT id, url, 0 FROM subscription WHERE id = :drained
        ) AS subscription ON subscription.n IN (0, 1 + event.n % :subscriptions)
        WHERE event.n <= :count
        """,
        drained=DRAINED,
        subscriptions=FUTURE // MOST_OF_A_SUBSCRIPTION,
        count=FUTURE,
    )


async def retried_ids(connection: AsyncConnection) -> list[UUID]:
    waiting = f"SELECT message_id FROM delivery WHERE status = 'pending' LIMIT {BATCH}"
    return [row[0] for row in await connection.execute(text(waiting))]


async def unsettled(connection: AsyncConnection) -> list[UUID]:
    """Deliveries whose first attempt has no outcome, a batch of them."""
    ids = await retried_ids(connection)
    await connection.execute(
        text("UPDATE delivery SET retry_id = NULL, next_attempt_at = NULL WHERE message_id = ANY(:ids)"), {"ids": ids}
    )
    return ids


async def planned(connection: AsyncConnection) -> list[tuple[UUID, UUID, float]]:
    """Failures of many subscriptions whose retries fall due in an hour, when others do."""
    waiting = f"SELECT message_id, subscription_id FROM delivery WHERE status = 'pending' LIMIT {BATCH}"
    rows = await connection.execute(text(waiting))
    return [(row[0], row[1], 3600.0 + number) for number, row in enumerate(rows)]


def outcome_of(message_id: UUID) -> Outcome:
    return Outcome(
        accepted_on=today(),
        message_id=message_id,
        number=1,
        began_seconds_ago=0,
        duration_ms=1,
        status_code=200,
        failure=None,
        detail=None,
        response_excerpt=None,
        body_sha256=None,
        url="http://receiver.example.com/",
        status="delivered",
        reason=None,
        failures=0,
        next_in_seconds=None,
        workflow_id=None,
    )


async def keys(connection: AsyncConnection, condition: str) -> list[tuple[str, UUID]]:
    rows = await connection.execute(text(f"SELECT store_code, event_id FROM event WHERE {condition} LIMIT {BATCH}"))
    return [(row[0], row[1]) for row in rows]


async def message_ids(connection: AsyncConnection) -> list[UUID]:
    return [row[0] for row in await connection.execute(text(f"SELECT message_id FROM delivery LIMIT {BATCH}"))]


async def held_ids(connection: AsyncConnection) -> list[UUID]:
    held = f"SELECT message_id FROM delivery WHERE status = 'held' ORDER BY event_sequence DESC LIMIT {BATCH}"
    return [row[0] for row in await connection.execute(text(held))]


async def no_keys(_: AsyncConnection) -> None:
    return None


async def recovering(connection: AsyncConnection) -> UUID:
    """A recovery of all that failed in a subscription that has a hundred thousand others."""
    act = NewBulkAction(uuid4(), BulkActionKind.RECOVER, STORE, ORDERED, everything(("exhausted",)), None, 1)
    await begin_bulk_action(connection, act)
    return act.id


async def all_delivered(connection: AsyncConnection) -> UUID:
    """A subscription of which nothing waits."""
    return (
        await connection.execute(text("SELECT id FROM subscription WHERE url = 'http://receiver.example.com/'"))
    ).scalar_one()


async def failing_for_months(connection: AsyncConnection) -> None:
    """A subscription of which much was exhausted before the first failure in a row, and much is held."""
    await connection.execute(
        text(
            "UPDATE delivery SET status = 'exhausted', ended_at = now() - interval '10 days' WHERE message_id IN ("
            f"SELECT message_id FROM delivery WHERE subscription_id = :id AND status = 'held' LIMIT {HELD // 5})"
        ),
        {"id": ORDERED},
    )
    await connection.execute(
        text(
            "INSERT INTO subscription_health (subscription_id, failures_in_row, failing_since, breaker_opened_at) "
            "VALUES (:id, 1, now() - interval '6 days', now() - interval '6 days')"
        ),
        {"id": ORDERED},
    )
    await connection.execute(text("UPDATE subscription SET status_since = now() - interval '7 days'"))


async def end_all(connection: AsyncConnection, subscription_id: UUID) -> int:
    return await end_open(connection, subscription_id, status="exhausted", reason="subscription_disabled")


Step = Callable[[AsyncConnection, Any], Awaitable[object]]

STEPS: list[tuple[str, Callable[[AsyncConnection], Awaitable[Any]], Step]] = [
    (
        "claim",
        lambda c: keys(c, "false"),
        lambda c, _: claim(c, ClaimLimits(10, BATCH, "events/x"), lease_seconds=9),
    ),
    (
        "look for what lapsed",
        lambda c: keys(c, "false"),
        lambda c, _: claim_lapsed(c, singles=32, batches=6, lease_seconds=9),
    ),
    (
        "match",
        lambda c: keys(c, "matched_at IS NULL AND workflow_id IS NULL"),
        lambda c, given: match(c, given, worker_id=uuid4(), may_begin=lambda _: True),
    ),
    (
        "match again",
        lambda c: keys(c, "matched_at IS NOT NULL"),
        lambda c, given: match(c, given, worker_id=uuid4(), may_begin=lambda _: True),
    ),
    ("record", message_ids, lambda c, given: record(c, [outcome_of(one) for one in given])),
    (
        "intend",
        message_ids,
        lambda c, given: intend(
            c, [Intent(today(), one, 3, uuid4(), "automatic", uuid4(), False, "pending", 1) for one in given]
        ),
    ),
    ("load", message_ids, lambda c, given: load(c, given[0])),
    ("end", message_ids, lambda c, given: end(c, given[0], "cancelled", "x")),
    ("backlog", message_ids, lambda c, _: backlog(c, limit=1000)),
    (
        "first of ordering keys",
        no_keys,
        lambda c, _: first_of_groups(c, ORDERED, by_customer=True, holds=True, after=0, most=200),
    ),
    (
        "first of the only line",
        no_keys,
        lambda c, _: first_of_groups(c, ORDERED, by_customer=False, holds=True, after=None, most=200),
    ),
    ("first of these lines", no_keys, lambda c, _: first_of_these(c, ORDERED, [0, *range(1, 1000, 20)], holds=True)),
    ("first unmatched", no_keys, lambda c, _: first_unmatched(c, ORDERED, 1000)),
    ("place in lines", no_keys, lambda c, _: assign_missing_keys(c, ORDERED)),
    ("what is behind what", held_ids, lambda c, given: delivery_for_action(c, STORE, given[-1])),
    ("held of", held_ids, held_of),
    (
        "held and fresh",
        held_ids,
        lambda c, given: held_fresh(c, ORDERED, BATCH, after=(1000, given[0]), under_way=given),
    ),
    ("held and fresh among retries", no_keys, lambda c, _: held_fresh(c, DRAINED, BATCH)),
    ("held retries that are due", no_keys, lambda c, _: held_retries_due(c, DRAINED, BATCH)),
    ("unsettled of events", lambda c: keys(c, "matched_at IS NOT NULL"), pending_of_events),
    ("name the activities of retries", unsettled, own_retries),
    ("activities named before", retried_ids, own_retries),
    ("retries that fall due together", planned, overload),
    ("overdue retries", unsettled, lambda c, _: overdue(c, most=BATCH)),
    ("open failed ones again", recovering, go_on),
    ("count failed ones", no_keys, lambda c, _: count_recoverable(c, ORDERED, everything(("exhausted",)))),
    ("end all of a backlog", no_keys, lambda c, _: end_all(c, ORDERED)),
    ("end all where nothing waits", all_delivered, end_all),
    ("what outwaited its schedule", failing_for_months, lambda c, _: exhaust_outwaited(c, ORDERED, 0)),
    ("subscriptions to drain", no_keys, lambda c, _: subscriptions_to_drain(c)),
    ("failing for days", failing_for_months, lambda c, _: failing(c, ORDERED, at_least_seconds=1, most=100)),
    ("health", message_ids, lambda c, given: record_health(c, set(given[:5]), {given[6]: 1}, BreakerRules())),
]


async def plans_of(laden: Ground, prepare: Callable[[AsyncConnection], Awaitable[Any]], step: Step) -> list[str]:
    """The plans of a step's statements, as they ran; nothing of it stays."""
    async with laden.database.engine.connect() as connection:
        given = await prepare(connection)
        async with explained(connection, "(ANALYZE, COSTS OFF, TIMING OFF)") as plans:
            await step(connection, given)
        await connection.rollback()
    assert plans
    for plan in plans:
        assert not re.search(r"Seq Scan on (event|delivery|attempt|subscription_health)\b", plan), plan
    return plans


async def test_what_lapsed_is_found_by_the_index_of_what_is_not_matched(laden: Ground) -> None:
    async def let_lapse(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE event SET claimed_until = now() WHERE workflow_id = 'events/1'"))

    plans = await plans_of(laden, let_lapse, lambda c, _: claim_lapsed(c, singles=32, batches=6, lease_seconds=9))
    assert any("Update on event" in plan for plan in plans)


@pytest.mark.parametrize(("prepare", "step"), [step[1:] for step in STEPS], ids=[step[0] for step in STEPS])
async def test_no_table_that_grows_is_read_from_end_to_end(
    laden: Ground, prepare: Callable[[AsyncConnection], Awaitable[Any]], step: Step
) -> None:
    for plan in await plans_of(laden, prepare, step):
        rows = [int(float(rows)) for rows in re.findall(r"actual rows=([0-9.]+)", plan)]
        removed = [int(rows) for rows in re.findall(r"Rows Removed by [A-Za-z ]+: (\d+)", plan)]
        assert max(rows + removed) <= 4 * (BATCH + CLAIMED), plan


async def test_events_are_matched_by_their_keys_before_the_planner_knows_anything_of_the_table(ground: Ground) -> None:
    """The index of what is not matched begins with the store: for each event it would be read from end to end."""
    await ground.emit("CustomerUpdated", "{}", 2 * BATCH)
    async with ground.database.engine.connect() as connection:
        given = await keys(connection, "matched_at IS NULL")
        async with explained(connection) as plans:
            await match(connection, given, worker_id=uuid4(), may_begin=lambda _: True)
        await connection.rollback()
    assert plans
    assert not any("event_unmatched" in plan for plan in plans)


async def test_outcomes_are_written_by_key_before_the_planner_has_seen_a_row_of_the_day(ground: Ground) -> None:
    """It would take the day for one of two hundred, and read all attempts of it for each flush."""
    await ground.execute(
        """
        INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy)
        SELECT :day, gen_random_uuid(), 1, gen_random_uuid(), 'automatic', gen_random_uuid(), false
        FROM generate_series(1, 20000)
        """,
        day=today(),
    )
    rows = await ground.execute("SELECT message_id FROM attempt LIMIT 20")
    async with ground.database.engine.connect() as connection:
        async with explained(connection, "(ANALYZE, COSTS OFF, TIMING OFF)") as plans:
            await record(connection, [outcome_of(row.message_id) for row in rows])
        await connection.rollback()
    [plan] = plans
    assert "Seq Scan on attempt" not in plan
    assert max(int(float(rows)) for rows in re.findall(r"actual rows=([0-9.]+)", plan)) <= len(rows), plan
