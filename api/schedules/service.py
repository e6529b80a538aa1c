"""Expiry schedules of a store: their state, and operator actions, audited once Temporal has accepted them."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict, Unavailable, existing
from api.expiry.preview import Preview, default_day
from api.expiry.preview import preview as look_at
from api.refusals import temporal_call
from api.schedules.models import ScanOut, ScheduleDetails, Started, Synced, Triggered
from api.store_actions import StoreActions
from api.temporal_links import schedule_url, workflow_url
from domain.delivery.identity import expiry_schedule_id
from domain.expiry.rows import Kind
from storage.access.stores import find_store
from storage.access.tables import Store
from storage.expiry.scans import coverage, recent_scans
from storage.expiry.source import SourceAwayError, SourceUnusableError
from storage.expiry.tables import ExpiryCoverage, ExpiryScan
from temporal.schedules import ScheduleStatus

SCANS_SHOWN = 30
"""Number of scans in the details of a schedule."""


class ScheduleActions(StoreActions):
    """Operator actions of one caller on the schedules of one store. Methods raise NotFound if the store is gone."""

    async def all(self) -> list[ScheduleDetails]:
        """Return one schedule per kind. Their `state` is `unknown` while Temporal does not answer."""
        async with self.resources.database.transaction() as connection:
            store = await self._store(connection)
            facts = [(kind, *await _facts(connection, store, kind, most=1)) for kind in Kind]
        return await asyncio.gather(*(self._shown(store, *found) for found in facts))

    async def details(self, kind: Kind) -> ScheduleDetails:
        """Return a schedule with its latest scans, and the progress of a running one."""
        async with self.resources.database.transaction() as connection:
            store = await self._store(connection)
            covered, rows = await _facts(connection, store, kind, SCANS_SHOWN)
        return await self._shown(store, kind, covered, rows)

    async def status(self, kind: Kind) -> ScheduleStatus | None:
        """Return what Temporal says of a schedule, or None if it does not answer: the other facts are shown anyway."""
        try:
            async with temporal_call():
                return await self.resources.schedules.status(self.store_code, kind)
        except Unavailable:
            return None

    async def _shown(
        self, store: Store, kind: Kind, covered: ExpiryCoverage | None, rows: list[ExpiryScan]
    ) -> ScheduleDetails:
        status = await self.status(kind)
        schedule_id = expiry_schedule_id(store.code, kind)
        shown = [self._scan(row) for row in rows]
        return ScheduleDetails(
            kind=kind,
            schedule_id=schedule_id,
            state=_state(status),
            note=status.note if status else None,
            timezone=store.timezone,
            local_hour=self.resources.settings.expiry_local_hour,
            notification_days=store.days_ahead(kind),
            next_run_at=status.next_run_at if status else None,
            scanned_from=covered.covered_from if covered else None,
            scanned_until=covered.covered_until if covered else None,
            last_scan=shown[0] if shown else None,
            temporal_url=schedule_url(self.resources, schedule_id),
            scans=shown,
        )

    async def sync(self) -> Synced:
        """Create and repair the schedules now, as workers do every minute. Paused schedules stay paused."""
        store = await self.resources.database.run(self._store)
        async with temporal_call():
            return Synced.of(await self.resources.schedules.sync_store(store))

    async def trigger(self, kind: Kind, day: date | None) -> Triggered:
        """Scan a day now; default: the day that is due today."""
        store = await self.resources.database.run(self._store)
        wanted = day or default_day(store, kind, datetime.now(UTC))
        async with temporal_call():
            workflow_id = await self.resources.schedules.scan_day(self.store_code, kind, wanted)
        await self._audit("trigger", kind, {"day": wanted.isoformat()})
        url = workflow_url(self.resources, workflow_id)
        return Triggered(workflow_id=workflow_id, day=wanted, temporal_url=url)

    async def backfill(self, kind: Kind, first: date, last: date) -> Started:
        """Scan consecutive days one after the other."""
        async with temporal_call():
            workflow_id = await self.resources.schedules.scan_days(self.store_code, kind, first, last)
        await self._audit("backfill", kind, {"firstDay": first.isoformat(), "lastDay": last.isoformat()})
        url = workflow_url(self.resources, workflow_id)
        return Started(workflow_id=workflow_id, first_day=first, last_day=last, temporal_url=url)

    async def switch(self, kind: Kind, action: Literal["pause", "resume"]) -> None:
        """Stop or resume scheduled scans. Raises Conflict if Temporal has no schedule yet."""
        schedules = self.resources.schedules
        switch = schedules.pause if action == "pause" else schedules.resume
        async with temporal_call():
            if not await switch(self.store_code, kind, f"{action}d by {self.actor}"):
                raise Conflict(
                    "Temporal has no such schedule yet; a worker creates it within a minute, or `schedules sync` now."
                )
        await self._audit(action, kind, {})

    async def preview(self, kind: Kind, day: date | None) -> Preview:
        """Return the rows that a scan would find; default: on the day that is due today. Raises Unavailable."""
        async with self.resources.database.transaction() as connection:
            store = await self._store(connection)
            wanted = day or default_day(store, kind, datetime.now(UTC))
            try:
                return await look_at(self.resources.due_source, connection, store, kind, wanted)
            except SourceUnusableError as error:
                raise Unavailable(str(error)) from error
            except SourceAwayError as error:
                raise Unavailable(f"Outage of the {error}; try again.") from error

    async def _store(self, connection: AsyncConnection) -> Store:
        return existing(await find_store(connection, self.store_code))

    def _scan(self, row: ExpiryScan) -> ScanOut:
        return ScanOut.of(
            row,
            scan_id=str(row.id),
            emitted_per_second=round(row.emitted_per_second, 1),
            temporal_url=workflow_url(self.resources, row.workflow_id),
        )

    async def _audit(self, action: str, kind: Kind, changes: Mapping[str, Any]) -> None:
        """Record an action that Temporal has accepted; a rejected one has changed nothing."""
        await self.resources.database.run(
            self.record, action, "schedule", expiry_schedule_id(self.store_code, kind), changes
        )


async def _facts(
    connection: AsyncConnection, store: Store, kind: Kind, most: int
) -> tuple[ExpiryCoverage | None, list[ExpiryScan]]:
    return await coverage(connection, store.code, kind), await recent_scans(connection, store.code, kind, most)


def _state(status: ScheduleStatus | None) -> str:
    if status is None:
        return "unknown"
    if not status.exists:
        return "missing"
    return "paused" if status.paused else "active"
