"""A dashboard's figures: right with nothing, with one and with many, by plans that the log's length does not touch."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.log_data import OTHER_STORE, LogShape, load_log
from domain.durations import step_of
from storage.database import Database
from storage.deliveries import figures
from storage.deliveries.figures import (
    FailingSubscription,
    OpenDeliveries,
    SubscriptionTraffic,
    Traffic,
    count_attempts,
    counted,
)
from tests.databases import cloned_database
from tests.ground import STORE, Ground
from tests.storage.plans import explained

HOUR, DAY = timedelta(hours=1), timedelta(hours=24)
MINUTE, QUARTER = timedelta(minutes=1), timedelta(minutes=15)
NAMES = ["CustomerUpdated", "CustomerRegistered", "CustomerLevelChanged"]
DELIVERIES = 30_000


@pytest.fixture(scope="module")
async def laden(database_template: str) -> AsyncIterator[Ground]:
    """Two stores' log of two days."""
    async with cloned_database(database_template) as url:
        database = Database(url, pool_size=2)
        await load_log(database, NAMES, LogShape(DELIVERIES, subscriptions=20, days=2, other_store=True))
        yield Ground(database)
        await database.close()


async def traffic(ground: Ground, span: timedelta, width: timedelta, store: str = STORE) -> Traffic:
    async with ground.database.transaction() as connection:
        return await figures.traffic(connection, store, span=span, width=width)


async def test_of_a_store_without_deliveries_every_figure_is_zero_and_every_interval_is_there(ground: Ground) -> None:
    found = await traffic(ground, HOUR, MINUTE)
    assert [(one.delivered, one.failed, one.given_up) for one in found.outcomes] == [(0, 0, 0)] * 60
    assert {after.start - before.start for before, after in zip(found.outcomes, found.outcomes[1:], strict=False)} == {
        MINUTE
    }
    assert found.steps == {}
    async with ground.database.transaction() as connection:
        assert await figures.open_deliveries(connection, STORE) == OpenDeliveries(0, 0, 0, None)
        assert await figures.failing_subscriptions(connection, STORE, most=10) == []
        assert await figures.traffic_of_day(connection, STORE) == []
        assert await figures.seen_workers(connection, most=10) == []


async def test_a_single_attempt_is_in_the_last_interval_and_in_no_other_store(ground: Ground) -> None:
    await ground.add_store("elsewhere")
    subscription = await ground.subscribe("CustomerUpdated", "https://receiver.example.com/x")
    async with ground.database.transaction() as connection:
        await count_attempts(connection, uuid4(), counted([(subscription, "exhausted", 120)]))
    for span, width in ((HOUR, MINUTE), (DAY, QUARTER)):
        found = await traffic(ground, span, width)
        assert sum(one.given_up for one in found.outcomes[-2:]) == 1
        assert sum(one.delivered + one.failed + one.given_up for one in found.outcomes) == 1
        assert found.steps == {step_of(120): 1}
        assert (await traffic(ground, span, width, "elsewhere")).steps == {}
    async with ground.database.transaction() as connection:
        [of_day] = await figures.traffic_of_day(connection, STORE)
        assert await figures.traffic_of_day(connection, STORE, [uuid4()]) == []
        assert await figures.traffic_of_day(connection, "elsewhere") == []
    assert of_day == SubscriptionTraffic(subscription, "https://receiver.example.com/x", 0, 1)


