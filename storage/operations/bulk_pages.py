"""The pages of a recovery or backfill: each is opened in one transaction with the act's cursor, so that the act goes on
where it was after any crash and opens each delivery once.

What was opened waits as `held` rows, which the subscription's drain sends.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.identity import message_id
from domain.delivery.lifecycle import DeliveryStatus, Reason, SubscriptionStatus
from domain.wire.bodies import variants
from storage.deliveries.log import use_indexes_in_order
from storage.deliveries.skip_scan import BRANCHES, IN_BRANCH
from storage.deliveries.transitions import Backfill, create_backfilled, recover
from storage.events.days import BODY_OF_EVENT
from storage.operations.bulk_actions import ACCEPTED, MISSING, BulkActionKind, BulkActionStatus, end_bulk_action

PAGE = 500
"""Deliveries opened in one transaction."""

PAGES_PER_SECOND = 10
"""An act with a pace opens smaller pages, about so many a second."""

AHEAD = 500
"""The next page is opened when fewer than this of the last ones have not been attempted yet."""

LOOK_SECONDS = 0.1
PAUSED_LOOK_SECONDS = 2.0
"""Until another look at whether more may be opened is worth it."""

EVENTS_READ = 5_000
"""Events a backfill looks at in one transaction: those of other names cost little, but there may be millions."""

_BEFORE_ALL = UUID(int=0)
"""Of no delivery: at the beginning of the window a page begins behind it."""

OPENED_AS = {BulkActionKind.RECOVER: Reason.RECOVERED, BulkActionKind.BACKFILL: Reason.BACKFILLED}
"""Why a delivery that was opened is held, until its first attempt says otherwise."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What opening the next page came to. `finished`: all is open and has been attempted; `wait_seconds`: until the
    next page may be opened, or is worth asking for."""

    opened: int
    count: int
    finished: bool
    wait_seconds: float
    paused: bool
    """The subscription is: its drain has nothing to do."""
    first: bool = False
    """Something was opened, for the first time."""


_LOCK = text("""
SELECT act.id, act.kind, act.store_code, act.subscription_id, act.since, act.until, act.statuses, act.rate_per_second,
    act.count AS counted, act.opened, act.all_open, act.cursor_at, act.cursor_id,
    CAST(coalesce(extract(epoch FROM act.paced_until - clock_timestamp()), 0) AS float8) AS paced_seconds,
    subscription.event_name, subscription.url, subscription.legacy, subscription.ordered, subscription.status,
    subscription.deleted_at IS NOT NULL AS deleted
FROM bulk_action AS act JOIN subscription ON subscription.id = act.subscription_id
WHERE act.id = :id AND act.status = 'running' FOR UPDATE OF act
""")

_UNATTEMPTED = text(f"""
SELECT count(*) FROM (
    SELECT 1 FROM delivery WHERE subscription_id = :subscription_id AND status = '{DeliveryStatus.HELD}'
        AND bulk_action_id = :id AND reason = :opened_as LIMIT :limit
) AS waiting
""")

_FAILED_PAGE = text(f"""
WITH RECURSIVE {BRANCHES}
SELECT failed.message_id, failed.created_at FROM branch CROSS JOIN LATERAL (
    SELECT delivery.message_id, delivery.created_at FROM delivery
    WHERE {IN_BRANCH} AND (delivery.created_at, delivery.message_id) > (:cursor_at, CAST(:cursor_id AS uuid))
        AND delivery.created_at < :until AND delivery.variant <> 'test'
    ORDER BY delivery.created_at, delivery.message_id LIMIT :page
) AS failed
WHERE branch.status = ANY(:statuses) ORDER BY failed.created_at, failed.message_id LIMIT :page
""")

_BEHIND_CURSOR = """
(CAST(:cursor_at AS timestamptz) IS NULL
    OR (event.accepted_at, event.event_id) > (:cursor_at, CAST(:cursor_id AS uuid)))
"""

_LAST_READ = text(f"""
SELECT event.accepted_at, event.event_id FROM event WHERE {ACCEPTED} AND {_BEHIND_CURSOR}
ORDER BY event.accepted_at, event.event_id OFFSET :events LIMIT 1
""")

_MISSING_PAGE = text(f"""
SELECT event.accepted_at, event.event_id, event.name, event.sequence,
    event.accepted_on, CASE WHEN subscription.legacy THEN body.data ELSE '' END AS data
FROM event JOIN subscription ON subscription.id = :subscription_id
{BODY_OF_EVENT}
WHERE {ACCEPTED} AND {_BEHIND_CURSOR} AND (CAST(:last_at AS timestamptz) IS NULL
        OR (event.accepted_at, event.event_id) <= (:last_at, CAST(:last_id AS uuid)))
    AND {MISSING}
ORDER BY event.accepted_at, event.event_id LIMIT :page
""")

_MOVED = text("""
UPDATE bulk_action SET opened = opened + :opened, count = count + :more_than_counted, all_open = :all_open,
    cursor_at = coalesce(:cursor_at, cursor_at), cursor_id = coalesce(:cursor_id, cursor_id),
    paced_until = CASE WHEN rate_per_second IS NULL THEN NULL
        ELSE greatest(paced_until, clock_timestamp()) + make_interval(secs => CAST(:opened AS float8) / rate_per_second)
        END
