"""Due rows for a scan: of the product's tables, and of the views of the platform's database if configured.

Due rows are found by the index of rows that can expire, and read again by id at emission.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.expiry.calendar_days import TimeSpan
from domain.expiry.rows import Kind, MemberLevelRow, Row
from storage.database import Database
from storage.expiry.rows import RELATIONS, DueRow, Relation, due_columns, due_row
from storage.expiry.source import PlatformRows
from storage.mapping import all_as
from storage.sealing import Sealer

INSTANT_STEP = timedelta(microseconds=1)
"""Resolution of PostgreSQL's timestamps."""

LAST_ID = UUID(int=2**128 - 1)

LATE_WINDOW = timedelta(days=1)
"""Maximum interval of expiry that one statement searches for late rows, which are few among many."""


@dataclass(frozen=True, slots=True, order=True)
class FoundRow:
    """Instant of expiry and id of a row: a keyset cursor of a scan."""

    instant: datetime
    identity: UUID


def before(instant: datetime) -> FoundRow:
    """Return the cursor before all rows that expire at the instant or later."""
    return FoundRow(instant - INSTANT_STEP, LAST_ID)


@dataclass(frozen=True, slots=True)
class Search:
    """A search for rows behind `after` that expire before `until`. `imported_after`: only rows that came to expire at
    their instant after this; None: all."""

    store_code: str
    kind: Kind
    after: FoundRow
    until: datetime
    imported_after: datetime | None = None

    def behind(self, cursor: FoundRow) -> "Search":
        """Return the rest of the search behind a cursor."""
        return replace(self, after=cursor)

    def within(self, time: timedelta) -> "Search":
        """Return the beginning of the search: rows that expire within this time."""
        return replace(self, until=min(self.until, self.after.instant + time))


def is_still_due(row: Row) -> bool:
    """Return True if a row that can expire gets a notice: the condition `STILL`, for rows of another database."""
    return not isinstance(row, MemberLevelRow) or row.level_id != row.future_level_id


STILL: Mapping[Kind, str] = {
    Kind.POINTS: "true",
    # A member who stays on the level, or has reached the next one already, loses nothing on that day.
    Kind.LEVELS: "level_id <> future_level_id",
    Kind.COUPONS: "true",
}
"""Conditions of a notice beyond those of the index of rows that can expire."""


def _find(relation: Relation, *, late: bool) -> TextClause:
    return text(f"""
        SELECT {relation.instant} AS instant, {relation.identity} AS identity FROM {relation.table}
        WHERE store_code = :store_code AND {relation.expires} AND {relation.instant} < :until
            AND ({relation.instant}, {relation.identity}) > (CAST(:instant AS timestamptz), CAST(:identity AS uuid))
            {"AND imported_at > :imported_after" if late else ""}
        ORDER BY {relation.instant}, {relation.identity} LIMIT :most
    """)


def _load(relation: Relation) -> TextClause:
    return text(f"""
        SELECT {due_columns(relation)} FROM {relation.table}
        JOIN unnest(CAST(:identities AS uuid[]), CAST(:instants AS timestamptz[])) AS found (identity, instant)
            ON {relation.identity} = found.identity AND {relation.instant} = found.instant
        WHERE store_code = :store_code AND {relation.expires} AND {STILL[relation.kind]}
        ORDER BY {relation.instant}, {relation.identity}
    """)


def _count(relation: Relation) -> TextClause:
    return text(f"""
        SELECT count(*) FROM {relation.table}
        WHERE store_code = :store_code AND {relation.expires} AND {STILL[relation.kind]}
            AND {relation.instant} >= :start AND {relation.instant} < :until
    """)


_FIND = {kind: _find(relation, late=False) for kind, relation in RELATIONS.items()}
_FIND_LATE = {kind: _find(relation, late=True) for kind, relation in RELATIONS.items()}
_LOAD = {kind: _load(relation) for kind, relation in RELATIONS.items()}
_COUNT = {kind: _count(relation) for kind, relation in RELATIONS.items()}


async def find_due(connection: AsyncConnection, search: Search, most: int) -> list[FoundRow]:
    """Return the first `most` due rows, in order of instant and id."""
    parameters = {**asdict(search), **asdict(search.after), "most": most}
    statements = _FIND if search.imported_after is None else _FIND_LATE
    return all_as(FoundRow, await connection.execute(statements[search.kind], parameters))


