"""Drain round: sends held deliveries in a window, and begins new ones as earlier ones end.

A request that hangs at the end of the round stays on the wire, and the next round goes on beside it. Attempts without a
slot are withdrawn then: their deliveries stay held, and the next round finds them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import KW_ONLY, InitVar, dataclass, replace
from uuid import UUID

from domain.delivery.lifecycle import DeliveryStatus, Reason, Step
from sending.dispatcher import Dispatcher
from sending.drain.sources import LOOK_SECONDS, READ_AGAIN_SECONDS, Backlog, Found, OrderedBacklog
from storage.database import Database
from storage.deliveries.open import OpenDelivery
from storage.deliveries.ordering import on_the_wire
from temporal.messages import DrainRoundResult

LARGEST_WINDOW = 300
"""Maximum window of a slow start, and maximum number of deliveries begun at once. Deliveries that start or end together
are one bulk write for the database."""

REFILLS = 4
"""Refills per window: it is refilled when a fourth of it is free, so that one read serves many deliveries."""

CHANGED_SECONDS = 1.0
"""Interval at which the subscription is read again for changes; a failed attempt brings this forward. With a hundred
subscriptions at one request a second each, this read was most of their cost."""

TAKEN_PAUSE_SECONDS = 0.5
"""Pause before deliveries under another worker's lease are read again. A dead worker is noticed after three seconds."""

TAKEN = "waiting: another worker holds the lease"


