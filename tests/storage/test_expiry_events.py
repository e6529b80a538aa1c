"""Expiry rows kept from events: once for each event, in whatever order they come, and no older than what is known."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet

from domain.events.catalogue import CATALOGUE, mask_secrets
from domain.expiry.rows import Kind
from domain.wire.jsontext import dump
from storage.database import Database
from storage.deliveries.matching import match
from storage.expiry.from_events import ExpiryFromEvents
from storage.expiry.rows import RELATIONS, records_of, upsert_records
from storage.sealing import Sealer
from tests.domain.test_expiry_events import sample
from tests.expiry import row, told
from tests.ground import STORE, Ground

SEALER = Sealer([Fernet.generate_key().decode()])
BIRTH = datetime(2026, 1, 2, tzinfo=UTC)
TRANSFER = "e8d7c6b5-a493-4281-9706-5f4e3d2c1b0a"
COUPON = "e5d4c3b2-a190-4786-9f6e-5d4c3b2a1807"
MEMBER = "9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70"


class Telling(Ground):
    """A database whose store takes every kind of row from events."""

    async def happen(self, name: str, at: datetime, *, store: str = STORE, **changes: Any) -> tuple[str, UUID]:
        """An event of the sample's data is accepted."""
        event_type = CATALOGUE[name]
        data = sample(name, **changes)
        identity = uuid4()
        await self.execute(
            """
            WITH inserted AS (
                INSERT INTO event (store_code, event_id, name, created_at, created_at_text, digest)
                VALUES (:store, :id, :name, :at, '', '') RETURNING accepted_on, store_code, event_id
            )
            INSERT INTO event_body (accepted_on, store_code, event_id, data, sealed_data)
            SELECT accepted_on, store_code, event_id, :data, CAST(:sealed AS bytea) FROM inserted
            """,
            store=store,
            id=identity,
            name=name,
            at=at,
            data=dump(mask_secrets(event_type, data)),
            sealed=SEALER.seal(dump(data)),
        )
        return store, identity

    async def match(self, *events: tuple[str, UUID], sealer: Sealer = SEALER) -> None:
        """They are matched, in one batch."""
        async with self.database.transaction() as connection:
            await match(
                connection,
                events,
                worker_id=uuid4(),
                may_begin=lambda _: True,
                with_taken=ExpiryFromEvents(sealer).apply,
            )

    async def ask(self, *kinds: Kind, store: str = STORE) -> None:
        """The store takes these kinds of rows from its events."""
        await self.execute(
            "UPDATE store SET expiry_kinds_from_events = :kinds WHERE code = :store", kinds=kinds, store=store
        )

    async def tell(self, kind: Kind, **changes: Any) -> None:
        """The platform sends a row."""
        async with self.database.transaction() as connection:
            await upsert_records(connection, STORE, kind, records_of(kind, [row(kind, **changes)], SEALER))

    async def rows(self, kind: Kind) -> list[Any]:
        return await self.execute(f"SELECT * FROM {RELATIONS[kind].table}")

    async def row(self, kind: Kind) -> Any:
        [one] = await self.rows(kind)
        return one

    async def expiring(self, kind: Kind) -> int:
        relation = RELATIONS[kind]
        count: int = await self.scalar(f"SELECT count(*) FROM {relation.table} WHERE {relation.expires}")
        return count


@pytest.fixture(scope="module")
async def module_telling(module_database_url: str) -> AsyncIterator[Telling]:
    database = Database(module_database_url, pool_size=5)
    telling = Telling(database)
    await telling.add_store()
    yield telling
    await database.close()


@pytest.fixture
async def telling(module_telling: Telling) -> Telling:
    for table in ("event", *(relation.table for relation in RELATIONS.values())):
        await module_telling.execute(f"DELETE FROM {table}")
    await module_telling.ask(*Kind)
    return module_telling


async def in_batches(telling: Telling, events: Sequence[tuple[str, UUID]], *, together: bool) -> None:
    if together:
        await telling.match(*events)
    else:
        for event in events:
            await telling.match(event)


def minutes(number: int) -> datetime:
    return BIRTH + timedelta(minutes=number)


def added(telling: Telling, **changes: Any) -> Any:
    return telling.happen("UnitsTransferWasAdded", minutes(0), createdAt=BIRTH.isoformat(), **changes)


def available(telling: Telling, at: int = 1, **changes: Any) -> Any:
    return telling.happen("AvailablePointsAmountChanged", minutes(at), **changes)


async def test_nothing_is_taken_from_events_of_a_store_that_did_not_ask(telling: Telling) -> None:
    await telling.ask()
    events = [
        await telling.happen(name, minutes(1))
        for name in ("UnitsTransferWasAdded", "CustomerBoughtReward", "RewardRedemptionStatusChanged")
    ]
    await telling.match(*events)
    assert [await telling.rows(kind) for kind in Kind] == [[], [], []]