class StoredDue:
    """The tables of the product's own database."""

    tells_import_time = True
    """Every row has its time of import, by which late rows are found."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def pages(self, search: Search, page_rows: int) -> AsyncGenerator[list[FoundRow], None]:
        """Yield the found rows in order of instant and id, one statement per page. Each begins where the last ended."""
        while search.after.instant < search.until:
            window = search if search.imported_after is None else search.within(LATE_WINDOW)
            async with self._database.single_statements() as connection:
                page = await find_due(connection, window, page_rows)
            if page:
                yield page
            if len(page) == page_rows:
                search = search.behind(page[-1])
            elif window.until == search.until:
                return
            else:
                search = search.behind(before(window.until))

    async def still_due(self, connection: AsyncConnection, search: Search, found: Sequence[FoundRow]) -> list[DueRow]:
        """Read the rows again by id, on the connection that emits, with all columns. Raises SealBrokenError."""
        identities, instants = [one.identity for one in found], [one.instant for one in found]
        parameters = {"store_code": search.store_code, "identities": identities, "instants": instants}
        rows = await connection.execute(_LOAD[search.kind], parameters)
        return [due_row(RELATIONS[search.kind], row._asdict(), self._sealer.open) for row in rows]

    async def count(self, connection: AsyncConnection, store_code: str, kind: Kind, interval: TimeSpan) -> int:
        """Count the rows that expire in the interval, mainly in the index."""
        parameters = {"store_code": store_code, "start": interval.start, "until": interval.end}
        return int(await connection.scalar(_COUNT[kind], parameters) or 0)


class StoredAndViewedDue:
    """The product's tables and the views of the platform's database as one source.

    The time of import of a view's rows is unknown: a search by that time finds none of them, and late ones are found by
    reading all. A row is due if either of the two has it as due.
    """

    tells_import_time = False

    def __init__(self, stored: StoredDue, viewed: PlatformRows) -> None:
        self._stored = stored
        self._viewed = viewed

    async def pages(self, search: Search, page_rows: int) -> AsyncGenerator[list[FoundRow], None]:
        """Yield merged pages of both; the views are read in one snapshot by a cursor. Raises SourceUnusableError."""
        async with aclosing(self._stored.pages(search, page_rows)) as stored:
            if search.imported_after is not None:
                async for page in stored:
                    yield page
                return
            async with aclosing(self._viewed_pages(search, page_rows)) as viewed:
                async for page in merged(stored, viewed):
                    yield page

    async def _viewed_pages(self, search: Search, page_rows: int) -> AsyncGenerator[list[FoundRow], None]:
        after = (search.after.instant, search.after.identity)
        rows = self._viewed.due_pages(search.store_code, search.kind, after, search.until, page_rows)
        async with aclosing(rows):
            async for page in rows:
                yield [FoundRow(row.instant, row.identity) for row in page]

    async def still_due(self, connection: AsyncConnection, search: Search, found: Sequence[FoundRow]) -> list[DueRow]:
        """Read the rows again by id, in both databases. Raises SealBrokenError and SourceUnusableError."""
        due = {row.identity: row for row in await self._stored.still_due(connection, search, found)}
        elsewhere = [one.identity for one in found if one.identity not in due]
        viewed = await self._viewed.still_due(search.store_code, search.kind, elsewhere) if elsewhere else {}
        for one in found:
            row = viewed.get(one.identity)
            if row is not None and row.instant == one.instant and is_still_due(row.row):
                due[one.identity] = row
        return [due[one.identity] for one in found if one.identity in due]

    async def count(self, connection: AsyncConnection, store_code: str, kind: Kind, interval: TimeSpan) -> int:
        """Return the sum of both counts; a row in both counts twice."""
        stored = await self._stored.count(connection, store_code, kind, interval)
        return stored + await self._viewed.count_due(store_code, kind, interval.start, interval.end)


DueSource: TypeAlias = StoredDue | StoredAndViewedDue


@asynccontextmanager
async def open_source(
    database: Database, sealer: Sealer, platform_url: str | None, statement_timeout_seconds: float
) -> AsyncIterator[DueSource]:
    """Provide the product's tables as the source, with the platform's views if `platform_url` (for asyncpg) is set."""
    stored = StoredDue(database, sealer)
    if platform_url is None:
        yield stored
        return
    viewed = PlatformRows(platform_url, statement_timeout_seconds=statement_timeout_seconds)
    try:
        yield StoredAndViewedDue(stored, viewed)
    finally:
        await viewed.close()


async def merged(
    one: AsyncGenerator[list[FoundRow], None], other: AsyncGenerator[list[FoundRow], None]
) -> AsyncGenerator[list[FoundRow], None]:
    """Merge two sequences of pages in order, without duplicates, with at most two pages of each in memory."""
    nothing: list[FoundRow] = []
    left, right = await anext(one, nothing), await anext(other, nothing)
    while left and right:
        upto = min(left[-1], right[-1])
        yield sorted({*(found for found in left if found <= upto), *(found for found in right if found <= upto)})
        left = [found for found in left if found > upto] or await anext(one, nothing)
        right = [found for found in right if found > upto] or await anext(other, nothing)
    while left or right:
        yield left or right
        left, right = (await anext(one, nothing), right) if left else (left, await anext(other, nothing))
