"""Intents and outcomes of attempts, written in bulk: the intent before the request, the outcome before the answer."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


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
    reason: str | None
    failures: int
    next_in_seconds: float | None
    workflow_id: str | None
    """Who keeps the delivery from now on, when it is still open."""
    holds_line: bool = False
    """Its successors wait for a person if this exhausts it."""


# A person may have cancelled it, or asked for an erasure, since it was looked at; what a person asks for is sent.
_INTEND = text("""
INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy)
SELECT intent.accepted_on, intent.message_id, intent.number, request_id, trigger, worker_id, legacy
FROM unnest(CAST(:accepted_on AS date[]), CAST(:message_id AS uuid[]), CAST(:number AS int[]),
    CAST(:request_id AS uuid[]), CAST(:trigger AS text[]), CAST(:worker_id AS uuid[]), CAST(:legacy AS bool[]),
    CAST(:recorded AS int[]))
    AS intent (accepted_on, message_id, number, request_id, trigger, worker_id, legacy, recorded)
WHERE (
    SELECT intent.recorded = delivery.attempts
        AND (delivery.status IN ('pending', 'held') OR intent.trigger <> 'automatic')
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

_RECORD_SQL = """
WITH outcome AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:message_id AS uuid[]), CAST(:number AS int[]), CAST(:began_seconds_ago AS float8[]),
        CAST(:duration_ms AS int[]), CAST(:status_code AS int[]), CAST(:failure AS text[]), CAST(:detail AS text[]),
        CAST(:response_excerpt AS text[]), CAST(:body_sha256 AS bytea[]), CAST(:url AS text[]),
        CAST(:status AS text[]), CAST(:reason AS text[]), CAST(:failures AS int[]),
        CAST(:next_in_seconds AS float8[]), CAST(:workflow_id AS text[]), CAST(:holds_line AS bool[]))
        AS outcome (message_id, number, began_seconds_ago, duration_ms, status_code, failure, detail,
            response_excerpt, body_sha256, url, status, reason, failures, next_in_seconds, workflow_id, holds_line)
), recorded AS (
    UPDATE attempt SET
        started_at = clock_timestamp() - make_interval(secs => outcome.began_seconds_ago),
        outcome_at = clock_timestamp(), duration_ms = outcome.duration_ms, status_code = outcome.status_code,
        failure = outcome.failure, detail = outcome.detail,
        response_excerpt = outcome.response_excerpt, body_sha256 = outcome.body_sha256
    FROM outcome WHERE attempt.accepted_on = :day AND attempt.message_id = outcome.message_id
        AND attempt.number = outcome.number
)
UPDATE delivery SET
    status = CASE WHEN outcome.status = 'unchanged' THEN delivery.status ELSE outcome.status END,
    reason = CASE WHEN outcome.status = 'unchanged' THEN delivery.reason ELSE outcome.reason END,
    url = outcome.url, attempts = greatest(delivery.attempts, outcome.number),
    failures = CASE WHEN outcome.status = 'unchanged' THEN delivery.failures ELSE outcome.failures END,
    last_status_code = outcome.status_code, last_failure = outcome.failure,
    next_attempt_at = CASE WHEN outcome.status = 'unchanged' THEN delivery.next_attempt_at
        ELSE clock_timestamp() + make_interval(secs => outcome.next_in_seconds) END,
    ended_at = CASE WHEN outcome.status IN ('delivered', 'exhausted', 'cancelled') THEN clock_timestamp()
        WHEN outcome.status = 'unchanged' THEN delivery.ended_at END,
    workflow_id = coalesce(outcome.workflow_id, delivery.workflow_id),
    holds_line = CASE outcome.status WHEN 'unchanged' THEN delivery.holds_line
        WHEN 'exhausted' THEN outcome.holds_line ELSE false END
FROM outcome WHERE delivery.message_id = outcome.message_id AND (
    outcome.status IN ('delivered', 'unchanged')
    OR delivery.status IN ('pending', 'held') AND outcome.number >= delivery.attempts
)
"""
_RECORD = text(_RECORD_SQL)
_RECORD_EXHAUSTED = text(_RECORD_SQL + " RETURNING delivery.subscription_id, outcome.status, outcome.reason")

# Only where the intent is still open: whoever found its lease lapsed has closed it, and the delivery is theirs.
_UNMAKE = text("""
WITH unmade AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:message_id AS uuid[]), CAST(:number AS int[]), CAST(:status AS text[]),
        CAST(:reason AS text[]), CAST(:workflow_id AS text[])) AS unmade (message_id, number, status, reason, keeper)
), gone AS (
    DELETE FROM attempt USING unmade
    WHERE attempt.accepted_on = :day AND attempt.message_id = unmade.message_id AND attempt.number = unmade.number
        AND attempt.outcome_at IS NULL
    RETURNING attempt.message_id
)
UPDATE delivery SET status = unmade.status, reason = unmade.reason,
    workflow_id = coalesce(unmade.keeper, delivery.workflow_id),
    ended_at = CASE WHEN unmade.status <> 'held' THEN clock_timestamp() END
FROM unmade JOIN gone ON gone.message_id = unmade.message_id
WHERE delivery.message_id = unmade.message_id AND delivery.status = 'pending'
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


def _by_day(rows: Sequence[Row]) -> Iterator[tuple[date, list[Row]]]:
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
    what has ended, unless a person asks for it. Earlier attempts of the same delivery that have no outcome are closed
    as `interrupted`: whoever writes the next number has found their lease lapsed.
    """
    if not intents:
        return set()
    written = {(row[0], row[1]) for row in await connection.execute(_INTEND, _columns(intents))}
    for day, later in _by_day([intent for intent in intents if intent.number > 1]):
        values = {"day": day, "message_id": [i.message_id for i in later], "number": [i.number for i in later]}
        await connection.execute(_INTERRUPT, values)
    return written


async def record(connection: AsyncConnection, outcomes: Sequence[Outcome]) -> list[tuple[UUID, str | None]]:
    """Write outcomes and move their deliveries on; (subscription, reason) of each delivery that this exhausted.

    An outcome may come late, from a worker that was taken for dead while others went on: then it moves the delivery
    only by succeeding.
    """
    exhausted: list[tuple[UUID, str | None]] = []
    for day, rows in _by_day(outcomes):
        values = {"day": day, **_columns(rows)}
        if all(outcome.status != "exhausted" for outcome in rows):
            await connection.execute(_RECORD, values)
            continue
        ended = await connection.execute(_RECORD_EXHAUSTED, values)
        exhausted += [(row[0], row[2]) for row in ended if row[1] == "exhausted"]
    return exhausted


async def unmake(connection: AsyncConnection, unmade: Sequence[Outcome]) -> None:
    """Take back intents of which no request went out; their deliveries become what `status` says."""
    names = ("message_id", "number", "status", "reason", "workflow_id")
    for day, rows in _by_day(unmade):
        await connection.execute(_UNMAKE, {"day": day} | {name: [getattr(row, name) for row in rows] for name in names})


async def forget(connection: AsyncConnection, lost: Sequence[Intent]) -> None:
    """Take back what may have been written of intents whose sender was told that they were not."""
    names = ("message_id", "number", "request_id")
    for day, rows in _by_day(lost):
        await connection.execute(_FORGET, {"day": day} | {name: [getattr(row, name) for row in rows] for name in names})