@pytest.mark.parametrize("store", [STORE, OTHER_STORE])
async def test_of_many_attempts_the_figures_are_those_of_the_log(laden: Ground, store: str) -> None:
    found = await traffic(laden, DAY, QUARTER, store)
    first = found.outcomes[0].start
    rows = await laden.execute(
        """
        SELECT attempt.outcome_at, attempt.duration_ms, attempt.failure, attempt.number, delivery.attempts,
            delivery.status
        FROM attempt JOIN delivery USING (message_id) WHERE delivery.store_code = :store AND outcome_at >= :first
        """,
        store=store,
        first=first,
    )
    assert len(rows) > 1000
    expected: Counter[tuple[int, str]] = Counter()
    for row in rows:
        last = row.status == "exhausted" and row.number == row.attempts
        outcome = "delivered" if row.failure is None else "given_up" if last else "failed"
        expected[(row.outcome_at - first) // QUARTER, outcome] += 1
    counts = {
        (number, outcome): getattr(one, outcome)
        for number, one in enumerate(found.outcomes)
        for outcome in ("delivered", "failed", "given_up")
    }
    assert {key: count for key, count in counts.items() if count} == dict(expected)
    assert found.steps == Counter(step_of(row.duration_ms) for row in rows)


async def test_what_is_open_is_what_the_log_says(laden: Ground) -> None:
    for store in (STORE, OTHER_STORE):
        [expected] = await laden.execute(
            """
            SELECT count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'held'),
                count(*) FILTER (WHERE last_failure IS NOT NULL), min(created_at)
            FROM delivery WHERE store_code = :store AND status IN ('pending', 'held')
            """,
            store=store,
        )
        async with laden.database.transaction() as connection:
            assert await figures.open_deliveries(connection, store) == OpenDeliveries(*expected)
        assert expected[1] > 0


async def test_open_deliveries_are_counted_up_to_a_limit(laden: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "COUNTED_OPEN", 5)
    async with laden.database.transaction() as connection:
        assert (await figures.open_deliveries(connection, STORE)).count == 5


async def test_failing_subscriptions_are_those_whose_last_attempt_failed_open_breakers_first(ground: Ground) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    ids = [
        await ground.subscribe("CustomerUpdated", f"https://receiver.example.com/{n}", name=f"{n}") for n in range(4)
    ]
    for identity, failures, opened, failing in (
        (ids[0], 2, None, since),
        (ids[1], 9, since, since + HOUR),
        (ids[2], 0, None, None),
    ):
        await ground.execute(
            "INSERT INTO subscription_health (subscription_id, failures_in_row, failing_since, breaker_opened_at) "
            "VALUES (:id, :failures, :failing, :opened)",
            id=identity, failures=failures, failing=failing, opened=opened,
        )  # fmt: skip
    async with ground.database.transaction() as connection:
        found = await figures.failing_subscriptions(connection, STORE, most=10)
        assert await figures.failing_subscriptions(connection, STORE, most=1) == found[:1]
        assert await figures.failing_subscriptions(connection, STORE, most=10, ids=[ids[0]]) == found[1:]
    nothing_waits = (None, 0, None, None, None)
    assert found == [
        FailingSubscription(
            *(ids[1], "1", "CustomerUpdated", "https://receiver.example.com/1", "active", 9, since + HOUR, since),
            *nothing_waits,
        ),
        FailingSubscription(
            *(ids[0], "0", "CustomerUpdated", "https://receiver.example.com/0", "active", 2, since, None),
            *nothing_waits,
        ),
    ]


async def test_a_worker_that_has_not_been_seen_for_a_lease_is_not_alive(ground: Ground) -> None:
    await ground.execute(
        """
        INSERT INTO worker (id, host, pid, seen_at) VALUES (gen_random_uuid(), 'here', 1, clock_timestamp()),
            (gen_random_uuid(), 'there', 2, clock_timestamp() - interval '1 minute')
        """
    )
    async with ground.database.transaction() as connection:
        found = await figures.seen_workers(connection, most=10)
    assert [(one.host, one.alive) for one in found] == [("here", True), ("there", False)]


CALLS: dict[str, Callable[[AsyncConnection], Awaitable[Any]]] = {
    "minutes": lambda connection: figures.traffic(connection, STORE, span=HOUR, width=MINUTE),
    "open": lambda connection: figures.open_deliveries(connection, STORE),
    "failing": lambda connection: figures.failing_subscriptions(connection, STORE, most=10),
    "day": lambda connection: figures.traffic_of_day(connection, STORE),
}


@pytest.mark.parametrize("call", CALLS)
async def test_no_figure_reads_the_log_from_end_to_end(laden: Ground, call: str) -> None:
    async with (
        laden.database.transaction() as connection,
        explained(connection, "(ANALYZE, COSTS OFF, TIMING OFF)") as plans,
    ):
        await CALLS[call](connection)
    for plan in plans:
        assert not re.search(r"Seq Scan on (event|delivery|attempt|attempts_of_minute)\b", plan), plan
        for look in re.findall(r"on (?:delivery|attempt|event)\b.*actual rows=([\d.]+)", plan):
            assert float(look) < DELIVERIES / 20, plan
