"""How far each store's schedules have come, and the single scans with their place and counts."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.expiry.calendar_days import TimeSpan
from domain.expiry.rows import Kind
from storage.expiry.due import FoundRow, Search, before
from storage.expiry.rows import RELATIONS

UNSEEN_TIME = timedelta(minutes=1)
"""Rows carry the time at which they were written, and can be seen once their transaction has committed. Transactions
that are open while a scan begins are allowed for; those of other database roles, hidden from us, may take this long."""

KEPT_DAYS = 400
KEPT_LATE_DAYS = 30
"""Scans are kept so long: those of days for a year and more, looks for late rows (up to hundreds a day) for a month."""


class Origin(StrEnum):
    """Who wanted a scan."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class NewScan:
    """A scan that is about to begin. `day` is None for late rows."""

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
    """What came of rows: see the columns of `ExpiryScan`."""

    scanned: int = 0
    emitted: int = 0
    known: int = 0
    dropped: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class ScanRow:
    """One scan as it stands."""

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
        """What is left to look for."""
        return Search(self.store_code, self.kind, self.position, self.interval.end, self.imported_after)

    @property
    def seconds(self) -> float:
        """How long it has taken, by the database's clock."""
        return ((self.finished_at or self.advanced_at) - self.started_at).total_seconds()

    @property
    def emitted_per_second(self) -> float:
        """Rate so far; 0 before anything is known."""
        return self.counts.emitted / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a store's schedule of a kind has really scanned."""

    interval: TimeSpan
    rows_seen_until: datetime
    """Rows that came after this may not have been seen by any scan."""


_COLUMNS = """id, store_code, kind, origin, day, timezone, starts_at, ends_at, imported_after, workflow_id, position_at,
    position_id, scanned, emitted, known, dropped, refused, started_at, advanced_at, finished_at"""

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
_FIND = text(f"SELECT {_COLUMNS} FROM expiry_scan WHERE id = :id")
_LOCK = text(f"SELECT {_COLUMNS} FROM expiry_scan WHERE id = :id FOR NO KEY UPDATE")
_RECENT = text(f"""
SELECT {_COLUMNS} FROM expiry_scan WHERE store_code = :store_code AND kind = :kind
ORDER BY started_at DESC LIMIT :most
""")
_ADVANCE = text("""
UPDATE expiry_scan SET position_at = :position_at, position_id = :position_id, advanced_at = clock_timestamp(),
    scanned = scanned + :scanned, emitted = emitted + :emitted, known = known + :known, dropped = dropped + :dropped,
    refused = refused + :refused
WHERE id = :id
""")
_FINISH = text("""
UPDATE expiry_scan SET finished_at = clock_timestamp(), advanced_at = clock_timestamp()
WHERE id = :id AND finished_at IS NULL
""")
# Coverage grows at its end alone: a scan that does not begin inside it, or at its end, would leave a gap. A look for
# late rows may have begun meanwhile, and did not look into what was not covered then.
_COVER = text("""
INSERT INTO expiry_coverage AS kept (store_code, kind, covered_from, covered_until, rows_seen_until)
SELECT store_code, kind, starts_at, ends_at, sees_until FROM expiry_scan WHERE id = :id
ON CONFLICT (store_code, kind) DO UPDATE
SET covered_until = excluded.covered_until, rows_seen_until = least(kept.rows_seen_until, excluded.rows_seen_until)
WHERE kept.covered_until >= excluded.covered_from AND kept.covered_until < excluded.covered_until
""")
_LATE_CHECKED = text("""
UPDATE expiry_coverage SET rows_seen_until = scan.sees_until FROM expiry_scan AS scan
WHERE scan.id = :id AND expiry_coverage.store_code = scan.store_code AND expiry_coverage.kind = scan.kind
    AND scan.sees_until > rows_seen_until AND scan.ends_at >= covered_until
""")
_GIVE_UP = text("""
UPDATE expiry_coverage SET covered_until = :until
WHERE store_code = :store_code AND kind = :kind AND covered_until < :until
""")
_COVERAGE = text("""
SELECT covered_from, covered_until, rows_seen_until FROM expiry_coverage
WHERE store_code = :store_code AND kind = :kind
""")
_COVERED = text("SELECT store_code FROM expiry_coverage WHERE kind = :kind ORDER BY store_code")
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
    """Write that a scan begins; one of this id that has begun goes on as it is."""
    place = before(scan.interval.start)
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
            "position_at": place.instant,
            "position_id": place.identity,
        },
    )


