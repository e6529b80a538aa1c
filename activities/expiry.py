"""Activities of expiry scans: plan, start, and slices that write the due notices."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, timedelta
from typing import cast
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity
from temporalio.exceptions import ApplicationError

from domain.events.catalogue import CATALOGUE, validate_data
from domain.expiry.calendar_days import TimeSpan, day_interval
from domain.expiry.plan import plan_scans
from domain.expiry.rows import EVENT_NAMES, Kind, event_data, notice_id
from domain.timestamps import zone
from domain.wire.jsontext import JsonValue
from storage.access.stores import find_store
from storage.access.tables import Store
from storage.database import Database
from storage.events.intake import NewEvent, insert_events, known_events, new_event
from storage.events.outbox import OutboxNotifier, waiting
from storage.expiry.due import DueSource, FoundRow
from storage.expiry.rows import DueRow
from storage.expiry.scans import (
    advance_scan,
    coverage,
    find_scan,
    finish_scan,
    give_up,
    open_scan,
    position_of,
    prune_scans,
    search_of,
)
from storage.expiry.source import SourceUnusableError
from storage.expiry.tables import ExpiryScan, Origin
from storage.sealing import Sealer
from temporal.guards import guarded
from temporal.messages import ExpiryPlan, OpenRequest, PlanRequest, ScanProgress, ScanRef, ScanTask

logger = logging.getLogger(__name__)

SLICE_SECONDS = 5.0
"""Duration of a slice, and so the maximum age of the progress in the Web UI."""

SOURCE_RETRY = timedelta(minutes=1)
"""Delay of the retry after a fault of the platform's views, which an operator has to repair first."""

PAGE_ROWS = 200
"""Maximum number of events in a transaction, which takes some 30 ms and blocks nothing else."""

SLICE_ROWS = 25
"""Notices built in one tick of the event loop: about 1 ms, so that deliveries of this worker go on."""

BACKLOG_EVENTS = 1500
"""Number of unmatched events of a store from which its notices wait: 2.5 batches of the default size keep the relay
busy. Other stores do not wait behind them (docs/decisions/0007-the-claim-serves-stores-round-robin.md)."""

BACKLOG_POLL_SECONDS = 0.04
"""Interval at which the backlog is read."""

BACKLOG_WAIT_SECONDS = 1.0
"""Maximum wait of a page for the backlog, which may last for hours, while a scan has to end within its day."""


