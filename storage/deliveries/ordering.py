"""Lines of an ordered subscription: its held deliveries that wait for each other, and which of each is the first.

A subscription has one line, or one for each customer (`domain/delivery/ordering.py`). A line that a person has to let
go on has an exhausted delivery marked `holds_line` in it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import DeliveryStatus
from domain.delivery.ordering import line_of
from storage.deliveries.transitions import assign_lines
from storage.events.days import BODY_OF_EVENT, LAST_ATTEMPT_OF_DELIVERY
from storage.operations.workers import SENDER_ID

PLACED_AT_ONCE = 500
"""Deliveries put into their lines in one transaction, with the bodies that say which those are."""


@dataclass(frozen=True, slots=True)
class First:
    """The first held delivery of a line, or one of the first of the subscription's only line (null).

    `due_in_seconds` is not positive when it may be sent; `allowed_in_seconds` is not positive when a probe may send it,
    which skips the schedule and not what the receiver asked for. `stopped`: one before it waits for a person.
    """

    line: int | None
    message_id: UUID
    sequence: int
    due_in_seconds: float
    allowed_in_seconds: float
    stopped: bool


_FIRST = f"""
    SELECT delivery.line, delivery.message_id, delivery.event_sequence, delivery.next_attempt_at, delivery.not_before
    FROM delivery
    WHERE delivery.subscription_id = :id AND delivery.status = '{DeliveryStatus.HELD}'
"""

_COLUMNS = """
SELECT line.line, line.message_id, line.event_sequence,
    CAST(coalesce(extract(epoch FROM line.next_attempt_at - clock_timestamp()), 0) AS float8),
    CAST(coalesce(extract(epoch FROM line.not_before - clock_timestamp()), 0) AS float8),
    :holds AND EXISTS (SELECT FROM delivery AS ended WHERE ended.subscription_id = :id AND ended.holds_line {same_line}
        AND ended.event_sequence <= line.event_sequence)
FROM line
"""

_ONLY_LINE = text(
    f"WITH line AS ({_FIRST} ORDER BY delivery.event_sequence, delivery.message_id LIMIT :most)"
    + _COLUMNS.format(same_line="")
    + "ORDER BY line.event_sequence, line.message_id"
)

# One probe of the index for each line, however long the lines are.
_LINES = text(
    f"""
WITH RECURSIVE line AS (
    ({_FIRST} AND (CAST(:after AS bigint) IS NULL OR delivery.line > :after)
    ORDER BY delivery.line, delivery.event_sequence, delivery.message_id LIMIT 1)
    UNION ALL
    SELECT beyond.* FROM line CROSS JOIN LATERAL (
        {_FIRST} AND delivery.line > line.line
        ORDER BY delivery.line, delivery.event_sequence, delivery.message_id LIMIT 1
    ) AS beyond
)
"""
    + _COLUMNS.format(same_line="AND ended.line = line.line")
    + "LIMIT :most"
)

_OF_LINES = text(
    f"""
WITH line AS (
    SELECT first.* FROM unnest(CAST(:lines AS bigint[])) AS asked (line) CROSS JOIN LATERAL (
        {_FIRST} AND delivery.line = asked.line
        ORDER BY delivery.line, delivery.event_sequence, delivery.message_id LIMIT 1
    ) AS first
)
"""
    + _COLUMNS.format(same_line="AND ended.line = line.line")
)

_FIRST_UNMATCHED = text("""
SELECT CASE WHEN EXISTS (SELECT FROM window_act WHERE subscription_id = :id AND status = 'running' AND NOT all_open)
    THEN 0 ELSE (
        SELECT event.sequence FROM event
        JOIN subscription ON subscription.store_code = event.store_code AND subscription.event_name = event.name
        WHERE subscription.id = :id AND event.matched_at IS NULL AND event.sequence < :before
        ORDER BY event.sequence LIMIT 1
    ) END
