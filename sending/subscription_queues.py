"""Subscription queues of a worker, with the limits and suspensions that apply to their attempts."""

import asyncio
import time
from collections.abc import Collection, Iterable
from uuid import UUID

from sending.concurrency import SLOW_SECONDS, Admissions, ConcurrencyLimiter, SubscriptionQueue
from sending.rate_limit import RateLimiters
from sending.suspension import BREAKER_OPEN, DISABLED, SLOWED_DOWN, Suspension, suspension_of
from storage.database import Database
from storage.deliveries.open import OpenDelivery, SubscriptionFacts, current_subscriptions
from storage.operations.workers import live_workers
from temporal.periodic import run_periodically

REFRESH_SECONDS = 1.0
"""Maximum age of the subscription that a queued attempt is checked against and sent for."""

CPU_SHARE = 0.1
"""Share of a core that the packets of one subscription's responses may take in this worker."""

PACKET_SECONDS = 40e-6
"""CPU time to read a packet, the event loop's part included: 12 µs were measured if many come at once, else 41 µs."""

CHEAP_PACKETS = 8
"""Maximum number of packets of a response that does not delay the next attempt. Most responses have one or two."""


class SubscriptionQueues:
    """The queue of each subscription that has attempts under way in this worker. The recorder applies the changes that
    the worker's own outcomes lead to; `watch_subscriptions` applies all others."""

    def __init__(self, worker_id: UUID, *, in_flight: int, per_subscription: int, queue_per_subscription: int) -> None:
        """Create the queues of a worker with at most `in_flight` requests on the wire. `per_subscription` limits the
        requests on the wire of a subscription without a limit of its own, over all workers; `queue_per_subscription`
        its first attempts under way in this worker. The others wait as rows."""
        self.worker_id = worker_id
        self.per_subscription = per_subscription
        self.limiter = ConcurrencyLimiter(in_flight)
        self.rate_limiters = RateLimiters()
        self.admissions = Admissions(queue_per_subscription, self._under_way)
        self._queues: dict[UUID, SubscriptionQueue] = {}
        self._slow: set[UUID] = set()
        """Subscriptions whose last response was slow or costly."""
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

    def release(self, subscription_id: UUID, queue: SubscriptionQueue, packets: int) -> None:
        """Return the slot of an attempt whose response had so many packets. A costly response keeps it so much longer
        that all slots of the subscription together cost `CPU_SHARE`; its other attempts wait as for a slow receiver."""
        costly = max(0, packets - CHEAP_PACKETS)
        if not costly:
            self.limiter.release(queue)
            return
        seconds = costly * PACKET_SECONDS * queue.in_flight / CPU_SHARE
        if seconds > SLOW_SECONDS:
            self._slow.add(subscription_id)
        queue.under_way += 1  # The next attempt finds this queue, not a new one.
        asyncio.get_running_loop().call_later(seconds, self._return, subscription_id, queue)

    def _return(self, subscription_id: UUID, queue: SubscriptionQueue) -> None:
        self.limiter.release(queue)
        self.leave(subscription_id, queue)

    def ids(self) -> list[UUID]:
        return list(self._queues)

    def observe(self, subscription_id: UUID, began: float) -> None:
        """Note the end of a request that began at `began` (monotonic clock)."""
        (self._slow.add if time.monotonic() - began > SLOW_SECONDS else self._slow.discard)(subscription_id)

    def slow(self, subscription_id: UUID) -> bool:
        """Return True if the receiver takes long to respond, so that other deliveries should not wait for it. Its last
        response was slow, or its oldest request on the wire is."""
        queue = self._queues.get(subscription_id)
        oldest = next(iter(queue.on_wire.values()), None) if queue is not None else None
        return subscription_id in self._slow or (oldest is not None and time.monotonic() - oldest > SLOW_SECONDS)

    def withdraw(self, subscription_id: UUID, message_ids: Collection[UUID]) -> set[UUID]:
        """Take attempts without a slot out of the queue and return their message ids."""
        queue = self._queues.get(subscription_id)
        return set() if queue is None else {one for one in message_ids if self.limiter.withdraw(queue, one)}

    def suspend(self, subscription_id: UUID, suspension: Suspension) -> None:
        """Suspend a subscription with attempts under way; `suspension_for` tells which attempts still begin."""
        if (queue := self._queues.get(subscription_id)) is not None:
            queue.suspension, queue.suspended_at = suspension, time.monotonic()

    def apply(
        self,
        *,
        disabled: Iterable[UUID],
        breaker_opened: Iterable[UUID],
        breaker_closed: Iterable[UUID],
        slowed: Iterable[UUID],
    ) -> None:
        """Apply the committed changes that this worker's own outcomes led to: a receiver that wants no more, the
        breaker, a 429."""
        for subscription_id in disabled:
            self.suspend(subscription_id, DISABLED)
        for subscription_id in breaker_opened:
            self.suspend(subscription_id, BREAKER_OPEN)
        for subscription_id in slowed:
            self.suspend(subscription_id, SLOWED_DOWN)
            if (limiter := self.rate_limiters.get(subscription_id)) is not None:
                limiter.interrupt()
        for subscription_id in breaker_closed:
            queue = self._queues.get(subscription_id)
            if queue is not None and queue.suspension == BREAKER_OPEN:
                queue.suspension = None

    def refresh(self, current: Collection[SubscriptionFacts], *, read_at: float, workers: int, rank: int) -> None:
        """Apply subscriptions read at `read_at` (monotonic clock). `rank` is this worker's, from 0, among `workers`."""
        self._workers, self._rank = max(workers, 1), rank
        for subscription in current:
            if (queue := self._queues.get(subscription.id)) is not None:
                queue.subscription = subscription
            if queue is not None and queue.suspended_at < read_at:
                queue.suspension = suspension_of(subscription)
                self.limiter.limit(queue, self._limit_here(subscription))

    def _under_way(self, subscription_id: UUID) -> int:
        queue = self._queues.get(subscription_id)
        return queue.under_way if queue is not None else 0

    def _limit_here(self, subscription: SubscriptionFacts) -> int:
        """Return the concurrency limit of a subscription in this worker. A subscription
        that only its drain sends to has its whole limit here. Of any other limit, each worker gets an equal part."""
        if subscription.max_concurrency is not None:
            return subscription.max_concurrency
        if subscription.drain_only:
            return self.per_subscription
        whole, rest = divmod(self.per_subscription, self._workers)
        return max(1, whole + (self._rank < rest))


async def watch_subscriptions(database: Database, queues: SubscriptionQueues) -> None:
    """Refresh the subscriptions of queued attempts and this worker's rank among the live workers, until cancelled. A
    subscription may be paused, limited or edited after its attempts were queued."""

    async def refresh() -> None:
        read_at = time.monotonic()
        async with database.transaction() as connection:
            current = await current_subscriptions(connection, queues.ids())
            workers = [worker.id for worker in await live_workers(connection)]
        me = queues.worker_id
        rank = workers.index(me) if me in workers else len(workers)
        queues.refresh(current, read_at=read_at, workers=len(workers), rank=rank)

    await run_periodically("refresh of subscription states", refresh, every_seconds=REFRESH_SECONDS)
