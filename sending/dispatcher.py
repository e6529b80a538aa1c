"""The dispatcher: makes the attempts of a worker, each in the same steps.

    acquire a slot ── suspended? ── write the intent ── rate limit ── request, response, verdict ── record the outcome

An attempt belongs to the worker process, not to the activity that started it: it goes on when the activity stops
waiting, and another activity for the same delivery joins it.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import UNCHANGED, DeliveryStatus, Reason, Step, step_after
from domain.delivery.throttling import TOO_MANY_REQUESTS, Answers
from domain.delivery.timeouts import LONGEST_LEASE_SECONDS
from domain.delivery.verdict import Verdict, VerdictOutcome, verdict
from domain.urls.targets import shown_target
from domain.wire.signing import body_sha256
from sending.concurrency import SubscriptionQueue, WithdrawnError
from sending.http.client import Sender, SendResult
from sending.rate_limit import LimiterLeaseLostError
from sending.recorder import Recorded, Recorder, outcome_of
from sending.requests import RequestBuilder
from sending.subscription_queues import CHEAP_PACKETS, SubscriptionQueues
from sending.suspension import DISABLED, OVERLOADED, Suspension, suspension_for
from storage.deliveries.attempts import Intent
from storage.deliveries.open import OpenDelivery
from telemetry.tracing import NO_TRACES, Traces
from telemetry.worker_metrics import WorkerMetrics
from temporal.outages import in_words, is_outage

logger = logging.getLogger(__name__)

LEASE_POLL_SECONDS = 0.25
"""Interval at which the live lease of another worker is read again."""

ENDED = (DeliveryStatus.DELIVERED, DeliveryStatus.EXHAUSTED)

OLDEST_INTENT_SECONDS = LONGEST_LEASE_SECONDS / 2
"""Maximum time that a first attempt queues with a written intent: others soon take an older lease for lapsed."""

SUPERSEDED_SECONDS = 60.0
"""Time for which superseded intents are remembered: longer than from a batch's match to its attempts."""


class AttemptTakenError(Exception):
    """The attempt was not made: another sender has it, or the subscription has changed. Read the delivery again."""


class SuspendedError(AttemptTakenError):
    """The attempt was not made: its subscription is suspended."""

    def __init__(self, suspension: Suspension) -> None:
        super().__init__(suspension.reason)
        self.suspension = suspension