WHERE id = :id
""")


async def go_on(connection: AsyncConnection, action_id: UUID) -> Stretch | None:
    """Open the next page if it is time for it, end the act when all of it has been attempted. None: it has ended.

    An act of a subscription that is disabled or deleted is cancelled here: whatever it opened would end at once.
    """
    act = (await connection.execute(_LOCK, {"id": action_id})).one_or_none()
    if act is None:
        return None
    if act.deleted or act.status == SubscriptionStatus.DISABLED:
        await end_bulk_action(connection, action_id, BulkActionStatus.CANCELLED)
        return None
    paused = act.status == SubscriptionStatus.PAUSED
    look_again = PAUSED_LOOK_SECONDS if paused else LOOK_SECONDS
    # What an ordered subscription gets is opened without a pause: until it all is, its drain sends nothing of it.
    limit = AHEAD if not act.all_open else 1
    unattempted = 0 if act.ordered and not act.all_open else await _unattempted(connection, act, limit)
    if act.all_open:
        if not unattempted:
            await end_bulk_action(connection, action_id, BulkActionStatus.FINISHED)
        return Stretch(act.opened, act.counted, finished=not unattempted, wait_seconds=look_again, paused=paused)
    if unattempted >= AHEAD:
        return Stretch(act.opened, act.counted, finished=False, wait_seconds=look_again, paused=paused)
    if act.paced_seconds > 0:
        wait = min(act.paced_seconds, PAUSED_LOOK_SECONDS)
        return Stretch(act.opened, act.counted, finished=False, wait_seconds=wait, paused=paused)
    page = await (_open_again(connection, act) if act.kind == BulkActionKind.RECOVER else _backfill(connection, act))
    await connection.execute(
        _MOVED,
        {
            "id": action_id,
            "opened": page.opened,
            "more_than_counted": page.more_than_counted,
            "all_open": page.last,
            "cursor_at": page.cursor_at,
            "cursor_id": page.cursor_id,
        },
    )
    opened = act.opened + page.opened
    count = act.counted + page.more_than_counted
    first = page.opened > 0 and not act.opened
    return Stretch(opened, count, finished=False, wait_seconds=0, paused=paused, first=first)


@dataclass(slots=True)
class _OpenedPage:
    opened: int
    cursor_at: datetime | None
    cursor_id: UUID | None
    last: bool
    more_than_counted: int = 0
    """Events were counted; some make two deliveries."""
    columns: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))


def _page_size(act: Any) -> int:
    return PAGE if act.rate_per_second is None else min(PAGE, math.ceil(act.rate_per_second / PAGES_PER_SECOND))


async def _unattempted(connection: AsyncConnection, act: Any, limit: int) -> int:
    """Deliveries that the act opened and that have not been attempted since, counted up to a limit."""
    values = {
        "id": act.id,
        "subscription_id": act.subscription_id,
        "opened_as": OPENED_AS[BulkActionKind(act.kind)],
        "limit": limit,
    }
    return int(await connection.scalar(_UNATTEMPTED, values) or 0)


async def _open_again(connection: AsyncConnection, act: Any) -> _OpenedPage:
    size = _page_size(act)
    await use_indexes_in_order(connection)
    rows = (
        await connection.execute(
            _FAILED_PAGE,
            {
                "subscription_id": act.subscription_id,
                "until": act.until,
                "statuses": act.statuses,
                "cursor_at": act.since if act.cursor_at is None else act.cursor_at,
                "cursor_id": _BEFORE_ALL if act.cursor_id is None else act.cursor_id,
                "page": size,
            },
        )
    ).all()
    page = _OpenedPage(0, None, None, last=len(rows) < size)
    if rows:
        page.cursor_at, page.cursor_id = rows[-1].created_at, rows[-1].message_id
        page.opened = await recover(
            connection,
            [row.message_id for row in rows],
            statuses=act.statuses,
            subscription_id=act.subscription_id,
            action_id=act.id,
        )
    return page


async def _backfill(connection: AsyncConnection, act: Any) -> _OpenedPage:
    """Make the deliveries of the next events that have none for the subscription."""
    window = {
        "store_code": act.store_code,
        "since": act.since,
        "until": act.until,
        "cursor_at": act.cursor_at,
        "cursor_id": act.cursor_id,
    }
    size = _page_size(act)
    last_read = (await connection.execute(_LAST_READ, {**window, "events": EVENTS_READ - 1})).one_or_none()
    place = {"last_at": last_read and last_read.accepted_at, "last_id": last_read and last_read.event_id}
    rows = (
        await connection.execute(
            _MISSING_PAGE, {**window, **place, "subscription_id": act.subscription_id, "page": size}
        )
    ).all()
    last = rows[-1] if len(rows) == size else last_read
    page = _OpenedPage(0, None, None, last=last is None)
    if last is not None:
        page.cursor_at, page.cursor_id = last.accepted_at, last.event_id
    for row in rows:
        for variant in variants(row.name, row.data, act.legacy):
            page.columns["message_id"].append(message_id(row.event_id, act.subscription_id, variant))
            page.columns["event_id"].append(row.event_id)
            page.columns["event_sequence"].append(row.sequence)
            page.columns["accepted_on"].append(row.accepted_on)
            page.columns["variant"].append(variant)
    if page.columns:
        backfill = Backfill(act.id, act.store_code, act.event_name, act.subscription_id, act.url)
        page.opened = await create_backfilled(connection, backfill, page.columns)
        page.more_than_counted = max(0, page.opened - len(rows))
    return page
