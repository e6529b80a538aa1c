"""Activity of a drain: one round that probes a receiver or sends the held deliveries of its subscription."""

import asyncio
import time
from dataclasses import dataclass, replace
from uuid import UUID

from temporalio import activity

from domain.delivery.breaker import BreakerRules
from domain.delivery.lifecycle import DeliveryStatus, Reason, Step, SubscriptionStatus
from domain.delivery.notices import FAILING, DisableRules, NoticeKind, is_given_up
from domain.delivery.verdict import Answer, verdict
from sending.dispatcher import Dispatcher
from sending.drain.round import TAKEN, TAKEN_PAUSE_SECONDS, Round, outcome
from sending.drain.sources import Backlog, OrderedBacklog
from sending.rate_limit import LimiterLeases
from storage.database import Database
from storage.deliveries.held import DrainState, drain_state, next_allowed_seconds
from storage.deliveries.open import OpenDelivery, held_oldest
from storage.deliveries.ordering import on_the_wire
from storage.deliveries.transitions import ENDED_AT_ONCE, end_open, exhaust_outwaited
from storage.subscriptions.notices import Occurrence, note
from storage.subscriptions.queries import disable_by_system
from storage.subscriptions.state import failing, probe_failed
from temporal.guards import guarded
from temporal.messages import DrainRound, DrainRoundResult

ROUND_SECONDS = 5.0
"""Duration after which a round begins no more attempts. Requests that hang stay on the wire beside the next round."""

PAUSE_CHECK_SECONDS = 2.0
"""Interval at which the drain of a paused subscription checks the requests that are still on the wire."""

ASKED_TO_WAIT_SECONDS = 60.0
"""Maximum pause of a drain whose breaker is open and whose receiver has postponed every held delivery (Retry-After)."""

FIRST_WINDOW = 10
"""First window of a slow start, when a drain starts or resumes after an open breaker, a pause or a `Retry-After`, so
that a recovering receiver is not overloaded."""


