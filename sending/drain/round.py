"""One round of a drain: deliveries are begun as earlier ones end, so that who waits for one need not wait for others.

A request that hangs when the round is over is left on the wire, and the next round goes on beside it. What has no place
on the wire by then is taken back unharmed: it is held as before, and whoever keeps the next round finds it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol
from uuid import UUID

from domain.delivery.lifecycle import DeliveryStatus, Reason, Step
from sending.dispatcher import Dispatcher
from storage.database import Database
from storage.deliveries.open import OpenDelivery
from storage.deliveries.ordering import on_the_wire
from temporal.messages import DrainRoundResult

LARGEST_WINDOW = 300
"""Deliveries under way, or waiting for their pace: those that go out or end together are one bulk for the database."""

LOTS = 4
"""A window is filled up when a fourth of it is free: a look at the database is for a lot, not for one delivery."""

LOOK_SECONDS = 0.05
"""Until the next look all the same: for what has become due or was matched, and into the room of less than a lot."""

READ_AGAIN_SECONDS = 0.25
"""What was read so long ago is read again before more is begun: what is held, and what another worker was sending."""

CHANGED_SECONDS = 1.0
"""So often the subscription is read again, of which somebody may have changed something; and when an attempt failed. Of
a hundred that are sent to once a second each, this was most of what they cost."""

TAKEN_PAUSE_SECONDS = 0.5
"""Until what somebody else is sending is looked at again: a worker that died is noticed after three seconds."""


@dataclass(slots=True)
class Found:
    """What a look at the held deliveries came to."""

    deliveries: list[OpenDelivery] = field(default_factory=list)
    """To be begun now."""
    early: bool = False
    """Something that belongs before others is about to be matched."""
    due_in_seconds: float | None = None
    """Until the first retry, if nothing is to be begun; None when none waits."""

    @property
    def soon(self) -> bool:
        """A retry is due so soon that a round waits for it: of many that fall due one by one, none needs a round."""
        return self.due_in_seconds is not None and self.due_in_seconds < READ_AGAIN_SECONDS


class Source(Protocol):
    """What a subscription holds, in the order in which it is to go."""

    async def next(self, room: int, under_way: Collection[UUID]) -> Found:
        """What is to be begun now, at most so many; none of those that are under way."""

    def forget(self) -> None:
        """Something failed, or was not begun: what was read ahead, and not returned yet, is to be read again."""


@dataclass(slots=True)
class Window:
    """How much may have been begun; None: as much as may be.

    What waits behind a lane's places in this worker costs nobody a place, so `most` need not bound it. Where others are
    on the wire in another worker too, only this bounds them all.
    """

    most: int | None
    """Under way at most, in all workers together."""
    strictly: bool
    """Whether `most` holds where all are in this worker too: what is begun has no time to wait for its place."""
    per_second: float | None
    """Of what has not gone out yet a second's worth may have been begun: the next limit may be another."""
    size: int | None
    """Of what this round has begun so many may be under way; it grows by what is delivered."""

    @property
    def ahead(self) -> int | None:
        """Begun and not gone out at most."""
        return None if self.per_second is None else min(int(self.per_second) + 1, LARGEST_WINDOW)


