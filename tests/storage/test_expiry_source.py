"""The platform's own database as the source: read through three views, never written, never trusted blindly."""

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from domain.expiry.rows import IssuedCouponRow, Kind, Row
from storage.expiry.rows import RELATIONS, DueRow
from storage.expiry.source import PlatformRows, SourceUnusableError, source_columns
from temporal.outages import in_words, is_outage
from tests.databases import empty_database
from tests.expiry import row
from tests.ground import STORE

DAY = datetime(2026, 3, 1, tzinfo=UTC)
NEXT_DAY = DAY + timedelta(days=1)
BEFORE = (DAY - timedelta(microseconds=1), UUID(int=2**128 - 1))

kinds = pytest.mark.parametrize("kind", list(Kind))


class Platform:
    """A platform's database with tables of its own and the three views over them."""

    def __init__(self, url: str, connection: asyncpg.Connection) -> None:
        self.url = url
        self.connection = connection

    async def make_views(self) -> None:
        for relation in RELATIONS.values():
            columns = source_columns(relation)
            declared = ", ".join(f"{column} {type_}" for column, type_ in columns.items())
            await self.connection.execute(f"CREATE TABLE t_{relation.view} ({declared})")
            await self.connection.execute(f"CREATE VIEW {relation.view} AS SELECT * FROM t_{relation.view}")

    async def add(self, kind: Kind, *rows: Row, store: str = STORE, **overrides: Any) -> None:
        relation = RELATIONS[kind]
        columns = list(source_columns(relation))
        records = [
            [(row.model_dump() | {"store_code": store} | overrides)[column] for column in columns] for row in rows
        ]
        await self.connection.copy_records_to_table(f"t_{relation.view}", records=records, columns=columns)


@pytest.fixture(scope="module")
async def module_platform(postgres: str) -> AsyncIterator[Platform]:
    async with empty_database() as url:
        connection = await asyncpg.connect(url)
        try:
            platform = Platform(url, connection)
            await platform.make_views()
            yield platform
        finally:
            await connection.close()


@pytest.fixture
async def platform(module_platform: Platform) -> Platform:
    for relation in RELATIONS.values():
        await module_platform.connection.execute(f"DELETE FROM t_{relation.view}")
    return module_platform


@pytest.fixture
async def source(platform: Platform) -> AsyncIterator[PlatformRows]:
    rows = PlatformRows(platform.url, statement_timeout_seconds=5)
    yield rows
    await rows.close()


async def pages(
    source: PlatformRows, kind: Kind, after: tuple[datetime, UUID] = BEFORE, page_rows: int = 1_000
) -> list[list[DueRow]]:
    async with aclosing(source.due_pages(STORE, kind, after, NEXT_DAY, page_rows)) as found:
        return [page async for page in found]


async def due(source: PlatformRows, kind: Kind, after: tuple[datetime, UUID] = BEFORE) -> list[DueRow]:
    return [row for page in await pages(source, kind, after) for row in page]


OTHERWISE: dict[Kind, list[dict[str, Any]]] = {
    Kind.POINTS: [
        {"status": "cancelled"},
        {"status": "blocked"},
        {"remainingPoints": 0},
        {"expiresAt": None},
        {"expiresAt": "2026-03-02T00:00:00Z"},
        {"expiresAt": "2026-02-28T23:59:59.999999Z"},
    ],
    Kind.LEVELS: [
        {"levelId": None},
        {"futureLevelId": None},
        {"recalculateAt": None},
        {"recalculateAt": "2026-03-02T00:00:00Z"},
    ],
    Kind.COUPONS: [
        {"status": "inactive"},
        {"used": True},
        {"activeTo": None},
        {"activeTo": "2026-02-28T23:59:59.999999Z"},
    ],
}


@kinds
async def test_what_expires_in_the_day_is_found_and_nothing_else(
    platform: Platform, source: PlatformRows, kind: Kind
) -> None:
    one = row(kind)
    await platform.add(kind, one, *(row(kind, **changes) for changes in OTHERWISE[kind]))
    await platform.add(kind, row(kind), store="other")
    [found] = await due(source, kind)
    assert found.row == one
    assert found.imported_at == one.updated_at


async def test_pages_follow_each_other_in_order_and_go_on_behind_a_row(
    platform: Platform, source: PlatformRows
) -> None:
    rows = [row(Kind.POINTS, expiresAt=f"2026-03-01T{hour:02}:00:00Z") for hour in range(12) for _ in range(2)]
    await platform.add(Kind.POINTS, *rows)
    found = await pages(source, Kind.POINTS, page_rows=5)
    assert [len(page) for page in found] == [5, 5, 5, 5, 4]
    keys = [(due.instant, due.identity) for page in found for due in page]
    assert keys == sorted(keys)
    rest = await due(source, Kind.POINTS, after=keys[6])
    assert [(due.instant, due.identity) for due in rest] == keys[7:]


async def test_a_row_is_rechecked_as_it_is_now(platform: Platform, source: PlatformRows) -> None:
    one, other = row(Kind.COUPONS), row(Kind.COUPONS)
    await platform.add(Kind.COUPONS, one, other)
    assert isinstance(one, IssuedCouponRow)
    assert isinstance(other, IssuedCouponRow)
    await platform.connection.execute(
        "UPDATE t_expiry_issued_coupon SET used = true WHERE issued_coupon_id = $1", one.issued_coupon_id
    )
    asked = [one.issued_coupon_id, other.issued_coupon_id, uuid4()]
    assert set(await source.still_due(STORE, Kind.COUPONS, asked)) == {other.issued_coupon_id}
    assert await source.still_due("other", Kind.COUPONS, asked) == {}


