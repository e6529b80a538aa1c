"""Makes attempts: one at a time for a delivery, a bounded number for a subscription, in small steps.

    place ── is it still to be sent? ── intend ── request ── send ── judge ── record

An attempt belongs to the worker process, not to the activity that asked for it: an activity that stops waiting leaves
it running, and whoever asks for the same delivery again joins it.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import UNCHANGED, DeliveryStatus, Reason, Step, step_after
from domain.delivery.throttling import TOO_MANY_REQUESTS, Answers
from domain.delivery.verdict import Verdict, VerdictOutcome, verdict
from domain.urls.rules import UrlRefused
from domain.wire.signing import body_sha256
from sending.admission import Admissions
from sending.attempt_log import facts_of, not_sent, outcome_of
from sending.concurrency import ConcurrencyLimiter, Stopwatch, SubscriptionQueue, WithdrawnError
from sending.http.client import Sender, SendResult
from sending.intents import Intents
from sending.rate_limit import LimiterLeaseLostError, RateLimiters, Turn
from sending.recorder import Recorded, Recorder, SubscriptionChanges
from sending.requests import RequestBuilder
from sending.suspension import (
    BREAKER_OPEN,
    DISABLED,
    OVERLOADED,
    SLOWED_DOWN,
    Suspension,
    suspension_for,
    suspension_of,
)
from storage.deliveries.attempts import Intent
from storage.deliveries.open import OpenDelivery, SubscriptionFacts
from storage.sealing import SealBrokenError
from storage.subscriptions.state import SubscriptionState
from telemetry.tracing import NO_TRACES, Traces
from telemetry.worker_metrics import WorkerMetrics

logger = logging.getLogger(__name__)

ENDED = (DeliveryStatus.DELIVERED, DeliveryStatus.EXHAUSTED)


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """Bounds of one worker's attempts and the schedule of subscriptions that have none of their own."""

    in_flight: int
    per_subscription: int
    queue_per_subscription: int
    """First attempts of it under way here, those on the wire included; more wait as rows."""
    retry_schedule: tuple[int, ...]


class AttemptTakenError(Exception):
    """The attempt was not made: another sender holds it, or the subscription has changed meanwhile. Look again."""


