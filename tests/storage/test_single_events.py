"""Single events: few are claimed and read in one statement; the match is another, which decides alone."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from domain.delivery.identity import message_id
from relay.prefetch import EventsAhead
from storage.deliveries.matching import match
from storage.deliveries.open import OpenDelivery
from storage.events.erasure import Erased, erase_events
from storage.events.single_events import FewClaimed, ReadAhead, claim_few, match_read
from tests.deadlines import eventually
from tests.ground import STORE, Ground

URL = "http://receiver.example.com/hook"


async def few(ground: Ground, most: int = 10) -> FewClaimed | None:
    """One claim."""
    return await claim_few(ground.database.quick, most, lease_seconds=10)


async def read(ground: Ground, event_id: UUID) -> ReadAhead | None:
    """What is read of an event with its claim."""
    claimed = await few(ground)
    assert claimed is not None
    return claimed.ahead.get((STORE, event_id))


async def matched_read(ground: Ground, ahead: ReadAhead | None, *, busy: bool = False) -> list[OpenDelivery] | None:
    """What the match of it returns."""
    assert ahead is not None
    return await match_read(ground.database.quick, ahead, worker_id=uuid4(), may_begin=lambda _: not busy)


async def matched(ground: Ground, event_id: UUID) -> list[OpenDelivery]:
    """What the match without it returns."""
    async with ground.database.transaction() as connection:
        return await match(connection, [(STORE, event_id)], worker_id=uuid4(), may_begin=lambda _: True)


def comparable(rows: Any) -> list[dict[str, Any]]:
    """Deliveries without what differs from match to match."""
    own = ("workflow_id", "event_id", "event_sequence", "message_id", "created_at", "request_id")
    return [{name: value for name, value in row._mapping.items() if name not in own} for row in rows]


async def test_a_few_are_claimed_each_for_itself_and_more_are_left_to_the_whole_claim(ground: Ground) -> None:
    event_ids = await ground.emit("CustomerUpdated", "{}", 3)
    assert await few(ground, 2) is None
    assert await ground.scalar("SELECT count(*) FROM event WHERE workflow_id IS NULL") == 3
    first = await few(ground, 3)
    assert first is not None
    assert {event.workflow_id for event in first.events} == {f"event/{STORE}/{event_id}" for event_id in event_ids}
    again = await few(ground, 3)
    assert again is not None
    assert not again.events


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("alone", [False, True])
async def test_it_makes_what_the_match_without_it_makes(ground: Ground, alone: bool, busy: bool) -> None:
    subscriptions = [await ground.subscribe("CustomerUpdated", f"{URL}/legacy", legacy=True, retry_schedule=[1, 2])]
    if not alone:
        subscriptions += [
            await ground.subscribe("CustomerUpdated", f"{URL}/plain"),
            await ground.subscribe("CustomerUpdated", f"{URL}/paused", status="paused"),
        ]
    one, other = await ground.emit("CustomerUpdated", "{}", 2)
    made = await matched_read(ground, await read(ground, one), busy=busy)
    assert made is not None
    assert {delivery.message_id for delivery in made} == {message_id(one, id_, "main") for id_ in subscriptions}
    async with ground.database.transaction() as connection:
        plainly = await match(connection, [(STORE, other)], worker_id=uuid4(), may_begin=lambda _: not busy)
    assert [one.subscription for one in made] == [one.subscription for one in plainly]
    assert {one.event.data_text for one in made} == {"{}"}
    rows = await ground.deliveries()
    ahead, plain = ([row for row in rows if row.event_id == event_id] for event_id in (one, other))
    assert comparable(ahead) == comparable(plain)
    attempts = await ground.execute("SELECT message_id, request_id, number FROM attempt")
    begun = {(delivery.message_id, delivery.request_id, 1) for delivery in made if delivery.intended}
    assert begun == {tuple(row) for row in attempts if row.message_id in {one.message_id for one in made}}
    assert len(begun) == (0 if busy else 1 if alone else 2)


@pytest.mark.parametrize("refused", [0, 1, 2])
async def test_only_what_may_not_begin_is_held(ground: Ground, refused: int) -> None:
    """Also where an event has two bodies for one subscription: what one was answered is not another's answer."""
    name, data = "CustomerLevelChanged", '{"automatic":true}'
    ids = [await ground.subscribe(name, f"{URL}/{number}", legacy=number == 0) for number in range(3)]
    one, other = await ground.emit(name, data, 2)

    def may_begin(subscription_id: UUID) -> bool:
        return subscription_id != ids[refused]

    async with ground.database.transaction() as connection:
        plainly = await match(connection, [(STORE, other)], worker_id=uuid4(), may_begin=may_begin)
    ahead = await read(ground, one)
    assert ahead is not None
    assert ahead.planned is not None
    asked: list[UUID] = []

    def noted(subscription_id: UUID) -> bool:
        asked.append(subscription_id)
        return may_begin(subscription_id)

    made = await match_read(ground.database.quick, ahead, worker_id=uuid4(), may_begin=noted)
    assert made is not None
    assert sorted(asked) == sorted([*ids, ids[0]])  # once for each body: a yes holds a place
    begun = [(delivery.subscription.id, delivery.variant, delivery.intended) for delivery in made]
    assert begun == [(delivery.subscription.id, delivery.variant, delivery.intended) for delivery in plainly]
    assert [intended for subscription_id, _, intended in begun] == [id_ != ids[refused] for id_, *_ in begun]
    assert len(begun) == 4


