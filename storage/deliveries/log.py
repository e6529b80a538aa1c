"""The log of deliveries: pages newest first, single deliveries, attempts.

The cost of a page depends neither on the length of the log nor on how many deliveries match its filter:

- filters by delivery or event id match few rows, found by the id;
- without a filter, or with a filter by time only, a page is a range of the index by age;
- every other filter selects *branches* of the log, one for each subscription, URL and status that occur in it. They are
  few and found by a skip scan of the index `delivery_by_destination`. The items of a page lie in the branches with the
  newest deliveries, so at most as many branches are read as the page has items, each up to one page;
- conditions without an index (failure, status code, a part of an id or of an instant, ids above or below one) are
  evaluated row by row: over the selected branches where they are short, otherwise by a bounded scan of at most
  LOOKED_AT rows of the log by age. Such a page may be short or empty, and returns the position at which the next one
  continues.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Select,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import LateralFromClause
from sqlmodel import col

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import DeliveryStatus
from storage.deliveries.tables import Attempt, Delivery
from storage.listing import Condition, FieldKind, ListField, Operator, condition_sql, filtered
from storage.mapping import all_as, one_as, table_of
from storage.subscriptions.tables import Subscription

DeliveryRow: TypeAlias = Delivery
AttemptRow: TypeAlias = Attempt


class Position(NamedTuple):
    """Keyset cursor of a page: the last delivery of the page before, newest first."""

    created_at: datetime
    message_id: UUID


class FoundDeliveries(NamedTuple):
    """One page of deliveries, newest first."""

    rows: list[DeliveryRow]
    looked_to: Position | None
    """End of a bounded scan before the end of the log. None if the page is full or nothing is left."""


_DELIVERY = table_of(Delivery)
_SUBSCRIPTION = table_of(Subscription)
# An instant that has passed says nothing about the next attempt: the delivery is due, or waits for something else.
_NEXT = case((_DELIVERY.c.next_attempt_at > func.statement_timestamp(), _DELIVERY.c.next_attempt_at))
_COLUMNS = [_NEXT.label(one.name) if one.name == "next_attempt_at" else one for one in _DELIVERY.c]
_URL_HASH = func.hashtextextended(_DELIVERY.c.url, literal_column("0"), type_=BigInteger)  # as in the index
_position = tuple_(_DELIVERY.c.created_at, _DELIVERY.c.message_id)
_NEWEST_FIRST = (_DELIVERY.c.created_at.desc(), _DELIVERY.c.message_id.desc())

LOG_FIELDS: Mapping[str, ListField] = {
    "messageId": ListField(_DELIVERY.c.message_id, FieldKind.ID),
    "eventId": ListField(_DELIVERY.c.event_id, FieldKind.ID),
    "eventName": ListField(_DELIVERY.c.event_name, FieldKind.TEXT),
    "webhookSubscriptionId": ListField(_DELIVERY.c.subscription_id, FieldKind.ID),
    "status": ListField(_DELIVERY.c.status, FieldKind.TEXT, tuple(DeliveryStatus)),
    "url": ListField(_DELIVERY.c.url, FieldKind.TEXT),
    "lastFailure": ListField(_DELIVERY.c.last_failure, FieldKind.TEXT, tuple(FailureKind)),
    "lastStatusCode": ListField(cast(_DELIVERY.c.last_status_code, Text), FieldKind.TEXT),
    "createdAt": ListField(_DELIVERY.c.created_at, FieldKind.INSTANT),
}
"""Fields for filters of the log."""

# The planner does not know that subscription and URL correlate: it expects a branch to have a handful of rows, and
# would fetch and sort hundreds of thousands instead of reading the last few of the index.
_IN_ORDER = text("SELECT set_config('enable_bitmapscan', 'off', true)")

LOOKED_AT = 50_000
"""Maximum number of deliveries a page reads for all its conditions without an index."""

LOOKED_AT_IN_BRANCHES = 10_000
"""Maximum size of branches that are scanned to their ends for one page (shared likewise)."""

_ID_FIELDS = frozenset({"messageId", "eventId"})
_ANSWER_FIELDS = frozenset({"lastFailure", "lastStatusCode"})
_NAMING = frozenset({Operator.EQ, Operator.IN})
_RANGES = frozenset({Operator.GT, Operator.GTE, Operator.LT, Operator.LTE})
_BRANCH_FIELDS = frozenset({"eventName", "webhookSubscriptionId", "status", "url"})
"""Fields with the same value in all deliveries of a branch."""


async def use_indexes_in_order(connection: AsyncConnection) -> None:
    """Turn bitmap scans off for the rest of the transaction, so that branches are not fetched and sorted as a whole."""
    await connection.execute(_IN_ORDER)


async def delivery_page(
    connection: AsyncConnection, store_code: str, conditions: Sequence[Condition], after: Position | None, items: int
) -> FoundDeliveries:
    """Return the next `items` deliveries that meet all conditions (on LOG_FIELDS); calls `use_indexes_in_order`."""
    await use_indexes_in_order(connection)
    looked_to = None
    branched = any(condition.field in _BRANCH_FIELDS for condition in conditions)
    looking = any(_without_index(condition) for condition in conditions)
    costly = sum(one.operator is Operator.LIKE or _without_index(one) for one in conditions)
    if any(condition.field in _ID_FIELDS and condition.operator in _NAMING for condition in conditions):
        query = _of_ids(store_code, conditions, after, items)
    elif branched and (
        not looking
        or await _in_short_branches(connection, store_code, conditions, after, LOOKED_AT_IN_BRANCHES // costly)
    ):
        query = _of_branches(store_code, conditions, after, items)
    else:
        query = _in_log(store_code, conditions, after).order_by(*_NEWEST_FIRST).limit(items)
        if looking:
            looked_to = await _end_of_scan(connection, store_code, conditions, after, max(1, LOOKED_AT // costly))
        if looked_to is not None:
            query = query.where(_position >= tuple_(looked_to.created_at, looked_to.message_id))
    rows = all_as(DeliveryRow, await connection.execute(query))
    return FoundDeliveries(rows, looked_to if len(rows) < items else None)


def _without_index(condition: Condition) -> bool:
    if condition.field in _ID_FIELDS:
        return condition.operator is Operator.LIKE or condition.operator in _RANGES
    if condition.field in _ANSWER_FIELDS:
        return True
    return condition.field == "createdAt" and condition.operator is Operator.LIKE


def _of_time(conditions: Sequence[Condition]) -> list[Condition]:
    """Return the conditions that the indexes by age cover."""
    return [one for one in conditions if one.field == "createdAt" and one.operator in _RANGES | _NAMING]


async def _in_short_branches(
    connection: AsyncConnection, store_code: str, conditions: Sequence[Condition], after: Position | None, most: int
) -> bool:
    """Return True if the selected branches have at most `most` deliveries behind the page's position."""
    found = branches(store_code, [one for one in conditions if one.field in _BRANCH_FIELDS])
    rows = in_branch(found, _of_time(conditions), after, most + 1, "counted")
    counted = select(rows.c.message_id).select_from(found.join(rows, true())).limit(most + 1).subquery()
    return int(await connection.scalar(select(func.count()).select_from(counted)) or 0) <= most


