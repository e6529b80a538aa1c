"""The activity of first attempts: events are matched and attempted together."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from domain.delivery.lifecycle import UNCHANGED, DeliveryStatus, Reason, Step, step_before
from domain.urls.targets import shown_target
from relay.backpressure import Backpressure
from sending.concurrency import SLOW_SECONDS, Admission
from sending.dispatcher import Dispatcher
from storage.database import Database
from storage.deliveries.attempts import interrupt
from storage.deliveries.matching import match
from storage.deliveries.open import OpenDelivery, open_of_events
from storage.expiry.from_events import ExpiryFromEvents
from storage.ids import read_id
from temporal.drains import Drains
from temporal.guards import internal_errors
from temporal.messages import EventBatch, EventRef, FirstAttempt, FirstAttempts
from temporal.outages import OUTAGES, in_words

logger = logging.getLogger(__name__)

STALL_SECONDS = 1.0
"""Time without a completed first attempt after which a batch ends, since it waits for slow receivers alone. Requests on
the wire go on as activities of their own, queued deliveries are held. While attempts complete, waiting is cheaper."""

FIRST_ATTEMPTS_SECONDS = 20.0
"""Maximum duration of a batch whose attempts complete."""

FIRST_ATTEMPTS_SECONDS_WITH_FAILURES = 3.0
"""Maximum duration of a batch with a failed attempt, so that its first retry, after 5 s by default, is on time."""

AWAITED_AT_ONCE = 200
"""Attempts, the earliest ones, that a batch waits for in one step. After it all pending ones are looked at."""

BEGUN_PER_TICK = 50
"""Attempts begun in one tick of the event loop, which takes about 1 ms."""

LINGERING_MOST = 64
"""Maximum number of workflows without a credit that wait for slow receivers alone. A worker runs at most 100 local
activities at once."""

UNBEGUN_AT_ONCE = 600
"""Events of lost matches whose intents are closed in one transaction: as many as a batch has."""

FAULT_PAUSE_SECONDS = 1.0
"""Pause between tries while PostgreSQL is away."""

PAUSED = Reason.SUBSCRIPTION_PAUSED
"""Reason of held deliveries whose drain has nothing to do before the subscription is resumed."""


@dataclass(eq=False)
class DeliveryActivities:
    """First attempts, with the resources of the worker."""

    database: Database
    dispatcher: Dispatcher
    backpressure: Backpressure
    drains: Drains
    expiry: ExpiryFromEvents | None = None
    _lingering: int = field(init=False, default=0)
    _unbegun: dict[tuple[str, UUID], None] = field(init=False, default_factory=dict)
    """Events whose match may have been committed although this worker has not begun their attempts."""
    _interrupting: asyncio.Task[None] | None = field(init=False, default=None)

    @activity.defn(name="attempt-events")
    async def attempt_events(self, batch: EventBatch) -> FirstAttempts:
        """Match events and make the first attempt of each delivery. A repeated call makes only the missing attempts."""
        workflow_id = activity.info().workflow_id or ""
        self.backpressure.entered(workflow_id)
        try:
            with internal_errors(), self.dispatcher.queues.admissions.begin() as admission:
                events = [(event.store_code, read_id(event.event_id)) for event in batch.events]
                try:
                    deliveries = await self.database.run(
                        match,
                        events,
                        worker_id=self.dispatcher.worker_id,
                        may_begin=admission.may_begin,
                        with_taken=None if self.expiry is None else self.expiry.apply,
                    )
                    begun = await self._begin(deliveries, admission)
                except BaseException:  # The match may have been committed all the same.
                    self._unbegun.update(dict.fromkeys(events))
                    if self._interrupting is None or self._interrupting.done():
                        self._interrupting = asyncio.create_task(self._interrupt_unbegun())
                        self.dispatcher.beside.add(self._interrupting)
                        self._interrupting.add_done_callback(self.dispatcher.beside.discard)
                    raise
                for event in events:
                    self._unbegun.pop(event, None)
                await self._wake_drains(deliveries)
            await self._wait(workflow_id, deliveries, begun)
            return _first_attempts(batch.events, deliveries, begun)
        finally:
            self.backpressure.release(workflow_id)

    async def _interrupt_unbegun(self) -> None:
        """Close the intents of this worker for deliveries that it does not attempt, however long the database is away.
        Otherwise other workers would wait for these attempts for as long as this worker lives."""
        while self._unbegun:
            events = list(islice(self._unbegun, UNBEGUN_AT_ONCE))
            for event in events:
                del self._unbegun[event]
            try:
                await self.database.run(self._interrupt_unbegun_of, events)
            except OUTAGES as error:
                logger.warning(
                    "releasing matched deliveries, whose first attempts this worker never began, failed (%s), "
                    "retrying in %g s",
                    *(in_words(error), FAULT_PAUSE_SECONDS),
                )
                self._unbegun.update(dict.fromkeys(events))
                await asyncio.sleep(FAULT_PAUSE_SECONDS)

    async def _interrupt_unbegun_of(self, connection: AsyncConnection, events: Sequence[tuple[str, UUID]]) -> None:
        deliveries = await open_of_events(connection, [store for store, _ in events], [one for _, one in events])
        ours = [one for one in deliveries if one.sender_id == self.dispatcher.worker_id]
        unbegun = [one for one in ours if not self.dispatcher.taken(one)]
        # Another run of the same events may have the intents and not have begun yet.
        self.dispatcher.supersede([one.message_id for one in unbegun])
        await interrupt(connection, unbegun)

    async def _begin(self, deliveries: Sequence[OpenDelivery], admission: Admission) -> dict[UUID, asyncio.Task[Step]]:
        begun: dict[UUID, asyncio.Task[Step]] = {}
        for count, delivery in enumerate(deliveries):
            if count and count % BEGUN_PER_TICK == 0:
                await asyncio.sleep(0)
            under_way = self.dispatcher.under_way(delivery.message_id)
            if under_way is None and self._due_now(delivery, admission.may_begin):
                under_way = self.dispatcher.begin(delivery, "automatic")
                admission.begun(delivery.subscription.id)
            if under_way is not None:
                begun[delivery.message_id] = under_way
        return begun

    async def _wait(
        self, workflow_id: str, deliveries: Sequence[OpenDelivery], begun: Mapping[UUID, asyncio.Task[Step]]
    ) -> None:
        """Wait for the attempts, then hold the deliveries of those that are still queued."""
        begun_here = [one for one in deliveries if one.message_id in begun]
        lingers = False

        def only_slow_ones_left() -> None:
            """Release the credit of this workflow, so that the relay can start the next one."""
            nonlocal lingers
            if not lingers and self._lingering < LINGERING_MOST:
                lingers = True
                self._lingering += 1
                self.backpressure.release(workflow_id)

        try:
            attempts = {begun[one.message_id]: one.subscription.id for one in begun_here}
            await _wait_while_moving(attempts, self.dispatcher.queues.slow, only_slow_ones_left)
        finally:
            self._lingering -= lingers
        await self.dispatcher.hold_queued(begun_here)
        steps = [(one, _finished(begun[one.message_id])) for one in begun_here]
        held = [
            (one, step) for one, step in steps if step and step.status == DeliveryStatus.HELD and step.reason != PAUSED
        ]
        await self._wake_drains(
            [replace(one, status=step.status, next_in_seconds=step.next_in_seconds) for one, step in held]
        )

    def _due_now(self, delivery: OpenDelivery, may_begin: Callable[[UUID], bool]) -> bool:
        """Return True if this batch makes the next attempt of the delivery itself."""
        if delivery.intended:
            return True
        subscription = delivery.subscription
        refusal = step_before(subscription_status=subscription.status, subscription_deleted=subscription.deleted)
        return (
            delivery.status == DeliveryStatus.PENDING
            and not self.dispatcher.taken(delivery)
            and (delivery.next_in_seconds or 0) <= 0
            and refusal is None
            and subscription.hold_reason is None
            and may_begin(subscription.id)
        )

    async def _wake_drains(self, deliveries: Sequence[OpenDelivery]) -> None:
        held = {one.subscription.id: one for one in deliveries if one.status == DeliveryStatus.HELD and one.wakes_drain}
        for one in held.values():
            await self.drains.wake_for(one)


async def _wait_while_moving(
    attempts: Mapping[asyncio.Task[Step], UUID], slow: Callable[[UUID], bool], only_slow_ones_left: Callable[[], None]
) -> None:
    """Wait until all attempts (task -> subscription id) have ended, none has ended for STALL_SECONDS, or the maximum
    duration of the batch has passed."""
    began = moved = time.monotonic()
    bound = FIRST_ATTEMPTS_SECONDS
    pending = list(attempts)
    while pending:
        slow_ones = {one for one in {attempts[task] for task in pending} if slow(one)}
        fast = [task for task in pending if attempts[task] not in slow_ones] if slow_ones else pending
        if not fast:
            only_slow_ones_left()
        awaited = (fast or pending)[:AWAITED_AT_ONCE]
        await asyncio.wait(awaited, timeout=SLOW_SECONDS if fast else STALL_SECONDS / 2)
        now = time.monotonic()
        done = [task for task in pending if task.done()]
        if done:
            moved = now
            pending = [task for task in pending if not task.done()]
        if any(step is None or step.status == DeliveryStatus.PENDING for step in map(_finished, done)):
            bound = FIRST_ATTEMPTS_SECONDS_WITH_FAILURES
        if now - moved >= STALL_SECONDS or now - began >= bound:
            return


def _first_attempts(
    events: Sequence[EventRef], deliveries: Sequence[OpenDelivery], begun: Mapping[UUID, asyncio.Task[Step]]
) -> FirstAttempts:
    """Return the number of deliveries by status, and the events of those that go on as retries. A delivery is pending
    also while its first attempt has no outcome."""
    states: dict[UUID, str] = {}
    for one in deliveries:
        step = _finished(begun.get(one.message_id))
        states[one.message_id] = one.status if step is None or step.status == UNCHANGED else step.status
    counted = Counter(states.values())
    unsettled = {
        (one.event.store_code, one.event.event_id)
        for one in deliveries
        if states[one.message_id] == DeliveryStatus.PENDING
    }
    single = [
        FirstAttempt(str(one.message_id), shown_target(one.subscription.url), states[one.message_id])
        for one in (deliveries if len(events) == 1 else ())
    ]
    return FirstAttempts(
        delivered=counted[DeliveryStatus.DELIVERED],
        exhausted=counted[DeliveryStatus.EXHAUSTED] + counted[DeliveryStatus.CANCELLED],
        held=counted[DeliveryStatus.HELD],
        retrying=counted[DeliveryStatus.PENDING],
        unsettled=[event for event in events if (event.store_code, read_id(event.event_id)) in unsettled],
        deliveries=single,
    )


def _finished(task: asyncio.Task[Step] | None) -> Step | None:
    """Return the step of an attempt; None if it is under way, or could not be made or recorded."""
    if task is None or not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return task.result()
