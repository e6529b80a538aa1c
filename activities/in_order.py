"""How a keeper sends what is ordered: of each line one after the other, of many lines many at once.

A line whose first delivery waits for its retry holds up no other. Nor does one that hangs: when the round is over it is
left on the wire, and the next round goes on with the other lines.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from activities.dispatcher import Dispatcher
from activities.messages import KeeperRoundResult
from domain.delivery import Step
from storage.database import Database
from storage.deliveries import OpenDelivery, held_of
from storage.keeping import KeeperState
from storage.lines import First, first_of_lines, first_of_these, first_unmatched, on_the_wire, place_in_lines

LINES_READ = 200
"""Lines looked at in one transaction, at some 15 µs each."""

SENT_AHEAD = 20
"""Deliveries of an only line that are read at once and sent one after the other."""

READ_AGAIN_SECONDS = 0.25
"""What was read so long ago is read again before it is sent: somebody may have cancelled it."""

LOOK_SECONDS = 0.05
"""Until the next look while nothing can be begun: for new lines, and for an event that is about to be matched."""

TAKEN_PAUSE_SECONDS = 0.5
"""Until what somebody else is sending is looked at again: a worker that died is noticed after three seconds."""


@dataclass(slots=True)
class Found:
    """What a look at the lines came to."""

    deliveries: list[OpenDelivery] = field(default_factory=list)
    """First of their lines, and due; of an only line those that may be sent one after the other."""
    early: bool = False
    """Something that belongs before others is about to be matched."""
    due_in_seconds: float | None = None
    """Until the first retry of the lines that wait for one; None when none does."""


class Lines:
    """The lines of one subscription, and where the look at them has got to."""

    def __init__(self, database: Database, subscription_id: UUID, state: KeeperState) -> None:
        self._database = database
        self._id = subscription_id
        self._by_customer = state.by_customer
        self._holds = state.holds_lines
        self._after: int | None = None

    async def look(self, most: int, under_way: Collection[UUID], *, due_only: bool = True) -> Found:
        """Find at most so many deliveries to send, going on where the last look ended, once round at most."""
        found = Found()
        last_lap = self._after is None
        while True:
            busy = {*under_way, *(one.message_id for one in found.deliveries)}
            async with self._database.transaction() as connection:
                whole = await self._look_on(connection, found, most - len(found.deliveries), busy, due_only)
            if len(found.deliveries) >= most or found.early or (whole and last_lap):
                return found
            last_lap = last_lap or whole

    async def _look_on(
        self, connection: AsyncConnection, found: Found, most: int, busy: Collection[UUID], due_only: bool
    ) -> bool:
        """Look at the next lines; whether those were the last."""
        read = LINES_READ if self._by_customer else most
        firsts = await first_of_lines(
            connection, self._id, by_customer=self._by_customer, holds=self._holds, after=self._after, most=read
        )
        due = self._ready(firsts, busy, due_only)
        heads = firsts if self._by_customer else firsts[:1]
        waits = [one.due_in_seconds for one in heads if one.due_in_seconds > 0 and not one.stopped]
        found.due_in_seconds = min(
            [*waits, *(() if found.due_in_seconds is None else (found.due_in_seconds,))], default=None
        )
        chosen = due[:most]
        if not await self._confirm(connection, found, chosen, busy, due_only):
            return False
        if len(due) > most:
            self._after = chosen[-1].line
            return False
        whole = len(firsts) < LINES_READ or not self._by_customer
        self._after = None if whole else firsts[-1].line
        return whole

    async def _confirm(
        self, connection: AsyncConnection, found: Found, chosen: list[First], busy: Collection[UUID], due_only: bool
    ) -> bool:
        """Take those before which nothing can come any more; False when the lines are to be read again.

        What was accepted earlier may be matched between two readings. So it is asked, after the lines were read, what
        is not matched yet, and then the lines are read again: what comes into sight only now and goes before one of
        these was accepted while we looked, by somebody who did not wait for the other.
        """
        bound = max((one.sequence for one in chosen), default=0)
        unmatched = await first_unmatched(connection, self._id, bound) if chosen else None
        if self._by_customer and await place_in_lines(connection, self._id):
            return False
        if not chosen:
            return True
        firsts = await first_of_these(connection, self._id, [one.line for one in chosen], holds=self._holds)
        sure = [one for one in firsts if one.sequence <= bound and (unmatched is None or one.sequence < unmatched)]
        found.early = len(sure) < min(len(firsts), len(chosen))
        ready = [one.message_id for one in self._ready(sure, busy, due_only)]
        found.deliveries += await held_of(connection, ready) if ready else []
        return True

    def _ready(self, firsts: Sequence[First], busy: Collection[UUID], due_only: bool) -> list[First]:
        """Those that may be sent: of an only line none behind one that may not."""

        def may(one: First) -> bool:
            return not one.stopped and one.message_id not in busy and (one.due_in_seconds <= 0 or not due_only)

        return [one for one in firsts if may(one)] if self._by_customer else list(takewhile(may, firsts))


class OrderedRound:
    """One round of a keeper for an ordered subscription."""

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        lines: Lines,
        state: KeeperState,
        left: Collection[str],
    ) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._lines = lines
        self._most = 1 if not state.by_customer else state.max_concurrency or dispatcher.per_subscription
        if state.per_second is not None:  # a second of it: what waits for longer would not heed a pause
            self._most = min(self._most, max(1, int(state.per_second)))
        self._by_customer = state.by_customer
        self._ahead: deque[OpenDelivery] = deque()
        self._read_at = 0.0
        self._begun: dict[UUID, asyncio.Task[Step]] = {}
        self._elsewhere = {UUID(one) for one in left}
        """Under way in another worker, or begun by an earlier round."""
        self.steps: list[Step] = []

    async def run(self, until: float, still_sends: Callable[[], Awaitable[bool]]) -> KeeperRoundResult:
        """Send until then (by the monotonic clock), until nothing is due, or until the subscription has changed."""
        while True:
            await self._look_elsewhere()
            under_way = {*self._begun, *self._elsewhere}
            room = self._most - len(under_way)
            found = await self._next(room, under_way) if room > 0 else Found()
            for delivery in found.deliveries:
                self._begin(delivery)
            if not (self._begun or self._elsewhere or found.early):
                return self._result(found.due_in_seconds, "in order")
            if not await self._wait():
                return self._result(TAKEN_PAUSE_SECONDS, "another sender is at it")
            if time.monotonic() >= until or not await still_sends():
                return self._result(0.0, "in order")

    async def _next(self, room: int, under_way: Collection[UUID]) -> Found:
        """What is to be begun now; of an only line the next of those that were read together."""
        if self._by_customer:
            return await self._lines.look(room, under_way)
        if self._ahead and time.monotonic() - self._read_at < READ_AGAIN_SECONDS:
            return Found([self._ahead.popleft()])
        self._read_at = time.monotonic()
        found = await self._lines.look(SENT_AHEAD, under_way)
        self._ahead = deque(found.deliveries[1:])
        return replace(found, deliveries=found.deliveries[:1])

    def _begin(self, delivery: OpenDelivery) -> None:
        under_way = self._dispatcher.under_way(delivery.message_id)
        if under_way is None and self._dispatcher.taken(delivery):
            self._elsewhere.add(delivery.message_id)
            self._ahead.clear()  # nothing goes before what another worker may leave undone
            return
        self._begun[delivery.message_id] = under_way or self._dispatcher.begin(
            replace(delivery, kept_as="kept"), "automatic"
        )

    async def _look_elsewhere(self) -> None:
        """Join what this worker has begun, and forget what nobody is sending any more."""
        for one in list(self._elsewhere):
            if (task := self._dispatcher.under_way(one)) is not None:
                self._begun[one] = task
                self._elsewhere.discard(one)
        if self._elsewhere:
            async with self._database.transaction() as connection:
                self._elsewhere = await on_the_wire(connection, self._elsewhere)

    async def _wait(self) -> bool:
        """Until an attempt is over, or it is time to look again; False when one could not be made or written."""
        if not self._begun:
            await asyncio.sleep(LOOK_SECONDS)
            return True
        await asyncio.wait(self._begun.values(), timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        over = {one: task for one, task in self._begun.items() if task.done()}
        steps = [outcome(task) for task in over.values()]
        self._begun = {one: task for one, task in self._begun.items() if one not in over}
        self.steps += [step for step in steps if step is not None]
        if any(step is None or step.status != "delivered" for step in steps):
            self._ahead.clear()
        return None not in steps

    def _result(self, next_in_seconds: float | None, state: str) -> KeeperRoundResult:
        delivered = sum(step.status == "delivered" for step in self.steps)
        failed = sum(step.failure is not None for step in self.steps)
        left = sorted(str(one) for one in {*self._begun, *self._elsewhere})
        return KeeperRoundResult(delivered, failed, next_in_seconds, state, under_way=left)


def outcome(task: asyncio.Task[Step] | None) -> Step | None:
    """What an attempt came to; None when somebody else was making it or it was not recorded."""
    if task is None or task.cancelled() or task.exception() is not None:
        return None
    return task.result()