async def _end_of_scan(
    connection: AsyncConnection, store_code: str, conditions: Sequence[Condition], after: Position | None, most: int
) -> Position | None:
    """Return the last of the `most` deliveries that the page scans; None if fewer are left."""
    query = _in_log(store_code, _of_time(conditions), after).with_only_columns(
        _DELIVERY.c.created_at, _DELIVERY.c.message_id
    )
    last = (await connection.execute(query.order_by(*_NEWEST_FIRST).offset(most - 1).limit(1))).one_or_none()
    return None if last is None else Position(last.created_at, last.message_id)


def _in_log(store_code: str, conditions: Sequence[Condition], after: Position | None) -> Select[Any]:
    query = select(*_COLUMNS).where(_DELIVERY.c.store_code == store_code, *_older(after))
    return filtered(query, LOG_FIELDS, conditions)


def _of_ids(store_code: str, conditions: Sequence[Condition], after: Position | None, items: int) -> Select[Any]:
    """Query few rows by id, ordered afterwards: MATERIALIZED keeps the planner from reading the log in order."""
    in_log = _in_log(store_code, conditions, after)
    found = in_log.cte("found").prefix_with("MATERIALIZED", dialect="postgresql")
    return select(found).order_by(found.c.created_at.desc(), found.c.message_id.desc()).limit(items)


