"""A 429 slows a subscription down for a while, for all workers."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from domain.delivery.throttling import LONGEST_REST_SECONDS, SLOWED_FROM_PER_SECOND, SLOWEST_PER_SECOND
from storage.database import Database
from storage.deliveries.held import DrainState, drain_state
from storage.subscriptions.state import slow_down
from tests.ground import Ground


@pytest.fixture
async def ground(cleared_url: str) -> AsyncIterator[Ground]:
    database = Database(cleared_url, pool_size=8)
    ground = Ground(database)
    await ground.add_store()
    yield ground
    await database.close()


async def told(ground: Ground, subscription_id: UUID, rest: float = 0.0) -> float | None:
    """Its receiver answers 429; requests a second after that."""
    async with ground.database.transaction() as connection:
        await slow_down(connection, {subscription_id: rest})
    return await per_second(ground, subscription_id)


async def state_of(ground: Ground, subscription_id: UUID) -> DrainState:
    async with ground.database.transaction() as connection:
        state = await drain_state(connection, subscription_id)
    assert state is not None
    return state


async def per_second(ground: Ground, subscription_id: UUID) -> float | None:
    return (await state_of(ground, subscription_id)).per_second


async def later(ground: Ground, seconds: float) -> None:
    """Let exactly so much time have passed since the last 429."""
    passed = "(slowed_at - clock_timestamp() + make_interval(secs => :s))"
    moved = f"slowed_at = slowed_at - {passed}, slowed_until = slowed_until - {passed}"
    await ground.execute(f"UPDATE subscription_throttle SET {moved}", s=seconds)


async def test_a_429_slows_down_what_had_no_limit_and_halves_what_had_one(ground: Ground) -> None:
    free = await ground.subscribe("CustomerUpdated", "http://127.0.0.1/")
    limited = await ground.subscribe("CustomerUpdated", "http://127.0.0.1/", rate_limit_per_second=10)
    assert await told(ground, free) == pytest.approx(SLOWED_FROM_PER_SECOND, rel=0.1)
    assert await told(ground, limited) == pytest.approx(5, rel=0.1)


async def test_of_many_429s_at_once_the_first_counts_and_of_later_ones_each(ground: Ground) -> None:
    subscription_id = await ground.subscribe("CustomerUpdated", "http://127.0.0.1/")
    for _ in range(5):
        assert await told(ground, subscription_id) == pytest.approx(SLOWED_FROM_PER_SECOND, rel=0.1)
        await later(ground, 0)
    await later(ground, 1)
    assert await told(ground, subscription_id) == pytest.approx(SLOWED_FROM_PER_SECOND / 2, rel=0.15)
    for _ in range(12):
        await later(ground, 1)
        slowed = await told(ground, subscription_id)
    assert slowed == pytest.approx(SLOWEST_PER_SECOND, rel=0.1)


async def test_the_pace_comes_back_by_itself_up_to_the_limit(ground: Ground) -> None:
    subscription_id = await ground.subscribe("CustomerUpdated", "http://127.0.0.1/", rate_limit_per_second=30)
    await told(ground, subscription_id)
    await later(ground, 10)
    assert await per_second(ground, subscription_id) == pytest.approx(30, rel=0.1)
    await ground.edit(subscription_id, rate_limit_per_second=None)
    assert await per_second(ground, subscription_id) == pytest.approx(30, rel=0.1)
    await later(ground, 70)
    assert await per_second(ground, subscription_id) is None
    assert not (await state_of(ground, subscription_id)).drain_only


@pytest.mark.parametrize(("asked", "rests"), [(40.0, 40.0), (86400.0, LONGEST_REST_SECONDS)], ids=["40 s", "a day"])
async def test_a_retry_after_lets_the_whole_subscription_rest_but_not_for_ever(
    ground: Ground, asked: float, rests: float
) -> None:
    subscription_id = await ground.subscribe("CustomerUpdated", "http://127.0.0.1/")
    for rest in (asked, 0.0):  # the second 429 takes nothing away
        await told(ground, subscription_id, rest)
        assert (await state_of(ground, subscription_id)).rest_seconds == pytest.approx(rests, abs=10)
