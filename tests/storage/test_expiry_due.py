"""What is due is found by a range of the index, however much else there is; rows of two places are read as one."""

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.expiry.calendar_days import TimeSpan
from domain.expiry.rows import Kind
from storage.database import Database
from storage.events.intake import known_events
from storage.expiry.due import FoundRow, Search, StoredDue, before, find_due, merged
from storage.expiry.scans import stores_with_late_rows
from tests.expiry_ground import ExpiryGround
from tests.ground import STORE
from tests.storage.plans import explained

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=1)
ROWS = 30_000
DAYS = 300

FILL = {
    Kind.POINTS: """
        INSERT INTO point_transfer (store_code, transfer_id, customer_id, points, type, status, expires_at, updated_at)
        SELECT 'default', gen_random_uuid(), gen_random_uuid(), 1, 'add',
            CASE WHEN n % 10 = 0 THEN 'expired' ELSE 'active' END, {instant}, now()
        FROM generate_series(1, :rows) AS n""",
    Kind.LEVELS: """
        INSERT INTO member_level (store_code, customer_id, level_id, future_level_id, recalculate_at, updated_at)
        SELECT 'default', gen_random_uuid(), gen_random_uuid(),
            CASE WHEN n % 10 = 0 THEN NULL ELSE gen_random_uuid() END, {instant}, now()
        FROM generate_series(1, :rows) AS n""",
    Kind.COUPONS: """
        INSERT INTO issued_coupon (store_code, issued_coupon_id, customer_id, status, used, active_to, updated_at)
        SELECT 'default', gen_random_uuid(), gen_random_uuid(), 'active', n % 10 = 0, {instant}, now()
        FROM generate_series(1, :rows) AS n""",
}
INSTANT = f"timestamptz '2026-01-01T00:00Z' + n % {DAYS} * interval '1 day' + n * interval '1 second'"
DUE_INDEX = {Kind.POINTS: "point_transfer_due", Kind.LEVELS: "member_level_due", Kind.COUPONS: "issued_coupon_due"}
KEY = {Kind.POINTS: "point_transfer_pkey", Kind.LEVELS: "member_level_pkey", Kind.COUPONS: "issued_coupon_pkey"}


@pytest.fixture(scope="module")
async def filled(module_database_url: str) -> AsyncIterator[ExpiryGround]:
    """Rows of each kind over three hundred days; a tenth of them cannot expire."""
    database = Database(module_database_url, pool_size=2)
    ground = ExpiryGround(database)
    await ground.add_store()
    for statement in FILL.values():
        await ground.execute(statement.format(instant=INSTANT), rows=ROWS)
    async with database.single_statements() as connection:
        await connection.exec_driver_sql("VACUUM (ANALYZE) point_transfer, member_level, issued_coupon")
    yield ground
    await database.close()


def search(kind: Kind, imported_after: datetime | None = None) -> Search:
    return Search(STORE, kind, before(START), END, imported_after)


@pytest.mark.parametrize("kind", Kind)
async def test_a_page_is_an_index_only_range_in_order(filled: ExpiryGround, kind: Kind) -> None:
    async with filled.database.transaction() as connection, explained(connection) as plans:
        found = await find_due(connection, search(kind), 500)
    assert 0 < len(found) < ROWS / DAYS + 10
    assert found == sorted(found)
    [plan] = plans
    assert f"Index Only Scan using {DUE_INDEX[kind]}" in plan, plan
    assert "Index Cond: ((store_code = " in plan
    assert "ROW(" in plan.partition("Index Cond")[2].partition("\n")[0], plan
    assert "Filter" not in plan, plan
    assert "Sort" not in plan, plan


@pytest.mark.parametrize("kind", Kind)
async def test_late_rows_are_told_from_the_index_alone(filled: ExpiryGround, kind: Kind) -> None:
    async with filled.database.transaction() as connection, explained(connection) as plans:
        assert await find_due(connection, search(kind, datetime.now(UTC)), 500) == []
    assert f"Index Only Scan using {DUE_INDEX[kind]}" in plans[0], plans[0]


