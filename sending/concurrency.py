"""Concurrency limiter of requests: so many for each subscription, so many for the worker, and no
subscription may take what others need.

A subscription may hold a share of as many places as are free. While there is room that binds nobody; the more
subscriptions hang, the less each of them gets, and places are left for one that is well.

Stores with waiting attempts are served round robin, one place each.
"""

import asyncio
import time
from dataclasses import dataclass, field
from uuid import UUID

from sending.suspension import Suspension

SHARE = 1 / 4
"""With 512 places one subscription gets 102 at most, each of fifteen that hang 27, and 108 are left."""

SLOW_SECONDS = 0.25
"""A request that is longer on the wire waits for its receiver, not for this worker."""


class WithdrawnError(Exception):
    """The attempt was taken out of the queue before it got a place."""


@dataclass(eq=False, slots=True)
class SubscriptionQueue:
    """One subscription's part of this worker."""

    store_code: str
    limit: int
    """Requests on the wire at most."""
    in_flight: int = 0
    under_way: int = 0
    """Attempts that are not over, those in the queue included."""
    queue: dict[UUID, "asyncio.Future[None]"] = field(default_factory=dict)
    """By message id, first come first served."""
    on_wire: dict[UUID, float] = field(default_factory=dict)
    """Since when, by the monotonic clock; oldest first."""
    stop: Suspension | None = None
    stopped_at: float = 0.0
    """By the monotonic clock; what was read of the subscription before that says less."""

    def slow(self, now: float) -> bool:
        """Whether its oldest request waits for the receiver."""
        return bool(self.on_wire) and now - next(iter(self.on_wire.values())) > SLOW_SECONDS


class ConcurrencyLimiter:
    """The places of one worker."""

    def __init__(self, most: int) -> None:
        self.free = most
        self._waiting: dict[str, dict[SubscriptionQueue, None]] = {}
        """By store, lanes with a queue that may have more by their own limit; both in the order of being served."""

    async def acquire(self, queue: SubscriptionQueue, message_id: UUID) -> None:
        """Wait for a place; `release` gives it back. Raises `WithdrawnError` when `withdraw` comes first."""
        if not queue.queue and self._may(queue):
            self._give(queue)
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.queue[message_id] = place
        if queue.in_flight < queue.limit:
            self._wait(queue)
        try:
            await place
        except asyncio.CancelledError:
            if queue.queue.pop(message_id, None) is None and place.done() and not place.cancelled():
                self.release(queue)
            raise

    def release(self, queue: SubscriptionQueue) -> None:
        """Give a place back, to whoever has waited for it."""
        queue.in_flight -= 1
        self.free += 1
        if queue.queue:
            self._wait(queue)
        self._pass_on()

    def withdraw(self, queue: SubscriptionQueue, message_id: UUID) -> bool:
        """Take an attempt out of the queue; False when it has its place already."""
        place = queue.queue.pop(message_id, None)
        if place is None or place.done():
            return False
        place.set_exception(WithdrawnError())
        return True

    def limit(self, queue: SubscriptionQueue, limit: int) -> None:
        """Set how many requests of a lane may be on the wire; those that are there already stay."""
        queue.limit = limit
        if queue.queue:
            self._wait(queue)
            self._pass_on()

    def _may(self, queue: SubscriptionQueue) -> bool:
        return queue.in_flight < queue.limit and queue.in_flight < SHARE * self.free

    def _wait(self, queue: SubscriptionQueue) -> None:
        self._waiting.setdefault(queue.store_code, {}).setdefault(queue)

    def _give(self, queue: SubscriptionQueue) -> None:
        queue.in_flight += 1
        self.free -= 1

    def _pass_on(self) -> None:
        """Serve the stores that wait, one place each in turn."""
        served = True
        while served:
            served = False
            for store_code in list(self._waiting):
                served = self._serve(store_code) or served

    def _serve(self, store_code: str) -> bool:
        """Give a place to the first lane of a store that may have one; lane and store go behind the others then.

        A store that gets none keeps its position, or the next place that comes free would pass it over again.
        """
        queues = self._waiting[store_code]
        for queue in list(queues):
            if queue.in_flight < queue.limit and not self._may(queue):
                continue
            del queues[queue]
            place = self._first_in(queue) if queue.in_flight < queue.limit else None
            if place is not None:
                self._give(queue)
                place.set_result(None)
                queues[queue] = None
                del self._waiting[store_code]
                self._waiting[store_code] = queues
                return True
        if not queues:
            del self._waiting[store_code]
        return False

    def _first_in(self, queue: SubscriptionQueue) -> "asyncio.Future[None] | None":
        while queue.queue:
            place = queue.queue.pop(next(iter(queue.queue)))
            if not place.done():
                return place
        return None


class Stopwatch:
    """Which receivers were slow at last, so that who waits for several knows whom not to wait for."""

    def __init__(self) -> None:
        self._slow: set[UUID] = set()

    def note(self, subscription_id: UUID, began: float) -> None:
        """A request that began then, by the monotonic clock, is over."""
        if time.monotonic() - began > SLOW_SECONDS:
            self._slow.add(subscription_id)
        else:
            self._slow.discard(subscription_id)

    def slow(self, subscription_id: UUID, queue: SubscriptionQueue | None) -> bool:
        """Whether the receiver was slow the last time, or is just now."""
        return subscription_id in self._slow or (queue is not None and queue.slow(time.monotonic()))
