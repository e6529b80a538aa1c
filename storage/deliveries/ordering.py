"""FIFO groups of an ordered subscription: held deliveries that wait for each other, and the first of each group.

A subscription has one FIFO group, or one for each customer (`domain/delivery/ordering.py`). A FIFO group is stopped
while it contains an exhausted delivery marked `holds_group`, until a person decides.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import DeliveryStatus
from domain.delivery.ordering import ordering_key_of
from storage.columns import unnest
from storage.deliveries.transitions import assign_ordering_keys
from storage.events.days import BODY_OF_EVENT, LAST_ATTEMPT_OF_DELIVERY
from storage.mapping import rows_as
from storage.operations.workers import SENDER_ID

KEYS_AT_ONCE = 500
"""Deliveries that get an ordering key in one transaction, which reads the body of each."""


class First(NamedTuple):
    """The first held delivery of a FIFO group, or one of the first in a subscription's only group (ordering key None).

    `due_in_seconds` is not positive when the delivery may be sent. `allowed_in_seconds` is not positive when a probe
    may send it: a probe skips the schedule, but not the receiver's `Retry-After`. `stopped`: an earlier, exhausted
    delivery blocks the group until a person decides.
    """

    ordering_key: int | None
    message_id: UUID
    sequence: int
    due_in_seconds: float
    allowed_in_seconds: float
    stopped: bool


_FIRST = f"""
    SELECT delivery.ordering_key, delivery.message_id, delivery.event_sequence, delivery.next_attempt_at,
        delivery.not_before
    FROM delivery
    WHERE delivery.subscription_id = :id AND delivery.status = '{DeliveryStatus.HELD}'
"""

_IN_GROUP = "ORDER BY delivery.ordering_key, delivery.event_sequence, delivery.message_id LIMIT 1"


def _heads(ordering_key: str, same_group: str) -> str:
    return f"""
SELECT {ordering_key} AS ordering_key, head.message_id, head.event_sequence AS sequence,
    CAST(coalesce(extract(epoch FROM head.next_attempt_at - clock_timestamp()), 0) AS float8) AS due_in_seconds,
    CAST(coalesce(extract(epoch FROM head.not_before - clock_timestamp()), 0) AS float8) AS allowed_in_seconds,
    :holds AND EXISTS (SELECT FROM delivery AS ended
        WHERE ended.subscription_id = :id AND ended.holds_group {same_group}
        AND ended.event_sequence <= head.event_sequence) AS stopped
FROM head
"""


_HEADS_OF_GROUPS = _heads("head.ordering_key", "AND ended.ordering_key = head.ordering_key")

_ONLY_GROUP = text(f"""
WITH head AS ({_FIRST} ORDER BY delivery.event_sequence, delivery.message_id LIMIT :most)
{_heads("CAST(NULL AS bigint)", "")} ORDER BY head.event_sequence, head.message_id
""")

# A skip scan: one index probe per FIFO group, independent of the length of the groups.
_GROUPS = text(f"""
WITH RECURSIVE head AS (
    ({_FIRST} AND (CAST(:after AS bigint) IS NULL OR delivery.ordering_key > :after) {_IN_GROUP})
    UNION ALL
    SELECT beyond.* FROM head CROSS JOIN LATERAL (
        {_FIRST} AND delivery.ordering_key > head.ordering_key {_IN_GROUP}
    ) AS beyond
)
{_HEADS_OF_GROUPS} LIMIT :most
""")

_OF_GROUPS = text(f"""
WITH head AS (
    SELECT first.* FROM {unnest("given", "ordering_key bigint")} CROSS JOIN LATERAL (
        {_FIRST} AND delivery.ordering_key = given.ordering_key {_IN_GROUP}
    ) AS first
)
{_HEADS_OF_GROUPS}
""")

_FIRST_UNMATCHED = text("""
SELECT CASE WHEN EXISTS (SELECT FROM bulk_action WHERE subscription_id = :id AND status = 'running' AND NOT all_open)
    THEN 0 ELSE (
        SELECT event.sequence FROM event
        JOIN subscription ON subscription.store_code = event.store_code AND subscription.event_name = event.name
        WHERE subscription.id = :id AND event.matched_at IS NULL AND event.sequence < :before
        ORDER BY event.sequence LIMIT 1
    ) END
