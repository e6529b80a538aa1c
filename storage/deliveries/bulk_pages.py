"""Pages of a recovery or backfill. Each page is opened in one transaction with the cursor of its bulk action, which
therefore resumes at the cursor after a crash and opens each delivery once.

Opened deliveries are held, and the subscription's drain sends them.
"""

import math
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.identity import message_id
from domain.delivery.lifecycle import DeliveryStatus, Reason, SubscriptionStatus
from domain.wire.bodies import variants
from storage.deliveries.bulk_actions import ACCEPTED, MISSING, BulkActionKind, BulkActionStatus, end_bulk_action
from storage.deliveries.log import use_indexes_in_order
from storage.deliveries.skip_scan import BRANCHES, IN_BRANCH
from storage.deliveries.transitions import Backfill, create_backfilled, recover
from storage.events.days import BODY_OF_EVENT

PAGE = 500
"""Maximum number of deliveries opened in one transaction."""

PAGES_PER_SECOND = 10
"""Pages opened per second by a bulk action with a rate, which therefore opens smaller pages."""

AHEAD = 500
"""Maximum number of opened deliveries without an attempt; the next page waits until there are fewer."""

POLL_SECONDS = 0.1
PAUSED_POLL_SECONDS = 2.0
"""Pauses before checking again whether the next page may be opened."""

EVENTS_READ = 5_000
"""Maximum number of events a backfill reads in one transaction. Events of other names cost little each, but there may
be millions."""

_BEFORE_ALL = UUID(int=0)
"""Cursor before every delivery: the first page of the window begins behind it."""

OPENED_AS = {BulkActionKind.RECOVER: Reason.RECOVERED, BulkActionKind.BACKFILL: Reason.BACKFILLED}
"""Reason for which an opened delivery is held until its first attempt."""


@dataclass(frozen=True, slots=True)
class PageResult:
    """Result of opening the next page. `finished`: all deliveries are open and have been attempted. `wait_seconds`:
    pause before asking for the next page."""

    opened: int
    count: int
    finished: bool
    wait_seconds: float
    paused: bool
    """The subscription is paused, so its drain has nothing to do."""
    first: bool = False
    """This page opened the first deliveries of the bulk action."""


