"""Intents and outcomes of attempts, written in bulk: the intent before the request, the outcome before the answer."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import Reason


@dataclass(slots=True)  # not frozen: making one would cost thrice as much, for each delivery
class Intent:
    """An attempt about to be made. Writing it takes the lease on the delivery."""

    accepted_on: date
    """The day it is filed under: its event's."""
    message_id: UUID
    number: int
    request_id: UUID
    trigger: str
    worker_id: UUID
    legacy: bool
    status: str
    """Status of the delivery as the sender read it: `pending` for an activity, `held` for the drain."""
    recorded: int = 0
    """The last attempt whose outcome its maker has seen: a later outcome makes this one pointless, or early."""


@dataclass(slots=True)  # not frozen: making one would cost thrice as much, for each delivery
class Outcome:
    """What came of an attempt, and what it makes of the delivery.

    `began_seconds_ago` is measured by the worker's monotonic clock when the row is written, so that all instants in the
    log are by the database's clock; it is set then. `next_in_seconds` is null when there is no next attempt.
    """

    accepted_on: date
    message_id: UUID
    number: int
    began_seconds_ago: float
    duration_ms: int | None
    status_code: int | None
    failure: str | None
    detail: str | None
    response_excerpt: str | None
    body_sha256: bytes | None
    url: str
    status: str
    """What the delivery becomes; `unchanged` after a redelivery that failed, which leaves its schedule as it is too."""
    reason: Reason | None
    failures: int
    next_in_seconds: float | None
    workflow_id: str | None
    """Who keeps the delivery from now on, when it is still open."""
    holds_group: bool = False
    """Its successors wait for a person if this exhausts it."""
    retry_after_seconds: float | None = None
    """The receiver wants no attempt before this has passed; null: it has not said."""


# An operator may have cancelled the delivery, or cancelled and recovered it, since the sender read it: a recovered one
# belongs to the drain alone. Manual attempts are sent whatever the status.
_INTEND = text("""
INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy)
SELECT intent.accepted_on, intent.message_id, intent.number, request_id, trigger, worker_id, legacy
FROM unnest(CAST(:accepted_on AS date[]), CAST(:message_id AS uuid[]), CAST(:number AS int[]),
    CAST(:request_id AS uuid[]), CAST(:trigger AS text[]), CAST(:worker_id AS uuid[]), CAST(:legacy AS bool[]),
    CAST(:status AS text[]), CAST(:recorded AS int[]))
    AS intent (accepted_on, message_id, number, request_id, trigger, worker_id, legacy, status, recorded)
WHERE (
    SELECT intent.recorded = delivery.attempts
        AND (delivery.status = intent.status OR intent.trigger <> 'automatic')
    FROM delivery WHERE delivery.message_id = intent.message_id
)
ON CONFLICT (accepted_on, message_id, number) DO NOTHING
RETURNING message_id, number
""")

_INTERRUPT = text("""
UPDATE attempt SET outcome_at = clock_timestamp(), failure = 'interrupted'
FROM unnest(CAST(:message_id AS uuid[]), CAST(:number AS int[])) AS begun (message_id, number)
WHERE attempt.accepted_on = :day AND attempt.message_id = begun.message_id AND attempt.number < begun.number
    AND attempt.outcome_at IS NULL
""")

# Only this very intent: its number may be another sender's.
_FORGET = text("""
DELETE FROM attempt USING unnest(CAST(:message_id AS uuid[]), CAST(:number AS int[]), CAST(:request_id AS uuid[]))
    AS lost (message_id, number, request_id)
WHERE attempt.accepted_on = :day AND attempt.message_id = lost.message_id AND attempt.number = lost.number
    AND attempt.request_id = lost.request_id AND attempt.outcome_at IS NULL
""")


Row = TypeVar("Row", Intent, Outcome)


def _columns(rows: Sequence[Row]) -> dict[str, Sequence[object]]:
    """Rows -> one list a column, named as the fields."""
    return {name: [getattr(row, name) for row in rows] for name in rows[0].__slots__}


def by_day(rows: Sequence[Row]) -> Iterator[tuple[date, list[Row]]]:
    """The rows of each day. A statement names one day, so that the planner sees one partition; they are nearly always
    of one or two days."""
    days: dict[date, list[Row]] = defaultdict(list)
    for row in rows:
        days[row.accepted_on].append(row)
    yield from days.items()


async def intend(connection: AsyncConnection, intents: Sequence[Intent]) -> set[tuple[UUID, int]]:
    """Write intents; returns (message id, number) of those that were ours to write.

    A delivery that begins at once is made with its first (`storage.deliveries.open.match`).
    A number that is taken belongs to another sender, and an outcome written meanwhile is to be looked at first; so is
    another status, unless the attempt is manual. Earlier attempts of the same delivery that have no outcome are closed
    as `interrupted`: whoever writes the next number has found their lease lapsed.
    """
    if not intents:
        return set()
    written = {(row[0], row[1]) for row in await connection.execute(_INTEND, _columns(intents))}
    for day, later in by_day([intent for intent in intents if intent.number > 1]):
        values = {"day": day, "message_id": [i.message_id for i in later], "number": [i.number for i in later]}
        await connection.execute(_INTERRUPT, values)
    return written


async def forget(connection: AsyncConnection, lost: Sequence[Intent]) -> None:
    """Take back what may have been written of intents whose sender was told that they were not."""
    names = ("message_id", "number", "request_id")
    for day, rows in by_day(lost):
        await connection.execute(_FORGET, {"day": day} | {name: [getattr(row, name) for row in rows] for name in names})