""")

_IN_NO_LINE = text(f"""
SELECT delivery.message_id, body.data FROM delivery
JOIN event ON event.store_code = delivery.store_code AND event.event_id = delivery.event_id
{BODY_OF_EVENT}
WHERE delivery.subscription_id = :id AND delivery.status = '{DeliveryStatus.HELD}' AND delivery.line IS NULL
ORDER BY delivery.line, delivery.event_sequence, delivery.message_id LIMIT :most FOR UPDATE OF delivery
""")

_ON_THE_WIRE = text(f"""
SELECT delivery.message_id FROM delivery {LAST_ATTEMPT_OF_DELIVERY}
WHERE delivery.message_id = ANY(:ids) AND ({SENDER_ID}) IS NOT NULL
""")


def _behind(own_line: str) -> str:
    return f"""coalesce((
        SELECT ended.message_id FROM delivery AS ended
        WHERE ended.subscription_id = delivery.subscription_id AND ended.holds_line AND {own_line.format("ended")}
            AND ended.event_sequence <= delivery.event_sequence AND subscription.after_exhausted = 'hold'
        ORDER BY ended.event_sequence LIMIT 1
    ), (
        SELECT earlier.message_id FROM delivery AS earlier
        WHERE earlier.subscription_id = delivery.subscription_id AND earlier.status = '{DeliveryStatus.HELD}'
            AND {own_line.format("earlier")}
            AND (earlier.event_sequence, earlier.message_id) < (delivery.event_sequence, delivery.message_id)
        ORDER BY earlier.line, earlier.event_sequence, earlier.message_id LIMIT 1
    ))"""


BEHIND = f"""CASE WHEN delivery.status = '{DeliveryStatus.HELD}' AND subscription.ordered THEN
    CASE subscription.order_key WHEN 'customer' THEN {_behind("{}.line = delivery.line")}
    ELSE {_behind("true")} END END"""
"""SQL over rows `delivery` and `subscription`: the first of those which have to end before this one is sent."""


async def first_of_lines(
    connection: AsyncConnection, subscription_id: UUID, *, by_customer: bool, holds: bool, after: int | None, most: int
) -> list[First]:
    """The first delivery of each line, of at most so many lines from behind the line `after` on; or so many of the
    subscription's only line, in their order.

    `holds`: what is exhausted and waits for a person stops its line.
    """
    values = {"id": subscription_id, "holds": holds, "most": most}
    if not by_customer:
        return [First(None, *row[1:]) for row in await connection.execute(_ONLY_LINE, values)]
    rows = await connection.execute(_LINES, values | {"after": after})
    return [First(*row) for row in rows]


async def first_of_these(
    connection: AsyncConnection, subscription_id: UUID, lines: Sequence[int | None], *, holds: bool
) -> list[First]:
    """The first delivery of each of these lines now; of the only line as many as it is named."""
    values = {"id": subscription_id, "holds": holds}
    if None in lines:
        rows = await connection.execute(_ONLY_LINE, values | {"most": len(lines)})
        return [First(None, *row[1:]) for row in rows]
    return [First(*row) for row in await connection.execute(_OF_LINES, values | {"lines": list(lines)})]


async def first_unmatched(connection: AsyncConnection, subscription_id: UUID, before: int) -> int | None:
    """The place of the first event before this place that has not been matched, of those the subscription may get.

    0 while a person's act is opening earlier deliveries (again): nothing may be sent before all of them are.
    """
    place: int | None = await connection.scalar(_FIRST_UNMATCHED, {"id": subscription_id, "before": before})
    return place


async def place_in_lines(connection: AsyncConnection, subscription_id: UUID) -> int:
    """Put held deliveries into their customers' lines that are in none yet; how many that were.

    They were matched before their subscription was ordered by customer, or backfilled.
    """
    found = (await connection.execute(_IN_NO_LINE, {"id": subscription_id, "most": PLACED_AT_ONCE})).all()
    if found:
        lines = [line_of(subscription_id, row.data) for row in found]
        await assign_lines(connection, [row.message_id for row in found], lines)
    return len(found)


async def on_the_wire(connection: AsyncConnection, message_ids: Collection[UUID]) -> set[UUID]:
    """Those of these deliveries that a live worker is sending."""
    return set(await connection.scalars(_ON_THE_WIRE, {"ids": list(message_ids)}))
