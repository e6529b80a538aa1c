"""Emitting notices: a page of what was found becomes events, in the one transaction that also moves the scan on."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.events.catalogue import CATALOGUE, validate_data
from domain.expiry.notices import notice_id
from domain.expiry.rows import EVENT_NAMES, event_data
from domain.wire.jsontext import JsonValue
from storage.database import Database
from storage.events.intake import NewEvent, insert_events, known_events, new_event
from storage.events.notification import OutboxNotifier
from storage.events.outbox import waiting
from storage.expiry.due import Found
from storage.expiry.rows import DueRow
from storage.expiry.scans import Counts, ScanRow, advance_scan, find_scan, finish_scan
from storage.expiry.sources import DueSource
from storage.sealing import Sealer

logger = logging.getLogger(__name__)

PAGE_ROWS = 200
"""Events of one transaction: some 30 ms, in which nobody waits for anything it holds."""

SLICE_ROWS = 25
"""Notices made between two turns of the event loop: about 1 ms, so that deliveries of this worker go on."""

ROOM_EVENTS = 1500
"""Unmatched events of a store above which its notices wait: five batches keep the relay busy. Other stores' events do
not wait behind them, because the claim serves stores round robin."""

ROOM_POLL_SECONDS = 0.04
PATIENCE_SECONDS = 1.0
"""After this a page goes all the same: a backlog of the store's may last for hours, and a day has only so many."""


@dataclass(frozen=True, slots=True)
class _Page:
    events: list[NewEvent]
    known: int
    dropped: int
    refused: int


class NoticeWriter:
    """Makes events of what is due; one page at a time in this process, whatever scans there are."""

    def __init__(self, database: Database, source: DueSource, sealer: Sealer, notifier: OutboxNotifier) -> None:
        self._database = database
        self._source = source
        self._sealer = sealer
        self._notifier = notifier
        self._turn = asyncio.Lock()  # fair: scans of several stores take turns

    async def write(self, scan: ScanRow, found: Sequence[Found]) -> ScanRow | None:
        """Emit the notices of a page that lies behind the scan's place; the scan as it stands then.

        None when somebody else has moved the scan meanwhile: a worker that was taken for dead. Nothing is written then.
        """
        async with self._turn:
            await self._room(scan.store_code)
            async with self._database.transaction() as connection:
                locked = await find_scan(connection, scan.id, lock=True)
                if locked is None or locked.position != scan.position or locked.finished_at is not None:
                    return None
                page = await self._notices(connection, scan, found)
                emitted = len(await insert_events(connection, page.events)) if page.events else 0
                counts = Counts(
                    scanned=len(found),
                    emitted=emitted,
                    known=page.known + len(page.events) - emitted,
                    dropped=page.dropped,
                    refused=page.refused,
                )
                await advance_scan(connection, scan.id, found[-1], counts)
                moved = await find_scan(connection, scan.id)
        if emitted:
            self._notifier.notify()
        return moved

    async def finish(self, scan: ScanRow) -> ScanRow | None:
        """Write that nothing is left behind the scan's place; None when somebody else has moved it meanwhile."""
        async with self._database.transaction() as connection:
            locked = await find_scan(connection, scan.id, lock=True)
            if locked is None or locked.position != scan.position:
                return None
            if locked.finished_at is None:
                await finish_scan(connection, locked)
            return await find_scan(connection, scan.id)

    async def _room(self, store_code: str) -> None:
        """Wait while more events of the store than the relay needs at hand wait to be taken."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            async with self._database.single_statements() as connection:
                if await waiting(connection, store_code, limit=ROOM_EVENTS) < ROOM_EVENTS:
                    return
            await asyncio.sleep(ROOM_POLL_SECONDS)

    async def _notices(self, connection: AsyncConnection, scan: ScanRow, found: Sequence[Found]) -> _Page:
        """The events of those that have no notice yet and are still due, asked for anew."""
        ids = {one: notice_id(scan.store_code, scan.kind, one.identity, one.instant) for one in found}
        given = await known_events(connection, scan.store_code, list(ids.values()))
        new = [one for one in found if ids[one] not in given]
        due = await self._source.still_due(connection, scan.search, new) if new else []
        events: list[NewEvent] = []
        for number, row in enumerate(due):
            if number % SLICE_ROWS == 0:
                await asyncio.sleep(0)
            event = self._event(scan, row)
            if event is not None:
                events.append(event)
        return _Page(events, len(found) - len(new), len(new) - len(due), len(due) - len(events))

    def _event(self, scan: ScanRow, due: DueRow) -> NewEvent | None:
        """The event, checked as one that is posted; None, and a line in the log, when it would be refused there."""
        event_type = CATALOGUE[EVENT_NAMES[scan.kind]]
        data = cast(JsonValue, event_data(due.row))
        problems = validate_data(event_type, data)
        if problems:
            paths = ", ".join(f"{problem.path} {problem.message}" for problem in problems)
            logger.warning(
                "no %s for %s %s of %s: %s", event_type.name, scan.kind, due.identity, scan.store_code, paths
            )
            return None
        event_id = notice_id(scan.store_code, scan.kind, due.identity, due.instant)
        return new_event(scan.store_code, event_type, event_id, data, self._sealer)