@dataclass(eq=False)
class NoticeWriter:
    """Writer of notices as events, one page at a time for all scans of this process."""

    database: Database
    source: DueSource
    sealer: Sealer
    notifier: OutboxNotifier
    _writing: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)  # fair: scans of several stores alternate

    async def write(self, scan: ExpiryScan, found: Sequence[FoundRow]) -> ExpiryScan | None:
        """Emit the notices of the page behind the scan's position. Return the updated scan. Return None, and write
        nothing, if another worker has moved the scan because it took this one for dead."""
        async with self._writing:
            await self._wait_for_backlog(scan.store_code)
            async with self.database.transaction() as connection:
                locked = await find_scan(connection, scan.id, lock=True)
                if locked is None or position_of(locked) != position_of(scan) or locked.finished_at is not None:
                    return None
                events, new, due = await self._notices(connection, scan, found)
                emitted = len(await insert_events(connection, events)) if events else 0
                await advance_scan(
                    connection,
                    scan.id,
                    found[-1],
                    scanned=len(found),
                    emitted=emitted,
                    known=len(found) - new + len(events) - emitted,
                    dropped=new - due,
                    refused=due - len(events),
                )
                moved = await find_scan(connection, scan.id)
        if emitted:
            self.notifier.notify()
        return moved

    async def finish(self, scan: ExpiryScan) -> ExpiryScan | None:
        """Mark the scan as finished. Return None if another worker has moved it."""
        async with self.database.transaction() as connection:
            locked = await find_scan(connection, scan.id, lock=True)
            if locked is None or position_of(locked) != position_of(scan):
                return None
            if locked.finished_at is None:
                await finish_scan(connection, locked)
            return await find_scan(connection, scan.id)

    async def _wait_for_backlog(self, store_code: str) -> None:
        until = time.monotonic() + BACKLOG_WAIT_SECONDS
        while time.monotonic() < until:
            async with self.database.single_statements() as connection:
                if await waiting(connection, store_code, limit=BACKLOG_EVENTS) < BACKLOG_EVENTS:
                    return
            await asyncio.sleep(BACKLOG_POLL_SECONDS)

    async def _notices(
        self, connection: AsyncConnection, scan: ExpiryScan, found: Sequence[FoundRow]
    ) -> tuple[list[NewEvent], int, int]:
        """Return (events, number of rows that have no notice yet, number of those that, read again, are still due)."""
        ids = {one: notice_id(scan.store_code, scan.kind, one.identity, one.instant) for one in found}
        noticed = await known_events(connection, scan.store_code, list(ids.values()))
        new = [one for one in found if ids[one] not in noticed]
        due = await self.source.still_due(connection, search_of(scan), new) if new else []
        events: list[NewEvent] = []
        for number, row in enumerate(due):
            if number % SLICE_ROWS == 0:
                await asyncio.sleep(0)
            event = self._event(scan, row)
            if event is not None:
                events.append(event)
        return events, len(new), len(due)

    def _event(self, scan: ExpiryScan, due: DueRow) -> NewEvent | None:
        """Return the event, validated like a posted one; None, with a warning in the log, if it is invalid."""
        event_type = CATALOGUE[EVENT_NAMES[scan.kind]]
        data = cast(JsonValue, event_data(due.row))
        problems = validate_data(event_type, data)
        if problems:
            paths = ", ".join(f"{problem.path} {problem.message}" for problem in problems)
            logger.warning(
                "expiry row is invalid, no event %s for %s %s of store %s: %s",
                event_type.name,
                scan.kind,
                due.identity,
                scan.store_code,
                paths,
            )
            return None
        event_id = notice_id(scan.store_code, scan.kind, due.identity, due.instant)
        return new_event(scan.store_code, event_type, event_id, data, self.sealer)


