"""Sources of due rows for a scan: the product's tables, and the views of the platform's database if configured."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.expiry.calendar_days import TimeSpan
from domain.expiry.rows import Kind
from storage.database import Database
from storage.expiry.due import FoundRow, Search, before, count_due, find_due, is_still_due, load_due
from storage.expiry.rows import DueRow
from storage.expiry.source import PlatformRows
from storage.sealing import Sealer

LATE_WINDOW = timedelta(days=1)
"""Maximum interval of expiry that one statement searches for late rows, which are few among many."""


class DueSource(Protocol):
    """A source of rows that expire."""

    tells_import_time: bool
    """True if every row has its time of import, by which late rows are found."""

    def pages(self, search: Search, page_rows: int) -> AsyncGenerator[list[FoundRow], None]:
        """Yield all found rows in order of instant and id, one page in memory at a time."""

    async def still_due(self, connection: AsyncConnection, search: Search, found: Sequence[FoundRow]) -> list[DueRow]:
        """Return the found rows that still expire at that instant, in the same order."""

    async def count(self, connection: AsyncConnection, store_code: str, kind: Kind, interval: TimeSpan) -> int:
        """Return the number of rows that expire in the interval."""


class StoredDue:
    """The tables of the product's own database."""

    tells_import_time = True

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def pages(self, search: Search, page_rows: int) -> AsyncGenerator[list[FoundRow], None]:
        """Yield pages, one statement per page, each beginning where the one before ended."""
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
        """Read the rows again by id, on the connection that emits. Raises SealBrokenError."""
        return await load_due(connection, search.store_code, search.kind, found, self._sealer)

    async def count(self, connection: AsyncConnection, store_code: str, kind: Kind, interval: TimeSpan) -> int:
        """Count the rows that expire in the interval, mainly in the index."""
        return await count_due(connection, store_code, kind, interval)


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
        rows = self._viewed.due_pages(
            search.store_code, search.kind, after[0], search.until, after=after, page_rows=page_rows
        )
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
