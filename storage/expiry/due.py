"""Due rows in the product's tables, found by the index of rows that can expire and read again by id at emission."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.expiry.calendar_days import TimeSpan
from domain.expiry.rows import Kind, MemberLevelRow, Row
from storage.expiry.rows import RELATIONS, DueRow, Relation, due_columns, due_row
from storage.sealing import Sealer

INSTANT_STEP = timedelta(microseconds=1)
"""Resolution of PostgreSQL's timestamps."""

LAST_ID = UUID(int=2**128 - 1)


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
    """A search for rows behind `after` that expire before `until`.

    `imported_after`: only rows that came to expire at their instant after this; None: all.
    """

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
    parameters = {
        "store_code": search.store_code,
        "instant": search.after.instant,
        "identity": search.after.identity,
        "until": search.until,
        "most": most,
    }
    if search.imported_after is None:
        rows = await connection.execute(_FIND[search.kind], parameters)
    else:
        late = parameters | {"imported_after": search.imported_after}
        rows = await connection.execute(_FIND_LATE[search.kind], late)
    return [FoundRow(row.instant, row.identity) for row in rows]


async def load_due(
    connection: AsyncConnection, store_code: str, kind: Kind, found: Sequence[FoundRow], sealer: Sealer
) -> list[DueRow]:
    """Return the found rows that still expire at the same instant, with all columns; raises SealBrokenError."""
    rows = await connection.execute(
        _LOAD[kind],
        {
            "store_code": store_code,
            "identities": [one.identity for one in found],
            "instants": [one.instant for one in found],
        },
    )
    relation = RELATIONS[kind]
    return [due_row(relation, row._asdict(), sealer.open) for row in rows]


async def count_due(connection: AsyncConnection, store_code: str, kind: Kind, interval: TimeSpan) -> int:
    """Return the number of rows that expire in the interval."""
    parameters = {"store_code": store_code, "start": interval.start, "until": interval.end}
    return int(await connection.scalar(_COUNT[kind], parameters) or 0)
