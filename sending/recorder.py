"""Group commit of attempts: the intents and outcomes of a worker share a few bulk statements per flush."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.breaker import BreakerRules
from domain.delivery.failure_kinds import FailureKind
from domain.delivery.identity import drain_workflow_id
from domain.delivery.lifecycle import DeliveryStatus, Reason, Step
from domain.delivery.notices import NoticeKind
from sending.http.client import SendResult
from sending.subscription_queues import SubscriptionQueues
from storage.database import Database
from storage.deliveries.attempts import Intent, Outcome, forget, intend
from storage.deliveries.figures import count_attempts, counted, forget_old_counts
from storage.deliveries.open import OpenDelivery
from storage.deliveries.retries import overload
from storage.deliveries.transitions import record, withdraw
from storage.subscriptions.notices import Occurrence, note
from storage.subscriptions.queries import disable_by_system
from storage.subscriptions.state import record_health, slow_down
from telemetry.logs import Repeated
from telemetry.worker_metrics import WorkerMetrics
from temporal.outages import in_words

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_SECONDS = 0.010
"""Minimum interval between flushes under load: a kill loses the outcomes of this time. At low load no row waits."""

QUIET_ROWS = 4
"""Maximum size of a flush that the next one follows without waiting."""

FAULT_PAUSE_SECONDS = 0.2
"""Pause between tries while the database is away. Outcomes stay in memory meanwhile."""

PRUNE_SECONDS = 60.0
"""Interval at which counts of attempts are deleted that are no longer displayed."""

MOST_ROWS = 2000
"""Maximum number of rows in a flush, so that transactions stay short after the database was away."""


class RecorderUnavailableError(ConnectionError):
    """A row could not be written: the database is away (intents), or it refuses the row (intents and outcomes)."""


@dataclass(slots=True)  # not frozen: making one would cost thrice as much, for each delivery
class Recorded:
    """Outcome to write. The flush sets its `began_seconds_ago` from `began_monotonic`. The flush changes a retry to
    `held` where too many fall due together (`storage.deliveries.retries.overload`)."""

    began_monotonic: float
    outcome: Outcome
    subscription_id: UUID
    healthy: bool | None
    """Health of the receiver; None when the outcome says nothing about it."""
    disables_as: FailureKind | None = None
    """The receiver wants no more deliveries, for this reason: it answered 410 or `webhook-delivery: disable`."""
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
        detail=result.stored_detail if result is not None else None,
        response_excerpt=result.excerpt or None if result is not None else None,
        body_sha256=body_digest,
        url=delivery.subscription.url,
        status=step.status,
        reason=step.reason,
        failures=step.failures,
        next_in_seconds=step.next_in_seconds,
        workflow_id=drain_workflow_id(delivery.subscription.id) if step.status == DeliveryStatus.HELD else None,
        holds_group=delivery.subscription.holds_group and not delivery.is_test,
        retry_after_seconds=result.retry_after_seconds if result is not None else None,
        signed_at=result.signed_at if result is not None else None,
    )


@dataclass(eq=False, slots=True)
class _Item:
    row: Intent | Recorded
    done: asyncio.Future[bool]


class Recorder:
    """Group commit of attempts. The task `run` is the only writer; `intend` and `record` wait for its commit."""

    def __init__(
        self, database: Database, metrics: WorkerMetrics, breaker: BreakerRules, queues: SubscriptionQueues
    ) -> None:
        self._database = database
        self._breaker = breaker
        self._queues = queues
        self._metrics = metrics
        self._items: list[_Item] = []
        self._lost: list[Intent] = []  # Their commit may have succeeded although its answer was lost. Nothing was sent.
        self._wake = asyncio.Event()
        self._writer_id = uuid4()
        self._prune_at = time.monotonic()
        self._postponed = Repeated()

    async def intend(self, intent: Intent) -> bool:
        """Write an intent. Return False if another sender has its number, or the delivery has changed. Raises
        `RecorderUnavailableError`."""
        return await self._enqueue(intent)

    async def record(self, recorded: Recorded) -> None:
        """Write an outcome. Returns once it is committed, however long the database is away. Raises
        `RecorderUnavailableError` if the database refuses the row."""
        await self._enqueue(recorded)

    def _enqueue(self, row: Intent | Recorded) -> asyncio.Future[bool]:
        item = _Item(row, asyncio.get_running_loop().create_future())
        self._items.append(item)
        self._wake.set()
        return item.done

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            began = time.monotonic()
            items, self._items = self._items[:MOST_ROWS], self._items[MOST_ROWS:]
            await self._flush(items)
            if self._items:
                self._wake.set()
            if len(items) > QUIET_ROWS:
                await asyncio.sleep(max(0.0, began + FLUSH_INTERVAL_SECONDS - time.monotonic()))

    async def _flush(self, items: list[_Item]) -> None:
        """Write rows together, or in halves down to the row that the database refuses, so that it holds up no other."""
        intents = [item.row for item in items if isinstance(item.row, Intent)]
        outcomes = [item.row for item in items if isinstance(item.row, Recorded)]
        try:
            written = await self._write(intents, outcomes)
        except Exception as error:  # Any error is passed to the waiting attempts, and the recorder goes on.
            if _is_away(error):
                await self._postpone(items, intents, error)
            elif len(items) == 1:
                await self._refused(items[0], error)
            else:
                outcomes_first = sorted(items, key=lambda item: isinstance(item.row, Intent))
                half = len(outcomes) if intents and outcomes else len(items) // 2
                await self._flush(outcomes_first[:half])
                await self._flush(outcomes_first[half:])
            return
        self._metrics.flush_rows.observe(len(items))
        for item in items:
            _settle(item.done, isinstance(item.row, Recorded) or (item.row.message_id, item.row.number) in written)

    async def _refused(self, item: _Item, error: Exception) -> None:
        """Try a refused outcome once more without the receiver's text. Reject an outcome that is refused again, and an
        intent at once. Such a row is a bug of the product."""
        row = item.row.outcome if isinstance(item.row, Recorded) else item.row
        logger.error(  # without the traceback, which quotes the row
            "PostgreSQL refuses the record of attempt %d of delivery %s (%s); report this defect",
            *(row.number, row.message_id, in_words(error)),
        )
        if isinstance(item.row, Recorded):
            outcome = replace(item.row.outcome, detail=None, response_excerpt=None, body_sha256=None)
            if outcome != item.row.outcome:
                await self._flush([_Item(replace(item.row, outcome=outcome), item.done)])
                return
        _settle(item.done, RecorderUnavailableError(f"the database refuses the row: {type(error).__name__}"))

    async def _postpone(self, items: list[_Item], intents: list[Intent], error: Exception) -> None:
        """Reject all intents, for which nothing was sent, and keep the outcomes while the database is away."""
        waiting = items + self._items
        outcomes = [item for item in waiting if isinstance(item.row, Recorded)]
        self._metrics.flush_faults.inc()
        logger.log(
            self._postponed.level(),
            "recording attempts failed (%s), retrying every %g s; no new attempt starts, outcomes kept in memory: %d",
            *(in_words(error), FAULT_PAUSE_SECONDS, len(outcomes)),
        )
        for item in waiting:
            if isinstance(item.row, Intent):
                _settle(item.done, RecorderUnavailableError("the database cannot be reached"))
        self._lost += intents
        self._items = outcomes
        await asyncio.sleep(FAULT_PAUSE_SECONDS)
        self._wake.set()

    async def _write(self, intents: list[Intent], outcomes: list[Recorded]) -> set[tuple[UUID, int]]:
        now = time.monotonic()
        made = [one for one in outcomes if not one.unmade]
        for one in made:
            one.outcome.began_seconds_ago = now - one.began_monotonic
        succeeded, failed, slowed, disabled = _effects(outcomes)
        # Intents alone are one statement, unless they close earlier ones. It needs no transaction.
        several = bool(outcomes or self._lost) or any(one.follows_unfinished for one in intents)
        async with self._database.transaction() if several else self._database.single_statements() as connection:
            await _hold_overload(connection, made)
            exhausted = await record(connection, [one.outcome for one in made])
            await withdraw(connection, [one.outcome for one in outcomes if one.unmade])
            last = {one.subscription_id: one.outcome for one in outcomes if one.healthy is False}
            last_failed = {one: outcome.message_id for one, outcome in last.items()}
            transitions = await record_health(connection, succeeded, failed, self._breaker, last_failed)
            await slow_down(connection, slowed)
            # A notice for an operator; tests give none.
            occurrences = [Occurrence(one, NoticeKind.EXHAUSTED, why) for one, why in exhausted if why != Reason.TEST]
            occurrences += [Occurrence(one, NoticeKind.RECOVERED) for one in transitions.closed]
            occurrences += [Occurrence(one, NoticeKind.FAILING, last[one].failure) for one in transitions.opened]
            for subscription_id, (why, message_id) in sorted(disabled.items()):
                occurrences += await disable_by_system(connection, subscription_id, reason=why, message_id=message_id)
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
            self._queues.apply(
                disabled=disabled, breaker_opened=transitions.opened, breaker_closed=transitions.closed, slowed=slowed
            )
        return written


Disabled = dict[UUID, tuple[FailureKind, UUID]]
"""Subscriptions whose receiver wants no more deliveries, with the reason and the delivery it answered so."""


def _effects(outcomes: Sequence[Recorded]) -> tuple[set[UUID], dict[UUID, int], dict[UUID, float], Disabled]:
    """Return what the outcomes, in their order, mean for their receivers: the healthy ones, the failures of each after
    its last success, the longest rest in seconds of each that answered 429, and those that want no more."""
    succeeded: set[UUID] = set()
    failed: dict[UUID, int] = {}
    slowed: dict[UUID, float] = {}
    disabled: Disabled = {}
    for one in outcomes:
        receiver = one.subscription_id
        if one.healthy:
            succeeded.add(receiver)
            failed.pop(receiver, None)
        elif one.healthy is False:
            failed[receiver] = failed.get(receiver, 0) + 1
        if one.rest_seconds is not None:
            slowed[receiver] = max(one.rest_seconds, slowed.get(receiver, 0.0))
        if one.disables_as is not None:
            disabled.setdefault(receiver, (one.disables_as, one.outcome.message_id))
    return succeeded, failed, slowed, disabled


async def _hold_overload(connection: AsyncConnection, made: Sequence[Recorded]) -> None:
    """Hold retries that Temporal could not make in time, so that the drain of their subscription sends them."""
    retries = {
        one.outcome.message_id: one
        for one in made
        if one.outcome.status == DeliveryStatus.PENDING and one.outcome.next_in_seconds is not None
    }
    if not retries:
        return
    planned = [(key, one.subscription_id, one.outcome.next_in_seconds or 0.0) for key, one in retries.items()]
    for message_id in await overload(connection, planned):
        outcome, subscription_id = retries[message_id].outcome, retries[message_id].subscription_id
        outcome.status, outcome.reason = DeliveryStatus.HELD, Reason.OVERLOAD
        outcome.workflow_id = drain_workflow_id(subscription_id)


def _settle(future: asyncio.Future[bool], result: bool | Exception) -> None:
    """Set the result of a future, unless its caller was cancelled."""
    with contextlib.suppress(asyncio.InvalidStateError):
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def _is_away(error: Exception) -> bool:
    """Return True for an outage, False for a row that can never be written (SQLSTATE 22 data, 23 integrity)."""
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        return not (isinstance(state, str) and state[:2] in ("22", "23"))
    return isinstance(error, OSError | TimeoutError | PoolTimeoutError)