async def test_a_row_no_event_could_be_made_of_is_left_out_and_said(
    platform: Platform, source: PlatformRows, caplog: pytest.LogCaptureFixture
) -> None:
    good = row(Kind.POINTS)
    await platform.add(Kind.POINTS, good)
    bad = row(Kind.POINTS)
    await platform.add(Kind.POINTS, bad, points=-1, customer_email="secret@example.com")
    with caplog.at_level(logging.WARNING):
        assert [found.row for found in await due(source, Kind.POINTS)] == [good]
    assert "points: must not be negative" in caplog.text
    assert "secret@example.com" not in caplog.text


async def test_the_platform_is_never_written_to_and_never_waited_for_without_end(platform: Platform) -> None:
    await platform.connection.execute("CREATE SEQUENCE written")
    await platform.connection.execute(
        "CREATE VIEW broken AS SELECT *, nextval('written') AS n FROM t_expiry_point_transfer"
    )
    await platform.add(Kind.POINTS, row(Kind.POINTS))
    patient = PlatformRows(platform.url, statement_timeout_seconds=30)
    rows = PlatformRows(platform.url, statement_timeout_seconds=0.2)
    try:
        async with patient._reading(RELATIONS[Kind.POINTS]) as connection:  # what every reading goes through
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await connection.fetch("SELECT * FROM broken")
        with pytest.raises(SourceUnusableError, match="longer than EXPIRY_STATEMENT_TIMEOUT_SECONDS"):
            async with rows._reading(RELATIONS[Kind.POINTS]) as connection:
                await connection.execute("SELECT pg_sleep(30)")
    finally:
        await rows.close()


async def test_a_check_of_sound_views_finds_nothing(platform: Platform, source: PlatformRows) -> None:
    assert await source.check() == []


async def test_a_check_names_each_missing_view_and_column_and_what_to_do(postgres: str) -> None:
    async with empty_database() as url:
        connection = await asyncpg.connect(url)
        await connection.execute("""
            CREATE TYPE coupon_status AS ENUM ('active', 'gone');
            CREATE VIEW expiry_member_level AS SELECT 'default'::text AS store_code, 'x'::text AS customer_id,
                NULL::varchar AS level_name, now()::timestamp AS recalculate_at;
            CREATE VIEW expiry_issued_coupon AS SELECT 'active'::coupon_status AS status, 1::float AS used;
        """)
        await connection.close()
        rows = PlatformRows(url, statement_timeout_seconds=5)
        try:
            findings = {(found.view, found.column): found.problem for found in await rows.check()}
            with pytest.raises(SourceUnusableError, match="check-source"):
                await due(rows, Kind.LEVELS)
            with pytest.raises(SourceUnusableError, match="expiry_point_transfer"):
                await due(rows, Kind.POINTS)
        finally:
            await rows.close()
    assert "no such view" in findings["expiry_point_transfer", None]
    assert findings["expiry_member_level", "customer_id"] == "is text, not uuid; write customer_id::uuid AS customer_id"
    assert "AT TIME ZONE" in findings["expiry_member_level", "recalculate_at"]
    assert findings["expiry_member_level", "level_id"] == "is missing; add it as uuid, NULL where it is unknown"
    assert ("expiry_member_level", "level_name") not in findings
    assert ("expiry_issued_coupon", "status") not in findings
    assert "store_code" in {column for view, column in findings if view == "expiry_issued_coupon"}


async def test_a_view_the_role_may_not_read_is_said_so(platform: Platform) -> None:
    role = f"reader_{uuid4().hex}"
    await platform.connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'reader'")
    try:
        as_reader = make_url(platform.url).set(username=role, password="reader").render_as_string(hide_password=False)
        rows = PlatformRows(as_reader, statement_timeout_seconds=5)
        try:
            findings = await rows.check()
            assert {found.problem.partition(";")[0] for found in findings} == {"the role may not read it"}
            with pytest.raises(SourceUnusableError, match="permission denied"):
                await rows.still_due(STORE, Kind.POINTS, [UUID(int=1)])
        finally:
            await rows.close()
    finally:
        await platform.connection.execute(f"DROP ROLE {role}")


async def test_an_outage_of_the_platforms_database_is_told_with_its_name(postgres: str, platform: Platform) -> None:
    lost = PlatformRows(f"{postgres}/not_there", statement_timeout_seconds=5)
    unreachable = PlatformRows("postgresql://reader@127.0.0.1:9/platform", statement_timeout_seconds=5)
    for rows, words in ((lost, 'database "not_there" does not exist'), (unreachable, "Connect call failed")):
        try:
            with pytest.raises(ConnectionError) as raised:
                await rows.still_due(STORE, Kind.POINTS, [UUID(int=1)])
        finally:
            await rows.close()
        assert is_outage(raised.value)
        assert in_words(raised.value).startswith("PostgreSQL: database of EXPIRY_DATABASE_URL: "), raised.value
        assert words in in_words(raised.value)


async def test_a_mistake_in_the_address_is_told_as_the_driver_tells_it() -> None:
    rows = PlatformRows("postgresql://reader@127.0.0.1:9/platform?sslmode=nonsense", statement_timeout_seconds=5)
    with pytest.raises(asyncpg.ClientConfigurationError, match="sslmode"):
        await rows.still_due(STORE, Kind.POINTS, [UUID(int=1)])
    await rows.close()
