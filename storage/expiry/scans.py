"""Scans for due rows with position and counts, and the coverage of each store's schedules."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, func, literal_column, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.expiry.rows import Kind
from storage.expiry.due import FoundRow, Search, before
from storage.expiry.rows import RELATIONS
from storage.expiry.tables import ExpiryCoverage, ExpiryScan, Origin
from storage.mapping import all_as, one_as, table_of

UNSEEN_TIME = timedelta(minutes=1)
"""Maximum duration of a writing transaction of another database role. A row becomes visible when its transaction
commits, later than its `imported_at`. Transactions that are open when a scan begins are taken into account, but those
of other roles are not visible to this one."""

KEPT_DAYS = 400
KEPT_LATE_DAYS = 30
"""Retention of scans: of days for more than a year, for late rows (up to hundreds a day) for a month."""


# A scan sees every row imported before the start of the oldest open transaction.
_OLDEST_OPEN = """(
    SELECT least(clock_timestamp(), min(xact_start)) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()
)"""
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
        SELECT FROM {relation.table} AS imported
        WHERE imported.store_code = expiry_coverage.store_code AND {relation.expires} AND {relation.instant} >= :now
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


def position_of(scan: ExpiryScan) -> FoundRow:
    """Return the cursor of the last row scanned."""
    return FoundRow(scan.position_at, scan.position_id)


def search_of(scan: ExpiryScan) -> Search:
    return Search(scan.store_code, scan.kind, position_of(scan), scan.ends_at, scan.imported_after)


async def open_scan(connection: AsyncConnection, scan: ExpiryScan) -> None:
    """Store a scan that begins at the start of its interval; one of this id that has begun before is not changed."""
    position = before(scan.starts_at)
    values = {
        **scan.model_dump(exclude_unset=True),
        "position_at": position.instant,
        "position_id": position.identity,
        "sees_until": literal_column(_OLDEST_OPEN, DateTime(timezone=True)) - UNSEEN_TIME,
    }
    await connection.execute(insert(ExpiryScan).values(values).on_conflict_do_nothing(index_elements=["id"]))


async def find_scan(connection: AsyncConnection, scan_id: UUID, *, lock: bool = False) -> ExpiryScan | None:
    """Return the scan, or None. `lock`: other transactions that lock it wait for this one."""
    query = select(ExpiryScan).where(col(ExpiryScan.id) == scan_id)
    return one_as(ExpiryScan, await connection.execute(query.with_for_update(key_share=True) if lock else query))


async def recent_scans(connection: AsyncConnection, store_code: str, kind: Kind, most: int) -> list[ExpiryScan]:
    """Return the store's scans of a kind, last begun first."""
    query = select(ExpiryScan).where(col(ExpiryScan.store_code) == store_code, col(ExpiryScan.kind) == kind)
    newest = query.order_by(col(ExpiryScan.started_at).desc()).limit(most)
    return all_as(ExpiryScan, await connection.execute(newest))


async def advance_scan(connection: AsyncConnection, scan_id: UUID, position: FoundRow, **counts: int) -> None:
    """Move the scan to behind `position` and add to its counts, which are named as the columns of `ExpiryScan`."""
    added = {name: table_of(ExpiryScan).c[name] + count for name, count in counts.items()}
    moved = {"position_at": position.instant, "position_id": position.identity, "advanced_at": func.clock_timestamp()}
    await connection.execute(update(ExpiryScan).where(col(ExpiryScan.id) == scan_id).values(**moved, **added))


async def finish_scan(connection: AsyncConnection, scan: ExpiryScan) -> None:
    """Mark the scan as finished, and extend the schedule's coverage by it."""
    unfinished = update(ExpiryScan).where(col(ExpiryScan.id) == scan.id, col(ExpiryScan.finished_at).is_(None))
    await connection.execute(unfinished.values(finished_at=func.clock_timestamp(), advanced_at=func.clock_timestamp()))
    if scan.origin is Origin.SCHEDULE:
        await connection.execute(_COVER, {"id": scan.id})
    elif scan.origin is Origin.LATE:
        await connection.execute(_LATE_CHECKED, {"id": scan.id})


async def coverage(connection: AsyncConnection, store_code: str, kind: Kind) -> ExpiryCoverage | None:
    """Return the interval that the schedule has scanned, or None before its first scan has finished."""
    query = select(ExpiryCoverage).where(_covered(store_code, kind))
    return one_as(ExpiryCoverage, await connection.execute(query))


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