@dataclass(eq=False)
class ExpiryActivities:
    """Expiry scans, with the resources of the worker. `page_rows` and `slice_seconds` are for tests."""

    database: Database
    source: DueSource
    writer: NoticeWriter
    _: KW_ONLY
    late_notices: bool
    days_back: int
    page_rows: int = PAGE_ROWS
    slice_seconds: float = SLICE_SECONDS

    @activity.defn(name="plan-expiry-scans")
    async def plan_scans(self, request: PlanRequest) -> ExpiryPlan:
        """Return the days to scan now, and give up those that lie too far back."""
        async with guarded():
            kind = Kind(request.kind)
            async with self.database.transaction() as connection:
                store = await _existing(connection, request.store_code)
                covered = await coverage(connection, store.code, kind)
                plan = plan_scans(
                    now=request.now,
                    zone=zone(store.timezone),
                    days_ahead=store.days_ahead(kind),
                    covered=None if covered is None else covered.interval,
                    days_back=self.days_back,
                )
                if plan.given_up is not None:
                    await give_up(connection, store.code, kind, plan.given_up.end)
                await prune_scans(connection, store.code, kind)
            given_up = None if plan.given_up is None else _shown(plan.given_up)
            if given_up is not None:
                logger.warning(
                    "expiry scan of %s of store %s skips %s, older than EXPIRY_DAYS_BACK", kind, store.code, given_up
                )
            days = [
                ScanTask(store.code, kind, one.day, Origin.SCHEDULE, one.interval.start, one.interval.end)
                for one in plan.days
            ]
            return ExpiryPlan(days, self.late_notices, not self.source.tells_import_time, given_up)

    @activity.defn(name="open-expiry-scan")
    async def open_scan(self, request: OpenRequest) -> ScanProgress:
        """Begin a scan. A scan for late rows ends at once if no future day is covered."""
        async with guarded(), self.database.transaction() as connection:
            task = request.task
            store = await _existing(connection, task.store_code)
            imported_after = None
            if task.starts_at is not None and task.ends_at is not None:
                interval = TimeSpan(task.starts_at, task.ends_at)
            elif task.day is not None:
                interval = day_interval(task.day, zone(store.timezone))
            else:
                covered = await coverage(connection, store.code, Kind(task.kind))
                # Rows that have expired by now get no notice.
                begin = request.now.astimezone(UTC)
                if covered is None or covered.interval.end <= max(covered.interval.start, begin):
                    return ScanProgress("nothing that expires yet is covered", finished=True)
                interval = TimeSpan(max(covered.interval.start, begin), covered.interval.end)
                imported_after = None if task.thorough else covered.rows_seen_until
            scan = ExpiryScan(
                id=UUID(request.scan_id),
                store_code=store.code,
                kind=Kind(task.kind),
                origin=Origin.LATE if task.day is None else Origin(task.origin),
                day=task.day,
                timezone=store.timezone,
                starts_at=interval.start,
                ends_at=interval.end,
                workflow_id=request.workflow_id,
                imported_after=imported_after,
            )
            await open_scan(connection, scan)
            return _progress(await _begun(connection, scan.id))

    @activity.defn(name="scan-expiring")
    async def scan(self, ref: ScanRef) -> ScanProgress:
        """Scan a slice from the current position on. The counts are those of the whole scan."""
        async with guarded():
            try:
                return await self._slice(UUID(ref.scan_id))
            except SourceUnusableError as error:  # an operator has to repair the platform's views
                logger.warning("expiry scan failed (%s), retrying in %g s", error, SOURCE_RETRY.total_seconds())
                raise ApplicationError(str(error), type="SourceUnusable", next_retry_delay=SOURCE_RETRY) from None

    async def _slice(self, scan_id: UUID) -> ScanProgress:
        scan = await self.database.run(_begun, scan_id)
        if scan.finished_at is not None:  # a repeated call
            return _progress(scan)
        until = time.monotonic() + self.slice_seconds
        async with aclosing(self.source.pages(search_of(scan), self.page_rows)) as pages:
            async for found in pages:
                moved = await self.writer.write(scan, found)
                if moved is None:
                    return _progress(scan)
                scan = moved
                if time.monotonic() >= until:
                    return _progress(scan)
        finished = await self.writer.finish(scan)
        if finished is not None:
            logger.info(
                "expiry scan of %s of store %s finished: trigger %s, %s; "
                "due %d, emitted %d, already emitted %d, no longer due %d, refused %d; %.1f s",
                *(scan.kind, scan.store_code, scan.origin, scan.day or _shown(scan.interval)),
                *(finished.scanned, finished.emitted, finished.known, finished.dropped, finished.refused),
                finished.seconds,
            )
        return _progress(finished or scan)


async def _existing(connection: AsyncConnection, store_code: str) -> Store:
    store = await find_store(connection, store_code)
    if store is None:
        raise ApplicationError(f"there is no store {store_code}", type="NoSuchStore", non_retryable=True)
    return store


async def _begun(connection: AsyncConnection, scan_id: UUID) -> ExpiryScan:
    scan = await find_scan(connection, scan_id)
    if scan is None:
        raise ApplicationError(f"there is no scan {scan_id}", type="NoSuchScan", non_retryable=True)
    return scan


def _progress(scan: ExpiryScan) -> ScanProgress:
    return ScanProgress(
        place=f"late rows of {_shown(scan.interval)}" if scan.day is None else f"{scan.day} in {scan.timezone}",
        scanned=scan.scanned,
        emitted=scan.emitted,
        known=scan.known,
        dropped=scan.dropped,
        refused=scan.refused,
        seconds=scan.seconds,
        finished=scan.finished_at is not None,
        scan_id=str(scan.id),
    )


def _shown(interval: TimeSpan) -> str:
    start, end = (f"{one.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for one in (interval.start, interval.end))
    return f"{start} to {end}"