@dataclass(eq=False)
class Round:
    """Drain round of one subscription. `most`, `per_second` and `size` limit its attempts under way (None: no limit).

    This worker's concurrency limiter enforces `most` for its own attempts. The round enforces it while another worker
    has attempts of the subscription on the wire, and always if `strictly`."""

    database: Database
    dispatcher: Dispatcher
    subscription_id: UUID
    source: Backlog | OrderedBacklog
    left: InitVar[Collection[str]]
    _: KW_ONLY
    most: int | None
    """Maximum number under way in all workers."""
    strictly: bool
    """True if `most` holds also when all attempts are in this worker, because a begun attempt must not queue."""
    per_second: float | None
    """Rate limit. At most a second's worth of attempts is queued, because the limit may change."""
    size: int | None
    """Maximum number under way of those begun by this round (slow start: it grows by each delivered one)."""

    def __post_init__(self, left: Collection[str]) -> None:
        self._begun: dict[UUID, asyncio.Task[Step]] = {}
        self._elsewhere = {UUID(one) for one in left}
        """Deliveries under way in another worker, or begun by an earlier round."""
        self._joined: set[UUID] = set()
        """Deliveries begun by an earlier round in this worker, or as a manual attempt."""
        self._ahead = None if self.per_second is None else min(int(self.per_second) + 1, LARGEST_WINDOW)
        """Maximum number of attempts that are begun and not yet sent."""
        self._ended = 0
        self._refill = 1
        self._refill_due = asyncio.Event()
        self._delivered = self._failed = 0

    async def run(self, until: float, lasts: Callable[[], Awaitable[bool]]) -> DrainRoundResult:
        """Send until `until` (monotonic clock), until nothing is due, or until `lasts` returns False after a change."""
        try:
            return await self._run(until, lasts)
        finally:
            self._withdraw()

    async def _run(self, until: float, lasts: Callable[[], Awaitable[bool]]) -> DrainRoundResult:
        await self._look_elsewhere()
        looked_at = read_at = time.monotonic()
        while True:
            found = await self._begin_more() if time.monotonic() < until else Found(early=True)
            if not (self._begun or self._elsewhere or found.early or found.soon):
                wait = found.due_in_seconds  # the next round begins early and waits for the instant itself
                return self._result(None if wait is None else max(0.0, wait - READ_AGAIN_SECONDS), "nothing due")
            await self._wait()
            healthy, refused = self._collect_ended()
            now = time.monotonic()
            if not healthy or now - read_at > CHANGED_SECONDS:
                read_at = now
                if not await lasts():
                    return self._result(0.0, "changed")
            if refused:
                return self._result(TAKEN_PAUSE_SECONDS, TAKEN, ignores_wake=True)
            if not healthy or now - looked_at > READ_AGAIN_SECONDS:
                looked_at = now
                await self._look_elsewhere()
            if time.monotonic() >= until:
                self._withdraw()
                if not self._queued():
                    return self._result(0.0, "sending held deliveries")

    def _free(self) -> int:
        under_way = len(self._begun) + len(self._elsewhere)
        free = [LARGEST_WINDOW]
        if self.most is not None and (self.strictly or self._elsewhere):
            free.append(self.most - under_way)
        if self._ahead is not None:
            free.append(self._ahead - self._queued())
        if self.size is not None:
            free.append(self.size - len(self._own()))
        return max(0, min(free))

    def _own(self) -> set[UUID]:
        return self._begun.keys() - self._joined

    def _queued(self) -> int:
        return sum(self.dispatcher.queued(one) for one in self._own())

    async def _begin_more(self) -> Found:
        ahead = self._ahead
        if ahead is not None and ahead - self._queued() < max(1, ahead // REFILLS):
            return Found()
        if not (free := self._free()):
            return Found()
        found = await self.source.next(free, {*self._begun, *self._elsewhere})
        ours = [one for one in found.deliveries if not self._is_under_way(one)]
        free = self._free()
        for delivery in ours[:free]:
            begun = self.dispatcher.begin(replace(delivery, hold_again_as=Reason.RETRY), "automatic")
            self._joined.discard(delivery.message_id)
            self._join(delivery.message_id, begun)
        if len(ours[:free]) < len(found.deliveries):
            self.source.forget()
        return found

    def _is_under_way(self, delivery: OpenDelivery) -> bool:
        """Return True if the delivery has a sender, for which the round then waits."""
        identity = delivery.message_id
        if (task := self.dispatcher.under_way(identity)) is not None:
            self._joined.add(identity)
            self._join(identity, task)
            return True
        if self.dispatcher.taken(delivery):
            self._elsewhere.add(identity)
            return True
        return False

    def _join(self, message_id: UUID, task: asyncio.Task[Step]) -> None:
        self._begun[message_id] = task
        task.add_done_callback(self._count)

    def _count(self, _: asyncio.Task[Step]) -> None:
        self._ended += 1
        if self._ended >= self._refill:
            self._refill_due.set()

    async def _look_elsewhere(self) -> None:
        """Join attempts that this worker has begun, and forget deliveries that no longer have a sender."""
        for one in list(self._elsewhere):
            if (task := self.dispatcher.under_way(one)) is not None:
                self._elsewhere.discard(one)
                self._joined.add(one)
                self._join(one, task)
        if self._elsewhere:
            self._elsewhere = await self.database.run(on_the_wire, self._elsewhere)

    async def _wait(self) -> None:
        """Wait until a refill's worth of attempts has ended, or until the next read is due."""
        self._refill = max(1, len(self._begun) // REFILLS)
        if self._ended < self._refill:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._refill_due.wait()
        self._ended = 0
        self._refill_due.clear()

    def _collect_ended(self) -> tuple[bool, bool]:
        """Count the ended attempts. Return (all were delivered, one of this round was not made or not recorded)."""
        refused = False
        healthy = True
        for one in [one for one, task in self._begun.items() if task.done()]:
            step = outcome(self._begun.pop(one))
            delivered = step is not None and step.status == DeliveryStatus.DELIVERED
            refused = refused or (step is None and one not in self._joined)
            healthy = healthy and delivered
            self._delivered += delivered
            self._failed += step is not None and step.failure is not None
            if self.size is not None and delivered:
                self.size = min(self.size + 1, LARGEST_WINDOW)
        if not healthy:
            self.source.forget()
        return healthy, refused

    def _withdraw(self) -> None:
        """Withdraw own attempts without a slot. Joined ones, such as a person's, are left to whoever began them."""
        for one in self.dispatcher.queues.withdraw(self.subscription_id, self._own()):
            del self._begun[one]

    def _result(self, next_in_seconds: float | None, state: str, *, ignores_wake: bool = False) -> DrainRoundResult:
        self._withdraw()
        left = sorted(str(one) for one in {*self._begun, *self._elsewhere})
        window = self.size or 0
        return DrainRoundResult(self._delivered, self._failed, next_in_seconds, state, ignores_wake, left, window)


def outcome(task: asyncio.Task[Step]) -> Step | None:
    """Return the step of an attempt; None if another worker held the lease or it was not recorded."""
    return None if task.cancelled() or task.exception() is not None else task.result()
