"""The activities of later attempts: their scheduling, one standalone activity per delivery, and manual attempts."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError

from domain.delivery.identity import drain_workflow_id
from domain.delivery.lifecycle import OPEN, UNCHANGED, DeliveryStatus, Step, SubscriptionStatus, ending_before
from sending.concurrency import WithdrawnError
from sending.dispatcher import LEASE_POLL_SECONDS, AttemptTakenError, Dispatcher
from storage.database import Database
from storage.deliveries.open import OpenDelivery, load
from storage.deliveries.retries import pending_of_events
from storage.deliveries.transitions import end, hold, own_retries
from storage.ids import read_id
from temporal.drains import Drains
from temporal.guards import guarded
from temporal.messages import DeliveryEnd, DeliveryRef, EventBatch, ManualAttempt, ScheduledRetries
from temporal.retries import ATTEMPT_ONCE, DELIVER_WEBHOOK, Retries

OUTCOME_POLL_SECONDS = 0.05
"""Interval at which deliveries whose outcome is just being written are read again."""

EARLY_SECONDS = 0.5
"""Time by which an attempt may precede the schedule's instant, since clocks differ. Temporal's delays end a little
late, never early."""


@dataclass(eq=False)
class RetryActivities:
    """Later attempts, with the resources of the worker."""

    database: Database
    dispatcher: Dispatcher
    drains: Drains
    retries: Retries

    @activity.defn(name="schedule-retries")
    async def schedule_retries(self, batch: EventBatch) -> ScheduledRetries:
        """Start one standalone activity for each unsettled delivery of these events. The ids of the activities are
        committed first, so the call may be repeated at any point."""
        events = [(event.store_code, read_id(event.event_id)) for event in batch.events]
        started: set[UUID] = set()
        refused = 0
        async with guarded():
            while True:
                async with self.database.transaction() as connection:
                    pending = await pending_of_events(connection, events)
                    waiting = await own_retries(connection, [one for one in pending if one not in started])
                refused += await self.retries.start_all(waiting)
                started.update(one.message_id for one in waiting)
                if started >= set(pending):
                    return ScheduledRetries(len(started) - refused, refused)
                await asyncio.sleep(OUTCOME_POLL_SECONDS)

    @activity.defn(name=DELIVER_WEBHOOK)
    async def deliver_webhook(self, ref: DeliveryRef) -> DeliveryEnd:
        """Make one attempt of one delivery. A failed one is recorded, then raised with the delay until the next.
        Returns when the delivery has ended, is held, or is no longer owned by this activity."""
        async with guarded():
            step = await self._attempt_or_join(UUID(ref.message_id))
        if isinstance(step, DeliveryEnd):
            return step
        if step.status != DeliveryStatus.PENDING:
            return DeliveryEnd(step.status, step.attempts, step.reason)
        status = "" if step.status_code is None else f", status {step.status_code}"
        raise _try_again("AttemptFailed", f"attempt failed: {step.failure}{status}", step.next_in_seconds or 0.0)

    async def _attempt_or_join(self, message_id: UUID) -> Step | DeliveryEnd:
        """Make the next attempt when it is due, or wait for the one that is under way already."""
        while True:
            under_way = self.dispatcher.under_way(message_id)
            if under_way is None:
                delivery = await self._load(message_id)
                if delivery is None:
                    return DeliveryEnd("unknown", reason="no such delivery")
                if delivery.status != DeliveryStatus.PENDING or delivery.retry_id != activity.info().activity_id:
                    return DeliveryEnd(delivery.status, delivery.number - 1)
                if not self.dispatcher.taken(delivery):
                    if (ended := await self._end_without_attempt(delivery)) is not None:
                        return ended
                    if (seconds := _early_seconds(delivery)) > 0:
                        raise _try_again("NotDueYet", "not due yet", seconds)
                    under_way = self.dispatcher.begin(delivery, "automatic")
            if under_way is not None:
                with suppress(AttemptTakenError, WithdrawnError):
                    step = await asyncio.shield(under_way)
                    if step.status == DeliveryStatus.HELD:
                        held = await self._load(message_id)
                        if held is not None and held.status == DeliveryStatus.HELD:
                            await self._wake_drain(held)
                    if step.status != UNCHANGED:
                        return step
                    continue  # a failed manual attempt leaves the schedule as it is
            await asyncio.sleep(LEASE_POLL_SECONDS)

    async def _end_without_attempt(self, delivery: OpenDelivery) -> Step | DeliveryEnd | None:
        """End or hold a delivery whose subscription does not send now. Return None if it sends."""
        subscription = delivery.subscription
        ending = ending_before(subscription_status=subscription.status, subscription_deleted=subscription.deleted)
        if ending is not None:
            status, reason = ending
            if await self.database.run(end, delivery.message_id, status, reason):
                return DeliveryEnd(status, delivery.number - 1, reason)
            return await self._attempt_or_join(delivery.message_id)  # it was ended, or its subscription enabled
        if subscription.hold_reason is None:
            return None
        drain_id = drain_workflow_id(subscription.id)
        await self.database.run(hold, delivery.message_id, subscription.hold_reason, drain_id)
        await self._wake_drain(delivery)
        return DeliveryEnd(DeliveryStatus.HELD, delivery.number - 1, subscription.hold_reason)

    async def _load(self, message_id: UUID) -> OpenDelivery | None:
        async with self.database.single_statements() as connection:
            return await load(connection, message_id)

    async def _wake_drain(self, delivery: OpenDelivery) -> None:
        if delivery.wakes_drain:
            await self.drains.wake_for(delivery)

    @activity.defn(name=ATTEMPT_ONCE)
    async def attempt_once(self, attempt: ManualAttempt) -> DeliveryEnd:
        """Make one manual attempt, in spite of breaker, limits and retry schedule. A failure changes neither status nor
        schedule. An attempt that is under way counts as the manual one."""
        async with guarded():
            while True:
                delivery = await self._load(UUID(attempt.message_id))
                if delivery is None:
                    return DeliveryEnd("unknown", reason="no such delivery")
                if (end := self._without_manual_attempt(delivery, attempt)) is not None:
                    return end
                if not self.dispatcher.taken(delivery):
                    begun = self.dispatcher.begin(replace(delivery, redelivered=True), "manual")
                    try:
                        step = await asyncio.shield(begun)
                        break
                    except WithdrawnError:  # it was the drain's, whose round has ended
                        raise _try_again("Withdrawn", "the attempt was withdrawn", LEASE_POLL_SECONDS) from None
                    except AttemptTakenError:
                        pass
                await asyncio.sleep(LEASE_POLL_SECONDS)  # another worker sends it, or died before the outcome
            if step.status == DeliveryStatus.DELIVERED:
                with suppress(RPCError):  # the drain watchdog or its next probe comes instead
                    await self._notify_drain(delivery)
        return DeliveryEnd(step.status, step.attempts, step.failure)

    def _without_manual_attempt(self, delivery: OpenDelivery, attempt: ManualAttempt) -> DeliveryEnd | None:
        """Return the end of a manual attempt that has become needless or is not allowed any more."""
        superseded = DeliveryEnd(delivery.status, delivery.number - 1, "another attempt has come first")
        wanted = (delivery.status in OPEN) == (attempt.action == "send-now")
        if not wanted or delivery.recorded > attempt.recorded or self.dispatcher.sending(delivery):
            return superseded
        subscription = delivery.subscription
        if subscription.status != SubscriptionStatus.ACTIVE or subscription.deleted:  # after the request
            return replace(superseded, reason="its subscription does not send")
        return None

    async def _notify_drain(self, delivery: OpenDelivery) -> None:
        """Wake the drain after a successful manual attempt: for successors in a FIFO group, or for an early probe."""
        event, subscription = delivery.event, delivery.subscription
        if subscription.breaker_open:  # a drain that waits for its next probe ignores wake signals
            await self.drains.probe_now(subscription.id, event.store_code, event.name, subscription.url)
        elif delivery.status == DeliveryStatus.HELD or subscription.holds_group:
            await self.drains.wake_for(delivery)


def _early_seconds(delivery: OpenDelivery) -> float:
    """Return the seconds until the next attempt is due, 0 to make it now. Temporal does not always know the instant: a
    worker may have died after it had written an outcome and before it answered, and a first attempt may have failed
    after its batch ended. For the schedule's instant, Temporal's clock counts where it is ahead. The instant that the
    receiver asked for holds by the database's clock. The worker's own clock counts for neither: it may be wrong."""
    ahead = 0.0 if delivery.read_at is None else (activity.info().started_time - delivery.read_at).total_seconds()
    scheduled = (delivery.next_in_seconds or 0.0) - max(0.0, ahead)
    return max(scheduled if scheduled > EARLY_SECONDS else 0.0, delivery.allowed_in_seconds or 0.0)


def _try_again(kind: str, reason: str, seconds: float) -> ApplicationError:
    """Return the error that tells Temporal when to try again and why; it quotes nothing of the response."""
    return ApplicationError(
        f"{reason}; next in {seconds:.0f} s",
        type=kind,
        category=ApplicationErrorCategory.BENIGN,  # expected: no stack trace in the log
        next_retry_delay=timedelta(seconds=seconds),
    )
