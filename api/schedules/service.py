"""Expiry schedules of a store: their state, and operator actions, audited once Temporal has accepted them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict, NotFound, Unavailable
from api.expiry.preview import Preview, default_day
from api.expiry.preview import preview as look_at
from api.resources import Resources
from api.schedules.models import ScanOut, ScheduleDetails, ScheduleOut, Started, Synced, Triggered, scan_out, state_of
from api.temporal_calls import temporal_call
from api.temporal_links import schedule_url, workflow_url
from domain.delivery.identity import expiry_schedule_id
from domain.expiry.rows import Kind
from storage.access.audit import record
from storage.access.stores import find_store
from storage.access.tables import Store
from storage.expiry.scans import coverage, recent_scans
from storage.expiry.source import SourceUnusableError
from storage.expiry.tables import ExpiryCoverage, ExpiryScan
from temporal.expiry_schedules import ScheduleStatus, StoreSchedules

SCANS_SHOWN = 30
"""Number of scans in the details of a schedule."""

SCHEDULE = "schedule"
"""Object type in the audit log."""


@dataclass(frozen=True)
class _Facts:
    """Facts of a schedule in the database."""

    store: Store
    kind: Kind
    covered: ExpiryCoverage | None
    scans: list[ExpiryScan]


class ScheduleActions:
    """Operator actions of one caller on the schedules of one store. Methods raise NotFound if the store is gone."""

    def __init__(self, resources: Resources, store_code: str, actor: str) -> None:
        self._resources = resources
        self._store_code = store_code
        self._actor = actor

    async def all(self) -> list[ScheduleOut]:
        """Return one schedule per kind. Their `state` is `unknown` while Temporal does not answer."""
        async with self._resources.database.transaction() as connection:
            store = await self._store(connection)
            facts = [await _facts(connection, store, kind, most=1) for kind in Kind]
        statuses = await asyncio.gather(*(self._status(kind) for kind in Kind))
        return [ScheduleOut(**self._schedule(one, status)) for one, status in zip(facts, statuses, strict=True)]

    async def details(self, kind: Kind) -> ScheduleDetails:
        """Return a schedule with its latest scans, and the progress of a running one."""
        async with self._resources.database.transaction() as connection:
            facts = await _facts(connection, await self._store(connection), kind, SCANS_SHOWN)
        status = await self._status(kind)
        scans: list[ScanOut] = [scan_out(self._resources, scan) for scan in facts.scans]
        return ScheduleDetails(**self._schedule(facts, status), scans=scans)

    async def sync(self) -> Synced:
        """Create and repair the schedules now, as workers do every minute. Paused schedules stay paused."""
        async with self._resources.database.transaction() as connection:
            store = await self._store(connection)
        async with temporal_call():
            result = await self._resources.schedules.sync_store(StoreSchedules(store.code, store.timezone))
        return Synced(created=result.created, updated=result.updated, failed=result.failed)

    async def trigger(self, kind: Kind, day: date | None) -> Triggered:
        """Scan a day now; default: the day that is due today."""
        async with self._resources.database.transaction() as connection:
            store = await self._store(connection)
        wanted = day or default_day(store, kind, datetime.now(UTC))
        async with temporal_call():
            workflow_id = await self._resources.schedules.scan_day(self._store_code, kind, wanted)
        await self._audit("trigger", kind, {"day": wanted.isoformat()})
        url = workflow_url(self._resources, workflow_id)
        return Triggered(workflow_id=workflow_id, day=wanted, temporal_url=url)

    async def backfill(self, kind: Kind, first: date, last: date) -> Started:
        """Scan consecutive days one after the other."""
        async with temporal_call():
            workflow_id = await self._resources.schedules.scan_days(self._store_code, kind, first, last)
        await self._audit("backfill", kind, {"firstDay": first.isoformat(), "lastDay": last.isoformat()})
        url = workflow_url(self._resources, workflow_id)
        return Started(workflow_id=workflow_id, first_day=first, last_day=last, temporal_url=url)

    async def pause(self, kind: Kind) -> None:
        """Stop scheduled scans until the schedule is resumed. Raises Conflict if Temporal has no schedule yet."""
        async with temporal_call():
            _must_exist(await self._resources.schedules.pause(self._store_code, kind, f"paused by {self._actor}"))
        await self._audit("pause", kind, {})

    async def resume(self, kind: Kind) -> None:
        """Resume scheduled scans; the next run also scans the missed days. Raises Conflict as `pause` does."""
        async with temporal_call():
            _must_exist(await self._resources.schedules.resume(self._store_code, kind, f"resumed by {self._actor}"))
        await self._audit("resume", kind, {})

    async def preview(self, kind: Kind, day: date | None) -> Preview:
        """Return the rows that a scan would find; default: on the day that is due today. Raises Unavailable."""
        async with self._resources.database.transaction() as connection:
            store = await self._store(connection)
            wanted = day or default_day(store, kind, datetime.now(UTC))
            try:
                return await look_at(self._resources.due_source, connection, store, kind, wanted)
            except SourceUnusableError as error:
                raise Unavailable(str(error)) from error

    async def _store(self, connection: AsyncConnection) -> Store:
        store = await find_store(connection, self._store_code)
        if store is None:
            raise NotFound
        return store

    async def _status(self, kind: Kind) -> ScheduleStatus | None:
        """Return None if Temporal does not answer, so that the facts in the database are shown anyway."""
        try:
            async with temporal_call():
                return await self._resources.schedules.status(self._store_code, kind)
        except Unavailable:
            return None

    def _schedule(self, facts: _Facts, status: ScheduleStatus | None) -> dict[str, Any]:
        schedule_id = expiry_schedule_id(facts.store.code, facts.kind)
        covered = None if facts.covered is None else facts.covered.interval
        return {
            "kind": facts.kind,
            "schedule_id": schedule_id,
            "state": state_of(status),
            "note": status.note if status else None,
            "timezone": facts.store.timezone,
            "local_hour": self._resources.settings.expiry_local_hour,
            "notification_days": facts.store.days_ahead(facts.kind),
            "next_run_at": status.next_run_at if status else None,
            "scanned_from": covered.start if covered else None,
            "scanned_until": covered.end if covered else None,
            "last_scan": scan_out(self._resources, facts.scans[0]) if facts.scans else None,
            "temporal_url": schedule_url(self._resources, schedule_id),
        }

    async def _audit(self, action: str, kind: Kind, changes: Mapping[str, Any]) -> None:
        """Record an action that Temporal has accepted; a rejected one has changed nothing."""
        async with self._resources.database.transaction() as connection:
            await record(
                connection,
                actor=self._actor,
                action=action,
                object_type=SCHEDULE,
                object_id=expiry_schedule_id(self._store_code, kind),
                store_code=self._store_code,
                changes=changes,
            )


async def _facts(connection: AsyncConnection, store: Store, kind: Kind, most: int) -> _Facts:
    covered = await coverage(connection, store.code, kind)
    return _Facts(store, kind, covered, await recent_scans(connection, store.code, kind, most))


def _must_exist(exists: bool) -> None:
    if not exists:
        raise Conflict(
            "Temporal has no such schedule yet; a worker creates it within a minute, or `schedules sync` now."
        )
