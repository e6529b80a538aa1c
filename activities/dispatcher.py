"""Makes attempts: one at a time for a delivery, a bounded number for a subscription, in small steps.

    intend ── request (body, headers, signatures) ── send ── judge ── record

An attempt belongs to the worker process, not to the activity that asked for it: an activity that stops waiting leaves
it running, and whoever asks for the same delivery again joins it.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from uuid import UUID

import orjson

from activities.metrics import WorkerMetrics
from activities.recorder import Recorded, Recorder
from activities.sender import OutgoingRequest, Sender, SendResult
from domain.bodies import EventFacts, legacy_body, modern_body, modern_data_text
from domain.catalogue import CATALOGUE, secrets_in
from domain.delivery import Step, step_after
from domain.failure_kinds import FailureKind
from domain.identity import event_workflow_id, keeper_workflow_id
from domain.jsontext import parse
from domain.signing import signature_headers
from domain.targets import shown_target
from domain.url_rules import NormalisedUrl, UrlRefused, UrlRules, normalise_url
from domain.verdict import verdict
from storage.attempts import Intent, Outcome
from storage.deliveries import OpenDelivery, SubscriptionFacts
from storage.sealing import SealBrokenError, Sealer
from storage.workers import LONGEST_ATTEMPT_SECONDS

logger = logging.getLogger(__name__)

QUEUE_PER_SUBSCRIPTION = 600
"""First attempts of one subscription in this worker: two full batches. More stay with their workflows."""

OLDEST_INTENT_SECONDS = LONGEST_ATTEMPT_SECONDS / 2
"""A first attempt whose turn comes later than this is not made: others would soon take its lease for lapsed."""


ENDED = ("delivered", "exhausted")

TEST_HEADER = "X-Webhook-Test"
"""With a sample that a person sends, so that its receiver need not take it for a fact."""


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """Bounds of one worker's attempts and the schedule of subscriptions that have none of their own."""

    in_flight: int
    per_subscription: int
    retry_schedule: tuple[int, ...]


class AttemptTakenError(Exception):
    """Another sender holds the next attempt of this delivery; ask again when its lease has ended."""


@dataclass(slots=True)
class _Lane:
    """One subscription's place in this worker."""

    slots: asyncio.Semaphore
    under_way: int = 0
    """Attempts queueing for a slot included."""


