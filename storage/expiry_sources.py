"""Where a scan finds what expires: in our own tables, or in the views of the platform's database when it is named."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.calendar_days import Interval
from domain.expiry import Kind
from storage.database import Database
from storage.expiry_due import Found, Search, count_due, find_due, is_still_due, load_due
from storage.expiry_rows import DueRow
from storage.expiry_source import PlatformRows
from storage.sealing import Sealer


class DueSource(Protocol):
    """A place where rows that expire are found."""

    tells_import_time: bool
    """Whether rows say when they came, so that looking for late ones is cheap."""

    def pages(self, search: Search, page_rows: int) -> AsyncGenerator[list[Found], None]:
        """All that is looked for, in order of instant and id, a page in memory at a time."""

    async def still_due(self, connection: AsyncConnection, search: Search, found: Sequence[Found]) -> list[DueRow]:
        """Those of what was found that expire at that instant now, in the same order."""

    async def count(self, connection: AsyncConnection, store_code: str, kind: Kind, interval: Interval) -> int:
        """How many expire in the interval."""


class StoredDue:
    """The tables of our own database."""

    tells_import_time = True

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def pages(self, search: Search, page_rows: int) -> AsyncGenerator[list[Found], None]:
        """A statement a page, each beginning where the one before ended."""
        while True:
            async with self._database.single_statements() as connection:
                page = await find_due(connection, search, page_rows)
            if page:
                yield page
            if len(page) < page_rows:
                return
            search = search.behind(page[-1])

    async def still_due(self, connection: AsyncConnection, search: Search, found: Sequence[Found]) -> list[DueRow]:
        """By id, on the connection that emits. Raises SealBrokenError."""
        return await load_due(connection, search.store_code, search.kind, found, self._sealer)

    async def count(self, connection: AsyncConnection, store_code: str, kind: Kind, interval: Interval) -> int:
        """Counted in the index, as far as it tells."""
        return await count_due(connection, store_code, kind, interval)


class ViewedDue:
    """The views of the platform's database. When their rows came nobody knows: late ones are found by reading all."""

    tells_import_time = False

    def __init__(self, rows: PlatformRows) -> None:
        self._rows = rows

    async def pages(self, search: Search, page_rows: int) -> AsyncGenerator[list[Found], None]:
        """One snapshot behind a cursor. Raises SourceUnusableError."""
        pages = self._rows.due_pages(
            search.store_code,
            search.kind,
            search.after.instant,
            search.until,
            after=(search.after.instant, search.after.identity),
            page_rows=page_rows,
        )
        async with aclosing(pages):  # type: ignore[type-var]
            async for page in pages:
                yield [Found(row.instant, row.identity) for row in page]

    async def still_due(self, connection: AsyncConnection, search: Search, found: Sequence[Found]) -> list[DueRow]:
        """Asked again by id. Raises SourceUnusableError."""
        now = await self._rows.still_due(search.store_code, search.kind, [one.identity for one in found])
        rows = [now[one.identity] for one in found if one.identity in now and now[one.identity].instant == one.instant]
        return [row for row in rows if is_still_due(row.row)]

    async def count(self, connection: AsyncConnection, store_code: str, kind: Kind, interval: Interval) -> int:
        """Counted by reading."""
        return await self._rows.count_due(store_code, kind, interval.start, interval.end)
