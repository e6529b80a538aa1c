"""Subscription queues of a worker, with the limits and suspensions that apply to their attempts."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sending.concurrency import Admissions, ConcurrencyLimiter, ResponseTimes, SubscriptionQueue
from sending.rate_limit import RateLimiters
from sending.suspension import BREAKER_OPEN, DISABLED, SLOWED_DOWN, Suspension, suspension_of
from storage.database import Database
from storage.deliveries.open import OpenDelivery, SubscriptionFacts
from storage.subscriptions.state import SubscriptionState, live_workers, subscription_states
from temporal.periodic import run_periodically

REFRESH_SECONDS = 1.0
"""Maximum age of the subscription state that a queued attempt is checked against."""


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """Limits of the attempts of one worker."""

    in_flight: int
    """Maximum number of requests on the wire."""
    per_subscription: int
    """Maximum number of requests on the wire of a subscription without a limit of its own, over all workers."""
    queue_per_subscription: int
    """Maximum number of first attempts of a subscription under way in this worker, those on the wire included. The
    others wait as rows."""


@dataclass(frozen=True, slots=True)
class SubscriptionChanges:
    """Subscriptions that a flush of outcomes changed."""

    disabled: set[UUID]
    """Receivers that answered 410."""
    breaker_opened: set[UUID]
    breaker_closed: set[UUID]
    slowed: set[UUID]
    """Receivers that answered 429."""


class SubscriptionQueues:
    """The queue of each subscription that has attempts under way in this worker.

    The recorder applies the changes that the worker's own outcomes lead to; `watch_subscriptions` applies all others.
    """

    def __init__(self, worker_id: UUID, limits: AttemptLimits) -> None:
        self.worker_id = worker_id
        self.per_subscription = limits.per_subscription
        self.limiter = ConcurrencyLimiter(limits.in_flight)
        self.rate_limiters = RateLimiters()
        self.response_times = ResponseTimes()
        self.admissions = Admissions(limits.queue_per_subscription, self._under_way)
        self._queues: dict[UUID, SubscriptionQueue] = {}
        self._workers, self._rank = 1, 0

    def enter(self, delivery: OpenDelivery) -> SubscriptionQueue:
        """Count an attempt as under way and return the queue of its subscription."""
        subscription = delivery.subscription
        queue = self._queues.get(subscription.id)
        if queue is None:
            limit = self._limit_here(subscription)
            queue = self._queues[subscription.id] = SubscriptionQueue(delivery.event.store_code, limit)
        queue.under_way += 1
        return queue

    def leave(self, subscription_id: UUID, queue: SubscriptionQueue) -> None:
        """Count an attempt as ended. The last one removes the queue."""
        queue.under_way -= 1
        if not queue.under_way:
            self._queues.pop(subscription_id, None)

    def ids(self) -> list[UUID]:
        """Return the ids of the subscriptions with attempts under way."""
        return list(self._queues)

    def slow(self, subscription_id: UUID) -> bool:
        """Return True if the receiver takes long to respond, so that other deliveries should not wait for it."""
        return self.response_times.slow(subscription_id, self._queues.get(subscription_id))

    def withdraw(self, subscription_id: UUID, message_ids: Collection[UUID]) -> set[UUID]:
        """Take attempts without a slot out of the queue and return their message ids."""
        queue = self._queues.get(subscription_id)
        return set() if queue is None else {one for one in message_ids if self.limiter.withdraw(queue, one)}

    def suspend(self, subscription_id: UUID, suspension: Suspension) -> None:
        """Begin no more attempts of a subscription."""
        if (queue := self._queues.get(subscription_id)) is not None:
            queue.suspension, queue.suspended_at = suspension, time.monotonic()

    def apply(self, changes: SubscriptionChanges) -> None:
        """Apply the committed changes that this worker's own outcomes led to."""
        for subscription_id in changes.disabled:
            self.suspend(subscription_id, DISABLED)
        for subscription_id in changes.breaker_opened:
            self.suspend(subscription_id, BREAKER_OPEN)
        for subscription_id in changes.slowed:
            self.suspend(subscription_id, SLOWED_DOWN)
            self.rate_limiters.interrupt(subscription_id)
        for subscription_id in changes.breaker_closed:
            queue = self._queues.get(subscription_id)
            if queue is not None and queue.suspension == BREAKER_OPEN:
                queue.suspension = None

    def refresh(self, states: Collection[SubscriptionState], *, read_at: float, workers: int, rank: int) -> None:
        """Apply subscription states that were read at `read_at` (monotonic clock).

        `rank` is this worker's position, from 0, among the live `workers`.
        """
        self._workers, self._rank = max(workers, 1), rank
        for state in states:
            queue = self._queues.get(state.subscription_id)
            if queue is not None and queue.suspended_at < read_at:
                queue.suspension = suspension_of(state)
                self.limiter.limit(queue, self._limit_here(state))

    def _under_way(self, subscription_id: UUID) -> int:
        queue = self._queues.get(subscription_id)
        return queue.under_way if queue is not None else 0

    def _limit_here(self, subscription: SubscriptionFacts | SubscriptionState) -> int:
        """Return the concurrency limit of a subscription in this worker.

        One worker alone sends for a subscription that only its drain may send to. Of the others, each worker gets an
        equal part of the installation's limit.
        """
        if subscription.max_concurrency is not None:
            return subscription.max_concurrency
        if subscription.drain_only:
            return self.per_subscription
        whole, rest = divmod(self.per_subscription, self._workers)
        return max(1, whole + (self._rank < rest))


async def watch_subscriptions(database: Database, queues: SubscriptionQueues) -> None:
    """Refresh the subscriptions of queued attempts and this worker's rank among the live workers, until cancelled.

    A subscription may be paused, disabled or limited after its attempts were queued.
    """

    async def refresh() -> None:
        read_at = time.monotonic()
        async with database.transaction() as connection:
            states = await subscription_states(connection, queues.ids())
            workers = await live_workers(connection)
        me = queues.worker_id
        rank = workers.index(me) if me in workers else len(workers)
        queues.refresh(states, read_at=read_at, workers=len(workers), rank=rank)

    await run_periodically("refresh of subscription states", refresh, every_seconds=REFRESH_SECONDS)
