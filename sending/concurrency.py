"""Concurrency limiter of requests: a limit per subscription and per worker, with fair queueing between stores.

A subscription may hold at most a share of the free slots. While slots are plentiful that restricts nobody; the more
subscriptions hang, the fewer slots each of them gets, and free slots remain for a healthy one.

Stores with waiting attempts are served round robin, one slot each.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from sending.suspension import Suspension
from storage.deliveries.open import SubscriptionFacts

SHARE = 1 / 4
"""Maximum share of the free slots that one subscription holds. Of 512 slots one subscription gets at most 103. Fifteen
subscriptions that hang get 27 each, and 107 slots stay free."""

FIRST_REQUESTS = 10
"""Requests in flight of a subscription without a success yet; each success allows one more (slow start). Drains have a
window or a rate of their own, and a manual attempt waits for no window."""

SLOW_SECONDS = 0.25
"""Time on the wire after which a request counts as slow: it waits for its receiver, not for this worker."""


class WithdrawnError(Exception):
    """The attempt was taken out of the queue before it acquired a slot."""


@dataclass(eq=False, slots=True)
class SubscriptionQueue:
    """Attempts of one subscription in this worker: queued, on the wire, or being recorded."""

    store_code: str
    limit: int
    """Maximum number of requests on the wire."""
    window: int = FIRST_REQUESTS
    """Slow start: attempts that observe the window wait while so many requests are on the wire; a success adds one."""
    in_flight: int = 0
    under_way: int = 0
    """Number of attempts that have not ended, the queued ones included."""
    queue: dict[UUID, "asyncio.Future[None]"] = field(default_factory=dict)
    """Queued attempts by message id, first come first served."""
    windowless: dict[UUID, "asyncio.Future[None]"] = field(default_factory=dict)
    """The queued attempts that ignore the window, in the same order."""
    on_wire: dict[UUID, float] = field(default_factory=dict)
    """Start of each request on the wire by message id (monotonic clock), oldest first."""
    subscription: SubscriptionFacts | None = None
    """The subscription as `SubscriptionQueues.refresh` read it last; None before the first refresh."""
    suspension: Suspension | None = None
    suspended_at: float = 0.0
    """Instant of the suspension (monotonic clock). A subscription state that was read earlier is out of date."""

    @property
    def eligible(self) -> dict[UUID, "asyncio.Future[None]"]:
        """The queued attempts that the window allows."""
        return self.queue if self.in_flight < self.window else self.windowless

    @property
    def below_limit(self) -> bool:
        return self.in_flight < self.limit and (self.in_flight < self.window or bool(self.windowless))

    def remove(self, message_id: UUID) -> "asyncio.Future[None] | None":
        """Take an attempt out of the queue."""
        self.windowless.pop(message_id, None)
        return self.queue.pop(message_id, None)


class ConcurrencyLimiter:
    """The slots of one worker, one for each request on the wire."""

    def __init__(self, most: int) -> None:
        self.free = most
        self._waiting: dict[str, dict[SubscriptionQueue, None]] = {}
        """By store, the subscription queues that are below their own limit and have queued attempts. Stores and queues
        are in the order in which they are served."""

    async def acquire(self, queue: SubscriptionQueue, message_id: UUID, *, windowless: bool = False) -> None:
        """Wait for a slot, which `release` returns. Raises `WithdrawnError` when `withdraw` comes first. A `windowless`
        attempt passes those that wait for the window."""
        limit = queue.limit if windowless else min(queue.limit, queue.window)
        if not queue.eligible and queue.in_flight < min(limit, SHARE * self.free):
            self._take(queue)
            return
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.queue[message_id] = slot
        if windowless:
            queue.windowless[message_id] = slot
        if queue.below_limit:
            self._wait(queue)
        try:
            await slot
        except asyncio.CancelledError:
            if queue.remove(message_id) is None and slot.done() and not slot.cancelled():
                self.release(queue)
            raise

    def release(self, queue: SubscriptionQueue) -> None:
        """Return a slot and give it to a waiting attempt."""
        queue.in_flight -= 1
        self.free += 1
        if queue.queue:
            self._wait(queue)
        self._serve_waiting()

    def withdraw(self, queue: SubscriptionQueue, message_id: UUID) -> bool:
        """Take an attempt out of the queue. Return False if it holds a slot already."""
        slot = queue.remove(message_id)
        if slot is None or slot.done():
            return False
        slot.set_exception(WithdrawnError())
        return True

    def limit(self, queue: SubscriptionQueue, limit: int) -> None:
        """Set the maximum number of requests on the wire of a subscription. Requests above it are not interrupted."""
        queue.limit = limit
        if queue.queue:
            self._wait(queue)
            self._serve_waiting()

    def _has_slot(self, queue: SubscriptionQueue) -> bool:
        return queue.below_limit and queue.in_flight < SHARE * self.free

    def _wait(self, queue: SubscriptionQueue) -> None:
        self._waiting.setdefault(queue.store_code, {}).setdefault(queue)

    def _take(self, queue: SubscriptionQueue) -> None:
        queue.in_flight += 1
        self.free -= 1

    def _serve_waiting(self) -> None:
        served = True
        while served:
            served = False
            for store_code in list(self._waiting):
                served = self._serve(store_code) or served

    def _serve(self, store_code: str) -> bool:
        """Give a slot to the first eligible queue of a store, and move queue and store to the end of their orders. A
        store without an eligible queue keeps its position; otherwise the next free slot would pass it over again."""
        queues = self._waiting[store_code]
        for queue in list(queues):
            if queue.below_limit and not self._has_slot(queue):
                continue
            del queues[queue]
            slot = self._first_in(queue) if queue.below_limit else None
            if slot is not None:
                self._take(queue)
                slot.set_result(None)
                queues[queue] = None
                del self._waiting[store_code]
                self._waiting[store_code] = queues
                return True
        if not queues:
            del self._waiting[store_code]
        return False

    def _first_in(self, queue: SubscriptionQueue) -> "asyncio.Future[None] | None":
        while queue.eligible:
            slot = queue.remove(next(iter(queue.eligible)))
            if slot is not None and not slot.done():
                return slot
        return None


class Admission:
    """Admission of first attempts for one activity. An admitted attempt counts against its subscription until it is
    begun, and then counts as an attempt under way; an attempt that is never begun counts until the activity calls
    `end`."""

    def __init__(self, admitted: Counter[UUID], has_capacity: Callable[[UUID], bool]) -> None:
        self._all = admitted
        self._own: Counter[UUID] = Counter()
        self._has_capacity = has_capacity

    def may_begin(self, subscription_id: UUID) -> bool:
        """Admit one more first attempt of a subscription; return False if it has to wait as a row."""
        if not self._has_capacity(subscription_id):
            return False
        self._own[subscription_id] += 1
        self._all[subscription_id] += 1
        return True

    def begun(self, subscription_id: UUID) -> None:
        """Note that an admitted attempt is under way, so that it is not counted twice against the limit."""
        if self._own[subscription_id]:
            self._return(subscription_id, 1)

    def end(self) -> None:
        """Return the admissions that were not used. More may be requested afterwards."""
        for subscription_id, unused in list(self._own.items()):
            self._return(subscription_id, unused)

    def _return(self, subscription_id: UUID, unused: int) -> None:
        self._own[subscription_id] -= unused
        self._all[subscription_id] -= unused
        if not self._all[subscription_id]:
            del self._all[subscription_id]


class Admissions:
    """Admission control of first attempts for all activities of one worker. A subscription has at most `most` first
    attempts, admitted or under way; the others wait as rows for its drain."""

    def __init__(self, most: int, under_way: Callable[[UUID], int]) -> None:
        self._most = most
        self._under_way = under_way
        self._admitted: Counter[UUID] = Counter()

    @contextmanager
    def begin(self) -> Iterator[Admission]:
        """Open the admission of an activity, and return what it has not used at the end of the block."""
        admission = Admission(self._admitted, self._has_capacity)
        try:
            yield admission
        finally:
            admission.end()

    def _has_capacity(self, subscription_id: UUID) -> bool:
        return self._under_way(subscription_id) + self._admitted[subscription_id] < self._most
