"""The activities of delivery: the first attempts of events together, and every later attempt by itself."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from domain.delivery.identity import keeper_workflow_id
from domain.delivery.lifecycle import DeliveryStatus, Reason, Step, SubscriptionStatus, ending_before, step_before
from domain.urls.targets import shown_target
from relay.backpressure import Gate
from relay.prefetch import EventsAhead
from sending.admission import Admission
from sending.concurrency import SLOW_SECONDS
from sending.dispatcher import AttemptTakenError, Dispatcher
from storage.database import Database
from storage.deliveries.matching import match
from storage.deliveries.open import OpenDelivery, load
from storage.deliveries.transitions import end, hold
from storage.events.single_events import ReadAhead, match_read
from storage.expiry.from_events import ExpiryFromEvents
from storage.ids import read_id
from temporal.drains import Keepers
from temporal.guards import heartbeats, own_faults
from temporal.messages import DeliveryEnd, DeliveryRef, EventBatch, FirstAttempts, Settled, Waiting, by_event

STALL_SECONDS = 1.0
"""First attempts of which none was completed for so long are waiting for slow receivers. What is on the wire goes on in
its event's own workflow, what still queues waits as rows. While some complete, waiting on is cheaper."""

FIRST_ATTEMPTS_SECONDS = 20.0
"""The longest a batch is waited for while it moves."""

FIRST_ATTEMPTS_SECONDS_WITH_FAILURES = 3.0
"""The same when one of its attempts has failed, so that its first retry, after 5 s by default, is on time."""

BEGUN_A_TURN = 50
"""Attempts begun between two turns of the event loop: about 1 ms, after which they queue for their places."""

LINGERING_MOST = 64
"""Batches and single events that wait for slow receivers alone and are not counted by the relay: Temporal's worker runs
100 local activities at once."""

MOST_LISTED = 1000
"""Waiting deliveries a batch describes to its workflow, at some 300 bytes each: Temporal refuses a result of 2 MB, and
600 events with 25 subscriptions that all fail would have that. More are read by the workflows of their events."""

LEASE_POLL_SECONDS = 0.25
"""How often a live lease of another worker is looked at again."""


EARLY_SECONDS = 0.5
"""An attempt that is due within this is made: clocks differ, and Temporal's delays end a little late, never early."""


