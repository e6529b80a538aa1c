"""Finding what is due in our own tables: by the index of what can expire, and again by id when a notice is emitted."""

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
"""PostgreSQL's resolution."""

LAST_ID = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True, order=True)
class FoundRow:
    """Something that expires at an instant: its place in a scan."""

    instant: datetime
    identity: UUID


def before(instant: datetime) -> FoundRow:
    """The place behind which everything lies that expires at the instant or later."""
    return FoundRow(instant - INSTANT_STEP, LAST_ID)


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for: everything behind `after` that expires before `until`.

    `imported_after`: only what came to expire at its instant after this; None: all.
    """

    store_code: str
    kind: Kind
    after: FoundRow
    until: datetime
    imported_after: datetime | None = None

    def behind(self, place: FoundRow) -> "Search":
        """The rest of the search behind that place."""
        return replace(self, after=place)

    def within(self, time: timedelta) -> "Search":
        """The beginning of the search: what expires within so much time."""
        return replace(self, until=min(self.until, self.after.instant + time))


def is_still_due(row: Row) -> bool:
    """Whether a row that can expire asks for a notice: `STILL`, for rows of another database."""
    return not isinstance(row, MemberLevelRow) or row.level_id != row.future_level_id


STILL: Mapping[Kind, str] = {
    Kind.POINTS: "true",
    # A member who keeps the level, or has reached the one to come, loses nothing on that day.
    Kind.LEVELS: "level_id <> future_level_id",
    Kind.COUPONS: "true",
}
"""What a notice asks for beyond the index of what can expire."""


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
    """The first `most` that are due, in order of instant and id."""
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
    """Those of what was found that still expire at that very instant, whole; raises SealBrokenError."""
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
    """How many expire in the interval."""
    parameters = {"store_code": store_code, "start": interval.start, "until": interval.end}
    return int(await connection.scalar(_COUNT[kind], parameters) or 0)