@dataclass(eq=False, kw_only=True)
class Dispatcher:
    """All attempts under way in this worker process."""

    sender: Sender
    recorder: Recorder
    requests: RequestBuilder
    queues: SubscriptionQueues
    retry_schedule: tuple[int, ...]
    """Retry schedule of the subscriptions without one of their own."""
    metrics: WorkerMetrics
    traces: Traces = NO_TRACES
    beside: set[asyncio.Task[None]] = field(init=False, default_factory=set)
    """Tasks that close intents without attempts. The end of the worker waits for them, as for attempts."""
    _answers: dict[UUID, Answers] = field(init=False, default_factory=lambda: defaultdict(Answers))
    _under_way: dict[UUID, asyncio.Task[Step]] = field(init=False, default_factory=dict)
    _queued: set[UUID] = field(init=False, default_factory=set)
    _superseded: dict[UUID, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.worker_id = self.queues.worker_id
        self.metrics.attempts_under_way.set_function(lambda: len(self._under_way))

    def taken(self, delivery: OpenDelivery) -> bool:
        """Return True if a live worker, or this one, is sending the delivery. A lease of this worker without an attempt
        under way belongs to nobody: its intent was committed, and the answer to the commit was lost with the
        connection."""
        return delivery.sender_id not in (None, self.worker_id) or self.sending(delivery)

    def sending(self, delivery: OpenDelivery) -> bool:
        """Return True if this worker is sending the delivery."""
        return delivery.sender_id == self.worker_id and delivery.message_id in self._under_way

    def under_way(self, message_id: UUID) -> asyncio.Task[Step] | None:
        return self._under_way.get(message_id)

    def queued(self, message_id: UUID) -> bool:
        """Return True if an attempt under way has not sent its request: it waits for a slot, its intent or its rate."""
        return message_id in self._queued

    def begin(self, delivery: OpenDelivery, trigger: str) -> asyncio.Task[Step]:
        """Start an attempt, or join the one under way. The task raises if the attempt cannot be made or recorded."""
        task = self._under_way.get(delivery.message_id)
        if task is None:
            queue = self.queues.enter(delivery)
            attempt = self._attempt if delivery.traceparent is None else self._traced_attempt
            task = asyncio.create_task(attempt(delivery, trigger, queue))
            self._under_way[delivery.message_id] = task
            self._queued.add(delivery.message_id)
            task.add_done_callback(lambda done: self._end(delivery, queue, done))
        return task

    def _end(self, delivery: OpenDelivery, queue: SubscriptionQueue, task: asyncio.Task[Step]) -> None:
        message_id = delivery.message_id
        self._under_way.pop(message_id, None)
        self._queued.discard(message_id)
        self.queues.leave(delivery.subscription.id, queue)
        error = None if task.cancelled() else task.exception()
        if error is None or isinstance(error, WithdrawnError):
            return
        # Callers get the error too, but an attempt may have none left, and must not fail unnoticed.
        if isinstance(error, AttemptTakenError) or is_outage(error):
            logger.info("attempt of delivery %s not made or not recorded: %s", message_id, error)
        else:
            quoting = isinstance(error, SQLAlchemyError)  # its traceback quotes the row
            logger.error(
                "attempt of delivery %s failed with an internal error (%s); report this defect",
                *(message_id, in_words(error)),
                exc_info=None if quoting else error,
            )

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while waiting := [*self._under_way.values(), *self.beside]:
            await asyncio.wait(waiting)

    async def hold_queued(self, deliveries: Collection[OpenDelivery]) -> None:
        """Take first attempts without a slot out of their queues, so that their deliveries are held."""
        withdrawn = [
            self._under_way[delivery.message_id]
            for delivery in deliveries
            if delivery.intended and self.queues.withdraw(delivery.subscription.id, [delivery.message_id])
        ]
        if withdrawn:
            await asyncio.wait(withdrawn)

    async def _traced_attempt(self, delivery: OpenDelivery, trigger: str, queue: SubscriptionQueue) -> Step:
        with self.traces.attempt(
            delivery.event,
            delivery.traceparent,
            url=delivery.subscription.url,
            message_id=delivery.message_id,
            subscription_id=delivery.subscription.id,
            number=delivery.number,
        ) as tell:
            step = await self._attempt(delivery, trigger, queue)
            tell(step)
            return step

    async def _attempt(self, delivery: OpenDelivery, trigger: str, queue: SubscriptionQueue) -> Step:
        queued_at, packets = time.monotonic(), 0
        try:
            windowless = delivery.hold_again_as is not None or trigger != "automatic"
            await self.queues.limiter.acquire(queue, delivery.message_id, windowless=windowless)
            try:
                suspension = suspension_for(queue.suspension, delivery, trigger)
                if suspension is not None:
                    raise SuspendedError(suspension)
                if delivery.intended:
                    self._check_intent(delivery, queued_at)
                else:
                    await self._write_intent(delivery, trigger)
                if delivery.hold_again_as is not None and trigger == "automatic":
                    await self._wait_for_rate(delivery, queue, delivery.hold_again_as)
                exchanged = await self._exchange(delivery, queue)
                packets, judged = exchanged[1].packets, exchanged[-1]
                if judged.outcome is VerdictOutcome.DELIVERED and packets <= CHEAP_PACKETS:
                    queue.window += 1
                elif judged.counts_against_receiver:
                    # Keep the slot until the failure is recorded, so that the breaker can stop the next attempt.
                    return await self._record(delivery, *exchanged)
            finally:
                self.queues.release(delivery.subscription.id, queue, packets)
        except (WithdrawnError, SuspendedError) as error:
            if not delivery.intended:
                raise
            suspension = error.suspension if isinstance(error, SuspendedError) else OVERLOADED
            return await self._take_back(delivery, suspension)
        return await self._record(delivery, *exchanged)

    def _check_intent(self, delivery: OpenDelivery, queued_at: float) -> None:
        """Check that the intent written with the match still holds. After a time-out, an activity can run twice at
        once. While the first run has matched an event and not yet begun, the second takes the intent for lost and makes
        the next attempt; the first then has none to make."""
        overdue = time.monotonic() - queued_at > OLDEST_INTENT_SECONDS
        if overdue or delivery.message_id in self._superseded:
            raise AttemptTakenError(f"attempt {delivery.number} of {delivery.message_id} is out of date")

    async def _write_intent(self, delivery: OpenDelivery, trigger: str) -> None:
        intent = Intent(
            delivery.accepted_on,
            delivery.message_id,
            delivery.number,
            delivery.request_id,
            trigger,
            self.worker_id,
            delivery.subscription.legacy,
            delivery.status,
            delivery.recorded,
        )
        if not await self.recorder.intend(intent):
            raise AttemptTakenError(
                f"attempt {delivery.number} of {delivery.message_id} is another sender's, or its delivery has changed"
            )
        if intent.follows_unfinished:  # with or without a live lease
            self.supersede([delivery.message_id])

    def supersede(self, message_ids: Collection[UUID]) -> None:
        """Note that the intents written with the match of these deliveries are closed: no attempt may use them."""
        now = time.monotonic()
        self._superseded = {one: at for one, at in self._superseded.items() if now - at < SUPERSEDED_SECONDS}
        self._superseded.update(dict.fromkeys(message_ids, now))

    async def _take_back(self, delivery: OpenDelivery, suspension: Suspension) -> Step:
        """Delete the intent of an attempt that is not made, and give the delivery the suspension's status."""
        step = Step(suspension.status, suspension.reason, delivery.failures, None, attempts=delivery.number - 1)
        unmade = outcome_of(delivery, step)
        await self.recorder.record(Recorded(time.monotonic(), unmade, delivery.subscription.id, None, unmade=True))
        return step

    async def _wait_for_rate(self, delivery: OpenDelivery, queue: SubscriptionQueue, hold_again_as: Reason) -> None:
        """Wait for the rate limiter of the subscription. This follows the intent, because intents that are written late
        would let their requests go out as a burst. A subscription may be suspended meanwhile."""
        limiter = self.queues.rate_limiters.get(delivery.subscription.id)
        if limiter is None:
            return
        try:
            await limiter.wait()
            if suspension_for(queue.suspension, delivery, "automatic") is None:
                return
            why = "its subscription is suspended"
        except LimiterLeaseLostError:
            why = "the limiter lease is lost"
        await self._take_back(delivery, Suspension(DeliveryStatus.HELD, hold_again_as))
        raise AttemptTakenError(f"{delivery.message_id} stays held: {why}")

    async def _exchange(
        self, delivery: OpenDelivery, queue: SubscriptionQueue
    ) -> tuple[float, SendResult, bytes | None, Verdict]:
        """Build and send the request. Return its start (monotonic clock), its result, the body's digest (None if it
        could not be built), and the verdict."""
        self._queued.discard(delivery.message_id)
        self._observe_lag(delivery)
        current = queue.subscription
        if current is not None and current.updated_at > delivery.subscription.updated_at and not current.deleted:
            delivery.subscription = current  # A URL, header or key was changed meanwhile. Deletion removes the keys.
        began = queue.on_wire[delivery.message_id] = time.monotonic()
        try:
            request = self.requests.build_or_fail(delivery)
            result = request if isinstance(request, SendResult) else await self.sender.send(request)
        finally:
            queue.on_wire.pop(delivery.message_id, None)
        body_digest = None
        if not isinstance(request, SendResult):
            result.signed_at, body_digest = request.signed_at, body_sha256(request.body)
        self.queues.observe(delivery.subscription.id, began)
        judged = verdict(result.answer)
        if judged.disables_as is not None and not delivery.is_test:
            self.queues.suspend(delivery.subscription.id, DISABLED)  # before another attempt acquires this slot
        return began, result, body_digest, judged

    def _observe_lag(self, delivery: OpenDelivery) -> None:
        """Observe the time from acceptance to this attempt, if it is a first attempt that was never held."""
        held_before = delivery.hold_again_as is not None
        if delivery.number > 1 or delivery.is_test or held_before or delivery.accepted_at is None:
            return
        lag = (datetime.now(UTC) - delivery.accepted_at).total_seconds()
        self.metrics.first_attempt_lag_seconds.observe(max(0.0, lag))  # the clocks of two machines may differ

    async def _record(
        self, delivery: OpenDelivery, began: float, result: SendResult, body_digest: bytes | None, judged: Verdict
    ) -> Step:
        self.metrics.attempts_by_outcome[judged.failure or judged.outcome].inc()
        self.metrics.attempt_seconds.observe(result.duration_ms / 1000)
        subscription = delivery.subscription
        own_schedule = subscription.retry_schedule
        step = step_after(
            judged,
            status_code=result.status_code,
            failures=delivery.failures,
            schedule=self.retry_schedule if own_schedule is None else own_schedule,
            message_id=delivery.message_id,
        )
        if step.status != DeliveryStatus.DELIVERED:
            if delivery.is_test:
                step = replace(step, status=DeliveryStatus.EXHAUSTED, reason=Reason.TEST, next_in_seconds=None)
            elif delivery.redelivered:
                step = replace(step, status=UNCHANGED, failures=delivery.failures, next_in_seconds=None)
            elif step.status == DeliveryStatus.PENDING and delivery.hold_again_as is not None:
                step = replace(step, status=DeliveryStatus.HELD, reason=delivery.hold_again_as)
        if step.status in ENDED:
            self.metrics.deliveries_ended_as[step.status].inc()
        if judged.failure is not None:
            ours = judged.failure is FailureKind.internal
            facts = _log_facts(delivery, judged.failure, result, step)
            logger.log(logging.ERROR if ours else logging.INFO, "attempt failed", extra=facts)
        outcome = outcome_of(delivery, step, result, judged.failure, body_digest)
        healthy = judged.outcome is VerdictOutcome.DELIVERED or (False if judged.counts_against_receiver else None)
        recorded = Recorded(began, outcome, subscription.id, None)
        if not delivery.is_test:
            recorded.healthy = healthy
            recorded.disables_as = judged.disables_as
            recorded.rest_seconds = self._rest_seconds(subscription.id, result)
        await self.recorder.record(recorded)
        if outcome.status != step.status:  # too many retries are due at once
            step = replace(step, status=outcome.status, reason=outcome.reason)
        step.attempts = delivery.number
        return step

    def _rest_seconds(self, subscription_id: UUID, result: SendResult) -> float | None:
        """Return the seconds of rest that an overloaded receiver asks for (0: unspecified), or None."""
        overloaded = self._answers[subscription_id].note(refused=result.status_code == TOO_MANY_REQUESTS)
        return (result.retry_after_seconds or 0.0) if overloaded else None


def _log_facts(delivery: OpenDelivery, failure: FailureKind, result: SendResult, step: Step) -> dict[str, object]:
    """Return the log fields of a failed attempt: every id to search for, and nothing of body, headers or response."""
    return {
        "store_code": delivery.event.store_code,
        "event_id": str(delivery.event.event_id),
        "event_name": delivery.event.name,
        "subscription_id": str(delivery.subscription.id),
        "message_id": str(delivery.message_id),
        "attempt": delivery.number,
        "target": shown_target(delivery.subscription.url),
        "failure": failure,
        **({"detail": result.stored_detail} if failure is FailureKind.internal else {}),  # our own words
        "status_code": result.status_code,
        "duration_ms": result.duration_ms,
        "delivery_status": step.status,
        "next_in_seconds": step.next_in_seconds,
    }