class DeliveryActivities:
    """What a workflow can do to the world, with the worker's resources."""

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        gate: Gate,
        keepers: Keepers,
        ahead: EventsAhead,
        expiry: ExpiryFromEvents | None = None,
    ) -> None:
        self._database = database
        self._ahead = ahead
        ahead.on_planned = dispatcher.requests.prepare
        self._expiry = expiry
        self._dispatcher = dispatcher
        self._gate = gate
        gate.on_expected = dispatcher.let_first
        self._keepers = keepers
        self._lingering = 0

    @activity.defn(name="attempt-events")
    async def attempt_events(self, batch: EventBatch) -> FirstAttempts:
        """Match events and make the first attempt of each of their deliveries; asked again, only what is left of it."""
        workflow_id = activity.info().workflow_id or ""
        self._gate.entered(workflow_id)
        try:
            with own_faults(), self._dispatcher.admissions.begin() as admission:
                deliveries = await self._match(batch, admission)
                matched_at = time.monotonic()
                begun = await self._begin(deliveries, admission)
                self._gate.begun(workflow_id)
                await self._wake_keepers(deliveries)
            await self._wait(workflow_id, deliveries, begun)
            return _first_attempts(deliveries, begun, matched_at, single=len(batch.events) == 1)
        finally:
            self._gate.left(workflow_id)

    async def _begin(self, deliveries: Sequence[OpenDelivery], admission: Admission) -> dict[UUID, asyncio.Task[Step]]:
        """Begin what is due."""
        begun: dict[UUID, asyncio.Task[Step]] = {}
        for count, delivery in enumerate(deliveries):
            if count and count % BEGUN_A_TURN == 0:
                await asyncio.sleep(0)
            under_way = self._dispatcher.under_way(delivery.message_id)
            if under_way is None and self._due_now(delivery, admission.may_begin):
                under_way = self._dispatcher.begin(delivery, "automatic")
                admission.begun(delivery.subscription.id)
            if under_way is not None:
                begun[delivery.message_id] = under_way
        return begun

    async def _wait(
        self, workflow_id: str, deliveries: Sequence[OpenDelivery], begun: Mapping[UUID, asyncio.Task[Step]]
    ) -> None:
        """Wait for the attempts, and let those that have not come to their turn by then wait as rows."""
        asked = [one for one in deliveries if one.message_id in begun]
        lingers = False

        def only_slow_ones_left() -> None:
            """They are in the way of the relay's next events no longer, unless there are too many of their kind."""
            nonlocal lingers
            if not lingers and self._lingering < LINGERING_MOST:
                lingers = True
                self._lingering += 1
                self._gate.left(workflow_id)

        try:
            attempts = {begun[one.message_id]: one.subscription.id for one in asked}
            await _wait_while_moving(attempts, self._dispatcher.slow, only_slow_ones_left)
        finally:
            self._lingering -= lingers
        await self._dispatcher.give_back(asked)
        ends = ((one, _finished(begun[one.message_id])) for one in asked)
        held = [
            one
            for one, step in ends
            if step is not None and step.status == DeliveryStatus.HELD and step.reason != Reason.SUBSCRIPTION_PAUSED
        ]
        await self._wake_keepers([replace(one, status=DeliveryStatus.HELD) for one in held])

    async def _match(self, batch: EventBatch, admission: Admission) -> list[OpenDelivery]:
        keys = [(event.store_code, read_id(event.event_id)) for event in batch.events]
        if len(keys) == 1:
            ahead = self._ahead.take(keys[0])
            deliveries = await self._match_read(ahead, admission.may_begin) if ahead is not None else None
            if deliveries is not None:
                return deliveries
            admission.end()  # nothing was matched: what is begun now is asked for anew
        async with self._database.transaction() as connection:
            return await match(
                connection,
                keys,
                worker_id=self._dispatcher.worker_id,
                may_begin=admission.may_begin,
                with_taken=None if self._expiry is None else self._expiry.apply,
            )

    async def _match_read(self, ahead: ReadAhead, may_begin: Callable[[UUID], bool]) -> list[OpenDelivery] | None:
        quick, worker_id = self._database.quick, self._dispatcher.worker_id
        return await match_read(quick, ahead, worker_id=worker_id, may_begin=may_begin)

    def _due_now(self, delivery: OpenDelivery, may_begin: Callable[[UUID], bool]) -> bool:
        """Whether a batch makes this delivery's next attempt itself."""
        if delivery.intended:
            return True
        if delivery.status != DeliveryStatus.PENDING:
            return False
        if self._dispatcher.taken(delivery) or (delivery.next_in_seconds or 0) > 0:
            return False
        subscription = delivery.subscription
        if step_before(subscription_status=subscription.status, subscription_deleted=subscription.deleted) is not None:
            return False
        return may_begin(subscription.id)

    @activity.defn(name="deliver-webhook")
    async def deliver_webhook(self, ref: DeliveryRef) -> DeliveryEnd:
        """One attempt of one delivery. A failed one is recorded, then raised with the delay until the next."""
        async with heartbeats():
            with own_faults():
                step = await self._attempt_or_join(ref)
        if isinstance(step, DeliveryEnd):
            return step
        if step.status != DeliveryStatus.PENDING:
            return DeliveryEnd(step.status, step.attempts, step.reason)
        raise _attempt_failed(step)

    async def _attempt_or_join(self, ref: DeliveryRef) -> Step | DeliveryEnd:
        """Make the next attempt when it is due, or wait for the one that somebody is making already."""
        message_id = UUID(ref.message_id)
        asked = ref.asked and activity.info().attempt == 1  # a worker that died may have made what was asked for
        while True:
            under_way = self._dispatcher.under_way(message_id)
            if under_way is None:
                async with self._database.transaction() as connection:
                    delivery = await load(connection, message_id)
                if delivery is None:
                    return DeliveryEnd("unknown", reason="no such delivery")
                if delivery.status != DeliveryStatus.PENDING:
                    return DeliveryEnd(delivery.status, delivery.number - 1)
                if not self._dispatcher.taken(delivery):
                    ended = await self._end_without_attempt(delivery)
                    if ended is not None:
                        return ended
                    if (reason := delivery.subscription.hold_reason) is not None:
                        return await self._hold(delivery, reason)
                    if not asked and (seconds := _early_seconds(delivery)) > 0:
                        raise _not_due(seconds)
                    under_way = self._dispatcher.begin(delivery, "automatic")
            if under_way is not None:
                with suppress(AttemptTakenError):
                    return await asyncio.shield(under_way)
            asked = False  # another worker's attempt is the one that was asked for, once it has come to an outcome
            await asyncio.sleep(LEASE_POLL_SECONDS)

    async def _wake_keepers(self, deliveries: Sequence[OpenDelivery]) -> None:
        """Tell the keepers of what is held; a paused subscription's keeper has nothing to do before it is resumed."""
        held = {
            delivery.subscription.id: delivery
            for delivery in deliveries
            if delivery.status == DeliveryStatus.HELD and delivery.subscription.status != SubscriptionStatus.PAUSED
        }
        for delivery in held.values():
            await self._wake_keeper(delivery)

    async def _wake_keeper(self, delivery: OpenDelivery) -> None:
        event = delivery.event
        await self._keepers.wake(delivery.subscription.id, event.store_code, event.name, delivery.subscription.url)

    async def _hold(self, delivery: OpenDelivery, reason: Reason) -> DeliveryEnd:
        """Let it wait as a row with its subscription's keeper instead of in its event's workflow."""
        async with self._database.transaction() as connection:
            await hold(connection, delivery.message_id, reason, keeper_workflow_id(delivery.subscription.id))
        if delivery.subscription.status != SubscriptionStatus.PAUSED:
            await self._wake_keeper(delivery)
        return DeliveryEnd(DeliveryStatus.HELD, delivery.number - 1, reason)

    async def _end_without_attempt(self, delivery: OpenDelivery) -> DeliveryEnd | None:
        subscription = delivery.subscription
        ending = ending_before(subscription_status=subscription.status, subscription_deleted=subscription.deleted)
        if ending is None:
            return None
        status, failure = ending
        async with self._database.transaction() as connection:
            await end(connection, delivery.message_id, status, failure)
        return DeliveryEnd(status, delivery.number - 1, failure)


