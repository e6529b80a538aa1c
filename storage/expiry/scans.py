"""Scans for due rows with position and counts, and the coverage of each store's schedules."""

from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.expiry.calendar_days import TimeSpan
from domain.expiry.rows import Kind
from storage.expiry.due import FoundRow, Search, before
from storage.expiry.rows import RELATIONS
from storage.expiry.tables import ExpiryCoverage, ExpiryScan
from storage.mapping import table_of

UNSEEN_TIME = timedelta(minutes=1)
"""Maximum duration of a writing transaction of another database role. A row becomes visible when its transaction
commits, later than its `imported_at`. Transactions that are open when a scan begins are taken into account, but those
of other roles are not visible to this one."""

KEPT_DAYS = 400
KEPT_LATE_DAYS = 30
"""Retention of scans: of days for more than a year, for late rows (up to hundreds a day) for a month."""


class Origin(StrEnum):
    """Origin of a scan: the schedule, a person, or the check for late rows."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class NewScan:
    """A scan about to begin. `day` is None for late rows."""

    id: UUID
    store_code: str
    kind: Kind
    origin: Origin
    day: date | None
    timezone: str
    interval: TimeSpan
    workflow_id: str
    imported_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of scanned rows by result: see the columns of `ExpiryScan`."""

    scanned: int = 0
    emitted: int = 0
    known: int = 0
    dropped: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class ScanRow:
    """Current state of a scan."""

    id: UUID
    store_code: str
    kind: Kind
    origin: Origin
    day: date | None
    timezone: str
    interval: TimeSpan
    imported_after: datetime | None
    workflow_id: str
    position: FoundRow
    counts: Counts
    started_at: datetime
    advanced_at: datetime
    finished_at: datetime | None

    @property
    def search(self) -> Search:
        """The rest of the scan."""
        return Search(self.store_code, self.kind, self.position, self.interval.end, self.imported_after)

    @property
    def seconds(self) -> float:
        """Duration so far, by the database's clock."""
        return ((self.finished_at or self.advanced_at) - self.started_at).total_seconds()

    @property
    def emitted_per_second(self) -> float:
        """Events emitted per second so far; 0 at the beginning."""
        return self.counts.emitted / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Coverage:
    """The interval that a store's schedule of a kind has scanned without gaps."""

    interval: TimeSpan
    rows_seen_until: datetime
    """Rows imported after this may not have been seen by any scan."""


# SQL text, because the same statement reads the start of the oldest open transaction.
_OPEN = text("""
INSERT INTO expiry_scan (
    id, store_code, kind, origin, day, timezone, starts_at, ends_at, imported_after, sees_until, workflow_id,
    position_at, position_id
)
SELECT
    CAST(:id AS uuid), CAST(:store_code AS text), CAST(:kind AS text), CAST(:origin AS text), CAST(:day AS date),
    CAST(:timezone AS text), CAST(:starts_at AS timestamptz), CAST(:ends_at AS timestamptz),
    CAST(:imported_after AS timestamptz), least(clock_timestamp(), min(xact_start)) - CAST(:unseen AS interval),
    CAST(:workflow_id AS text), CAST(:position_at AS timestamptz), CAST(:position_id AS uuid)
FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()
ON CONFLICT (id) DO NOTHING
""")
# Coverage only grows at its end: a scan that begins neither inside it nor at its end would leave a gap. A check for
# late rows that began meanwhile has not read the newly covered interval.
_COVER = text("""
INSERT INTO expiry_coverage AS stored (store_code, kind, covered_from, covered_until, rows_seen_until)
SELECT store_code, kind, starts_at, ends_at, sees_until FROM expiry_scan WHERE id = :id
ON CONFLICT (store_code, kind) DO UPDATE
SET covered_until = excluded.covered_until, rows_seen_until = least(stored.rows_seen_until, excluded.rows_seen_until)
WHERE stored.covered_until >= excluded.covered_from AND stored.covered_until < excluded.covered_until
""")
_LATE_CHECKED = text("""
UPDATE expiry_coverage SET rows_seen_until = scan.sees_until FROM expiry_scan AS scan
WHERE scan.id = :id AND expiry_coverage.store_code = scan.store_code AND expiry_coverage.kind = scan.kind
    AND scan.sees_until > rows_seen_until AND scan.ends_at >= covered_until
""")
_LATE = {
    kind: text(f"""
    SELECT store_code FROM expiry_coverage WHERE kind = '{kind}' AND EXISTS (
        SELECT FROM {relation.table} AS told
        WHERE told.store_code = expiry_coverage.store_code AND {relation.expires} AND {relation.instant} >= :now
            AND {relation.instant} >= covered_from AND {relation.instant} < covered_until
            AND imported_at > rows_seen_until
    )
    """)
    for kind, relation in RELATIONS.items()
}
_PRUNE = text("""
DELETE FROM expiry_scan WHERE store_code = :store_code AND kind = :kind AND started_at < clock_timestamp()
    - make_interval(days => CASE origin WHEN 'late' THEN CAST(:late_days AS int) ELSE CAST(:days AS int) END)
""")


