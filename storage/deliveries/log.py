"""Reading the log of deliveries: pages newest first, one delivery, its attempts.

A page costs the same whether its filter is rare or common, and however long the log is:

- a delivery, and an event's deliveries, are few and found by the id;
- without a filter, or by time alone, the page is a stretch of the index by age;
- every other filter asks for some of the log's *branches*: one for each subscription, URL and status that occur in it.
  They are few, and found by skipping through the index `delivery_by_destination`. A page's items lie in those branches
  whose newest delivery is newest, so no more branches than the page has items are read, each no further than a page;
- what no index answers (a part of an id or of an instant, ids above or below one) is looked for in the deliveries
  themselves: in all of the branches that are asked for where they are short, otherwise in a stretch of the log by age,
  LOOKED_AT of them for one page. That page may be short or empty, and says where the next one goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Select,
    bindparam,
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

from domain.delivery.lifecycle import DeliveryStatus
from storage.deliveries.tables import Attempt, Delivery
from storage.listing import Condition, FieldKind, ListField, Operator, condition_sql, filtered
from storage.mapping import all_as, columns_for, one_as, table_of
from storage.subscriptions.tables import Subscription


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One delivery of the log, as lists show it."""

    message_id: UUID
    event_id: UUID
    event_name: str
    subscription_id: UUID
    variant: str
    url: str
    status: str
    reason: str | None
    attempts: int
    last_status_code: int | None
    last_failure: str | None
    next_attempt_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    workflow_id: str | None
    retry_id: str | None
    holds_group: bool
    """It is exhausted, and its successors wait for a person."""


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt. Without `outcome_at` it is under way, or its worker died before it could say what came of it."""

    number: int
    request_id: UUID
    trigger: str
    legacy: bool
    started_at: datetime
    outcome_at: datetime | None
    duration_ms: int | None
    status_code: int | None
    failure: str | None
    detail: str | None
    response_excerpt: str | None
    body_sha256: bytes | None


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the log a page ended: after this delivery, newest first."""

    created_at: datetime
    message_id: UUID


@dataclass(frozen=True, slots=True)
class FoundDeliveries:
    """What a page found, newest first."""

    rows: list[DeliveryRow]
    looked_to: Position | None
    """How far was looked, with more of the log behind it that may match. None where the rows are all there are, or as
    many as were asked for."""


_DELIVERY = table_of(Delivery)
_SUBSCRIPTION = table_of(Subscription)
_COLUMNS = columns_for(Delivery, DeliveryRow)
_URL_HASH = func.hashtextextended(_DELIVERY.c.url, literal_column("0"), type_=BigInteger)  # as in the index
_place = tuple_(_DELIVERY.c.created_at, _DELIVERY.c.message_id)
_NEWEST_FIRST = (_DELIVERY.c.created_at.desc(), _DELIVERY.c.message_id.desc())

LOG_FIELDS: Mapping[str, ListField] = {
    "messageId": ListField(_DELIVERY.c.message_id, FieldKind.ID),
    "eventId": ListField(_DELIVERY.c.event_id, FieldKind.ID),
    "eventName": ListField(_DELIVERY.c.event_name, FieldKind.TEXT),
    "webhookSubscriptionId": ListField(_DELIVERY.c.subscription_id, FieldKind.ID),
    "status": ListField(_DELIVERY.c.status, FieldKind.TEXT, tuple(DeliveryStatus)),
    "url": ListField(_DELIVERY.c.url, FieldKind.TEXT),
    "createdAt": ListField(_DELIVERY.c.created_at, FieldKind.INSTANT),
}
"""What the log may be filtered by."""

# Subscription and URL go together, which the planner cannot know: it expects a branch to hold a handful of rows, and
# would fetch and sort hundreds of thousands instead of reading the last few of the index.
_IN_ORDER = text("SELECT set_config('enable_bitmapscan', 'off', true)")

LOOKED_AT = 50_000
"""Deliveries that are looked at for one page where no index knows which of them match; several conditions that compare
texts or ids share them."""

LOOKED_AT_IN_BRANCHES = 10_000
"""Branches that have no more than these (shared likewise) are looked through to their ends for one page."""

_ID_FIELDS = frozenset({"messageId", "eventId"})
_NAMING = frozenset({Operator.EQ, Operator.IN})
_RANGES = frozenset({Operator.GT, Operator.GTE, Operator.LT, Operator.LTE})
_BRANCH_FIELDS = frozenset({"eventName", "webhookSubscriptionId", "status", "url"})
"""Fields which all deliveries of a branch have in common."""


async def use_indexes_in_order(connection: AsyncConnection) -> None:
    """For the rest of the transaction: what reads branches must not fetch and sort them whole."""
    await connection.execute(_IN_ORDER)


