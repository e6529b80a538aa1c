"""Deliveries that go on as activities: their ids, and how many there may be."""

from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from storage.deliveries import retries
from storage.deliveries.retries import (
    MOST_DUE_IN_A_SECOND,
    MOST_IN_ALL,
    MOST_OF_A_SUBSCRIPTION,
    WaitingRetry,
    overload,
    pending_of_events,
)
from storage.deliveries.transitions import own_retries
from tests.bulk_actions import fail_many
from tests.ground import STORE, Ground

EVENT = "CustomerUpdated"
HOUR = 3600.0


async def unsettled(ground: Ground, count: int, **columns: object) -> list[UUID]:
    """Message ids of so many deliveries of one event whose first attempt has no outcome."""
    subscription_id = await ground.subscribe(EVENT, "http://receiver.example.com/")
    [event_id] = await ground.emit(EVENT, "{}")
    await fail_many(ground, subscription_id, event_id, count, **({"status": "pending", "reason": None} | columns))
    return [row.message_id for row in await ground.execute("SELECT message_id FROM delivery ORDER BY message_id")]


async def owned(ground: Ground, message_ids: Sequence[UUID]) -> list[WaitingRetry]:
    async with ground.database.transaction() as connection:
        return sorted(await own_retries(connection, message_ids), key=lambda one: one.message_id)


async def test_each_pending_delivery_gets_an_id_once(ground: Ground) -> None:
    message_ids = await unsettled(ground, 3)
    first = await owned(ground, message_ids)
    assert [one.retry_id for one in first] == [f"{message_id}/0" for message_id in message_ids]
    assert {(one.store_code, one.event_name, one.url, one.due_in_seconds) for one in first} == {
        (STORE, EVENT, "http://receiver.example.com/", 0.0)
    }
    await ground.execute("UPDATE delivery SET attempts = 1, next_attempt_at = now() + interval '1 minute'")
    again = await owned(ground, message_ids)
    assert [one.retry_id for one in again] == [one.retry_id for one in first], "it stays as it was committed"
    assert all(55 < one.due_in_seconds <= 60 for one in again)


@pytest.mark.parametrize("status", ["held", "delivered", "exhausted", "cancelled"])
async def test_what_is_not_pending_has_no_activity(ground: Ground, status: str) -> None:
    assert await owned(ground, await unsettled(ground, 1, status=status)) == []


async def test_a_delivery_whose_outcome_is_being_written_is_left_out_until_it_is(ground: Ground) -> None:
    busy, free = await unsettled(ground, 2)
    async with ground.database.transaction() as connection:
        await connection.exec_driver_sql(f"UPDATE delivery SET attempts = 1 WHERE message_id = '{busy}'")
        assert [one.message_id for one in await owned(ground, [busy, free])] == [free]
    assert [one.retry_id for one in await owned(ground, [busy])] == [f"{busy}/1"]


async def test_unsettled_deliveries_of_events_are_the_pending_ones_without_tests(ground: Ground) -> None:
    pending, test, held = await unsettled(ground, 3)
    await ground.execute("UPDATE delivery SET variant = 'test' WHERE message_id = :id", id=test)
    await ground.execute("UPDATE delivery SET status = 'held' WHERE message_id = :id", id=held)
    event_id = await ground.scalar("SELECT event_id FROM event")
    async with ground.database.transaction() as connection:
        assert await pending_of_events(connection, [(STORE, event_id), (STORE, uuid4())]) == [pending]


async def too_many(ground: Ground, planned: Sequence[tuple[UUID, UUID, float]]) -> set[UUID]:
    async with ground.database.transaction() as connection:
        return await overload(connection, planned)


async def test_the_latest_retries_beyond_those_a_subscription_may_have_in_temporal_are_too_many(ground: Ground) -> None:
    waiting = MOST_OF_A_SUBSCRIPTION - 2
    await unsettled(ground, waiting)
    await ground.execute("UPDATE delivery SET next_attempt_at = now() + interval '2 hours'")
    subscription_id = await ground.scalar("SELECT id FROM subscription")
    ids = [uuid4() for _ in range(4)]
    spread = [(one, subscription_id, HOUR + 10 * number) for number, one in enumerate(ids)]
    assert await too_many(ground, spread) == set(ids[2:])
    assert await too_many(ground, [(one, uuid4(), seconds) for one, _, seconds in spread]) == set()


async def test_the_latest_retries_beyond_those_that_may_wait_in_temporal_are_too_many_whoever_they_belong_to(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    await unsettled(ground, 3)
    await ground.execute("UPDATE delivery SET next_attempt_at = now() + interval '2 hours'")
    few = text(str(retries._OVERLOAD).replace(str(MOST_IN_ALL), "5"))
    monkeypatch.setattr(retries, "_OVERLOAD", few)
    ids = [uuid4() for _ in range(4)]
    spread = [(one, uuid4(), HOUR + 10 * number) for number, one in enumerate(ids)]
    assert await too_many(ground, spread) == set(ids[2:])
    held_anyway = [(uuid4(), uuid4(), HOUR - 60) for _ in range(MOST_DUE_IN_A_SECOND + 10)]
    assert len(await too_many(ground, held_anyway)) == len(held_anyway) - 2


async def test_retries_held_by_another_limit_take_no_place_of_those_in_all(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = text(str(retries._OVERLOAD).replace(str(MOST_IN_ALL), str(MOST_OF_A_SUBSCRIPTION + 1)))
    monkeypatch.setattr(retries, "_OVERLOAD", few)
    busy, quiet = uuid4(), uuid4()
    of_busy = [(uuid4(), busy, HOUR + 10 * number) for number in range(MOST_OF_A_SUBSCRIPTION + 50)]
    last = (uuid4(), quiet, 10 * HOUR)
    assert last[0] not in await too_many(ground, [*of_busy, last])


async def test_a_retry_that_fails_again_takes_its_own_place(ground: Ground) -> None:
    message_ids = await unsettled(ground, MOST_OF_A_SUBSCRIPTION)
    await ground.execute("UPDATE delivery SET next_attempt_at = now() + interval '2 hours'")
    subscription_id = await ground.scalar("SELECT id FROM subscription")
    assert await too_many(ground, [(message_ids[0], subscription_id, HOUR)]) == set()
    assert len(await too_many(ground, [(uuid4(), subscription_id, HOUR)])) == 1


async def test_retries_beyond_those_that_may_fall_due_in_one_second_are_too_many_whoever_they_belong_to(
    ground: Ground,
) -> None:
    await unsettled(ground, MOST_DUE_IN_A_SECOND)
    await ground.execute("UPDATE delivery SET next_attempt_at = date_trunc('second', now()) + interval '1 hour'")
    offset = float(
        await ground.scalar("SELECT extract(epoch FROM max(next_attempt_at) - clock_timestamp()) FROM delivery")
    )
    same, later = uuid4(), uuid4()
    planned = [(same, uuid4(), offset + 0.1), (later, uuid4(), offset + 2.5)]
    assert await too_many(ground, planned) == {same}
