"""Stores take turns: none waits behind what another has emitted, and one that is alone gets all there is room for."""

from collections import Counter
from dataclasses import replace

import pytest

from storage.events.outbox import STORES_A_CLAIM, Room, claim
from tests.ground import Ground
from tests.storage.test_outbox import LEASE_SECONDS, claimed, room

FEW = 10


async def emit(ground: Ground, **counts: int) -> None:
    """So many events of each store, one store after the other."""
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


async def test_a_single_event_is_claimed_at_once_whatever_another_store_has_waiting(ground: Ground) -> None:
    await emit(ground, noisy=2000, small=1)
    events = await claimed(ground.database, room(singly=10))
    assert Counter(event.store_code for event in events) == {"noisy": 300, "small": 1}
    [single] = [event for event in events if event.store_code == "small"]
    assert single.workflow_id == f"event/small/{single.event_id}"


async def test_what_few_events_there_are_goes_although_there_is_no_room_for_the_backlog_of_another(
    ground: Ground,
) -> None:
    await emit(ground, noisy=2000, small=FEW)
    asked = room(most=0, mixed=300)
    events = await claimed(ground.database, asked)
    assert {(event.store_code, event.workflow_id) for event in events} == {("small", asked.mixed)}
    assert len(events) == FEW


async def test_stores_with_a_backlog_share_a_batch_evenly(ground: Ground) -> None:
    await emit(ground, first=2000, second=2000, third=2000)
    for _ in range(2):
        events = await claimed(ground.database)
        assert Counter(event.store_code for event in events) == {"first": 100, "second": 100, "third": 100}
        assert len({event.workflow_id for event in events}) == 1


async def test_what_a_store_leaves_of_its_share_goes_to_the_others(ground: Ground) -> None:
    await emit(ground, noisy=2000, little=FEW + 1)
    assert Counter(event.store_code for event in await claimed(ground.database)) == {
        "noisy": 300 - FEW - 1,
        "little": FEW + 1,
    }


async def test_a_store_alone_gets_full_batches_oldest_first(ground: Ground) -> None:
    await emit(ground, noisy=700)
    order = [row.event_id for row in await ground.execute("SELECT event_id FROM event ORDER BY sequence")]
    for start, count in ((0, 300), (300, 300), (600, 100)):
        events = await claimed(ground.database)
        assert {event.event_id for event in events} == set(order[start : start + count])


@pytest.mark.parametrize("each", [2, FEW + 1], ids=["few each", "many each"])
async def test_of_a_thousand_stores_each_has_had_a_turn_before_any_has_a_fourth(ground: Ground, each: int) -> None:
    await emit_of_stores(ground, 1000, each)
    counts: Counter[str] = Counter()
    after = ""
    for _ in range(-(-1000 // STORES_A_CLAIM)):
        async with ground.database.transaction() as connection:
            done = await claim(connection, room(), after=after, lease_seconds=LEASE_SECONDS)
        counts.update(event.store_code for event in done.events)
        after = done.after
    assert len(counts) == 1000
    assert max(counts.values()) <= 3
    assert after == "", "the next claim begins with the first store again"


async def test_stores_beyond_those_one_claim_looks_at_do_not_wait_for_these_to_be_empty(ground: Ground) -> None:
    await emit_of_stores(ground, STORES_A_CLAIM, 50)
    await emit(ground, zz_last=1)
    async with ground.database.transaction() as connection:
        first = await claim(connection, room(), lease_seconds=LEASE_SECONDS)
    assert "zz_last" in {event.store_code for event in await claimed(ground.database, after=first.after)}


@pytest.mark.parametrize(
    ("in_front", "behind", "asked"),
    [
        pytest.param(FEW + 1, 1, room(most=0, mixed=300), id="a quiet store behind busy ones"),
        pytest.param(1, FEW + 1, room(mixed=0), id="a busy store behind quiet ones"),
    ],
)
async def test_a_claim_that_takes_nothing_does_not_begin_with_the_same_stores_again(
    ground: Ground, in_front: int, behind: int, asked: Room
) -> None:
    await emit_of_stores(ground, STORES_A_CLAIM, in_front)
    await emit(ground, zz_last=behind)
    async with ground.database.transaction() as connection:
        first = await claim(connection, asked, lease_seconds=LEASE_SECONDS)
    assert not first.events
    assert first.busy == (in_front > FEW)
    events = await claimed(ground.database, asked, after=first.after)
    assert Counter(event.store_code for event in events) == {"zz_last": behind}


async def test_a_claim_when_nothing_waits_says_so(ground: Ground) -> None:
    async with ground.database.transaction() as connection:
        done = await claim(connection, room(), lease_seconds=LEASE_SECONDS)
    assert (done.events, done.after, done.busy) == ([], "", False)


async def test_a_store_that_is_known_to_be_busy_goes_in_batches_however_little_it_has_waiting(ground: Ground) -> None:
    await emit(ground, steady=2, small=1)
    asked = replace(room(singly=10), busy=("steady",))
    events = await claimed(ground.database, asked)
    assert {event.workflow_id for event in events if event.store_code == "steady"} == {asked.batch}
    [single] = [event for event in events if event.store_code == "small"]
    assert single.workflow_id.startswith("event/small/")