async def test_each_kind_is_asked_for_by_itself(telling: Telling) -> None:
    await telling.ask(Kind.COUPONS)
    await telling.match(await added(telling), await telling.happen("CustomerBoughtReward", minutes(1)))
    assert (len(await telling.rows(Kind.POINTS)), len(await telling.rows(Kind.COUPONS))) == (0, 1)


@pytest.mark.parametrize("pending", [False, True], ids=["at once", "pending first"])
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "batches"])
@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
async def test_a_transfer_and_its_availability_make_one_row_in_any_order(
    telling: Telling, pending: bool, together: bool, backwards: bool
) -> None:
    events = [await added(telling, pending=pending), await available(telling)]
    await in_batches(telling, events[::-1] if backwards else events, together=together)
    one = await telling.row(Kind.POINTS)
    assert str(one.transfer_id) == TRANSFER
    assert (str(one.points), one.remaining_points, one.status, one.type) == ("80.50", None, "active", "add")
    assert str(one.account_id) == "2a3b4c5d-6e7f-4809-91a2-b3c4d5e6f708"
    assert one.expires_at == datetime(2027, 1, 2, 22, 59, 59, tzinfo=UTC)
    assert one.customer_email == "member@example.com"
    assert one.updated_at == BIRTH
    assert await telling.expiring(Kind.POINTS) == 1


async def test_pending_points_do_not_expire_until_they_are_available(telling: Telling) -> None:
    await telling.match(await added(telling, pending=True))
    assert await telling.expiring(Kind.POINTS) == 0
    before = (await telling.row(Kind.POINTS)).imported_at
    await telling.match(await available(telling))
    assert await telling.expiring(Kind.POINTS) == 1
    assert (await telling.row(Kind.POINTS)).imported_at > before


async def test_availability_alone_makes_nothing_that_expires(telling: Telling) -> None:
    await telling.match(await available(telling))
    assert await telling.expiring(Kind.POINTS) == 0


@pytest.mark.parametrize("backwards", [False, True], ids=["row last", "row first"])
async def test_a_row_the_platform_sends_of_a_transfer_wins_over_its_event(telling: Telling, backwards: bool) -> None:
    event = await added(telling)
    sent = {"transferId": TRANSFER, "points": 7, "status": "cancelled", "updatedAt": minutes(3).isoformat()}
    if backwards:
        await telling.tell(Kind.POINTS, **sent)
        await telling.match(event, await available(telling))
    else:
        await telling.match(event, await available(telling))
        await telling.tell(Kind.POINTS, **sent)
    one = await telling.row(Kind.POINTS)
    assert (one.points, one.status, one.remaining_points) == (7, "cancelled", 80)


async def test_points_blocked_after_they_became_available_stay_blocked(telling: Telling) -> None:
    await telling.tell(Kind.POINTS, transferId=TRANSFER, status="blocked", updatedAt=minutes(5).isoformat())
    await telling.match(await available(telling, at=4))
    assert (await telling.row(Kind.POINTS)).status == "blocked"
    await telling.match(await available(telling, at=6))
    assert (await telling.row(Kind.POINTS)).status == "active"


async def test_a_changed_level_ends_what_was_known_of_the_next(telling: Telling) -> None:
    await telling.tell(Kind.LEVELS, customerId=MEMBER, updatedAt=minutes(0).isoformat())
    assert await telling.expiring(Kind.LEVELS) == 1
    await telling.match(await telling.happen("CustomerLevelChanged", minutes(2)))
    one = await telling.row(Kind.LEVELS)
    assert (one.level_name, one.future_level_id, one.recalculate_at) == ("Gold", None, None)
    assert str(one.level_id) == "8f7e6d5c-4b3a-4291-8078-6f5e4d3c2b1a"
    # What the platform tells of the same change is taken, though it was written a moment before the event.
    await telling.tell(Kind.LEVELS, customerId=MEMBER, levelId=str(one.level_id), updatedAt=minutes(1).isoformat())
    assert await telling.expiring(Kind.LEVELS) == 1


async def test_a_level_told_again_or_before_changes_nothing(telling: Telling) -> None:
    level = "8f7e6d5c-4b3a-4291-8078-6f5e4d3c2b1a"
    await telling.tell(Kind.LEVELS, customerId=MEMBER, levelId=level, updatedAt=minutes(5).isoformat())
    await telling.match(await telling.happen("CustomerLevelChanged", minutes(6)))
    await telling.match(
        await telling.happen("CustomerLevelChanged", minutes(4), level__levelId=str(uuid4())),
    )
    assert await telling.expiring(Kind.LEVELS) == 1


async def test_a_level_taken_away_expires_no_more(telling: Telling) -> None:
    await telling.tell(Kind.LEVELS, customerId=MEMBER, updatedAt=minutes(0).isoformat())
    await telling.match(await telling.happen("CustomerLevelChanged", minutes(1), level=...))
    assert (await telling.row(Kind.LEVELS)).level_id is None


async def test_levels_nobody_told_of_are_not_made_up(telling: Telling) -> None:
    await telling.match(await telling.happen("CustomerLevelChanged", minutes(1)))
    assert await telling.rows(Kind.LEVELS) == []


