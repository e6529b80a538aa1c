"""The outbox: claimed once, under a name that is committed first, and claimed again under the same name."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from domain.delivery.identity import batch_workflow_id, event_workflow_id
from storage.database import Database
from storage.deliveries.matching import match
from storage.events.outbox import ClaimedEvent, ClaimLimits, backlog, claim, claim_lapsed
from tests.ground import STORE, Ground

LEASE_SECONDS = 10.0


def limits(*, most: int = 300, singles: int = 0) -> ClaimLimits:
    """Limits of one claim, with a batch id of its own."""
    return ClaimLimits(singles=singles, batch_events=most, batch_id=batch_workflow_id(uuid4()))


async def claimed(database: Database, asked: ClaimLimits | None = None, *, after: str = "") -> Sequence[ClaimedEvent]:
    """One claim, committed."""
    async with database.transaction() as connection:
        return (await claim(connection, asked or limits(), after=after, lease_seconds=LEASE_SECONDS)).events


async def lapsed(database: Database) -> Sequence[ClaimedEvent]:
    """One claim of what has lapsed, committed."""
    async with database.transaction() as connection:
        return await claim_lapsed(connection, singles=50, batches=50, lease_seconds=LEASE_SECONDS)


async def let_lapse(ground: Ground, workflow_ids: set[str], *, seconds: float = 1) -> None:
    await ground.execute(
        "UPDATE event SET claimed_until = clock_timestamp() - make_interval(secs => :seconds) "
        "WHERE workflow_id = ANY(:ids)",
        ids=list(workflow_ids),
        seconds=seconds,
    )


@pytest.mark.parametrize(
    ("waiting", "asked", "singles", "together", "more"),
    [
        pytest.param(0, limits(singles=10), 0, 0, False, id="none waiting"),
        pytest.param(1, limits(singles=10), 1, 0, False, id="one"),
        pytest.param(10, limits(singles=10), 10, 0, False, id="as many as may be singles"),
        pytest.param(11, limits(singles=10), 0, 11, False, id="one more than may be singles"),
        pytest.param(5, limits(), 0, 5, False, id="no singles allowed"),
        pytest.param(5, limits(singles=2), 0, 5, False, id="some may be singles, so all share a batch"),
        pytest.param(5, limits(most=0, singles=5), 5, 0, False, id="no batch, and no more than may be singles"),
        pytest.param(5, limits(most=0, singles=2), 0, 0, True, id="no batch, and a backlog"),
        pytest.param(1, limits(), 0, 1, False, id="a batch of one"),
        pytest.param(300, limits(singles=10), 0, 300, False, id="just a full batch"),
        pytest.param(310, limits(singles=10), 0, 300, True, id="more than a batch holds"),
        pytest.param(40, ClaimLimits(singles=0, batch_events=16, batch_id=None), 16, 0, True, id="batches off"),
    ],
)
async def test_the_table_of_claims(
    ground: Ground, waiting: int, asked: ClaimLimits, singles: int, together: int, more: bool
) -> None:
    if waiting:
        await ground.emit("CustomerUpdated", "{}", waiting)
    async with ground.database.transaction() as connection:
        made = await claim(connection, asked, lease_seconds=LEASE_SECONDS)
    alone = {event.workflow_id for event in made.events if event.workflow_id.startswith("event/")}
    assert len(alone) == singles
    assert len(made.events) - singles == together
    assert len({event.workflow_id for event in made.events} - alone) == min(together, 1)
    assert made.more is more


async def test_a_batch_takes_events_of_all_waiting_stores_round_robin(ground: Ground) -> None:
    await ground.emit("CustomerUpdated", "{}", 1000)
    for store in ("a", "z"):
        await ground.add_store(store)
    await ground.emit("CustomerUpdated", "{}", 3, store="z")
    await ground.emit("CustomerUpdated", "{}", 50, store="a")
    events = await claimed(ground.database, limits(most=60, singles=10))
    assert len({event.workflow_id for event in events}) == 1
    assert Counter(event.store_code for event in events) == {"a": 29, STORE: 28, "z": 3}


async def test_without_room_for_a_batch_quiet_stores_are_claimed_beside_a_backlog(ground: Ground) -> None:
    await ground.emit("CustomerUpdated", "{}", 100)
    await ground.add_store("quiet")
    [event_id] = await ground.emit("CustomerUpdated", "{}", store="quiet")
    [event] = await claimed(ground.database, limits(most=0, singles=5))
    assert (event.event_id, event.workflow_id) == (event_id, event_workflow_id("quiet", event_id))


async def test_a_claim_resumes_behind_the_stores_of_the_claim_before(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.events.outbox.STORES_A_CLAIM", 2)
    for store in "abc":
        await ground.add_store(store)
        await ground.emit("CustomerUpdated", "{}", 5, store=store)
    seen, after = [], ""
    for _ in range(3):
        async with ground.database.transaction() as connection:
            made = await claim(connection, limits(most=4), after=after, lease_seconds=LEASE_SECONDS)
        seen.append("".join(sorted({event.store_code for event in made.events})))
        after = made.after
    assert seen == ["ab", "c", "ab"]


async def test_a_small_batch_passes_over_no_store(ground: Ground) -> None:
    for store in "abcde":
        await ground.add_store(store)
        await ground.emit("CustomerUpdated", "{}", 2, store=store)
    seen, after = "", ""
    for _ in range(3):
        async with ground.database.transaction() as connection:
            made = await claim(connection, limits(most=2), after=after, lease_seconds=LEASE_SECONDS)
        seen += "".join(sorted(event.store_code for event in made.events))
        after = made.after
    assert seen == "abcdee"


async def test_what_is_claimed_singly_gets_the_id_of_its_event(ground: Ground) -> None:
    [event_id] = await ground.emit("CustomerUpdated", "{}")
    [event] = await claimed(ground.database, limits(singles=1))
    assert event == ClaimedEvent(STORE, event_id, "CustomerUpdated", event_workflow_id(STORE, event_id))


async def test_what_is_claimed_singly_comes_with_the_urls_subscribed_to_it(ground: Ground) -> None:
    for url, deleted in (("https://a.example/1", False), ("https://b.example/2", False), ("https://c.example/3", True)):
        subscription_id = await ground.subscribe("CustomerUpdated", url)
        if deleted:
            await ground.execute("UPDATE subscription SET deleted_at = now() WHERE id = :id", id=subscription_id)
    await ground.subscribe("TransactionRegistered", "https://d.example/4")
    await ground.emit("CustomerUpdated", "{}")
    [single] = await claimed(ground.database, limits(singles=1))
    assert sorted(single.urls) == ["https://a.example/1", "https://b.example/2"]
    await let_lapse(ground, {single.workflow_id})
    [again] = await lapsed(ground.database)
    assert sorted(again.urls) == sorted(single.urls)
    await ground.emit("CustomerUpdated", "{}", 2)
    assert [event.urls for event in await claimed(ground.database)] == [(), ()], "of a batch nobody asks"


async def test_the_oldest_is_claimed_first(ground: Ground) -> None:
    first = await ground.emit("CustomerUpdated", "{}", 20)
    await ground.emit("CustomerUpdated", "{}", 20)
    assert {event.event_id for event in await claimed(ground.database, limits(most=20))} == set(first)


async def test_the_workflow_id_is_committed_with_the_claim_and_not_before(ground: Ground) -> None:
    await ground.emit("CustomerUpdated", "{}", 3)
    async with ground.database.transaction() as connection:
        events = (await claim(connection, ClaimLimits(0, 300, "events/x"), lease_seconds=LEASE_SECONDS)).events
        assert await ground.scalar("SELECT count(*) FROM event WHERE workflow_id IS NOT NULL") == 0
        assert await claimed(ground.database) == []  # what another relay is claiming is passed over, not waited for
    assert len(events) == 3
    assert await ground.scalar("SELECT count(*) FROM event WHERE workflow_id = 'events/x'") == 3


async def test_a_claim_that_was_not_committed_leaves_nothing(ground: Ground) -> None:
    event_ids = await ground.emit("CustomerUpdated", "{}", 3)
    async with ground.database.engine.connect() as connection:
        assert (await claim(connection, limits(), lease_seconds=LEASE_SECONDS)).events
        await connection.rollback()
    assert {event.event_id for event in await claimed(ground.database)} == set(event_ids)


async def test_relays_side_by_side_claim_each_event_once(ground: Ground, cleared_url: str) -> None:
    event_ids = await ground.emit("CustomerUpdated", "{}", 3000)
    relays = [Database(cleared_url, pool_size=1) for _ in range(4)]
    begun = asyncio.Barrier(len(relays))

    async def drain(database: Database, most: int) -> list[UUID]:
        mine = [event.event_id for event in await claimed(database, limits(most=most))]
        await begun.wait()
        for empty in range(3):
            while events := await claimed(database, limits(most=most, singles=empty)):
                mine += [event.event_id for event in events]
        return mine

    claims = await asyncio.gather(*(drain(relay, most) for relay, most in zip(relays, (7, 23, 50, 101), strict=True)))
    for relay in relays:
        await relay.close()
    counts = Counter(event_id for mine in claims for event_id in mine)
    assert set(counts) == set(event_ids)
    assert set(counts.values()) == {1}
    assert sum(bool(mine) for mine in claims) == 4, "the relays did not run side by side"


async def test_a_claim_that_has_not_lapsed_is_left_alone(ground: Ground) -> None:
    await ground.emit("CustomerUpdated", "{}", 3)
    await claimed(ground.database)
    assert await lapsed(ground.database) == []


async def test_what_lapsed_is_claimed_again_under_the_same_id_with_the_same_events(ground: Ground) -> None:
    await ground.emit("CustomerUpdated", "{}", 50)
    batch = await claimed(ground.database, limits(most=20))
    single = await claimed(ground.database, limits(singles=50))
    await let_lapse(ground, {event.workflow_id for event in (*batch, *single)})
    again = await lapsed(ground.database)
    assert {*again} == {*batch, *single}
    assert await lapsed(ground.database) == [], "the second claim holds for a lease as well"


async def test_events_committed_late_do_not_split_a_lapsed_batch(ground: Ground) -> None:
    # Numbers are drawn before the commit: an event may appear in the middle of what was claimed long ago.
    await ground.emit("CustomerUpdated", "{}", 10)
    batch = await claimed(ground.database)
    await let_lapse(ground, {batch[0].workflow_id})
    await ground.execute(
        """
        INSERT INTO event (store_code, event_id, sequence, name, created_at, created_at_text, digest)
        OVERRIDING SYSTEM VALUE
        SELECT 'default', gen_random_uuid(), sequence, 'CustomerUpdated', now(), '', '' FROM event
        ORDER BY sequence OFFSET 5 LIMIT 1
        """
    )
    assert {*await lapsed(ground.database)} == {*batch}


async def test_what_was_matched_is_never_claimed_again(ground: Ground) -> None:
    await ground.emit("CustomerUpdated", "{}", 4)
    batch = await claimed(ground.database)
    taken = batch[:3]
    async with ground.database.transaction() as connection:
        keys = [(event.store_code, event.event_id) for event in taken]
        await match(connection, keys, worker_id=uuid4(), may_begin=lambda _: True)
    await let_lapse(ground, {batch[0].workflow_id})
    assert [event.event_id for event in await lapsed(ground.database)] == [batch[3].event_id]


async def test_only_one_relay_at_a_time_looks_after_lapsed_claims(ground: Ground) -> None:
    await ground.emit("CustomerUpdated", "{}", 4)
    batch = await claimed(ground.database)
    await let_lapse(ground, {batch[0].workflow_id})
    async with ground.database.transaction() as connection:
        assert len(await claim_lapsed(connection, singles=0, batches=1, lease_seconds=LEASE_SECONDS)) == 4
        assert await lapsed(ground.database) == []


async def test_no_more_is_claimed_again_than_there_is_room_for_and_what_lapsed_first_comes_first(
    ground: Ground,
) -> None:
    await ground.emit("CustomerUpdated", "{}", 5)
    singles = [one for _ in range(5) for one in await claimed(ground.database, limits(singles=1, most=0))]
    await ground.emit("CustomerUpdated", "{}", 6)
    batches = [await claimed(ground.database, limits(most=3)) for _ in range(2)]
    for place, workflow_id in enumerate(one.workflow_id for one in (*singles, batches[1][0], batches[0][0])):
        await let_lapse(ground, {workflow_id}, seconds=10 - place)
    async with ground.database.transaction() as connection:
        again = await claim_lapsed(connection, singles=2, batches=1, lease_seconds=LEASE_SECONDS)
    assert {*again} == {*singles[:2], *batches[1]}


async def test_claims_lapses_and_matches_at_once_do_not_deadlock(ground: Ground, cleared_url: str) -> None:
    await ground.emit("CustomerUpdated", "{}", 1500)
    database = Database(cleared_url, pool_size=10)
    batches: list[Sequence[ClaimedEvent]] = []
    while events := await claimed(database, limits(most=100)):
        batches.append(events)
    # Claims made again and again move the rows about, so that their order on disk is no help.
    for number in range(4):
        await ground.execute("UPDATE event SET claimed_until = now() WHERE sequence % 4 = :number", number=number)

    async def match_one(events: Sequence[ClaimedEvent]) -> None:
        async with database.transaction() as connection:
            keys = [(event.store_code, event.event_id) for event in reversed(events)]
            await match(connection, keys, worker_id=uuid4(), may_begin=lambda _: True)

    async def lapse() -> None:
        for _ in range(10):
            async with database.transaction() as connection:
                await claim_lapsed(connection, singles=50, batches=50, lease_seconds=0)

    await asyncio.gather(*(match_one(batch) for batch in batches), *(lapse() for _ in range(2)))
    await database.close()
    assert await ground.scalar("SELECT count(*) FROM event WHERE matched_at IS NULL") == 0
    assert await ground.scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


async def test_the_backlog_is_what_is_not_matched(ground: Ground) -> None:
    assert await backlog_of(ground) == (0, 0)
    await ground.emit("CustomerUpdated", "{}", 5)
    await ground.execute("UPDATE event SET accepted_at = accepted_at - interval '1 hour'")
    await claimed(ground.database, limits(most=2))
    events, oldest_seconds = await backlog_of(ground)
    assert events == 5, "what is claimed and not matched yet still waits"
    assert 3600 <= oldest_seconds < 3700
    assert (await backlog_of(ground, limit=3))[0] == 3


async def backlog_of(ground: Ground, limit: int = 100) -> tuple[int, float]:
    async with ground.database.transaction() as connection:
        found = await backlog(connection, limit=limit)
    return found.events, found.oldest_seconds