@pytest.mark.parametrize("kind", Kind)
async def test_what_was_found_is_loaded_by_its_key(filled: ExpiryGround, kind: Kind) -> None:
    async with filled.database.transaction() as connection:
        found = await find_due(connection, search(kind), 50)
        async with explained(connection) as plans:
            loaded = await StoredDue(filled.database, filled.sealer).still_due(connection, search(kind), found)
    assert [(row.instant, row.identity) for row in loaded] == [(one.instant, one.identity) for one in found]
    assert f"using {KEY[kind]}" in plans[0], plans[0]
    assert "Seq Scan" not in plans[0], plans[0]


async def test_known_notices_are_looked_up_by_their_key(filled: ExpiryGround) -> None:
    ids = await filled.emit("CustomerUpdated", "{}", 2_000)
    await filled.execute("ANALYZE event")
    async with filled.database.transaction() as connection, explained(connection) as plans:
        assert await known_events(connection, STORE, [*ids[:5], UUID(int=1)]) == set(ids[:5])
    assert "event_pkey" in plans[0], plans[0]
    assert "Seq Scan" not in plans[0], plans[0]


@pytest.mark.parametrize("kind", Kind)
async def test_the_minutely_look_for_late_rows_reads_the_index_alone(filled: ExpiryGround, kind: Kind) -> None:
    await filled.execute(
        "INSERT INTO expiry_coverage VALUES (:store, :kind, :start, :end, now()) ON CONFLICT DO NOTHING",
        store=STORE,
        kind=kind,
        start=START,
        end=START + timedelta(days=10),
    )
    async with filled.database.transaction() as connection, explained(connection) as plans:
        assert await stores_with_late_rows(connection, kind, START) == []
    assert f"Index Only Scan using {DUE_INDEX[kind]}" in plans[0], plans[0]


async def test_a_page_begins_right_behind_its_place_and_ends_right_before_the_end(ground: ExpiryGround) -> None:
    tick = timedelta(microseconds=1)
    instants = [START - tick, START, START, START + tick, END - tick, END]
    ids = await ground.put(Kind.POINTS, instants)
    async with ground.database.transaction() as connection:
        everything = await find_due(connection, search(Kind.POINTS), 100)
        assert everything == sorted(FoundRow(*one) for one in zip(instants[1:5], ids[1:5], strict=True))
        for number, place in enumerate(everything, start=1):
            rest = await find_due(connection, search(Kind.POINTS).behind(place), 100)
            assert rest == everything[number:]
        source = StoredDue(ground.database, ground.sealer)
        assert await source.count(connection, STORE, Kind.POINTS, TimeSpan(START, END)) == 4


async def test_late_rows_far_apart_are_all_found(ground: ExpiryGround) -> None:
    instants = [START + timedelta(days=day, hours=day) for day in (0, 0, 0, 3, 4, 200)]
    await ground.put(Kind.POINTS, instants)
    wanted = Search(STORE, Kind.POINTS, before(START), START + timedelta(days=300), datetime(2020, 1, 1, tzinfo=UTC))
    source = StoredDue(ground.database, ground.sealer)
    for page_rows in (1, 2, 3, 100):
        found = [one async for page in source.pages(wanted, page_rows) for one in page]
        assert [one.instant for one in found] == instants
        assert found == sorted(found)


@pytest.fixture
async def ground(database_url: str) -> AsyncIterator[ExpiryGround]:
    database = Database(database_url, pool_size=3)
    ground = ExpiryGround(database)
    await ground.add_store()
    yield ground
    await database.close()


PLACES = st.lists(st.integers(0, 40), unique=True).map(
    lambda numbers: [FoundRow(START + timedelta(hours=number // 3), UUID(int=number)) for number in sorted(numbers)]
)


@given(PLACES, PLACES, st.integers(1, 5))
async def test_two_places_are_read_as_one_in_order_and_nothing_twice(
    one: list[FoundRow], other: list[FoundRow], page_rows: int
) -> None:
    async def pages(places: list[FoundRow]) -> AsyncGenerator[list[FoundRow], None]:
        for start in range(0, len(places), page_rows):
            yield places[start : start + page_rows]

    got = [page async for page in merged(pages(one), pages(other))]
    assert [place for page in got for place in page] == sorted({*one, *other})
    assert all(0 < len(page) <= 2 * page_rows for page in got)