async def _wait_while_moving(
    attempts: Mapping[asyncio.Task[Step], UUID], slow: Callable[[UUID], bool], only_slow_ones_left: Callable[[], None]
) -> None:
    """Wait for attempts (with their subscriptions) to complete, but not for those that are stuck (see the bounds)."""
    began = moved = time.monotonic()
    bound = FIRST_ATTEMPTS_SECONDS
    pending = set(attempts)
    while pending:
        slow_ones = {one for one in {attempts[task] for task in pending} if slow(one)}
        quick = {task for task in pending if attempts[task] not in slow_ones}
        if not quick:
            only_slow_ones_left()
        await asyncio.wait(quick or pending, timeout=SLOW_SECONDS if quick else STALL_SECONDS / 2)
        now = time.monotonic()
        done = {task for task in pending if task.done()}
        if done:
            moved = now
        pending -= done
        if any(step is None or step.status == DeliveryStatus.PENDING for step in map(_finished, done)):
            bound = FIRST_ATTEMPTS_SECONDS_WITH_FAILURES
        if now - moved >= STALL_SECONDS or now - began >= bound:
            return


def _first_attempts(
    deliveries: Sequence[OpenDelivery],
    begun: Mapping[UUID, asyncio.Task[Step]],
    matched_at: float,
    *,
    single: bool,
) -> FirstAttempts:
    """Count what ended; list what goes on, with the delay from now until its next attempt. `matched_at`: when the
    deliveries were read, by the monotonic clock."""
    now = time.monotonic()
    delivered = ended = 0
    waiting: list[Waiting] = []
    settled: list[Settled] = []
    for delivery in deliveries:
        if delivery.status == DeliveryStatus.HELD:
            continue  # its subscription's keeper has been told
        step = _finished(begun.get(delivery.message_id))
        if step is not None and step.status == DeliveryStatus.HELD:
            continue
        if step is not None and step.status != DeliveryStatus.PENDING:
            if single:
                target = shown_target(delivery.subscription.url)
                settled.append(Settled(str(delivery.message_id), target, step.status))
            delivered += step.status == DeliveryStatus.DELIVERED
            ended += step.status != DeliveryStatus.DELIVERED
        else:
            delay, known_at = delivery.next_in_seconds, matched_at
            if step is not None:
                delay, known_at = step.next_in_seconds, step.known_at
            waiting.append(
                Waiting(
                    event_id=str(delivery.event.event_id),
                    message_id=str(delivery.message_id),
                    target=shown_target(delivery.subscription.url),
                    delay_seconds=max(0.0, (delay or 0.0) - (now - known_at)),
                    attempts=step.attempts if step is not None else delivery.number - 1,
                    store_code=delivery.event.store_code,
                )
            )
    if single:
        return FirstAttempts(delivered, ended, waiting, settled)
    listed, unlisted = _listable(waiting)
    return FirstAttempts(delivered, ended, listed, unlisted=unlisted)