_LOCK = text("""
SELECT action.id, action.kind, action.store_code, action.subscription_id, action.since, action.until,
    action.statuses, action.rate_per_second, action.count AS counted, action.opened, action.all_open,
    action.cursor_at, action.cursor_id,
    CAST(coalesce(extract(epoch FROM action.paced_until - clock_timestamp()), 0) AS float8) AS paced_seconds,
    subscription.event_name, subscription.url, subscription.legacy, subscription.ordered, subscription.status,
    subscription.deleted_at IS NOT NULL AS deleted
FROM bulk_action AS action JOIN subscription ON subscription.id = action.subscription_id
WHERE action.id = :id AND action.status = 'running' FOR UPDATE OF action
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


async def go_on(connection: AsyncConnection, action_id: UUID) -> PageResult | None:
    """Open the next page if it is due, or end the bulk action when all its deliveries have been attempted.

    Return None if it has ended. The bulk action of a disabled or deleted subscription is cancelled, because opened
    deliveries would end at once.
    """
    action = (await connection.execute(_LOCK, {"id": action_id})).one_or_none()
    if action is None:
        return None
    if action.deleted or action.status == SubscriptionStatus.DISABLED:
        await end_bulk_action(connection, action_id, BulkActionStatus.CANCELLED)
        return None
    paused = action.status == SubscriptionStatus.PAUSED
    poll_again = PAUSED_POLL_SECONDS if paused else POLL_SECONDS
    unchanged = PageResult(action.opened, action.counted, finished=False, wait_seconds=poll_again, paused=paused)
    if action.all_open:
        finished = not await _unattempted(connection, action, 1)
        if finished:
            await end_bulk_action(connection, action_id, BulkActionStatus.FINISHED)
        return replace(unchanged, finished=finished)
    # Pages of an ordered subscription are opened without a pause: its drain sends nothing until all are open.
    if not action.ordered and await _unattempted(connection, action, AHEAD) >= AHEAD:
        return unchanged
    if action.paced_seconds > 0:
        return replace(unchanged, wait_seconds=min(action.paced_seconds, PAUSED_POLL_SECONDS))
    open_page = _open_again if action.kind == BulkActionKind.RECOVER else _backfill
    page = await open_page(connection, action)
    await connection.execute(_MOVED, {"id": action_id, **asdict(page)})
    return PageResult(
        action.opened + page.opened,
        action.counted + page.more_than_counted,
        finished=False,
        wait_seconds=0,
        paused=paused,
        first=page.opened > 0 and not action.opened,
    )


@dataclass(frozen=True, slots=True)
class _OpenedPage:
    opened: int
    cursor_at: datetime | None
    cursor_id: UUID | None
    all_open: bool
    more_than_counted: int = 0
    """Deliveries beyond the count, which counted events: some events have two deliveries."""


def _page_size(action: Any) -> int:
    return PAGE if action.rate_per_second is None else min(PAGE, math.ceil(action.rate_per_second / PAGES_PER_SECOND))


async def _unattempted(connection: AsyncConnection, action: Any, limit: int) -> int:
    """Count the deliveries that the bulk action opened and that have no attempt since, up to a limit."""
    values = {"id": action.id, "subscription_id": action.subscription_id, "limit": limit}
    opened_as = OPENED_AS[BulkActionKind(action.kind)]
    return int(await connection.scalar(_UNATTEMPTED, {**values, "opened_as": opened_as}) or 0)


async def _open_again(connection: AsyncConnection, action: Any) -> _OpenedPage:
    size = _page_size(action)
    await use_indexes_in_order(connection)
    cursor = (action.since, _BEFORE_ALL) if action.cursor_at is None else (action.cursor_at, action.cursor_id)
    window = {"until": action.until, "cursor_at": cursor[0], "cursor_id": cursor[1], "page": size}
    values = {"subscription_id": action.subscription_id, "statuses": action.statuses, **window}
    rows = (await connection.execute(_FAILED_PAGE, values)).all()
    if not rows:
        return _OpenedPage(0, None, None, all_open=True)
    ids, ours = [row.message_id for row in rows], {"subscription_id": action.subscription_id, "action_id": action.id}
    opened = await recover(connection, ids, statuses=action.statuses, **ours)
    return _OpenedPage(opened, rows[-1].created_at, rows[-1].message_id, all_open=len(rows) < size)


async def _backfill(connection: AsyncConnection, action: Any) -> _OpenedPage:
    """Create deliveries for the next events that have none for the subscription."""
    window = {name: getattr(action, name) for name in ("store_code", "since", "until", "cursor_at", "cursor_id")}
    size = _page_size(action)
    last_read = (await connection.execute(_LAST_READ, {**window, "events": EVENTS_READ - 1})).one_or_none()
    end = {"last_at": last_read and last_read.accepted_at, "last_id": last_read and last_read.event_id}
    values = {**window, **end, "subscription_id": action.subscription_id, "page": size}
    rows = (await connection.execute(_MISSING_PAGE, values)).all()
    columns: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        for variant in variants(row.name, row.data, action.legacy):
            columns["message_id"].append(message_id(row.event_id, action.subscription_id, variant))
            columns["event_id"].append(row.event_id)
            columns["event_sequence"].append(row.sequence)
            columns["accepted_on"].append(row.accepted_on)
            columns["variant"].append(variant)
    opened = 0
    if columns:
        backfill = Backfill(action.id, action.store_code, action.event_name, action.subscription_id, action.url)
        opened = await create_backfilled(connection, backfill, columns)
    beyond = max(0, opened - len(rows))
    last = rows[-1] if len(rows) == size else last_read
    if last is None:
        return _OpenedPage(opened, None, None, all_open=True, more_than_counted=beyond)
    return _OpenedPage(opened, last.accepted_at, last.event_id, all_open=False, more_than_counted=beyond)