def _of_branches(store_code: str, conditions: Sequence[Condition], after: Position | None, items: int) -> Select[Any]:
    of_branch = [condition for condition in conditions if condition.field in _BRANCH_FIELDS]
    of_row = [condition for condition in conditions if condition.field not in _BRANCH_FIELDS]
    found = branches(store_code, of_branch)
    head = in_branch(found, of_row, after, 1, "head")
    leading = (
        select(found, head.c.created_at, head.c.message_id)
        .join(head, true())
        .order_by(head.c.created_at.desc(), head.c.message_id.desc())
        .limit(items)
        .cte("leading")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    page = in_branch(leading, of_row, after, items, "page")
    return (
        select(*(page.c[column.name] for column in _COLUMNS))
        .select_from(leading.join(page, true()))
        .order_by(page.c.created_at.desc(), page.c.message_id.desc())
        .limit(items)
    )


def branches(store_code: str, conditions: Sequence[Condition]) -> CTE:
    """Return the branches of the store's log that meet the conditions, each found by one index probe."""
    subscription, kind = _SUBSCRIPTION.c, LOG_FIELDS
    of_subscription = {
        "eventName": ListField(subscription.event_name, kind["eventName"].kind),
        "webhookSubscriptionId": ListField(subscription.id, kind["webhookSubscriptionId"].kind),
    }
    first = _first_of_branch(_DELIVERY.c.subscription_id == subscription.id, "first")
    found = (
        select(first)
        .select_from(_SUBSCRIPTION.join(first, true()))
        .where(subscription.store_code == store_code)
        .where(*(condition_sql(of_subscription, each) for each in conditions if each.field in of_subscription))
        .cte("found", recursive=True)
    )
    beyond = _first_of_branch(
        (_DELIVERY.c.subscription_id == found.c.subscription_id)
        & (tuple_(_URL_HASH, _DELIVERY.c.status) > tuple_(found.c.url_hash, found.c.status)),
        "beyond",
    )
    found = found.union_all(select(beyond).select_from(found.join(beyond, true())))
    of_branch = {
        "url": ListField(found.c.url, kind["url"].kind),
        "status": ListField(found.c.status, kind["status"].kind),
    }
    return (
        select(found)
        .where(*(condition_sql(of_branch, each) for each in conditions if each.field in of_branch))
        .cte("branch")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )


def _first_of_branch(condition: ColumnElement[bool], name: str) -> LateralFromClause:
    return (
        select(_DELIVERY.c.subscription_id, _URL_HASH.label("url_hash"), _DELIVERY.c.status, _DELIVERY.c.url)
        .where(condition)
        .order_by(_DELIVERY.c.subscription_id, _URL_HASH, _DELIVERY.c.status)
        .limit(1)
        .lateral(name)
    )


def in_branch(
    branch: CTE,
    conditions: Sequence[Condition],
    after: Position | None,
    items: int,
    name: str,
    *,
    oldest_first: bool = False,
) -> LateralFromClause:
    """Return at most `items` deliveries of each branch, for a join with `branch`; newest first by default."""
    query = select(*_COLUMNS).where(
        _DELIVERY.c.subscription_id == branch.c.subscription_id,
        branch.c.url_hash == _URL_HASH,
        _DELIVERY.c.status == branch.c.status,
        *_older(after),
    )
    order = (_DELIVERY.c.created_at, _DELIVERY.c.message_id) if oldest_first else _NEWEST_FIRST
    return filtered(query, LOG_FIELDS, conditions).order_by(*order).limit(items).lateral(name)


def _older(after: Position | None) -> list[ColumnElement[bool]]:
    return [] if after is None else [_position < tuple_(after.created_at, after.message_id)]


_OF_EVENT = (
    select(*_COLUMNS)
    .where(_DELIVERY.c.store_code == bindparam("store_code"), _DELIVERY.c.event_id == bindparam("event_id"))
    .order_by(_DELIVERY.c.created_at, _DELIVERY.c.message_id)
)
_BY_ID = select(*_COLUMNS).where(
    _DELIVERY.c.store_code == bindparam("store_code"), _DELIVERY.c.message_id == bindparam("message_id")
)
_DAY = select(_DELIVERY.c.accepted_on).where(_DELIVERY.c.message_id == bindparam("message_id")).scalar_subquery()
_ATTEMPTS = (
    select(*table_of(Attempt).c)
    .where(col(Attempt.accepted_on) == _DAY, col(Attempt.message_id) == bindparam("message_id"))
    .order_by(col(Attempt.number))
)


async def deliveries_of_event(connection: AsyncConnection, store_code: str, event_id: UUID) -> list[DeliveryRow]:
    """Return all deliveries of an event, oldest first."""
    rows = await connection.execute(_OF_EVENT, {"store_code": store_code, "event_id": event_id})
    return all_as(DeliveryRow, rows)


async def find_delivery(connection: AsyncConnection, store_code: str, message_id: UUID) -> DeliveryRow | None:
    values = {"store_code": store_code, "message_id": message_id}
    return one_as(DeliveryRow, await connection.execute(_BY_ID, values))


async def attempts_of(connection: AsyncConnection, message_id: UUID) -> list[AttemptRow]:
    """Return a delivery's attempts, first to last. The caller has checked that the delivery belongs to its store."""
    return all_as(AttemptRow, await connection.execute(_ATTEMPTS, {"message_id": message_id}))