class Dispatcher:
    """All attempts under way in this worker process."""

    def __init__(
        self,
        *,
        worker_id: UUID,
        sender: Sender,
        recorder: Recorder,
        requests: RequestBuilder,
        limits: AttemptLimits,
        metrics: WorkerMetrics,
        traces: Traces = NO_TRACES,
    ) -> None:
        self.worker_id = worker_id
        self._traces = traces
        self._metrics = metrics
        metrics.attempts_under_way.set_function(lambda: len(self._under_way))
        self._sender = sender
        self._recorder = recorder
        recorder.on_change = self._turned
        self.requests = requests
        self._limits = limits
        self._limiter = ConcurrencyLimiter(limits.in_flight)
        self._stopwatch = Stopwatch()
        self._answers: dict[UUID, Answers] = defaultdict(Answers)
        self.workers, self.rank = 1, 0
        self._under_way: dict[UUID, asyncio.Task[Step]] = {}
        self._waiting: set[UUID] = set()
        self._queues: dict[UUID, SubscriptionQueue] = {}
        self.admissions = Admissions(limits.queue_per_subscription, self._under_way_of)
        self._rate_limiters = RateLimiters()
        self._intents = Intents()

    def taken(self, delivery: OpenDelivery) -> bool:
        """Whether somebody is sending it: a live worker, or this one.

        A lease of this worker's own without an attempt under way is nobody's: its intent was committed, and the answer
        to the commit got lost with the connection.
        """
        if delivery.sender_id == self.worker_id:
            return delivery.message_id in self._under_way
        return delivery.sender_id is not None

    def under_way(self, message_id: UUID) -> asyncio.Task[Step] | None:
        """The attempt of a delivery that this worker is making, if any."""
        return self._under_way.get(message_id)

    def _under_way_of(self, subscription_id: UUID) -> int:
        queue = self._queues.get(subscription_id)
        return queue.under_way if queue is not None else 0

    def waits(self, message_id: UUID) -> bool:
        """Whether an attempt under way has not gone out yet: it waits for its place, its intent or its pace."""
        return message_id in self._waiting

    def begin(self, delivery: OpenDelivery, trigger: str) -> asyncio.Task[Step]:
        """Start an attempt, or join the one under way. The task raises what keeps it from being made or written."""
        task = self._under_way.get(delivery.message_id)
        if task is None:
            queue = self._queue_of(delivery)
            queue.under_way += 1
            attempt = self._attempt if delivery.traceparent is None else self._traced_attempt
            task = asyncio.create_task(attempt(delivery, trigger, queue))
            self._under_way[delivery.message_id] = task
            self._waiting.add(delivery.message_id)
            task.add_done_callback(lambda done: self._over(delivery, queue, done))
        return task

    def _over(self, delivery: OpenDelivery, queue: SubscriptionQueue, task: asyncio.Task[Step]) -> None:
        message_id = delivery.message_id
        self._under_way.pop(message_id, None)
        self._waiting.discard(message_id)
        queue.under_way -= 1
        if not queue.under_way:
            self._queues.pop(delivery.subscription.id, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, WithdrawnError):
            # Whoever waits is told as well; an attempt nobody waits for any more must not vanish without a word.
            logger.info("attempt of delivery %s not completed: %s", message_id, type(error).__name__)

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))

    def slow(self, subscription_id: UUID) -> bool:
        """Whether its receiver takes long to answer, so that nobody else should wait for it."""
        return self._stopwatch.slow(subscription_id, self._queues.get(subscription_id))

    async def give_back(self, deliveries: Collection[OpenDelivery]) -> None:
        """Take first attempts that have no place yet out of the queue: their deliveries wait as rows instead."""
        left = [
            self._under_way[delivery.message_id]
            for delivery in deliveries
            if delivery.intended
            and (queue := self._queues.get(delivery.subscription.id)) is not None
            and self._limiter.withdraw(queue, delivery.message_id)
        ]
        if left:
            await asyncio.wait(left)

    def withdraw(self, subscription_id: UUID, message_ids: Collection[UUID]) -> set[UUID]:
        """Take attempts of the drain's that have no place yet out of the queue; which those were. Nothing of them was
        written."""
        queue = self._queues.get(subscription_id)
        return set() if queue is None else {one for one in message_ids if self._limiter.withdraw(queue, one)}

    @property
    def per_subscription(self) -> int:
        """Requests in flight at most, of a subscription without a limit of its own; over all workers."""
        return self._limits.per_subscription

    def limit_rate(self, subscription_id: UUID, per_second: float | None, turn: Turn | None) -> None:
        """Send what the drain of a subscription sends no faster than this, and only while it is this worker's turn."""
        self._rate_limiters.keep(subscription_id, per_second, turn)

    async def rate_limit_over(self, subscription_id: UUID) -> None:
        """Wait until another worker may begin to send at its pace, as if this one had gone on."""
        await self._rate_limiters.over(subscription_id)

    def subscriptions(self) -> list[UUID]:
        """Those of which anything is under way here."""
        return list(self._queues)

    def stand(self, states: Collection[SubscriptionState], *, read_at: float, workers: int, rank: int) -> None:
        """Take note of how subscriptions stood at `read_at` (by the monotonic clock), and that this is worker `rank`,
        from 0, of so many that live.
        """
        self.workers, self.rank = max(workers, 1), rank
        for state in states:
            queue = self._queues.get(state.subscription_id)
            if queue is not None and queue.stopped_at < read_at:
                queue.stop = suspension_of(state)
                self._limiter.limit(queue, self._share(state))

    def _turned(self, turned: SubscriptionChanges) -> None:
        """Heed at once what this worker's own attempts led to."""
        for subscription_id in turned.gone:
            self._suspend(subscription_id, DISABLED)
        for subscription_id in turned.opened:
            self._suspend(subscription_id, BREAKER_OPEN)
        for subscription_id in turned.slowed:
            self._suspend(subscription_id, SLOWED_DOWN)
            self._rate_limiters.interrupt(subscription_id)
        for subscription_id in turned.closed:
            queue = self._queues.get(subscription_id)
            if queue is not None and queue.stop == BREAKER_OPEN:
                queue.stop = None

    def _suspend(self, subscription_id: UUID, stop: Suspension) -> None:
        if (queue := self._queues.get(subscription_id)) is not None:
            queue.stop, queue.stopped_at = stop, time.monotonic()

    async def _traced_attempt(self, delivery: OpenDelivery, trigger: str, queue: SubscriptionQueue) -> Step:
        with self._traces.attempt(delivery) as tell:
            step = await self._attempt(delivery, trigger, queue)
            tell(step)
            return step

    async def _attempt(self, delivery: OpenDelivery, trigger: str, queue: SubscriptionQueue) -> Step:
        begun_at = time.monotonic()
        try:
            await self._limiter.acquire(queue, delivery.message_id)
        except WithdrawnError:
            if not delivery.intended:
                raise
            return await self._take_back(delivery, OVERLOADED)
        try:
            stop = suspension_for(queue.stop, delivery, trigger)
            if stop is None:
                if not delivery.intended:
                    await self._intend(delivery, trigger)
                    self._intents.overtake(delivery)
                elif not self._intents.may_make(delivery, begun_at):
                    raise AttemptTakenError(f"attempt {delivery.number} of {delivery.message_id} is out of date")
                await self._wait_for_rate(delivery, trigger)
                self._waiting.discard(delivery.message_id)
                self._count_first(delivery)
                began = queue.on_wire[delivery.message_id] = time.monotonic()
                result, body_digest = await self._exchange(delivery)
                self._stopwatch.note(delivery.subscription.id, began)
                judged = verdict(result.answer)
                if judged.disables_subscription and not delivery.is_test:
                    self._suspend(delivery.subscription.id, DISABLED)  # before another gets this place
        finally:
            queue.on_wire.pop(delivery.message_id, None)
            self._limiter.release(queue)
        if stop is not None:
            return await self._not_made(delivery, stop)
        return await self._record(delivery, began, result, judged, body_digest)

    async def _not_made(self, delivery: OpenDelivery, stop: Suspension) -> Step:
        """Undo the intent that was written with the match; whoever wrote none looks again by itself."""
        if not delivery.intended:
            raise AttemptTakenError(f"delivery {delivery.message_id} is not to be sent now: {stop.reason}")
        return await self._take_back(delivery, stop)

    async def _take_back(self, delivery: OpenDelivery, stop: Suspension) -> Step:
        step = Step(stop.status, stop.reason, delivery.failures, None, attempts=delivery.number - 1)
        unmade = outcome_of(delivery, step)
        await self._recorder.record(Recorded(time.monotonic(), unmade, delivery.subscription.id, None, unmade=True))
        return step

    async def _wait_for_rate(self, delivery: OpenDelivery, trigger: str) -> None:
        """Wait for the limit of its subscription, after the intent: what is written late must not go in a burst."""
        if delivery.hold_again_as is None or trigger != "automatic":
            return
        try:
            await self._rate_limiters.wait(delivery.subscription.id)
        except LimiterLeaseLostError:
            await self._take_back(delivery, Suspension(DeliveryStatus.HELD, delivery.hold_again_as))
            raise AttemptTakenError(f"{delivery.message_id} is for the next who keeps its limit") from None

    def _rest(self, delivery: OpenDelivery, result: SendResult) -> float | None:
        """For how long a receiver that gets too much wants to rest (0: it does not say); None when it does not."""
        if delivery.is_test:
            return None
        refused = result.status_code == TOO_MANY_REQUESTS
        too_much = self._answers[delivery.subscription.id].note(refused=refused)
        return (result.retry_after_seconds or 0.0) if too_much else None

    def _count_first(self, delivery: OpenDelivery) -> None:
        """How long an event waited for the attempt that begins now, if that is a first one nothing held back."""
        if (
            delivery.number > 1
            or delivery.is_test
            or delivery.hold_again_as is not None
            or delivery.accepted_at is None
        ):
            return
        lag = (datetime.now(UTC) - delivery.accepted_at).total_seconds()
        self._metrics.first_attempt_lag_seconds.observe(max(0.0, lag))  # the clocks are two machines'

    def _queue_of(self, delivery: OpenDelivery) -> SubscriptionQueue:
        subscription = delivery.subscription
        queue = self._queues.get(subscription.id)
        if queue is None:
            limit = self._share(subscription)
            queue = self._queues[subscription.id] = SubscriptionQueue(delivery.event.store_code, limit)
        return queue

    def _share(self, subscription: SubscriptionFacts | SubscriptionState) -> int:
        """What its drain alone sends is sent by one worker; else the installation's limit is divided among them."""
        if subscription.max_concurrency is not None:
            return subscription.max_concurrency
        if subscription.drain_only:
            return self._limits.per_subscription
        whole, rest = divmod(self._limits.per_subscription, self.workers)
        return max(1, whole + (self.rank < rest))

    async def _intend(self, delivery: OpenDelivery, trigger: str) -> None:
        intent = Intent(
            delivery.accepted_on,
            delivery.message_id,
            delivery.number,
            delivery.request_id,
            trigger,
            self.worker_id,
            delivery.subscription.legacy,
            delivery.recorded,
        )
        if not await self._recorder.intend(intent):
            raise AttemptTakenError(
                f"attempt {delivery.number} of {delivery.message_id} is another sender's, or its delivery has changed"
            )

    async def _exchange(self, delivery: OpenDelivery) -> tuple[SendResult, bytes | None]:
        """Build the request, send it; a fault of ours in building it is a result as well."""
        if delivery.erased:
            return not_sent(FailureKind.event_erased, "the event's data is no longer stored"), None
        try:
            request = self.requests.build(delivery)
        except UrlRefused as refused:
            return not_sent(FailureKind.blocked, str(refused)), None
        except SealBrokenError as error:
            return not_sent(FailureKind.internal, str(error)), None
        except Exception:
            logger.exception("request of delivery %s could not be built", delivery.message_id)
            return not_sent(FailureKind.internal, "the request could not be built; see the worker's log"), None
        digest = body_sha256(request.body)
        return await self._sender.send(request), digest

    async def _record(
        self, delivery: OpenDelivery, began: float, result: SendResult, judged: Verdict, body_digest: bytes | None
    ) -> Step:
        self._metrics.attempts_by_outcome[judged.failure or judged.outcome].inc()
        self._metrics.attempt_seconds.observe(result.duration_ms / 1000)
        subscription = delivery.subscription
        own_schedule = subscription.retry_schedule
        step = step_after(
            judged,
            status_code=result.status_code,
            failures=delivery.failures,
            schedule=self._limits.retry_schedule if own_schedule is None else own_schedule,
            message_id=delivery.message_id,
        )
        if delivery.is_test and step.status != DeliveryStatus.DELIVERED:
            step = replace(step, status=DeliveryStatus.EXHAUSTED, reason=Reason.TEST, next_in_seconds=None)
        elif delivery.redelivered and step.status != DeliveryStatus.DELIVERED:
            step = replace(step, status=UNCHANGED, failures=delivery.failures, next_in_seconds=None)
        elif step.status == DeliveryStatus.PENDING and delivery.hold_again_as is not None:
            step = replace(step, status=DeliveryStatus.HELD, reason=delivery.hold_again_as)
        if step.status in ENDED:
            self._metrics.deliveries_ended_as[step.status].inc()
        if judged.failure is not None:
            logger.info("attempt failed", extra=facts_of(delivery, judged.failure, result, step))
        outcome = outcome_of(delivery, step, result, judged.failure, body_digest)
        healthy = judged.outcome is VerdictOutcome.DELIVERED or (False if judged.counts_against_receiver else None)
        disables = judged.disables_subscription and not delivery.is_test
        await self._recorder.record(
            Recorded(
                began,
                outcome,
                subscription.id,
                healthy=None if delivery.is_test else healthy,
                disables_subscription=disables,
                rest_seconds=self._rest(delivery, result),
            )
        )
        if outcome.status != step.status:  # too many retries fall due together
            step = replace(step, status=outcome.status, reason=outcome.reason)
        step.attempts = delivery.number
        return step
