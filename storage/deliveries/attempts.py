"""Intents and outcomes of attempts, in bulk: an intent is committed before the request, its outcome afterwards."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import Reason
from storage.columns import by_column, unnest
from storage.deliveries.open import OpenDelivery


@dataclass(slots=True)  # Not frozen: that would triple the cost of creating one, for each delivery.
class Intent:
    """An attempt about to start. Writing it takes the lease on the delivery."""

    accepted_on: date
    """Partition day: the UTC day of the event's acceptance."""
    message_id: UUID
    number: int
    request_id: UUID
    trigger: str
    worker_id: UUID
    legacy: bool
    status: str
    """Status of the delivery as the sender read it: `pending` for an activity, `held` for the drain."""
    recorded: int = 0
    """Number of the last attempt whose outcome the sender has seen. After a later outcome the intent is refused."""

    @property
    def follows_unfinished(self) -> bool:
        """True if an earlier attempt has no outcome. Every earlier one is closed when the next has its intent."""
        return self.number > self.recorded + 1


@dataclass(slots=True)  # Not frozen: that would triple the cost of creating one, for each delivery.
class Outcome:
    """The outcome of an attempt, and the delivery's new state."""

    accepted_on: date
    message_id: UUID
    number: int
    began_seconds_ago: float
    """Age of the attempt in seconds by the worker's monotonic clock, from which the database computes `started_at`."""
    duration_ms: int | None
    status_code: int | None
    failure: str | None
    detail: str | None
    response_excerpt: str | None
    body_sha256: bytes | None
    url: str
    status: str
    """New status of the delivery; `unchanged` after a failed manual attempt, which leaves the schedule as it is."""
    reason: Reason | None
    failures: int
    next_in_seconds: float | None
    """None: there is no next attempt."""
    workflow_id: str | None
    """Workflow that owns the delivery from now on, if it is still open."""
    holds_group: bool = False
    """If the attempt exhausts the delivery, its successors wait until a person decides."""
    retry_after_seconds: float | None = None
    """Delay that the receiver asked for; None: it asked for none."""
    signed_at: int | None = None
    """Timestamp of the signatures in Unix seconds; None: the request was not signed."""


_INTENT = """accepted_on date, message_id uuid, number int, request_id uuid, trigger text, worker_id uuid, legacy bool,
    status text, recorded int"""

# An operator may have cancelled the delivery, or cancelled and recovered it, since the sender read it: a recovered one
# belongs to the drain alone. Manual attempts are sent whatever the status.
_INTEND = text(f"""
INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy)
SELECT intent.accepted_on, intent.message_id, intent.number, request_id, trigger, worker_id, legacy
FROM {unnest("intent", _INTENT)}
WHERE (
    SELECT intent.recorded = delivery.attempts
        AND (delivery.status = intent.status OR intent.trigger <> 'automatic')
    FROM delivery WHERE delivery.message_id = intent.message_id
)
ON CONFLICT (accepted_on, message_id, number) DO NOTHING
RETURNING message_id, number
""")

_BEGUN = "message_id uuid, number int"
_INTERRUPT = text(f"""
UPDATE attempt SET outcome_at = clock_timestamp(), failure = 'interrupted' FROM {unnest("begun", _BEGUN)}
WHERE attempt.accepted_on = :day AND attempt.message_id = begun.message_id AND attempt.number < begun.number
    AND attempt.outcome_at IS NULL
""")

# Compare the request id too: another sender may own an intent with this number.
_LOST = "message_id uuid, number int, request_id uuid"
_FORGET = text(f"""
DELETE FROM attempt USING {unnest("lost", _LOST)}
WHERE attempt.accepted_on = :day AND attempt.message_id = lost.message_id AND attempt.number = lost.number
    AND attempt.request_id = lost.request_id AND attempt.outcome_at IS NULL
""")

Row = TypeVar("Row", Intent, Outcome, OpenDelivery)


def by_day(rows: Iterable[Row]) -> Iterable[tuple[date, list[Row]]]:
    """Group rows by day, one or two: a statement names one day, so that the planner sees one partition."""
    days: dict[date, list[Row]] = defaultdict(list)
    for row in rows:
        days[row.accepted_on].append(row)
    return days.items()


async def intend(connection: AsyncConnection, intents: Sequence[Intent]) -> set[tuple[UUID, int]]:
    """Write intents; return (message id, number) of the intents written.

    An intent is refused if another sender has the number, if an outcome was recorded meanwhile, or if the attempt is
    automatic and the delivery's status has changed; the caller reads the delivery again. Earlier attempts without an
    outcome are closed as `interrupted`; the caller has checked that no live worker is sending them. The first intent of
    a delivery that is attempted at once is written by `storage.deliveries.matching.match`.
    """
    if not intents:
        return set()
    written = {(row.message_id, row.number) for row in await connection.execute(_INTEND, by_column(intents, _INTENT))}
    for day, later in by_day(intent for intent in intents if intent.follows_unfinished):
        await connection.execute(_INTERRUPT, {"day": day} | by_column(later, _BEGUN))
    return written


async def interrupt(connection: AsyncConnection, deliveries: Sequence[OpenDelivery]) -> None:
    """Close the attempts without an outcome before the next one of each delivery, so that any worker may make it."""
    for day, rows in by_day(deliveries):
        await connection.execute(_INTERRUPT, {"day": day} | by_column(rows, _BEGUN))


async def forget(connection: AsyncConnection, lost: Sequence[Intent]) -> None:
    """Delete intents whose commit was reported as failed although it may have succeeded."""
    for day, rows in by_day(lost):
        await connection.execute(_FORGET, {"day": day} | by_column(rows, _LOST))