class Dispatcher:
    """All attempts under way in this worker process."""

    def __init__(
        self,
        *,
        worker_id: UUID,
        sender: Sender,
        recorder: Recorder,
        sealer: Sealer,
        rules: UrlRules,
        limits: AttemptLimits,
        metrics: WorkerMetrics,
    ) -> None:
        self.worker_id = worker_id
        self._metrics = metrics
        metrics.attempts_under_way.set_function(lambda: len(self._under_way))
        self._sender = sender
        self._recorder = recorder
        self._sealer = sealer
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.in_flight)
        self._under_way: dict[UUID, asyncio.Task[Step]] = {}
        self._lanes: dict[UUID, _Lane] = {}
        self._admitted: Counter[UUID] = Counter()
        self._opened = lru_cache(maxsize=4096)(sealer.open)
        self._target: Callable[[str], NormalisedUrl] = lru_cache(maxsize=4096)(lambda url: normalise_url(url, rules))

    @contextmanager
    def admission(self) -> Iterator[Callable[[UUID], bool]]:
        """Within the block, ask for each first attempt of a subscription whether this worker takes it.

        A yes holds a place until the block ends; by then the attempt has begun.
        """
        admitted: Counter[UUID] = Counter()

        def may_begin(subscription_id: UUID) -> bool:
            lane = self._lanes.get(subscription_id)
            under_way = lane.under_way if lane is not None else 0
            if under_way + self._admitted[subscription_id] >= QUEUE_PER_SUBSCRIPTION:
                return False
            admitted[subscription_id] += 1
            self._admitted[subscription_id] += 1
            return True

        try:
            yield may_begin
        finally:
            self._admitted -= admitted

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

    def begin(self, delivery: OpenDelivery, trigger: str) -> asyncio.Task[Step]:
        """Start an attempt, or join the one under way. The task raises what keeps it from being made or written."""
        task = self._under_way.get(delivery.message_id)
        if task is None:
            lane = self._lane(delivery.subscription)
            lane.under_way += 1
            task = asyncio.create_task(self._attempt(delivery, trigger, lane))
            self._under_way[delivery.message_id] = task
            task.add_done_callback(lambda done: self._over(delivery, lane, done))
        return task

    def _over(self, delivery: OpenDelivery, lane: _Lane, task: asyncio.Task[Step]) -> None:
        message_id = delivery.message_id
        self._under_way.pop(message_id, None)
        lane.under_way -= 1
        if not lane.under_way:
            self._lanes.pop(delivery.subscription.id, None)
        if not task.cancelled() and task.exception() is not None:
            # Whoever waits is told as well; an attempt nobody waits for any more must not vanish without a word.
            logger.info("attempt of delivery %s not completed: %s", message_id, type(task.exception()).__name__)

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))

    async def _attempt(self, delivery: OpenDelivery, trigger: str, lane: _Lane) -> Step:
        begun_at = time.monotonic()
        async with lane.slots, self._slots:
            if not delivery.intended:
                await self._intend(delivery, trigger)
            elif time.monotonic() - begun_at > OLDEST_INTENT_SECONDS:
                raise AttemptTakenError(f"attempt {delivery.number} of {delivery.message_id} waited out its lease")
            began = time.monotonic()
            self._count_first(delivery)
            result, body_digest = await self._exchange(delivery)
        return await self._record(delivery, began, result, body_digest)

    def _count_first(self, delivery: OpenDelivery) -> None:
        """How long an event waited for the attempt that begins now, if that is a first one nothing held back."""
        if delivery.number > 1 or delivery.is_test or delivery.kept_as is not None or delivery.accepted_at is None:
            return
        lag = (datetime.now(UTC) - delivery.accepted_at).total_seconds()
        self._metrics.first_attempt_lag_seconds.observe(max(0.0, lag))  # the clocks are two machines'

    def _lane(self, subscription: SubscriptionFacts) -> _Lane:
        lane = self._lanes.get(subscription.id)
        if lane is None:
            most = subscription.max_concurrency or self._limits.per_subscription
            lane = self._lanes[subscription.id] = _Lane(asyncio.Semaphore(most))
        return lane

    async def _intend(self, delivery: OpenDelivery, trigger: str) -> None:
        intent = Intent(
            delivery.accepted_on,
            delivery.message_id,
            delivery.number,
            delivery.request_id,
            trigger,
            self.worker_id,
            delivery.subscription.legacy,
        )
        if not await self._recorder.intend(intent):
            raise AttemptTakenError(f"attempt {delivery.number} of {delivery.message_id} is another sender's")

    async def _exchange(self, delivery: OpenDelivery) -> tuple[SendResult, bytes | None]:
        """Build the request, send it; a fault of ours in building it is a result as well."""
        if delivery.erased:
            return _not_sent(FailureKind.event_erased, "the event's data is no longer stored"), None
        try:
            request = self._request(delivery)
        except UrlRefused as refused:
            return _not_sent(FailureKind.blocked, str(refused)), None
        except SealBrokenError as error:
            return _not_sent(FailureKind.internal, str(error)), None
        except Exception:
            logger.exception("request of delivery %s could not be built", delivery.message_id)
            return _not_sent(FailureKind.internal, "the request could not be built; see the worker's log"), None
        return await self._sender.send(request), sha256(request.body).digest()

    def _request(self, delivery: OpenDelivery) -> OutgoingRequest:
        subscription = delivery.subscription
        target = self._target(subscription.url)
        event = self._whole_event(delivery)
        body = _body(event, delivery)
        headers: list[tuple[str, str]] = [(TEST_HEADER, "true")] if delivery.is_test else []
        redact: list[str] = []
        if delivery.sealed_data is not None:
            redact += secrets_in(CATALOGUE[event.name], parse(event.data_text.encode()))
        if subscription.sealed_headers is not None:
            own = orjson.loads(self._opened(subscription.sealed_headers))
            headers += [(name, value) for name, value in own]
            redact += [value for _, value in own]
        if subscription.hmac_enabled and subscription.sealed_secret is not None:
            secret = self._opened(subscription.sealed_secret)
            sealed_previous = subscription.sealed_previous_secret
            previous = self._opened(sealed_previous) if sealed_previous is not None else None
            headers += signature_headers(
                method="POST",
                host=target.host,
                path=target.path,
                body=body,
                timestamp=int(time.time()),
                request_id=str(delivery.request_id),
                message_id=str(delivery.message_id),
                secret=secret,
                previous_secret=previous,
                version=subscription.signature_version,
            )
            redact += [key for key in (secret, previous) if key is not None]
        return OutgoingRequest(url=target, headers=headers, body=body, redact=tuple(redact))

    def _whole_event(self, delivery: OpenDelivery) -> EventFacts:
        if delivery.sealed_data is None:
            return delivery.event
        return replace(delivery.event, data_text=self._sealer.open(delivery.sealed_data))

    async def _record(
        self, delivery: OpenDelivery, began: float, result: SendResult, body_digest: bytes | None
    ) -> Step:
        judged = verdict(result.answer)
        self._metrics.attempts.labels(judged.failure or judged.outcome).inc()
        self._metrics.attempt_seconds.observe(result.duration_ms / 1000)
        subscription = delivery.subscription
        step = step_after(
            judged,
            status_code=result.status_code,
            failures=delivery.failures,
            schedule=subscription.retry_schedule
            if subscription.retry_schedule is not None
            else self._limits.retry_schedule,
            message_id=delivery.message_id,
        )
        if delivery.is_test and step.status != "delivered":
            step = replace(step, status="exhausted", reason="test", next_in_seconds=None)
        elif delivery.redelivered and step.status != "delivered":
            step = replace(step, status="unchanged", failures=delivery.failures, next_in_seconds=None)
        elif step.status == "pending" and delivery.kept_as is not None:
            step = replace(step, status="held", reason=delivery.kept_as)
        if step.status in ENDED:
            self._metrics.deliveries_ended.labels(step.status).inc()
        if judged.failure is not None:
            logger.info("attempt failed", extra=_facts(delivery, judged.failure, result, step))
        outcome = Outcome(
            accepted_on=delivery.accepted_on,
            message_id=delivery.message_id,
            number=delivery.number,
            began_seconds_ago=0,
            duration_ms=result.duration_ms,
            status_code=result.status_code,
            failure=judged.failure,
            detail=result.detail or (f"Location: {result.location}" if result.location else None),
            response_excerpt=result.excerpt or None,
            body_sha256=body_digest,
            url=subscription.url,
            status=step.status,
            reason=step.reason,
            failures=step.failures,
            next_in_seconds=step.next_in_seconds,
            workflow_id=self._keeper(delivery, step),
        )
        healthy = judged.outcome == "delivered" or (False if judged.counts_against_receiver else None)
        disables = judged.disables_subscription and not delivery.is_test
        await self._recorder.record(
            Recorded(
                began,
                outcome,
                subscription.id,
                healthy=None if delivery.is_test else healthy,
                disables_subscription=disables,
            )
        )
        return replace(step, attempts=delivery.number)

    def _keeper(self, delivery: OpenDelivery, step: Step) -> str | None:
        """The workflow that keeps the delivery from now on; None when it has ended."""
        if step.status == "held":
            return keeper_workflow_id(delivery.subscription.id)
        if step.status == "pending":
            return event_workflow_id(delivery.event.store_code, delivery.event.event_id)
        return None


def _facts(delivery: OpenDelivery, failure: FailureKind, result: SendResult, step: Step) -> dict[str, object]:
    """One line of the log, with every id by which somebody may look for it; nothing of body, headers or answer."""
    return {
        "store_code": delivery.event.store_code,
        "event_id": str(delivery.event.event_id),
        "event_name": delivery.event.name,
        "subscription_id": str(delivery.subscription.id),
        "message_id": str(delivery.message_id),
        "attempt": delivery.number,
        "target": shown_target(delivery.subscription.url),
        "failure": failure,
        "status_code": result.status_code,
        "duration_ms": result.duration_ms,
        "delivery_status": step.status,
        "next_in_seconds": step.next_in_seconds,
    }


def _body(event: EventFacts, delivery: OpenDelivery) -> bytes:
    if delivery.subscription.legacy:
        return legacy_body(event, delivery.variant, delivery.timezone)
    data = modern_data_text(event.name, event.data_text)
    return modern_body(event, data, delivery.message_id, delivery.request_id)


def _not_sent(failure: FailureKind, detail: str) -> SendResult:
    """The result of an attempt that ended before its request went out."""
    return SendResult(None, failure, None, None, "", detail, datetime.now(UTC), 0)
