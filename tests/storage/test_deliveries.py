"""Matching makes every delivery of an event once, in one transaction, to just those who were subscribed."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from domain.delivery.identity import drain_workflow_id, message_id
from storage.database import Database
from storage.deliveries.matching import match
from storage.deliveries.open import OpenDelivery, load
from storage.deliveries.transitions import end
from storage.events.erasure import Erased, erase_events
from tests.deadlines import eventually
from tests.ground import STORE, Ground

URL = "http://receiver.example.com/hook"


async def matched(ground: Ground, event_ids: Sequence[UUID], *, store: str = STORE, busy: bool = False) -> list[Any]:
    """What a match of these events returns."""
    async with ground.database.transaction() as connection:
        return await match(
            connection,
            [(store, event_id) for event_id in event_ids],
            worker_id=uuid4(),
            may_begin=lambda _: not busy,
        )


async def matched_row(ground: Ground, **subscription: Any) -> list[Any]:
    """The deliveries that one event makes for one subscription with these columns."""
    await ground.subscribe(subscription.pop("event_name", "CustomerUpdated"), URL, **subscription)
    event_ids = await ground.emit("CustomerUpdated", "{}")
    await matched(ground, event_ids)
    return await ground.deliveries()


async def test_an_event_makes_a_delivery_and_an_intent_for_each_subscription_to_its_name(ground: Ground) -> None:
    subscriptions = [await ground.subscribe("CustomerUpdated", f"{URL}/{number}") for number in range(3)]
    await ground.subscribe("CustomerDeactivated", URL)
    [event_id] = await ground.emit("CustomerUpdated", "{}")
    made: list[OpenDelivery] = await matched(ground, [event_id])
    rows = {row.message_id: row for row in await ground.deliveries()}
    assert set(rows) == {message_id(event_id, one, "main") for one in subscriptions} == {one.message_id for one in made}
    assert {row.url for row in rows.values()} == {f"{URL}/{number}" for number in range(3)}
    assert all(one.intended and one.number == 1 and one.failures == 0 for one in made)
    attempts = await ground.execute("SELECT message_id, request_id, number FROM attempt")
    assert {(row.message_id, row.request_id) for row in attempts} == {(one.message_id, one.request_id) for one in made}


async def test_a_second_match_makes_nothing_and_returns_what_is_open(ground: Ground) -> None:
    await ground.subscribe("CustomerUpdated", URL)
    event_ids = await ground.emit("CustomerUpdated", "{}", 3)
    first = await matched(ground, event_ids)
    async with ground.database.transaction() as connection:
        await end(connection, first[0].message_id, "cancelled", "by a person")
    await ground.execute("UPDATE event SET accepted_at = now() + interval '1 day'")
    await ground.subscribe("CustomerUpdated", f"{URL}/later")
    again = await matched(ground, event_ids)
    assert {one.message_id for one in again} == {one.message_id for one in first[1:]}
    assert all(not one.intended and one.number == 2 for one in again)
    assert len(await ground.deliveries()) == 3


async def test_of_matches_at_once_one_makes_the_deliveries_and_the_others_find_them(
    ground: Ground, cleared_url: str
) -> None:
    await ground.subscribe("CustomerUpdated", URL)
    event_ids = await ground.emit("CustomerUpdated", "{}", 40)
    workers = [Ground(Database(cleared_url, pool_size=1)) for _ in range(4)]
    results = await asyncio.gather(
        *(matched(worker, event_ids[::-1] if n % 2 else event_ids) for n, worker in enumerate(workers))
    )
    for worker in workers:
        await worker.database.close()
    assert [len(result) for result in results] == [40] * 4
    assert sum(one.intended for result in results for one in result) == 40
    assert await ground.scalar("SELECT count(*) FROM attempt") == 40


async def test_a_match_that_is_not_committed_leaves_the_event_in_the_outbox(ground: Ground) -> None:
    await ground.subscribe("CustomerUpdated", URL)
    event_ids = await ground.emit("CustomerUpdated", "{}")
    async with ground.database.engine.connect() as connection:
        keys = [(STORE, event_id) for event_id in event_ids]
        assert await match(connection, keys, worker_id=uuid4(), may_begin=lambda _: True)
        await connection.rollback()
    assert await ground.deliveries() == []
    assert await ground.scalar("SELECT count(*) FROM event WHERE matched_at IS NULL") == 1
    assert len(await matched(ground, event_ids)) == 1


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        pytest.param({}, [("pending", None)], id="active"),
        pytest.param({"status": "paused"}, [("held", "subscription_paused")], id="paused"),
        pytest.param({"status": "disabled"}, [("exhausted", "subscription_disabled")], id="disabled"),
        pytest.param({"deleted_at": datetime(2026, 1, 1, tzinfo=UTC)}, [], id="deleted"),
        pytest.param({"created_at": datetime(2999, 1, 1, tzinfo=UTC)}, [], id="subscribed after the acceptance"),
        pytest.param({"active_from": datetime(2999, 1, 1, tzinfo=UTC)}, [], id="not yet active"),
        pytest.param({"active_from": datetime(1999, 1, 1, tzinfo=UTC)}, [("pending", None)], id="active since"),
        pytest.param({"store_code": "elsewhere"}, [], id="of another store"),
        pytest.param({"event_name": "CustomerDeactivated"}, [], id="to another event"),
        pytest.param({"event_name": "customerupdated"}, [], id="names are case-sensitive"),
    ],
)
async def test_the_table_of_subscriptions(
    ground: Ground, columns: dict[str, Any], expected: list[tuple[str, str | None]]
) -> None:
    await ground.add_store("elsewhere")
    rows = await matched_row(ground, **columns)
    assert [(row.status, row.reason) for row in rows] == expected
    intents = await ground.scalar("SELECT count(*) FROM attempt")
    assert intents == sum(status == "pending" for status, _ in expected)
    assert await ground.scalar("SELECT count(*) FROM event WHERE matched_at IS NULL") == 0


async def test_active_from_is_compared_with_the_events_own_instant(ground: Ground) -> None:
    # The platform may hand in late what happened early.
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    await ground.subscribe("CustomerUpdated", URL, active_from=start)
    event_ids = await ground.emit("CustomerUpdated", "{}", 2)
    for event_id, created_at in zip(event_ids, (start - timedelta(microseconds=1), start), strict=True):
        await ground.execute("UPDATE event SET created_at = :at WHERE event_id = :id", at=created_at, id=event_id)
    assert [one.event.event_id for one in await matched(ground, event_ids)] == [event_ids[1]]


async def test_a_subscription_counts_from_its_creation_to_the_microsecond(ground: Ground) -> None:
    subscription_id = await ground.subscribe("CustomerUpdated", URL)
    event_ids = await ground.emit("CustomerUpdated", "{}", 3)
    for number, event_id in enumerate(event_ids, -1):
        await ground.execute(
            """
            UPDATE event SET accepted_at = created + make_interval(secs => :n * 0.000001)
            FROM (SELECT created_at AS created FROM subscription WHERE id = :subscription) AS subscribed
            WHERE event_id = :id
            """,
            n=float(number),
            subscription=subscription_id,
            id=event_id,
        )
    assert {one.event.event_id for one in await matched(ground, event_ids)} == set(event_ids[1:])


async def test_what_ends_at_once_has_an_end_and_no_workflow_to_wait_for(ground: Ground) -> None:
    [row] = await matched_row(ground, status="disabled")
    assert (row.attempts, row.workflow_id) == (0, None)
    assert row.ended_at is not None


@pytest.mark.parametrize("columns", [{"status": "paused"}, {"rate_limit_per_second": 1}], ids=["paused", "limited"])
async def test_what_is_held_from_the_start_names_its_drain(ground: Ground, columns: dict[str, Any]) -> None:
    [row] = await matched_row(ground, **columns)
    assert (row.status, row.workflow_id) == ("held", drain_workflow_id(row.subscription_id))


async def test_what_one_worker_may_not_begin_waits_without_an_intent(ground: Ground) -> None:
    await ground.subscribe("CustomerUpdated", URL)
    event_ids = await ground.emit("CustomerUpdated", "{}", 2)
    made = await matched(ground, event_ids, busy=True)
    assert [one.intended for one in made] == [False, False]
    assert await ground.scalar("SELECT count(*) FROM attempt") == 0
    assert {row.status for row in await ground.deliveries()} <= {"held", "pending"}


async def test_events_of_several_stores_and_names_are_matched_together_and_not_mixed_up(ground: Ground) -> None:
    await ground.add_store("other")
    keys: list[tuple[str, UUID]] = []
    expected = set()
    for store in (STORE, "other"):
        for name in ("CustomerUpdated", "CustomerDeactivated"):
            subscription_id = await ground.subscribe(name, f"{URL}/{store}/{name}", store_code=store)
            [event_id] = await ground.emit(name, "{}", store=store)
            keys.append((store, event_id))
            expected.add((event_id, subscription_id, f"{URL}/{store}/{name}"))
    async with ground.database.transaction() as connection:
        await match(connection, keys, worker_id=uuid4(), may_begin=lambda _: True)
    assert {(row.event_id, row.subscription_id, row.url) for row in await ground.deliveries()} == expected


async def test_the_same_event_id_in_two_stores_is_two_events(ground: Ground) -> None:
    await ground.add_store("other")
    await ground.subscribe("CustomerUpdated", URL)
    [event_id] = await ground.emit("CustomerUpdated", "{}", store="other")
    await ground.execute("UPDATE event SET event_id = :new", new=event_id)
    assert await matched(ground, [event_id], store=STORE) == []
    assert await ground.scalar("SELECT count(*) FROM event WHERE matched_at IS NULL") == 1


async def test_a_delivery_is_loaded_as_it_stands_with_its_subscription_as_it_is_now(ground: Ground) -> None:
    subscription_id = await ground.subscribe("CustomerUpdated", URL)
    [event_id] = await ground.emit("CustomerUpdated", '{"customer":{}}')
    [made] = await matched(ground, [event_id])
    await ground.edit(subscription_id, url=f"{URL}/new", legacy=True, retry_schedule=[1, 2, 3])
    async with ground.database.transaction() as connection:
        loaded = await load(connection, made.message_id)
    assert loaded is not None
    assert (loaded.number, loaded.status, loaded.failures) == (2, "pending", 0)
    assert (loaded.subscription.url, loaded.subscription.legacy) == (f"{URL}/new", True)
    assert list(loaded.subscription.retry_schedule or ()) == [1, 2, 3]
    assert loaded.event == made.event
    assert not loaded.subscription.deleted
    await ground.execute("UPDATE subscription SET deleted_at = now()")
    async with ground.database.transaction() as connection:
        loaded = await load(connection, made.message_id)
        assert loaded is not None
        assert loaded.subscription.deleted
        assert await load(connection, uuid4()) is None


@pytest.mark.parametrize("seconds", [-1, 3600])
async def test_the_previous_signing_key_is_loaded_until_its_time_is_over(ground: Ground, seconds: int) -> None:
    subscription_id = await ground.subscribe(
        "CustomerUpdated", URL, sealed_secret=b"new", sealed_previous_secret=b"old"
    )
    await ground.execute(
        "UPDATE subscription SET previous_secret_until = clock_timestamp() + make_interval(secs => :s) WHERE id = :id",
        s=seconds,
        id=subscription_id,
    )
    [made] = await matched(ground, await ground.emit("CustomerUpdated", "{}"))
    assert made.subscription.sealed_previous_secret == (b"old" if seconds > 0 else None)


@pytest.mark.parametrize("status", ["delivered", "exhausted", "cancelled"])
async def test_what_has_ended_is_not_ended_again(ground: Ground, status: str) -> None:
    [row] = await matched_row(ground)
    await ground.execute("UPDATE delivery SET status = :s, reason = 'first', ended_at = now()", s=status)
    async with ground.database.transaction() as connection:
        await end(connection, row.message_id, "cancelled", "second")
    [row] = await ground.deliveries()
    assert (row.status, row.reason) == (status, "first")


async def test_an_event_that_is_erased_while_its_match_waits_is_matched_with_nobody(ground: Ground) -> None:
    await ground.subscribe("CustomerUpdated", URL)
    [event] = await ground.emit("CustomerUpdated", "{}")
    day = await ground.scalar("SELECT accepted_on FROM event")
    async with ground.database.transaction() as erasing:
        await erase_events(erasing, STORE, day, [event], Erased())
        matching = await matching_that_waits(ground, [event])
    assert await matching == []
    assert await ground.deliveries() == []


async def test_events_that_are_claimed_again_while_their_match_waits_are_matched(ground: Ground) -> None:
    await ground.subscribe("CustomerUpdated", URL)
    events = await ground.emit("CustomerUpdated", "{}", 3)
    async with ground.database.transaction() as claiming:
        again = "UPDATE event SET claimed_until = clock_timestamp() WHERE event_id = :id"
        await claiming.execute(text(again), {"id": events[1]})
        matching = await matching_that_waits(ground, events)
    assert [row.event.event_id for row in await matching] == [events[0], events[2], events[1]]
    assert await ground.scalar("SELECT count(*) FROM event WHERE matched_at IS NULL") == 0
    assert len(await ground.deliveries()) == 3


_WAITING_FOR_A_LOCK = """SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND datname = current_database()"""  # other tests' databases are on the same server


async def matching_that_waits(ground: Ground, events: Sequence[UUID]) -> asyncio.Task[list[OpenDelivery]]:
    """A match of these events that waits for whoever has locked some of them."""

    async def waits() -> bool:
        return bool(await ground.scalar(_WAITING_FOR_A_LOCK))

    matching = asyncio.create_task(matched(ground, events))
    await eventually(waits, 10, "the match waits for a lock")
    return matching