@dataclass(eq=False)
class DrainActivities:
    """Activities of drains, with the resources of the worker."""

    database: Database
    dispatcher: Dispatcher
    breaker: BreakerRules
    disabling: DisableRules
    retry_schedule: tuple[int, ...]

    @activity.defn(name="drain-held")
    async def drain_held(self, task: DrainRound) -> DrainRoundResult:
        """Run one round for a subscription. It may be repeated at any point, because every attempt is recorded."""
        subscription_id = UUID(task.subscription_id)
        async with guarded():
            return await self._round(subscription_id, task)

    async def _round(self, subscription_id: UUID, task: DrainRound) -> DrainRoundResult:
        state = await self.database.run(drain_state, subscription_id)
        if state is None or not _sends(state):
            return await self._end_all(subscription_id, state)
        done = DrainRoundResult(0, 0, None, "", under_way=task.under_way)
        if state.status == SubscriptionStatus.PAUSED:
            # Nothing is sent, but the requests on the wire are passed on, in case the pause ends before they do.
            left = await self.database.run(on_the_wire, [UUID(one) for one in task.under_way])
            wait = PAUSE_CHECK_SECONDS if left else None
            return DrainRoundResult(0, 0, wait, SubscriptionStatus.PAUSED, under_way=sorted(map(str, left)))
        if state.rest_seconds > 0:
            waiting = _later(done, state.rest_seconds, "the receiver asked to wait")
            return replace(waiting, refused=task.probe_now)  # the probe that was asked for is made afterwards
        limiters = self.dispatcher.queues.rate_limiters
        if state.per_second is None and state.max_concurrency is None:
            limiters.limit(subscription_id, None, None)
            return await self._send(subscription_id, state, task, done)
        async with LimiterLeases(self.database, self.dispatcher.worker_id).hold(subscription_id) as lease:
            if lease is None:
                return _taken(done)
            limiters.limit(subscription_id, state.per_second, lease)
            result = await self._send(subscription_id, state, task, done)
            lease.lost = True  # attempts that still wait for the rate limiter are taken back
            if (limiter := limiters.get(subscription_id)) is not None:
                await limiter.hand_over()
            return result

    async def _send(
        self, subscription_id: UUID, state: DrainState, task: DrainRound, done: DrainRoundResult
    ) -> DrainRoundResult:
        if state.breaker_open:
            done = await self._probe(subscription_id, state, done, probe_now=task.probe_now)
            if not done.delivered:
                return done
            state, task = replace(state, breaker_open=False), replace(task, window=0)
        result = await self._send_held(subscription_id, state, task)
        failed = done.failed_attempts + result.failed_attempts
        return replace(result, delivered=done.delivered + result.delivered, failed_attempts=failed)

    async def _end_all(self, subscription_id: UUID, state: DrainState | None) -> DrainRoundResult:
        deleted = state is None or state.deleted
        status = DeliveryStatus.CANCELLED if deleted else DeliveryStatus.EXHAUSTED
        reason = Reason.SUBSCRIPTION_DELETED if deleted else Reason.SUBSCRIPTION_DISABLED
        until = time.monotonic() + ROUND_SECONDS
        while time.monotonic() < until:
            async with self.database.transaction() as connection:
                now = await drain_state(connection, subscription_id)
                if now is not None and _sends(now):
                    break  # The subscription was enabled in the meantime.
                ended = await end_open(connection, subscription_id, status=status, reason=reason)
                if ended and not deleted:
                    await note(connection, [Occurrence(subscription_id, NoticeKind.EXHAUSTED, reason, ended)])
            if ended < ENDED_AT_ONCE:
                return DrainRoundResult(0, 0, None, reason)
        return DrainRoundResult(0, 0, 0.0, reason)

    async def _probe(
        self, subscription_id: UUID, state: DrainState, done: DrainRoundResult, *, probe_now: bool
    ) -> DrainRoundResult:
        """Probe a receiver with the oldest delivery if a probe is due or `probe_now` is set. The caller sends the other
        deliveries if the probe was delivered."""
        schedule = state.retry_schedule if state.retry_schedule is not None else self.retry_schedule
        # A schedule may be empty or short, and what is held is probed once at least.
        await self._exhaust_outwaited(subscription_id, max(sum(schedule), self.breaker.longest_probe_seconds))
        oldest = await self._oldest(subscription_id, state)
        if oldest is None:
            wait = await self.database.run(next_allowed_seconds, subscription_id)
            if wait is not None:  # a wake signal ends the wait, because it may announce a delivery to probe with
                state_now = "breaker open, the receiver asked to wait"
                return replace(done, next_in_seconds=min(wait, ASKED_TO_WAIT_SECONDS), state=state_now)
            return replace(done, state="breaker open, nothing held")
        if not probe_now and state.probe_in_seconds is not None and state.probe_in_seconds > 0:
            return _later(done, state.probe_in_seconds, "breaker open")
        step = await self._attempt(replace(oldest, hold_again_as=Reason.BREAKER_OPEN))
        if step is None:
            return _taken(done)
        if step.status == DeliveryStatus.DELIVERED:
            return replace(done, delivered=1)
        done = replace(done, failed_attempts=int(step.failure is not None))
        if await self._given_up(subscription_id, step):
            done = replace(done, state="disabled: the receiver failed for too long")
        else:
            async with self.database.transaction() as connection:
                await probe_failed(connection, subscription_id, self.breaker)
                after = await drain_state(connection, subscription_id)
            wait = 0.0 if after is None or after.probe_in_seconds is None else after.probe_in_seconds
            done = _later(done, max(0.0, wait), "breaker open")
        return done

    async def _exhaust_outwaited(self, subscription_id: UUID, schedule_seconds: float) -> None:
        """Exhaust deliveries that waited longer than their schedule, page by page; the next round continues."""
        until = time.monotonic() + ROUND_SECONDS
        outwaited = ENDED_AT_ONCE
        while outwaited == ENDED_AT_ONCE and time.monotonic() < until:
            async with self.database.transaction() as connection:
                outwaited = await exhaust_outwaited(connection, subscription_id, schedule_seconds)
                if outwaited:
                    ended = Occurrence(subscription_id, NoticeKind.EXHAUSTED, Reason.BREAKER_OPEN, outwaited)
                    await note(connection, [ended])

    async def _oldest(self, subscription_id: UUID, state: DrainState) -> OpenDelivery | None:
        """Return the delivery to probe with: the oldest one, or the first of a FIFO group, due or not."""
        if state.ordered:
            found = await OrderedBacklog(self.database, subscription_id, state).look(1, (), due_only=False)
            return next(iter(found.deliveries), None)
        return await self.database.run(held_oldest, subscription_id)

    async def _given_up(self, subscription_id: UUID, step: Step) -> bool:
        """Disable a subscription whose receiver has failed for too long. Return True if it was disabled."""
        if step.failure is None or not verdict(Answer(None, step.failure)).counts_against_receiver:
            return False
        rules = self.disabling
        async with self.database.transaction() as connection:
            seconds, deliveries = await failing(
                connection, subscription_id, at_least_seconds=rules.failing_seconds, most=rules.deliveries
            )
            if not is_given_up(rules, failing_seconds=seconds, deliveries=deliveries):
                return False
            await note(connection, await disable_by_system(connection, subscription_id, reason=FAILING))
        return True

    async def _send_held(self, subscription_id: UUID, state: DrainState, task: DrainRound) -> DrainRoundResult:
        most = state.max_concurrency or (self.dispatcher.queues.per_subscription if state.drain_only else None)
        source: Backlog | OrderedBacklog
        size: int | None = None
        if state.ordered:
            source = OrderedBacklog(self.database, subscription_id, state)
            most = most if state.by_customer else 1
        else:
            source = Backlog(self.database, subscription_id)
            size = (task.window or FIRST_WINDOW) if state.per_second is None else None
        sending = Round(
            *(self.database, self.dispatcher, subscription_id, source, task.under_way),
            most=most,
            strictly=state.ordered,
            per_second=state.per_second,
            size=size,
        )

        async def lasts() -> bool:
            return state.lasts(await self.database.run(drain_state, subscription_id))

        return await sending.run(time.monotonic() + ROUND_SECONDS, lasts)

    async def _attempt(self, delivery: OpenDelivery) -> Step | None:
        """Make one attempt. Return None if another worker holds the lease or the outcome was not recorded."""
        if self.dispatcher.taken(delivery):
            return None
        task = self.dispatcher.begin(delivery, "automatic")
        await asyncio.wait([task])
        return outcome(task)


def _sends(state: DrainState) -> bool:
    return not state.deleted and state.status != SubscriptionStatus.DISABLED


def _later(done: DrainRoundResult, seconds: float, state: str) -> DrainRoundResult:
    """Return the result of a round whose next one is scheduled by a probe or a limit."""
    return replace(done, next_in_seconds=seconds, state=state, ignores_wake=True)


def _taken(done: DrainRoundResult) -> DrainRoundResult:
    """Return the result of a round prevented by another worker's lease or by an unwritten outcome."""
    return replace(_later(done, TAKEN_PAUSE_SECONDS, TAKEN), refused=True)
