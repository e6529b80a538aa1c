"""Group commit of attempts: the intents and outcomes of a worker share two statements per flush."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar
from uuid import UUID, uuid4

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from domain.delivery.breaker import BreakerRules
from domain.delivery.failure_kinds import FailureKind
from domain.delivery.identity import drain_workflow_id
from domain.delivery.lifecycle import DeliveryStatus, Reason, Step
from domain.delivery.notices import NoticeKind
from sending.http.client import SendResult
from sending.subscription_queues import SubscriptionChanges, SubscriptionQueues
from storage.database import Database
from storage.deliveries.attempts import Intent, Outcome, forget, intend
from storage.deliveries.open import OpenDelivery
from storage.deliveries.retries import overload
from storage.deliveries.traffic import count_attempts, counted, forget_old_counts
from storage.deliveries.transitions import record, withdraw
from storage.subscriptions.health import BreakerTransitions, record_health
from storage.subscriptions.notices import Occurrence, note
from storage.subscriptions.status import disable_by_system
from storage.subscriptions.throttling import slow_down
from telemetry.worker_metrics import WorkerMetrics

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_SECONDS = 0.010
"""Time for which rows gather under load. It bounds the outcomes that a kill makes unknown. At low load a row is written
at once."""

QUIET_ROWS = 4
"""Maximum size of a flush that the next one follows without waiting."""

FAULT_PAUSE_SECONDS = 0.2
"""Pause between tries while the database is away. Outcomes stay in memory meanwhile."""

PRUNE_SECONDS = 60.0
"""Interval at which counts of attempts are deleted that are no longer displayed."""

MOST_ROWS = 2000
"""Maximum number of rows in a flush, so that transactions stay short after the database was away."""


class RecorderUnavailableError(ConnectionError):
    """An intent could not be written: the database is away. Nothing was sent."""


Row = TypeVar("Row")


@dataclass(eq=False, slots=True)
class _Item(Generic[Row]):
    row: Row
    done: asyncio.Future[bool]


@dataclass(slots=True)  # not frozen: making one would cost thrice as much, for each delivery
class Recorded:
    """Outcome to write. The flush sets its `began_seconds_ago` from `began_monotonic`.

    The flush changes a retry to `held` where too many fall due together (`storage.deliveries.retries.overload`).
    """

    began_monotonic: float
    outcome: Outcome
    subscription_id: UUID
    healthy: bool | None
    """Health of the receiver; None when the outcome says nothing about it."""
    disables_subscription: bool = False
    """The receiver answered 410."""
    rest_seconds: float | None = None
    """The receiver answered 429 and asks for so many seconds of rest (0: unspecified)."""
    unmade: bool = False
    """The attempt was not made: its intent is deleted, and the delivery gets the status of the outcome."""


def outcome_of(
    delivery: OpenDelivery,
    step: Step,
    result: SendResult | None = None,
    failure: FailureKind | None = None,
    body_digest: bytes | None = None,
) -> Outcome:
    """Return the row of an attempt's outcome: the delivery's next step, and the response if a request was made."""
    return Outcome(
        accepted_on=delivery.accepted_on,
        message_id=delivery.message_id,
        number=delivery.number,
        began_seconds_ago=0,
        duration_ms=result.duration_ms if result is not None else None,
        status_code=result.status_code if result is not None else None,
        failure=failure,
        detail=_detail(result) if result is not None else None,
        response_excerpt=result.excerpt or None if result is not None else None,
        body_sha256=body_digest,
        url=delivery.subscription.url,
        status=step.status,
        reason=step.reason,
        failures=step.failures,
        next_in_seconds=step.next_in_seconds,
        workflow_id=_drain_of(delivery, step),
        holds_group=delivery.subscription.holds_group and not delivery.is_test,
        retry_after_seconds=None if result is None else result.retry_after_seconds,
    )


def _detail(result: SendResult) -> str | None:
    return result.detail or (f"Location: {result.location}" if result.location else None)


def _drain_of(delivery: OpenDelivery, step: Step) -> str | None:
    """Return the id of the drain that owns the delivery from now on; None if the delivery is not held."""
    return drain_workflow_id(delivery.subscription.id) if step.status == DeliveryStatus.HELD else None


class Recorder:
    """Group commit of attempts. The task `run` is the only writer; `intend` and `record` wait for its commit."""

    def __init__(
        self, database: Database, metrics: WorkerMetrics, breaker: BreakerRules, queues: SubscriptionQueues
    ) -> None:
        self._database = database
        self._breaker = breaker
        self._queues = queues
        self._metrics = metrics
        self._intents: list[_Item[Intent]] = []
        self._outcomes: list[_Item[Recorded]] = []
        self._lost: list[Intent] = []  # Their commit may have succeeded although its answer was lost. Nothing was sent.
        self._wake = asyncio.Event()
        self._writer_id = uuid4()
        self._prune_at = time.monotonic()

    async def intend(self, intent: Intent) -> bool:
        """Write an intent. Return False if another sender has its number, or the delivery has changed.

        Raises `RecorderUnavailableError`.
        """
        return await self._enqueue(self._intents, intent)

    async def record(self, recorded: Recorded) -> None:
        """Write an outcome. Returns once it is committed, however long the database is away."""
        await self._enqueue(self._outcomes, recorded)

    async def _enqueue(self, queue: list[_Item[Row]], row: Row) -> bool:
        item = _Item(row, asyncio.get_running_loop().create_future())
        queue.append(item)
        self._wake.set()
        return await item.done

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            began = time.monotonic()
            intents, self._intents = self._intents[:MOST_ROWS], self._intents[MOST_ROWS:]
            outcomes, self._outcomes = self._outcomes[:MOST_ROWS], self._outcomes[MOST_ROWS:]
            await self._flush(intents, outcomes)
            if self._intents or self._outcomes:
                self._wake.set()
            if len(intents) + len(outcomes) > QUIET_ROWS:
                await asyncio.sleep(max(0.0, began + FLUSH_INTERVAL_SECONDS - time.monotonic()))

    async def _flush(self, intents: list[_Item[Intent]], outcomes: list[_Item[Recorded]]) -> None:
        try:
            written = await self._write([item.row for item in intents], [item.row for item in outcomes])
        except Exception as error:  # Any error is passed to the waiting attempts, and the recorder goes on.
            if _is_away(error):
                await self._postpone(intents, outcomes, error)
            else:
                await self._flush_apart(intents, outcomes, error)
            return
        self._metrics.flush_rows.observe(len(intents) + len(outcomes))
        for item in intents:
            _settle(item.done, (item.row.message_id, item.row.number) in written)
        for outcome in outcomes:
            _settle(outcome.done, True)

    async def _flush_apart(
        self, intents: list[_Item[Intent]], outcomes: list[_Item[Recorded]], error: Exception
    ) -> None:
        """Write halves separately, down to the row that the database refuses, so that it holds up no other."""
        if len(intents) + len(outcomes) == 1:
            await self._refused(intents, outcomes, error)
        elif intents and outcomes:
            await self._flush([], outcomes)
            await self._flush(intents, [])
        else:
            half = (len(intents) + len(outcomes)) // 2
            await self._flush(intents[:half], outcomes[:half])
            await self._flush(intents[half:], outcomes[half:])

    async def _refused(self, intents: list[_Item[Intent]], outcomes: list[_Item[Recorded]], error: Exception) -> None:
        """Try a refused outcome once more without the receiver's text, and reject a row that is refused again.

        Such a row is a bug of the product.
        """
        logger.error("PostgreSQL refuses a row of the attempt log", exc_info=error)
        bare = [_Item(_without_texts(outcome.row), outcome.done) for outcome in outcomes]
        if bare and bare[0].row != outcomes[0].row:
            await self._flush([], bare)
            return
        for future in (*(item.done for item in intents), *(item.done for item in outcomes)):
            _settle(future, RecorderUnavailableError(f"the database refuses the row: {type(error).__name__}"))

    async def _postpone(self, intents: list[_Item[Intent]], outcomes: list[_Item[Recorded]], error: Exception) -> None:
        """Reject the intents and keep the outcomes in memory while the database is away. Nothing was sent for the
        intents."""
        self._metrics.flush_faults.inc()
        logger.warning(
            "writing attempts failed (%s), retrying in %g s, %d outcomes stay in memory",
            type(error).__name__,
            FAULT_PAUSE_SECONDS,
            len(outcomes),
        )
        for item in intents:
            _settle(item.done, RecorderUnavailableError("the database cannot be reached"))
        self._lost += [item.row for item in intents]
        self._outcomes = outcomes + self._outcomes
        await asyncio.sleep(FAULT_PAUSE_SECONDS)
        self._wake.set()

    async def _write(self, intents: list[Intent], outcomes: list[Recorded]) -> set[tuple[UUID, int]]:
        now = time.monotonic()
        made = [one for one in outcomes if not one.unmade]
        for one in made:
            one.outcome.began_seconds_ago = now - one.began_monotonic
        rows = [one.outcome for one in made]
        planned = _retries(made)
        succeeded, failed = _health(outcomes)
        slowed = _slowed(outcomes)
        disabled = {recorded.subscription_id for recorded in outcomes if recorded.disables_subscription}
        async with self._database.transaction() as connection:
            if planned:
                _hold(made, await overload(connection, planned))
            exhausted = await record(connection, rows)
            await withdraw(connection, [one.outcome for one in outcomes if one.unmade])
            transitions = await record_health(connection, succeeded, failed, self._breaker)
            await slow_down(connection, slowed)
            occurrences = _occurrences(outcomes, exhausted, transitions)
            for subscription_id in sorted(disabled):
                occurrences += await disable_by_system(connection, subscription_id, reason=Reason.HTTP_GONE)
            written = await intend(connection, intents)
            await forget(connection, self._lost)  # after the intents, which close earlier attempts of the same delivery
            await note(connection, occurrences)
            tally = counted((one.subscription_id, one.outcome.status, one.outcome.duration_ms) for one in made)
            await count_attempts(connection, self._writer_id, tally)
            if tally and now >= self._prune_at:
                await forget_old_counts(connection)
                self._prune_at = now + PRUNE_SECONDS
        self._lost = []
        if disabled or transitions.opened or transitions.closed or slowed:
            self._queues.apply(SubscriptionChanges(disabled, transitions.opened, transitions.closed, set(slowed)))
        return written


def _health(outcomes: Sequence[Recorded]) -> tuple[set[UUID], dict[UUID, int]]:
    """Return (healthy receivers, failures of each receiver after its last success), from outcomes in their order."""
    succeeded: set[UUID] = set()
    failed: dict[UUID, int] = {}
    for recorded in outcomes:
        if recorded.healthy:
            succeeded.add(recorded.subscription_id)
            failed.pop(recorded.subscription_id, None)
        elif recorded.healthy is False:
            failed[recorded.subscription_id] = failed.get(recorded.subscription_id, 0) + 1
    return succeeded, failed


def _retries(made: Sequence[Recorded]) -> list[tuple[UUID, UUID, float]]:
    """Return (message id, subscription id, seconds until the next attempt) of the deliveries to retry."""
    return [
        (one.outcome.message_id, one.subscription_id, one.outcome.next_in_seconds)
        for one in made
        if one.outcome.status == DeliveryStatus.PENDING and one.outcome.next_in_seconds is not None
    ]


def _hold(made: Sequence[Recorded], too_many: Collection[UUID]) -> None:
    """Hold retries that Temporal could not make in time, so that the drain of their subscription sends them."""
    for one in made:
        if one.outcome.message_id in too_many and one.outcome.status == DeliveryStatus.PENDING:
            one.outcome.status, one.outcome.reason = DeliveryStatus.HELD, Reason.OVERLOAD
            one.outcome.workflow_id = drain_workflow_id(one.subscription_id)


def _slowed(outcomes: Sequence[Recorded]) -> dict[UUID, float]:
    """Return the receivers that answered 429, with the longest rest in seconds that each asked for."""
    slowed: dict[UUID, float] = {}
    for one in outcomes:
        if one.rest_seconds is not None:
            slowed[one.subscription_id] = max(one.rest_seconds, slowed.get(one.subscription_id, 0.0))
    return slowed


def _occurrences(
    outcomes: Sequence[Recorded], exhausted: Sequence[tuple[UUID, str | None]], transitions: BreakerTransitions
) -> list[Occurrence]:
    """Return the notices that these outcomes give an operator. Tests give none."""
    found = [Occurrence(one, NoticeKind.EXHAUSTED, reason) for one, reason in exhausted if reason != "test"]
    found += [Occurrence(one, NoticeKind.RECOVERED) for one in transitions.closed]
    last = {one.subscription_id: one.outcome.failure for one in outcomes if one.healthy is False}
    return found + [Occurrence(one, NoticeKind.FAILING, last.get(one)) for one in transitions.opened]


def _settle(future: asyncio.Future[bool], result: bool | Exception) -> None:
    """Set the result of a future, unless its caller was cancelled."""
    with contextlib.suppress(asyncio.InvalidStateError):
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def _without_texts(recorded: Recorded) -> Recorded:
    outcome = replace(recorded.outcome, detail=None, response_excerpt=None, body_sha256=None)
    return replace(recorded, outcome=outcome)


def _is_away(error: Exception) -> bool:
    """Return True for an outage, False for a row that can never be written (SQLSTATE 22 data, 23 integrity)."""
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        return not (isinstance(state, str) and state[:2] in ("22", "23"))
    return isinstance(error, OSError | TimeoutError | PoolTimeoutError)
