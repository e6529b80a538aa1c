"""Expiry rows: the newer writing wins, what is stored is exact, and it is known since when a row expires."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from domain.expiry.rows import IssuedCouponRow, Kind, Row
from storage.database import Database
from storage.expiry.rows import (
    RELATIONS,
    delete_row,
    due_columns,
    due_row,
    identity_of,
    newest,
    records_of,
    upsert_records,
)
from storage.sealing import Sealer
from tests.expiry import INSTANTS, row
from tests.ground import STORE, Ground

SEALER = Sealer([Fernet.generate_key().decode()])

kinds = pytest.mark.parametrize("kind", list(Kind))


@pytest.fixture(scope="module")
async def module_rows(module_database_url: str) -> AsyncIterator[Ground]:
    database = Database(module_database_url, pool_size=5)
    yield Ground(database)
    await database.close()


@pytest.fixture
async def rows(module_rows: Ground) -> Ground:
    for relation in RELATIONS.values():
        await module_rows.execute(f"DELETE FROM {relation.table}")
    return module_rows


async def write(database: Database, kind: Kind, *told: Row, store: str = STORE) -> int:
    async with database.transaction() as connection:
        return await upsert_records(connection, store, kind, records_of(kind, newest(told), SEALER))


async def stored(ground: Ground, kind: Kind) -> list[Any]:
    relation = RELATIONS[kind]
    return await ground.execute(f"SELECT * FROM {relation.table} ORDER BY {relation.identity}")


async def read(ground: Ground, kind: Kind) -> list[Row]:
    relation = RELATIONS[kind]
    async with ground.database.transaction() as connection:
        found = await connection.execute(text(f"SELECT {due_columns(relation)} FROM {relation.table}"))
        return [due_row(relation, values, SEALER.open).row for values in found.mappings()]


@kinds
async def test_a_row_is_read_as_it_was_written(rows: Ground, kind: Kind) -> None:
    one = row(kind)
    assert await write(rows.database, kind, one) == 1
    assert await read(rows, kind) == [one]


@kinds
async def test_a_row_of_nothing_but_what_must_be_is_read_as_it_was_written(rows: Ground, kind: Kind) -> None:
    required = {name for name, field in RELATIONS[kind].model.model_fields.items() if field.is_required()}
    bare = RELATIONS[kind].model.model_validate(
        {name: value for name, value in row(kind).model_dump(by_alias=True).items() if name in aliases(kind, required)}
    )
    await write(rows.database, kind, bare)
    assert await read(rows, kind) == [bare]


def aliases(kind: Kind, names: set[str]) -> set[str | None]:
    return {field.alias for name, field in RELATIONS[kind].model.model_fields.items() if name in names}


@pytest.mark.parametrize(
    "points", ["12345678901234567890.10", "0", "0.000", "1E+2", "7E-30", "9" * 900 + ".5"], ids=lambda text: text[:30]
)
async def test_points_are_kept_to_the_last_digit(rows: Ground, points: str) -> None:
    await write(rows.database, Kind.POINTS, row(Kind.POINTS, points=Decimal(points), remainingPoints=Decimal(points)))
    [one] = await stored(rows, Kind.POINTS)
    assert one.points == one.remaining_points == Decimal(points)


async def test_the_code_of_a_coupon_is_nowhere_in_the_table(rows: Ground) -> None:
    await write(rows.database, Kind.COUPONS, row(Kind.COUPONS, code="VERY-SECRET"))
    [[whole]] = await rows.execute("SELECT CAST(issued_coupon AS text) FROM issued_coupon")
    assert "VERY" not in whole
    assert b"VERY-SECRET".hex() not in whole
    [read_again] = await read(rows, Kind.COUPONS)
    assert isinstance(read_again, IssuedCouponRow)
    assert read_again.code == "VERY-SECRET"


@kinds
@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        pytest.param("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", "second", id="newer by a microsecond"),
        pytest.param("2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00Z", "first", id="older by a microsecond"),
        pytest.param("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z", "second", id="same instant: the later told"),
    ],
)
async def test_the_newer_row_wins_in_whatever_order_they_come(
    rows: Ground, kind: Kind, first: str, second: str, kept: str
) -> None:
    one = row(kind, customerFirstName="first", updatedAt=first)
    other = one.model_validate(one.model_dump(by_alias=True) | row_changes("second", second))
    assert await write(rows.database, kind, one) == 1
    assert await write(rows.database, kind, other) == (1 if kept == "second" else 0)
    [left] = await read(rows, kind)
    assert left.customer_first_name == kept
    # And within one call.
    await rows.execute(f"DELETE FROM {RELATIONS[kind].table}")
    assert await write(rows.database, kind, one, other) == 1
    assert await read(rows, kind) == [left]


def row_changes(name: str, updated_at: str) -> dict[str, Any]:
    return {"customerFirstName": name, "updatedAt": updated_at}


@kinds
async def test_rows_of_the_same_id_in_two_stores_are_two(rows: Ground, kind: Kind) -> None:
    one = row(kind)
    await write(rows.database, kind, one)
    await write(rows.database, kind, one, store="other")
    assert len(await stored(rows, kind)) == 2
    async with rows.database.transaction() as connection:
        assert await delete_row(connection, STORE, kind, identity_of(one))
        assert not await delete_row(connection, STORE, kind, identity_of(one))
    assert [left.store_code for left in await stored(rows, kind)] == ["other"]


NOT_YET: dict[Kind, dict[str, Any]] = {
    Kind.POINTS: {"status": "blocked"},
    Kind.LEVELS: {"futureLevelId": None},
    Kind.COUPONS: {"status": "inactive"},
}


@kinds
async def test_a_row_is_late_from_when_it_came_to_expire_at_its_instant(rows: Ground, kind: Kind) -> None:
    base = row(kind).model_dump(by_alias=True)
    writings = count(1)

    async def imported_at(**changes: Any) -> datetime:
        changes = {"updatedAt": f"2026-01-01T00:00:{next(writings):02}Z"} | changes
        await write(rows.database, kind, RELATIONS[kind].model.model_validate(base | changes))
        [one] = await stored(rows, kind)
        at: datetime = one.imported_at
        return at

    first = await imported_at()
    assert await imported_at(customerEmail="other@example.com") == first
    moved = await imported_at(**{INSTANTS[kind]: "2026-04-01T00:00:00Z"})
    assert moved > first
    waiting = await imported_at(**{INSTANTS[kind]: "2026-04-01T00:00:00Z"}, **NOT_YET[kind])
    ready = await imported_at(**{INSTANTS[kind]: "2026-04-01T00:00:00Z"})
    assert ready > waiting >= moved
    older = await imported_at(**{INSTANTS[kind]: "2026-05-01T00:00:00Z"}, updatedAt="2020-01-01T00:00:00Z")
    assert older == ready


@kinds
async def test_writers_of_the_same_rows_in_opposite_order_do_not_block_each_other(rows: Ground, kind: Kind) -> None:
    told = [row(kind) for _ in range(200)]
    await asyncio.gather(*(write(rows.database, kind, *(told if turn % 2 else told[::-1])) for turn in range(12)))
    assert len(await stored(rows, kind)) == 200


def test_every_column_of_a_row_has_its_place() -> None:
    for relation in RELATIONS.values():
        named = {"code" if column == "sealed_code" else column for column in relation.columns}
        assert named == set(relation.model.model_fields)


async def test_nothing_is_written_when_nothing_is_told(rows: Ground) -> None:
    assert await write(rows.database, Kind.POINTS) == 0


def test_an_id_is_the_object_s_own() -> None:
    identity = uuid4()
    assert identity_of(row(Kind.POINTS, transferId=str(identity))) == UUID(str(identity))
    assert row(Kind.POINTS).updated_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