async def test_a_damaged_row_is_left_to_the_match_that_reports_it(ground: Ground) -> None:
    await ground.subscribe("CustomerUpdated", URL, ordered=True, order_key="customer")
    await ground.emit("CustomerUpdated", '{"customerId": "\\ud800"}')
    claimed = await few(ground)
    assert claimed is not None
    [ahead] = claimed.ahead.values()
    assert ahead.planned is None
    with pytest.raises(UnicodeEncodeError):
        await matched_read(ground, ahead)


async def test_of_an_event_matched_meanwhile_it_makes_nothing(ground: Ground) -> None:
    await ground.subscribe("CustomerUpdated", URL)
    [event_id] = await ground.emit("CustomerUpdated", "{}")
    ahead = await read(ground, event_id)
    await matched(ground, event_id)
    await ground.subscribe("CustomerUpdated", f"{URL}/later")
    assert await matched_read(ground, ahead) is None
    assert len(await ground.deliveries()) == 1
    assert await ground.scalar("SELECT count(*) FROM attempt") == 1
    assert await read(ground, event_id) is None


async def test_of_several_at_once_one_takes_the_event(ground: Ground) -> None:
    await ground.subscribe("CustomerUpdated", URL)
    [event_id] = await ground.emit("CustomerUpdated", "{}")
    ahead = await read(ground, event_id)
    taken = await asyncio.gather(*(matched_read(ground, ahead) for _ in range(5)))
    assert [made is not None for made in taken].count(True) == 1
    assert len(await ground.deliveries()) == 1


async def test_of_an_event_erased_meanwhile_it_sends_nothing(ground: Ground) -> None:
    await ground.subscribe("CustomerUpdated", URL)
    [event_id] = await ground.emit("CustomerUpdated", '{"customer": {"customerId": "x"}}')
    ahead = await read(ground, event_id)
    async with ground.database.transaction() as connection:
        day = await connection.scalar(text("SELECT accepted_on FROM event"))
        await erase_events(connection, STORE, day, [event_id], Erased())
    assert await matched_read(ground, ahead) is None
    assert await ground.deliveries() == []


async def test_what_nobody_is_subscribed_to_is_for_the_match_without_it(ground: Ground) -> None:
    [event_id] = await ground.emit("CustomerUpdated", "{}")
    assert await matched_read(ground, await read(ground, event_id)) is None
    assert await ground.scalar("SELECT count(*) FROM event WHERE matched_at IS NULL") == 1


async def test_what_is_told_of_expiry_is_for_the_match_without_it(ground: Ground) -> None:
    await ground.execute("UPDATE store SET expiry_kinds_from_events = '{levels}'")
    [event_id] = await ground.emit("CustomerLevelChanged", "{}")
    assert await read(ground, event_id) is None


async def test_what_was_read_is_given_once_and_not_when_it_is_old(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ground.subscribe("CustomerUpdated", URL)
    first, second = await ground.emit("CustomerUpdated", "{}", 2)
    claimed = await few(ground)
    assert claimed is not None
    ahead = EventsAhead()
    ahead.keep(claimed.ahead)
    assert ahead.take((STORE, first)) is claimed.ahead[STORE, first]
    assert ahead.take((STORE, first)) is None
    monkeypatch.setattr("relay.prefetch.FRESH_SECONDS", 0.0)
    assert ahead.take((STORE, second)) is None


async def test_what_nobody_takes_is_not_kept(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    await ground.subscribe("CustomerUpdated", URL)
    await ground.emit("CustomerUpdated", "{}")
    claimed = await few(ground)
    assert claimed is not None
    monkeypatch.setattr("relay.prefetch.FRESH_SECONDS", 0.05)
    ahead = EventsAhead()
    ahead.keep(claimed.ahead)

    async def forgotten() -> bool:
        return not ahead._kept

    assert not await forgotten()
    await eventually(forgotten, 5, "a customer's data is not kept")


async def test_of_what_the_match_will_begin_the_requests_may_be_prepared(ground: Ground) -> None:
    ids = [await ground.subscribe("CustomerUpdated", f"{URL}/{number}") for number in range(2)]
    await ground.subscribe("CustomerUpdated", f"{URL}/paused", status="paused")
    await ground.emit("CustomerUpdated", "{}")
    claimed = await few(ground)
    assert claimed is not None
    ahead, told = EventsAhead(), []
    ahead.on_planned = told.extend
    ahead.keep(claimed.ahead)
    assert [delivery.subscription.id for delivery in told] == ids
    [read_ahead] = claimed.ahead.values()
    made = await matched_read(ground, read_ahead)
    assert made is not None
    assert [delivery.request_id for delivery in made if delivery.intended] == [one.request_id for one in told]


async def test_of_two_stores_events_of_one_id_each_is_given_for_itself(ground: Ground) -> None:
    await ground.add_store("other")
    await ground.subscribe("CustomerUpdated", URL)
    await ground.subscribe("CustomerUpdated", f"{URL}/other", store_code="other")
    [event_id] = await ground.emit("CustomerUpdated", "{}")
    [twin] = await ground.emit("CustomerUpdated", "{}", store="other")
    for table in ("event", "event_body"):
        await ground.execute(f"UPDATE {table} SET event_id = :id WHERE event_id = :twin", id=event_id, twin=twin)
    claimed = await few(ground)
    assert claimed is not None
    ahead = EventsAhead()
    ahead.keep(claimed.ahead)
    for store_code in (STORE, "other"):
        made = await matched_read(ground, ahead.take((store_code, event_id)))
        assert made is not None
        assert [delivery.event.store_code for delivery in made] == [store_code]
    assert await ground.scalar("SELECT count(*) FROM event WHERE matched_at IS NULL") == 0