async def find_scan(connection: AsyncConnection, scan_id: UUID, *, lock: bool = False) -> ScanRow | None:
    """The scan, or None. `lock` makes others who lock it wait until this transaction ends."""
    row = (await connection.execute(_LOCK if lock else _FIND, {"id": scan_id})).one_or_none()
    return None if row is None else _scan(row)


async def recent_scans(connection: AsyncConnection, store_code: str, kind: Kind, most: int) -> list[ScanRow]:
    """Scans of a kind, the last begun first."""
    rows = await connection.execute(_RECENT, {"store_code": store_code, "kind": kind, "most": most})
    return [_scan(row) for row in rows]


def _scan(row: Any) -> ScanRow:
    (id_, store_code, kind, origin, day, timezone, starts_at, ends_at, imported_after, workflow_id, *rest) = row
    position_at, position_id, scanned, emitted, known, dropped, refused, started_at, advanced_at, finished_at = rest
    return ScanRow(
        id=id_,
        store_code=store_code,
        kind=Kind(kind),
        origin=Origin(origin),
        day=day,
        timezone=timezone,
        interval=TimeSpan(starts_at, ends_at),
        imported_after=imported_after,
        workflow_id=workflow_id,
        position=FoundRow(position_at, position_id),
        counts=Counts(scanned, emitted, known, dropped, refused),
        started_at=started_at,
        advanced_at=advanced_at,
        finished_at=finished_at,
    )


async def advance_scan(connection: AsyncConnection, scan_id: UUID, position: FoundRow, counts: Counts) -> None:
    """Move the scan on behind `position` and add to its counts."""
    await connection.execute(
        _ADVANCE,
        {
            "id": scan_id,
            "position_at": position.instant,
            "position_id": position.identity,
            "scanned": counts.scanned,
            "emitted": counts.emitted,
            "known": counts.known,
            "dropped": counts.dropped,
            "refused": counts.refused,
        },
    )


async def finish_scan(connection: AsyncConnection, scan: ScanRow) -> None:
    """Write that all of it is scanned, and what that means for the schedule's coverage."""
    await connection.execute(_FINISH, {"id": scan.id})
    if scan.origin is Origin.SCHEDULE:
        await connection.execute(_COVER, {"id": scan.id})
    elif scan.origin is Origin.LATE:
        await connection.execute(_LATE_CHECKED, {"id": scan.id})


async def coverage(connection: AsyncConnection, store_code: str, kind: Kind) -> Coverage | None:
    """What the schedule has scanned; None before its first scan has finished."""
    row = (await connection.execute(_COVERAGE, {"store_code": store_code, "kind": kind})).one_or_none()
    return None if row is None else Coverage(TimeSpan(row[0], row[1]), row[2])


async def covered_stores(connection: AsyncConnection, kind: Kind) -> list[str]:
    """Stores whose schedule of the kind has scanned something."""
    return list(await connection.scalars(_COVERED, {"kind": kind}))


async def stores_with_late_rows(connection: AsyncConnection, kind: Kind, now: datetime) -> list[str]:
    """Stores with rows, not expired yet, that may have come after their day was scanned."""
    return list(await connection.scalars(_LATE[kind], {"now": now}))


async def give_up(connection: AsyncConnection, store_code: str, kind: Kind, until: datetime) -> None:
    """Let the schedule go on at this instant: what lies before is too long ago to be scanned."""
    await connection.execute(_GIVE_UP, {"store_code": store_code, "kind": kind, "until": until})


async def prune_scans(connection: AsyncConnection, store_code: str, kind: Kind) -> None:
    """Forget old scans; the coverage stays."""
    parameters = {"store_code": store_code, "kind": kind, "days": KEPT_DAYS, "late_days": KEPT_LATE_DAYS}
    await connection.execute(_PRUNE, parameters)