def bought(telling: Telling, **changes: Any) -> Any:
    return telling.happen("CustomerBoughtReward", minutes(0), coupon__usedAt=..., **changes)


def redeemed(telling: Telling, at: int, status: str, **changes: Any) -> Any:
    return telling.happen("RewardRedemptionStatusChanged", minutes(at), newStatus=status, **changes)


async def test_a_bought_coupon_expires_until_it_is_used(telling: Telling) -> None:
    await telling.match(await bought(telling))
    one = await telling.row(Kind.COUPONS)
    assert SEALER.open(one.sealed_code) == "COFFEE-9XQ2"
    assert (one.status, one.used, one.customer_first_name) == ("active", False, None)
    assert await telling.expiring(Kind.COUPONS) == 1
    await telling.match(await redeemed(telling, 1, "shipped"))
    assert await telling.expiring(Kind.COUPONS) == 1
    assert (await telling.row(Kind.COUPONS)).customer_first_name == "Alex"
    await telling.match(await redeemed(telling, 2, "redeemed"))
    assert await telling.expiring(Kind.COUPONS) == 0


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "batches"])
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize(("end", "status", "used"), [("cancelled", "cancelled", False), ("used", "active", True)])
async def test_a_coupon_that_came_to_its_end_does_not_come_back(
    telling: Telling, order: tuple[int, ...], end: str, status: str, used: bool, together: bool
) -> None:
    events = [await bought(telling), await redeemed(telling, 1, "shipped"), await redeemed(telling, 2, end)]
    await in_batches(telling, [events[position] for position in order], together=together)
    one = await telling.row(Kind.COUPONS)
    assert (one.status, one.used) == (status, used)
    assert await telling.expiring(Kind.COUPONS) == 0


async def test_a_redemption_without_a_coupon_changes_one_that_is_known_and_makes_none(telling: Telling) -> None:
    nothing = await redeemed(telling, 1, "cancelled", issuedReward__issuedCoupon=...)
    await telling.match(nothing)
    assert await telling.rows(Kind.COUPONS) == []
    await telling.tell(Kind.COUPONS, issuedCouponId=COUPON, updatedAt=minutes(0).isoformat())
    await telling.match(await redeemed(telling, 2, "cancelled", issuedReward__issuedCoupon=...))
    one = await telling.row(Kind.COUPONS)
    assert (one.status, SEALER.open(one.sealed_code)) == ("cancelled", told(Kind.COUPONS)["code"])


async def test_an_event_matched_again_tells_nothing_again(telling: Telling) -> None:
    event = await bought(telling)
    await telling.match(event)
    await telling.tell(Kind.COUPONS, issuedCouponId=COUPON, used=True, updatedAt=minutes(0).isoformat())
    await telling.match(event)
    assert (await telling.row(Kind.COUPONS)).used


async def test_a_match_that_is_rolled_back_tells_nothing(telling: Telling) -> None:
    event = await bought(telling)

    async def broken(connection: Any, taken: Any) -> None:
        await ExpiryFromEvents(SEALER).apply(connection, taken)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        async with telling.database.transaction() as connection:
            await match(connection, [event], worker_id=uuid4(), may_begin=lambda _: True, with_taken=broken)
    assert await telling.rows(Kind.COUPONS) == []
    await telling.match(event)
    assert len(await telling.rows(Kind.COUPONS)) == 1


async def test_without_the_key_a_coupon_is_known_without_its_code(telling: Telling) -> None:
    await telling.match(await bought(telling), sealer=Sealer([Fernet.generate_key().decode()]))
    assert (await telling.row(Kind.COUPONS)).sealed_code is None


async def test_rows_belong_to_the_store_of_their_event(telling: Telling) -> None:
    await telling.add_store("other")
    await telling.ask(*Kind, store="other")
    first = await bought(telling)
    second = await telling.happen("CustomerBoughtReward", minutes(0), store="other")
    await telling.match(first, second)
    assert {one.store_code for one in await telling.rows(Kind.COUPONS)} == {STORE, "other"}


async def test_batches_with_the_same_objects_do_not_wait_for_each_other_in_a_circle(telling: Telling) -> None:
    ids = [str(uuid4()) for _ in range(60)]
    batches = []
    for turn in range(4):
        events = [await added(telling, transferId=identity) for identity in ids]
        events += [await available(telling, transferId=identity) for identity in ids]
        events += [
            await telling.happen("CustomerBoughtReward", minutes(turn), rewardRedemption__redeemedRewardId=identity)
            for identity in ids[:10]
        ]
        batches.append(events)
    await asyncio.gather(*(telling.match(*batch) for batch in batches))
    assert len(await telling.rows(Kind.POINTS)) == 60
    assert await telling.expiring(Kind.POINTS) == 60


def test_the_sample_s_ids_are_those_named_here() -> None:
    assert TRANSFER in json.dumps(sample("UnitsTransferWasAdded"), default=str)
    assert COUPON in json.dumps(sample("RewardRedemptionStatusChanged"), default=str)
