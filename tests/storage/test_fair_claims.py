"""Claims serve stores round robin: none waits behind the backlog of another, and a store alone gets whole batches."""

from collections import Counter

import pytest

from storage.events.outbox import STORES_A_CLAIM, claim
from tests.ground import Ground
from tests.storage.test_outbox import LEASE_SECONDS, claimed, limits


async def emit(ground: Ground, **counts: int) -> None:
    """Emit so many events of each store, one store after the other."""
    for store, count in counts.items():
        await ground.add_store(store)
        await ground.emit("CustomerUpdated", "{}", count, store=store)


async def emit_of_stores(ground: Ground, stores: int, each: int) -> None:
    await ground.execute(
        """
        INSERT INTO event (store_code, event_id, name, created_at, created_at_text, digest)
        SELECT 'store-' || to_char(store, 'FM0000'), gen_random_uuid(), 'CustomerUpdated', now(), '', ''
        FROM generate_series(1, :stores) AS store, generate_series(1, :each)
        """,
        stores=stores,
        each=each,
    )


async def test_stores_with_a_backlog_share_a_batch_evenly(ground: Ground) -> None:
    await emit(ground, first=2000, second=2000, third=2000)
    for _ in range(2):
        events = await claimed(ground.database)
        assert Counter(event.store_code for event in events) == {"first": 100, "second": 100, "third": 100}
        assert len({event.workflow_id for event in events}) == 1


async def test_the_unused_share_of_a_store_goes_to_the_others(ground: Ground) -> None:
    await emit(ground, noisy=2000, little=11)
    assert Counter(event.store_code for event in await claimed(ground.database)) == {"noisy": 289, "little": 11}


async def test_a_store_alone_gets_full_batches_oldest_first(ground: Ground) -> None:
    await emit(ground, noisy=700)
    order = [row.event_id for row in await ground.execute("SELECT event_id FROM event ORDER BY sequence")]
    for start, count in ((0, 300), (300, 300), (600, 100)):
        events = await claimed(ground.database)
        assert {event.event_id for event in events} == set(order[start : start + count])


@pytest.mark.parametrize("each", [2, 11], ids=["few each", "many each"])
async def test_each_of_a_thousand_stores_is_served_before_any_is_served_a_fourth_time(
    ground: Ground, each: int
) -> None:
    await emit_of_stores(ground, 1000, each)
    counts: Counter[str] = Counter()
    after = ""
    for _ in range(-(-1000 // STORES_A_CLAIM)):
        async with ground.database.transaction() as connection:
            done = await claim(connection, limits(), after=after, lease_seconds=LEASE_SECONDS)
        counts.update(event.store_code for event in done.events)
        after = done.after
    assert len(counts) == 1000
    assert max(counts.values()) <= 3
    assert after == "", "the next claim begins with the first store again"


async def test_stores_beyond_those_of_one_claim_do_not_wait_until_these_are_empty(ground: Ground) -> None:
    await emit_of_stores(ground, STORES_A_CLAIM, 50)
    await emit(ground, zz_last=1)
    async with ground.database.transaction() as connection:
        first = await claim(connection, limits(), lease_seconds=LEASE_SECONDS)
    assert "zz_last" in {event.store_code for event in await claimed(ground.database, after=first.after)}


async def test_a_claim_that_takes_nothing_still_moves_the_cursor(ground: Ground) -> None:
    await emit_of_stores(ground, STORES_A_CLAIM, 11)
    await emit(ground, zz_last=1)
    without_batch = limits(most=0, singles=5)
    async with ground.database.transaction() as connection:
        first = await claim(connection, without_batch, lease_seconds=LEASE_SECONDS)
    assert not first.events
    events = await claimed(ground.database, without_batch, after=first.after)
    assert Counter(event.store_code for event in events) == {"zz_last": 1}


async def test_a_claim_of_an_empty_outbox_is_empty(ground: Ground) -> None:
    async with ground.database.transaction() as connection:
        done = await claim(connection, limits(), lease_seconds=LEASE_SECONDS)
    assert (done.events, done.after, done.more) == ([], "", False)
