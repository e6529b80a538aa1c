"""The activities of later attempts: their scheduling, one standalone activity per delivery, and manual attempts."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError

from domain.delivery.identity import drain_workflow_id
from domain.delivery.lifecycle import OPEN, UNCHANGED, DeliveryStatus, Reason, Step, SubscriptionStatus, ending_before
from sending.dispatcher import AttemptTakenError, Dispatcher
from storage.database import Database
from storage.deliveries.open import OpenDelivery, load
from storage.deliveries.retries import pending_of_events
from storage.deliveries.transitions import end, hold, own_retries
from storage.ids import read_id
from temporal.drains import Drains
from temporal.guards import heartbeats, own_faults
from temporal.messages import DeliveryEnd, DeliveryRef, EventBatch, ManualAttempt, ScheduledRetries
from temporal.retries import ATTEMPT_ONCE, DELIVER_WEBHOOK, Retries

LEASE_POLL_SECONDS = 0.25
"""Interval at which the live lease of another worker is read again."""

OUTCOME_POLL_SECONDS = 0.05
"""Interval at which deliveries whose outcome is just being written are read again."""

EARLY_SECONDS = 0.5
"""Time by which an attempt may precede the schedule's instant, since clocks differ. Temporal's delays end a little
late, never early."""


class RetryActivities:
    """Later attempts, with the resources of the worker."""

    def __init__(self, database: Database, dispatcher: Dispatcher, drains: Drains, retries: Retries) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._drains = drains
        self._retries = retries

    @activity.defn(name="schedule-retries")
    async def schedule_retries(self, batch: EventBatch) -> ScheduledRetries:
        """Start one standalone activity for each unsettled delivery of these events.

        The ids of the activities are committed first, so the call may be repeated at any point.
        """
        events = [(event.store_code, read_id(event.event_id)) for event in batch.events]
        started: dict[UUID, bool] = {}
        refused = 0
        async with heartbeats():
            with own_faults():
                while True:
                    async with self._database.transaction() as connection:
                        pending = await pending_of_events(connection, events)
                        waiting = await own_retries(connection, [one for one in pending if one not in started])
                    refused += await self._retries.start_all(waiting)
                    started.update((one.message_id, True) for one in waiting)
                    if started.keys() >= set(pending):
                        return ScheduledRetries(len(started) - refused, refused)
                    await asyncio.sleep(OUTCOME_POLL_SECONDS)

    @activity.defn(name=DELIVER_WEBHOOK)
    async def deliver_webhook(self, ref: DeliveryRef) -> DeliveryEnd:
        """Make one attempt of one delivery. A failed one is recorded, then raised with the delay until the next.

        Returns when the delivery has ended, is held, or is no longer owned by this activity.
        """
        async with heartbeats():
            with own_faults():
                step = await self._attempt_or_join(UUID(ref.message_id))
        if isinstance(step, DeliveryEnd):
            return step
        if step.status != DeliveryStatus.PENDING:
            return DeliveryEnd(step.status, step.attempts, step.reason)
        raise _attempt_failed(step)

    async def _attempt_or_join(self, message_id: UUID) -> Step | DeliveryEnd:
        """Make the next attempt when it is due, or wait for the one that is under way already."""
        while True:
            under_way = self._dispatcher.under_way(message_id)
            if under_way is None:
                async with self._database.transaction() as connection:
                    delivery = await load(connection, message_id)
                if delivery is None:
                    return DeliveryEnd("unknown", reason="no such delivery")
                if delivery.status != DeliveryStatus.PENDING or delivery.retry_id != activity.info().activity_id:
                    return DeliveryEnd(delivery.status, delivery.number - 1)
                if not self._dispatcher.taken(delivery):
                    if (ended := await self._end_without_attempt(delivery)) is not None:
                        return ended
                    if (reason := delivery.subscription.hold_reason) is not None:
                        return await self._hold(delivery, reason)
                    if (seconds := _early_seconds(delivery)) > 0:
                        raise _not_due(seconds)
                    under_way = self._dispatcher.begin(delivery, "automatic")
            if under_way is not None:
                with suppress(AttemptTakenError):
                    step = await asyncio.shield(under_way)
                    if step.status == DeliveryStatus.HELD:
                        await self._wake_drain(message_id)
                    if step.status != UNCHANGED:
                        return step
                    continue  # a failed manual attempt leaves the schedule as it is
            await asyncio.sleep(LEASE_POLL_SECONDS)

    async def _end_without_attempt(self, delivery: OpenDelivery) -> DeliveryEnd | None:
        subscription = delivery.subscription
        ending = ending_before(subscription_status=subscription.status, subscription_deleted=subscription.deleted)
        if ending is None:
            return None
        status, reason = ending
        async with self._database.transaction() as connection:
            await end(connection, delivery.message_id, status, reason)
        return DeliveryEnd(status, delivery.number - 1, reason)

    async def _hold(self, delivery: OpenDelivery, reason: Reason) -> DeliveryEnd:
        """Leave the delivery to the drain of its subscription."""
        async with self._database.transaction() as connection:
            await hold(connection, delivery.message_id, reason, drain_workflow_id(delivery.subscription.id))
        if delivery.subscription.status != SubscriptionStatus.PAUSED:
            await self._drains.wake_for(delivery)
        return DeliveryEnd(DeliveryStatus.HELD, delivery.number - 1, reason)

    async def _wake_drain(self, message_id: UUID) -> None:
        async with self._database.transaction() as connection:
            delivery = await load(connection, message_id)
        if (
            delivery is not None
            and delivery.status == DeliveryStatus.HELD
            and delivery.subscription.status != SubscriptionStatus.PAUSED
        ):
            await self._drains.wake_for(delivery)

    @activity.defn(name=ATTEMPT_ONCE)
    async def attempt_once(self, attempt: ManualAttempt) -> DeliveryEnd:
        """Make one manual attempt, in spite of suspensions and the retry schedule.

        A failure changes neither status nor schedule. An attempt that is under way counts as the manual one.
        """
        async with heartbeats():
            with own_faults():
                async with self._database.transaction() as connection:
                    delivery = await load(connection, UUID(attempt.message_id))
                if delivery is None:
                    return DeliveryEnd("unknown", reason="no such delivery")
                is_open = delivery.status in OPEN
                if (
                    is_open != (attempt.action in ("send-now", "test"))
                    or delivery.recorded > attempt.recorded
                    or self._dispatcher.taken(delivery)
                ):
                    return DeliveryEnd(delivery.status, delivery.number - 1, "another attempt has come first")
                if not delivery.is_test and not _may_be_sent(delivery):
                    return DeliveryEnd(delivery.status, delivery.number - 1, "its subscription does not send")
                begun = self._dispatcher.begin(
                    replace(delivery, redelivered=True), "test" if delivery.is_test else "manual"
                )
                try:
                    step = await asyncio.shield(begun)
                except AttemptTakenError:
                    return DeliveryEnd(delivery.status, delivery.number - 1, "another attempt has come first")
                if step.status == DeliveryStatus.DELIVERED and not delivery.is_test:
                    with suppress(RPCError):  # the drain watchdog or its next probe comes instead
                        await self._notify_drain(delivery)
        return DeliveryEnd(step.status, step.attempts, step.failure)

    async def _notify_drain(self, delivery: OpenDelivery) -> None:
        """Wake the drain after a successful manual attempt: for successors in a FIFO group, or for an early probe."""
        event, subscription = delivery.event, delivery.subscription
        if subscription.breaker_open:  # a drain that waits for its next probe ignores wake signals
            await self._drains.probe_now(subscription.id, event.store_code, event.name, subscription.url)
        elif delivery.status == DeliveryStatus.HELD or subscription.holds_group:
            await self._drains.wake_for(delivery)


def _may_be_sent(delivery: OpenDelivery) -> bool:
    """Return False if the subscription was paused, disabled or deleted after the attempt was requested."""
    subscription = delivery.subscription
    return subscription.status == SubscriptionStatus.ACTIVE and not subscription.deleted


def _early_seconds(delivery: OpenDelivery) -> float:
    """Return the seconds until the next attempt is due, 0 to make it now.

    Temporal does not always know the instant: a worker may have died after it had written an outcome and before it
    answered, and a first attempt may have failed after its batch ended. For the schedule's instant, Temporal's clock
    counts where it is ahead. The instant that the receiver asked for holds by the database's clock.
    """
    ahead = (activity.info().started_time - datetime.now(UTC)).total_seconds()
    scheduled = (delivery.next_in_seconds or 0.0) - max(0.0, ahead)
    return max(scheduled if scheduled > EARLY_SECONDS else 0.0, delivery.allowed_in_seconds or 0.0)


def _not_due(seconds: float) -> ApplicationError:
    """Return the error that makes Temporal wait for the rest of a delay."""
    return ApplicationError(
        f"not due yet; next in {seconds:.0f} s",
        type="NotDueYet",
        category=ApplicationErrorCategory.BENIGN,
        next_retry_delay=timedelta(seconds=seconds),
    )


def _attempt_failed(step: Step) -> ApplicationError:
    """Return the error that tells Temporal when to try again and why; it quotes nothing of the response."""
    return ApplicationError(
        f"attempt failed: {step.failure}"
        + (f", status {step.status_code}" if step.status_code is not None else "")
        + f"; next in {step.next_in_seconds:.0f} s",
        type="AttemptFailed",
        category=ApplicationErrorCategory.BENIGN,  # expected: no stack trace in the log
        next_retry_delay=timedelta(seconds=step.next_in_seconds or 0),
    )