async def delivery_page(
    connection: AsyncConnection, store_code: str, conditions: Sequence[Condition], after: Position | None, items: int
) -> FoundDeliveries:
    """The next `items` deliveries, newest first, that meet all conditions (on LOG_FIELDS).

    Turns bitmap scans off for the rest of the transaction.
    """
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
    elif looking:
        looked_to = await _end_of_look(connection, store_code, conditions, after, max(1, LOOKED_AT // costly))
        query = _by_age(store_code, conditions, after, items, looked_to)
    else:
        query = _by_age(store_code, conditions, after, items)
    rows = all_as(DeliveryRow, await connection.execute(query))
    return FoundDeliveries(rows, looked_to if len(rows) < items else None)


def _without_index(condition: Condition) -> bool:
    if condition.field in _ID_FIELDS:
        return condition.operator is Operator.LIKE or condition.operator in _RANGES
    return condition.field == "createdAt" and condition.operator is Operator.LIKE


def _of_time(conditions: Sequence[Condition]) -> list[Condition]:
    """Those that indexes by age answer."""
    return [one for one in conditions if one.field == "createdAt" and one.operator in _RANGES | _NAMING]


async def _in_short_branches(
    connection: AsyncConnection, store_code: str, conditions: Sequence[Condition], after: Position | None, most: int
) -> bool:
    """Whether the branches that are asked for have no more than `most` deliveries from the page's place on."""
    found = branches(store_code, [one for one in conditions if one.field in _BRANCH_FIELDS])
    rows = in_branch(found, _of_time(conditions), after, most + 1, "counted")
    counted = select(rows.c.message_id).select_from(found.join(rows, true())).limit(most + 1).subquery()
    return int(await connection.scalar(select(func.count()).select_from(counted)) or 0) <= most


async def _end_of_look(
    connection: AsyncConnection, store_code: str, conditions: Sequence[Condition], after: Position | None, most: int
) -> Position | None:
    """The last of the `most` deliveries that the page looks at; None where it looks at all there are."""
    query = select(_DELIVERY.c.created_at, _DELIVERY.c.message_id)
    query = query.where(_DELIVERY.c.store_code == store_code, *_older(after))
    query = filtered(query, LOG_FIELDS, _of_time(conditions))
    last = (await connection.execute(query.order_by(*_NEWEST_FIRST).offset(most - 1).limit(1))).one_or_none()
    return None if last is None else Position(last.created_at, last.message_id)


def _by_age(
    store_code: str,
    conditions: Sequence[Condition],
    after: Position | None,
    items: int,
    looked_to: Position | None = None,
) -> Select[Any]:
    query = select(*_COLUMNS).where(_DELIVERY.c.store_code == store_code, *_older(after))
    if looked_to is not None:
        query = query.where(_place >= tuple_(looked_to.created_at, looked_to.message_id))
    return filtered(query, LOG_FIELDS, conditions).order_by(*_NEWEST_FIRST).limit(items)


def _of_ids(store_code: str, conditions: Sequence[Condition], after: Position | None, items: int) -> Select[Any]:
    """Few rows, found first and ordered then: the fence keeps the planner from walking the log in order instead."""
    query = select(*_COLUMNS).where(_DELIVERY.c.store_code == store_code, *_older(after))
    found = filtered(query, LOG_FIELDS, conditions).cte("found").prefix_with("MATERIALIZED", dialect="postgresql")
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
    """The branches of the store's log that meet the conditions, each found by one probe of the index."""
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
    """At most `items` deliveries of each branch, for a join with `branch`; newest first unless said otherwise."""
    query = select(*_COLUMNS).where(
        _DELIVERY.c.subscription_id == branch.c.subscription_id,
        branch.c.url_hash == _URL_HASH,
        _DELIVERY.c.status == branch.c.status,
        *_older(after),
    )
    order = (_DELIVERY.c.created_at, _DELIVERY.c.message_id) if oldest_first else _NEWEST_FIRST
    return filtered(query, LOG_FIELDS, conditions).order_by(*order).limit(items).lateral(name)


def _older(after: Position | None) -> list[ColumnElement[bool]]:
    if after is None:
        return []
    return [_place < tuple_(after.created_at, after.message_id)]


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
    select(*columns_for(Attempt, AttemptRow))
    .where(col(Attempt.accepted_on) == _DAY, col(Attempt.message_id) == bindparam("message_id"))
    .order_by(col(Attempt.number))
)


async def deliveries_of_event(connection: AsyncConnection, store_code: str, event_id: UUID) -> list[DeliveryRow]:
    """All deliveries of an event, oldest first."""
    rows = await connection.execute(_OF_EVENT, {"store_code": store_code, "event_id": event_id})
    return all_as(DeliveryRow, rows)


async def find_delivery(connection: AsyncConnection, store_code: str, message_id: UUID) -> DeliveryRow | None:
    """The store's delivery of that id, or None."""
    values = {"store_code": store_code, "message_id": message_id}
    return one_as(DeliveryRow, await connection.execute(_BY_ID, values))


async def attempts_of(connection: AsyncConnection, message_id: UUID) -> list[AttemptRow]:
    """A delivery's attempts, first to last. The caller has found the delivery in its store."""
    return all_as(AttemptRow, await connection.execute(_ATTEMPTS, {"message_id": message_id}))
