"""Preview of a scan of one day: the number of due rows, and the first notices with their bodies. Sends nothing."""

from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import cast
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from api.schedules.models import NoticeOut
from domain.delivery.identity import message_id
from domain.events.catalogue import CATALOGUE, mask_secrets
from domain.expiry.calendar_days import day_interval, local_day
from domain.expiry.rows import EVENT_NAMES, Kind, event_data, notice_id
from domain.timestamps import utc_text, zone
from domain.wire.bodies import MAIN, EventFacts, legacy_body, modern_body, modern_data_text
from domain.wire.jsontext import JsonValue, dump
from storage.access.tables import Store
from storage.events.intake import known_events
from storage.expiry.due import DueSource, Search, before
from storage.expiry.rows import DueRow

ROWS_SHOWN = 10
"""Number of notices in a preview."""

NOBODY = UUID(int=0)
"""Placeholder for the subscription id and request id of a sample body."""


@dataclass(frozen=True, slots=True)
class Preview:
    """Rows due on the day: `count` of them, the first ones as notices, whose bodies are JSON texts in UTF-8."""

    day: date
    timezone: str
    count: int
    notices: list[NoticeOut]


def default_day(store: Store, kind: Kind, now: datetime) -> date:
    """Return today + N, the day that the store's schedule scans today."""
    return date.fromordinal(local_day(now, zone(store.timezone)).toordinal() + store.days_ahead(kind))


async def preview(source: DueSource, connection: AsyncConnection, store: Store, kind: Kind, day: date) -> Preview:
    """Return the preview of a day. Raises SealBrokenError and SourceUnusableError."""
    interval = day_interval(day, zone(store.timezone))
    search = Search(store.code, kind, before(interval.start), interval.end)
    count = await source.count(connection, store.code, kind, interval)
    rows: list[DueRow] = []
    async with aclosing(source.pages(search, ROWS_SHOWN)) as pages:
        async for found in pages:
            rows += await source.still_due(connection, search, found)
            if len(rows) >= ROWS_SHOWN:
                break
    rows = rows[:ROWS_SHOWN]
    ids = [notice_id(store.code, kind, row.identity, row.instant) for row in rows]
    given = await known_events(connection, store.code, ids)
    notices = [_notice(store, kind, row, id_, id_ in given) for row, id_ in zip(rows, ids, strict=True)]
    return Preview(day, store.timezone, count, notices)


def _notice(store: Store, kind: Kind, row: DueRow, event_id: UUID, given: bool) -> NoticeOut:
    event_type = CATALOGUE[EVENT_NAMES[kind]]
    data = mask_secrets(event_type, cast(JsonValue, event_data(row.row)))
    facts = EventFacts(event_id, event_type.name, store.code, utc_text(datetime.now(UTC)), dump(data))
    modern_data = modern_data_text(event_type.name, facts.data_text)
    return NoticeOut(
        event_id=str(event_id),
        object_id=str(row.identity),
        expires_at=row.instant.astimezone(UTC),
        notice_given=given,
        modern=modern_body(facts, modern_data, message_id(event_id, NOBODY, MAIN), NOBODY),
        legacy=legacy_body(facts, MAIN, store.timezone),
    )