class Round:
    """Sends what a source has, in a window, until it is over."""

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        subscription_id: UUID,
        source: Source,
        window: Window,
        left: Collection[str],
    ) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._id = subscription_id
        self._source = source
        self._window = window
        self._begun: dict[UUID, asyncio.Task[Step]] = {}
        self._elsewhere = {UUID(one) for one in left}
        """Under way in another worker, or begun by an earlier round."""
        self._joined: set[UUID] = set()
        """Begun by an earlier round of this worker's."""
        self._ended = 0
        self._lot = 1
        self._lot_ended = asyncio.Event()
        self._delivered = self._failed = 0

    async def run(self, until: float, lasts: Callable[[], Awaitable[bool]]) -> DrainRoundResult:
        """Send until then (by the monotonic clock), until nothing is due, or until the subscription has changed."""
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
            well, refused = self._end_those_over()
            now = time.monotonic()
            if not well or now - read_at > CHANGED_SECONDS:
                read_at = now
                if not await lasts():
                    return self._result(0.0, "changed")
            if refused:
                return self._result(TAKEN_PAUSE_SECONDS, "another sender is at it", deaf=True)
            if not well or now - looked_at > READ_AGAIN_SECONDS:
                looked_at = now
                await self._look_elsewhere()
            if time.monotonic() >= until:
                self._withdraw()
                if not self._waiting():
                    return self._result(0.0, "letting go")

    def _free(self) -> int:
        """How many may be begun."""
        window = self._window
        under_way = len(self._begun) + len(self._elsewhere)
        free = [LARGEST_WINDOW]
        if window.most is not None and (window.strictly or self._elsewhere):
            free.append(window.most - under_way)
        if window.ahead is not None:
            free.append(window.ahead - self._waiting())
        if window.size is not None:
            free.append(window.size - len(self._begun.keys() - self._joined))
        return max(0, min(free))

    def _waiting(self) -> int:
        return sum(self._dispatcher.queued(one) for one in self._begun)

    async def _begin_more(self) -> Found:
        """Fill the window up."""
        ahead = self._window.ahead
        if ahead is not None and ahead - self._waiting() < max(1, ahead // LOTS):
            return Found()
        if not (room := self._free()):
            return Found()
        found = await self._source.next(room, {*self._begun, *self._elsewhere})
        ours = [one for one in found.deliveries if not self._is_under_way(one)]
        room = self._free()
        for delivery in ours[:room]:
            begun = self._dispatcher.begin(replace(delivery, hold_again_as=Reason.RETRY), "automatic")
            self._join(delivery.message_id, begun)
        if len(ours[:room]) < len(found.deliveries):
            self._source.forget()
        return found

    def _is_under_way(self, delivery: OpenDelivery) -> bool:
        """Whether somebody sends it already, whom the round waits for then."""
        identity = delivery.message_id
        if (task := self._dispatcher.under_way(identity)) is not None:
            self._joined.add(identity)
            self._join(identity, task)
            return True
        if self._dispatcher.taken(delivery):
            self._elsewhere.add(identity)
            return True
        return False

    def _join(self, message_id: UUID, task: asyncio.Task[Step]) -> None:
        self._begun[message_id] = task
        task.add_done_callback(self._count)

    def _count(self, _: asyncio.Task[Step]) -> None:
        self._ended += 1
        if self._ended >= self._lot:
            self._lot_ended.set()

    async def _look_elsewhere(self) -> None:
        """Join what this worker has begun, and forget what nobody is sending any more."""
        for one in list(self._elsewhere):
            if (task := self._dispatcher.under_way(one)) is not None:
                self._elsewhere.discard(one)
                self._joined.add(one)
                self._join(one, task)
        if self._elsewhere:
            async with self._database.transaction() as connection:
                self._elsewhere = await on_the_wire(connection, self._elsewhere)

    async def _wait(self) -> None:
        """Until a lot of attempts is over, or it is time to look again."""
        self._lot = max(1, len(self._begun) // LOTS)
        if self._ended < self._lot:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._lot_ended.wait()
        self._ended = 0
        self._lot_ended.clear()

    def _end_those_over(self) -> tuple[bool, bool]:
        """Count what has ended; whether all of it went well, and whether one of ours was not made or not written."""
        over = [one for one, task in self._begun.items() if task.done()]
        refused = False
        well = True
        for one in over:
            step = outcome(self._begun.pop(one))
            refused = refused or (step is None and one not in self._joined)
            well = well and step is not None and step.status == DeliveryStatus.DELIVERED
            if step is not None:
                self._delivered += step.status == DeliveryStatus.DELIVERED
                self._failed += step.failure is not None
                if self._window.size is not None and step.status == DeliveryStatus.DELIVERED:
                    self._window.size = min(self._window.size + 1, LARGEST_WINDOW)
        if not well:
            self._source.forget()
        return well, refused

    def _withdraw(self) -> None:
        """Take back what has no place on the wire."""
        for one in self._dispatcher.queues.withdraw(self._id, self._begun):
            del self._begun[one]

    def _result(self, next_in_seconds: float | None, state: str, *, deaf: bool = False) -> DrainRoundResult:
        self._withdraw()
        left = sorted(str(one) for one in {*self._begun, *self._elsewhere})
        return DrainRoundResult(
            self._delivered,
            self._failed,
            next_in_seconds,
            state,
            deaf,
            under_way=left,
            window=self._window.size or 0,
        )


def outcome(task: asyncio.Task[Step]) -> Step | None:
    """What an attempt came to; None when somebody else was making it or it was not recorded."""
    return None if task.cancelled() or task.exception() is not None else task.result()