def _listable(waiting: Sequence[Waiting]) -> tuple[list[Waiting], dict[str, int]]:
    """What may be described, event by event, and of the other events how many wait."""
    listed: list[Waiting] = []
    unlisted: Counter[str] = Counter()
    for (_, event_id), ones in by_event(waiting).items():
        if len(listed) + len(ones) <= MOST_LISTED:
            listed += ones
        else:
            unlisted[event_id] += len(ones)
    return listed, unlisted


def _finished(task: asyncio.Task[Step] | None) -> Step | None:
    """What the attempt came to; None when it is still under way or could not be made or written."""
    if task is None or not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return task.result()


def _early_seconds(delivery: OpenDelivery) -> float:
    """Seconds until the next attempt is due, unless a person does not want to wait for that; 0 to make it now.

    Temporal does not always know: the worker died after it had written an outcome and before it answered, or the
    attempt was on the wire still when its batch ended, and failed before this activity began. Temporal's clock counts
    where it is ahead of ours.
    """
    info = activity.info()
    if delivery.next_in_seconds is None:
        return 0.0
    ahead = (info.started_time - datetime.now(UTC)).total_seconds()
    seconds = delivery.next_in_seconds - max(0.0, ahead)
    return seconds if seconds > EARLY_SECONDS else 0.0


def _not_due(seconds: float) -> ApplicationError:
    """Have Temporal wait for the rest of a delay it was not told."""
    return ApplicationError(
        f"not due yet; next in {seconds:.0f} s",
        type="NotDueYet",
        category=ApplicationErrorCategory.BENIGN,
        next_retry_delay=timedelta(seconds=seconds),
    )


def _attempt_failed(step: Step) -> ApplicationError:
    """Tell Temporal when to try again; the history says why, without a word of the receiver's."""
    return ApplicationError(
        f"attempt failed: {step.failure}"
        + (f", status {step.status_code}" if step.status_code is not None else "")
        + f"; next in {step.next_in_seconds:.0f} s",
        type="AttemptFailed",
        category=ApplicationErrorCategory.BENIGN,  # expected: no stack trace in our log
        next_retry_delay=timedelta(seconds=step.next_in_seconds or 0),
    )