""")

_WITHOUT_KEY = text(f"""
SELECT delivery.message_id, body.data FROM delivery
JOIN event ON event.store_code = delivery.store_code AND event.event_id = delivery.event_id
{BODY_OF_EVENT}
WHERE delivery.subscription_id = :id AND delivery.status = '{DeliveryStatus.HELD}' AND delivery.ordering_key IS NULL
ORDER BY delivery.ordering_key, delivery.event_sequence, delivery.message_id LIMIT :most FOR UPDATE OF delivery
""")

_ON_THE_WIRE = text(f"""
SELECT delivery.message_id FROM delivery {LAST_ATTEMPT_OF_DELIVERY}
WHERE delivery.message_id = ANY(:ids) AND ({SENDER_ID}) IS NOT NULL
""")


def _behind(own_group: str) -> str:
    return f"""coalesce((
        SELECT ended.message_id FROM delivery AS ended
        WHERE ended.subscription_id = delivery.subscription_id AND ended.holds_group AND {own_group.format("ended")}
            AND ended.event_sequence <= delivery.event_sequence AND subscription.after_exhausted = 'hold'
        ORDER BY ended.event_sequence LIMIT 1
    ), (
        SELECT earlier.message_id FROM delivery AS earlier
        WHERE earlier.subscription_id = delivery.subscription_id AND earlier.status = '{DeliveryStatus.HELD}'
            AND {own_group.format("earlier")}
            AND (earlier.event_sequence, earlier.message_id) < (delivery.event_sequence, delivery.message_id)
        ORDER BY earlier.ordering_key, earlier.event_sequence, earlier.message_id LIMIT 1
    ))"""


BEHIND = f"""CASE WHEN delivery.status = '{DeliveryStatus.HELD}' AND subscription.ordered THEN
    CASE subscription.order_key WHEN 'customer' THEN {_behind("{}.ordering_key = delivery.ordering_key")}
    ELSE {_behind("true")} END END"""
"""SQL over rows `delivery` and `subscription`: the first delivery that has to end before this one is sent; null if
there is none."""


async def first_of_groups(
    connection: AsyncConnection, subscription_id: UUID, *, by_customer: bool, holds: bool, after: int | None, most: int
) -> list[First]:
    """Return the first delivery of at most `most` FIFO groups behind the ordering key `after`.

    For a subscription with one group, return its first `most` deliveries in order. `holds`: an exhausted delivery that
    waits for a person stops its group.
    """
    values = {"id": subscription_id, "holds": holds, "most": most}
    statement, more = (_GROUPS, {"after": after}) if by_customer else (_ONLY_GROUP, {})
    return list(rows_as(First, await connection.execute(statement, values | more)))


async def first_of_these(
    connection: AsyncConnection, subscription_id: UUID, ordering_keys: Sequence[int | None], *, holds: bool
) -> list[First]:
    """Return the current first delivery of each of these groups (None: as many of the only group's first ones)."""
    one_group = None in ordering_keys
    keys = {"most": len(ordering_keys)} if one_group else {"ordering_key": list(ordering_keys)}
    values = {"id": subscription_id, "holds": holds, **keys}
    return list(rows_as(First, await connection.execute(_ONLY_GROUP if one_group else _OF_GROUPS, values)))


async def first_unmatched(connection: AsyncConnection, subscription_id: UUID, before: int) -> int | None:
    """Return the sequence of the first unmatched event of the subscription with a sequence below `before`, or None.
    Return 0 while a bulk action opens earlier deliveries: none may be sent before all of them are open."""
    sequence: int | None = await connection.scalar(_FIRST_UNMATCHED, {"id": subscription_id, "before": before})
    return sequence


async def assign_missing_keys(connection: AsyncConnection, subscription_id: UUID) -> int:
    """Assign an ordering key to held deliveries matched before their subscription was ordered; return how many."""
    found = (await connection.execute(_WITHOUT_KEY, {"id": subscription_id, "most": KEYS_AT_ONCE})).all()
    if found:
        ordering_keys = [ordering_key_of(subscription_id, row.data) for row in found]
        await assign_ordering_keys(connection, [row.message_id for row in found], ordering_keys)
    return len(found)


async def on_the_wire(connection: AsyncConnection, message_ids: Collection[UUID]) -> set[UUID]:
    """Return the ids of those deliveries that a live worker is sending."""
    return set(await connection.scalars(_ON_THE_WIRE, {"ids": list(message_ids)}))