async def open_scan(connection: AsyncConnection, scan: NewScan) -> None:
    """Store a scan that begins; a scan of this id that has begun before is not changed."""
    position = before(scan.interval.start)
    await connection.execute(
        _OPEN,
        {
            "id": scan.id,
            "store_code": scan.store_code,
            "kind": scan.kind,
            "origin": scan.origin,
            "day": scan.day,
            "timezone": scan.timezone,
            "starts_at": scan.interval.start,
            "ends_at": scan.interval.end,
            "imported_after": scan.imported_after,
            "unseen": UNSEEN_TIME,
            "workflow_id": scan.workflow_id,
            "position_at": position.instant,
            "position_id": position.identity,
        },
    )


async def find_scan(connection: AsyncConnection, scan_id: UUID, *, lock: bool = False) -> ScanRow | None:
    """Return the scan, or None. `lock`: other transactions that lock it wait for this one."""
    query = select(ExpiryScan).where(col(ExpiryScan.id) == scan_id)
    row = (await connection.execute(query.with_for_update(key_share=True) if lock else query)).one_or_none()
    return None if row is None else _scan(row)


async def recent_scans(connection: AsyncConnection, store_code: str, kind: Kind, most: int) -> list[ScanRow]:
    """Return the store's scans of a kind, last begun first."""
    query = select(ExpiryScan).where(col(ExpiryScan.store_code) == store_code, col(ExpiryScan.kind) == kind)
    newest = query.order_by(col(ExpiryScan.started_at).desc()).limit(most)
    return [_scan(row) for row in await connection.execute(newest)]


def _scan(row: Row[Any]) -> ScanRow:
    return ScanRow(
        id=row.id,
        store_code=row.store_code,
        kind=Kind(row.kind),
        origin=Origin(row.origin),
        day=row.day,
        timezone=row.timezone,
        interval=TimeSpan(row.starts_at, row.ends_at),
        imported_after=row.imported_after,
        workflow_id=row.workflow_id,
        position=FoundRow(row.position_at, row.position_id),
        counts=Counts(row.scanned, row.emitted, row.known, row.dropped, row.refused),
        started_at=row.started_at,
        advanced_at=row.advanced_at,
        finished_at=row.finished_at,
    )


async def advance_scan(connection: AsyncConnection, scan_id: UUID, position: FoundRow, counts: Counts) -> None:
    """Move the scan to behind `position` and add to its counts."""
    await connection.execute(
        update(ExpiryScan)
        .where(col(ExpiryScan.id) == scan_id)
        .values(
            position_at=position.instant,
            position_id=position.identity,
            advanced_at=func.clock_timestamp(),
            **{name: table_of(ExpiryScan).c[name] + added for name, added in asdict(counts).items()},
        )
    )


async def finish_scan(connection: AsyncConnection, scan: ScanRow) -> None:
    """Mark the scan as finished, and extend the schedule's coverage by it."""
    unfinished = update(ExpiryScan).where(col(ExpiryScan.id) == scan.id, col(ExpiryScan.finished_at).is_(None))
    await connection.execute(unfinished.values(finished_at=func.clock_timestamp(), advanced_at=func.clock_timestamp()))
    if scan.origin is Origin.SCHEDULE:
        await connection.execute(_COVER, {"id": scan.id})
    elif scan.origin is Origin.LATE:
        await connection.execute(_LATE_CHECKED, {"id": scan.id})


async def coverage(connection: AsyncConnection, store_code: str, kind: Kind) -> Coverage | None:
    """Return the interval that the schedule has scanned, or None before its first scan has finished."""
    query = select(ExpiryCoverage).where(_covered(store_code, kind))
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Coverage(TimeSpan(row.covered_from, row.covered_until), row.rows_seen_until)


async def covered_stores(connection: AsyncConnection, kind: Kind) -> list[str]:
    """Return the stores whose schedule of the kind has finished a scan."""
    query = select(col(ExpiryCoverage.store_code)).where(col(ExpiryCoverage.kind) == kind)
    return list(await connection.scalars(query.order_by(col(ExpiryCoverage.store_code))))


async def stores_with_late_rows(connection: AsyncConnection, kind: Kind, now: datetime) -> list[str]:
    """Return the stores with rows, not expired yet, that may have been imported after their day was scanned."""
    return list(await connection.scalars(_LATE[kind], {"now": now}))


async def give_up(connection: AsyncConnection, store_code: str, kind: Kind, until: datetime) -> None:
    """Continue the schedule at this instant, because the time before is too long ago to be scanned."""
    behind = _covered(store_code, kind) & (col(ExpiryCoverage.covered_until) < until)
    await connection.execute(update(ExpiryCoverage).where(behind).values(covered_until=until))


def _covered(store_code: str, kind: Kind) -> ColumnElement[bool]:
    return (col(ExpiryCoverage.store_code) == store_code) & (col(ExpiryCoverage.kind) == kind)


async def prune_scans(connection: AsyncConnection, store_code: str, kind: Kind) -> None:
    """Delete old scans; the coverage stays."""
    parameters = {"store_code": store_code, "kind": kind, "days": KEPT_DAYS, "late_days": KEPT_LATE_DAYS}
    await connection.execute(_PRUNE, parameters)
