"""Activity of a drain: one round that probes a receiver or sends the held deliveries of its subscription."""

import asyncio
import time
from dataclasses import dataclass, field, replace
from uuid import UUID

from temporalio import activity

from domain.delivery.breaker import BreakerRules
from domain.delivery.lifecycle import DeliveryStatus, Reason, Step, SubscriptionStatus
from domain.delivery.notices import FAILING, DisableRules, NoticeKind, is_given_up
from domain.delivery.verdict import Answer, verdict
from sending.dispatcher import Dispatcher
from sending.drain.ordered import OrderedBacklog
from sending.drain.round import TAKEN_PAUSE_SECONDS, Round, Window, outcome
from sending.drain.unordered import Backlog
from sending.rate_limit import LimiterLeases
from storage.database import Database
from storage.deliveries.held import DrainState, drain_state, next_allowed_seconds
from storage.deliveries.open import OpenDelivery, held_oldest
from storage.deliveries.ordering import on_the_wire
from storage.deliveries.transitions import ENDED_AT_ONCE, end_open, exhaust_outwaited
from storage.subscriptions.health import failing, probe_failed
from storage.subscriptions.notices import Occurrence, note
from storage.subscriptions.status import disable_by_system
from temporal.guards import heartbeats, own_faults
from temporal.messages import DrainRound, DrainRoundResult

ROUND_SECONDS = 5.0
"""Duration after which a round begins no more attempts. Requests that hang stay on the wire, and another worker may run
the next round."""

PAUSE_CHECK_SECONDS = 2.0
"""Interval at which the drain of a paused subscription checks the requests that are still on the wire."""

FIRST_WINDOW = 10
"""Window of a slow start, after a breaker closed or a pause ended, so that a recovering receiver is not overloaded."""


@dataclass
class _Tally:
    """Result of a probe, and deliveries that the last round left on the wire."""

    left: list[str] = field(default_factory=list)
    delivered: int = 0
    failed: int = 0

    def add(self, step: Step) -> None:
        self.delivered += step.status == DeliveryStatus.DELIVERED
        self.failed += step.failure is not None

    def result(self, next_in_seconds: float | None, state: str, *, ignores_wake: bool = False) -> DrainRoundResult:
        return DrainRoundResult(self.delivered, self.failed, next_in_seconds, state, ignores_wake, under_way=self.left)

    def taken(self) -> DrainRoundResult:
        """Return the result of a round that another sender, or an unwritten outcome, has prevented."""
        return replace(
            self.result(TAKEN_PAUSE_SECONDS, "waiting: another sender holds the delivery", ignores_wake=True),
            refused=True,
        )


class DrainActivities:
    """Activities of drains, with the resources of the worker."""

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        breaker: BreakerRules,
        disabling: DisableRules,
        retry_schedule: tuple[int, ...],
    ) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._breaker = breaker
        self._disabling = disabling
        self._retry_schedule = retry_schedule
        self._leases = LimiterLeases(database, dispatcher.worker_id)

    @activity.defn(name="drain-held")
    async def drain_held(self, task: DrainRound) -> DrainRoundResult:
        """Run one round for a subscription. It may be repeated at any point, because every attempt is recorded."""
        subscription_id = UUID(task.subscription_id)
        async with heartbeats():
            with own_faults():
                return await self._round(subscription_id, task)

    async def _round(self, subscription_id: UUID, task: DrainRound) -> DrainRoundResult:
        state = await self._state(subscription_id)
        if state is None or not _sends(state):
            return await self._end_all(subscription_id, state)
        tally = _Tally(task.under_way)
        if state.status == SubscriptionStatus.PAUSED:
            return await self._pause(tally)
        if state.rest_seconds > 0:
            return tally.result(state.rest_seconds, "the receiver asked to wait", ignores_wake=True)
        if state.per_second is None and state.max_concurrency is None:
            self._dispatcher.queues.rate_limiters.limit(subscription_id, None, None)
            return await self._send(subscription_id, state, task, tally)
        async with self._leases.hold(subscription_id) as lease:
            if lease is None:
                return tally.taken()
            self._dispatcher.queues.rate_limiters.limit(subscription_id, state.per_second, lease)
            result = await self._send(subscription_id, state, task, tally)
            lease.lost = True  # attempts that still wait for the rate limiter are taken back
            await self._dispatcher.queues.rate_limiters.hand_over(subscription_id)
            return result

    async def _send(
        self, subscription_id: UUID, state: DrainState, task: DrainRound, tally: _Tally
    ) -> DrainRoundResult:
        """Probe an unhealthy receiver first, then send the held deliveries."""
        if state.breaker_open:
            result = await self._probe(subscription_id, state, tally, probe_now=task.probe_now)
            if result is not None:
                return result
            state, task = replace(state, breaker_open=False), replace(task, window=0)
        result = await self._send_held(subscription_id, state, task)
        return replace(
            result,
            delivered=tally.delivered + result.delivered,
            failed_attempts=tally.failed + result.failed_attempts,
        )

    async def _pause(self, tally: _Tally) -> DrainRoundResult:
        """Send nothing, but pass on the requests that are still on the wire, in case the pause ends before they do."""
        async with self._database.transaction() as connection:
            left = await on_the_wire(connection, [UUID(one) for one in tally.left])
        tally.left = sorted(str(one) for one in left)
        return tally.result(PAUSE_CHECK_SECONDS if left else None, SubscriptionStatus.PAUSED)

    async def _state(self, subscription_id: UUID) -> DrainState | None:
        async with self._database.transaction() as connection:
            return await drain_state(connection, subscription_id)

    async def _end_all(self, subscription_id: UUID, state: DrainState | None) -> DrainRoundResult:
        deleted = state is None or state.deleted
        status = DeliveryStatus.CANCELLED if deleted else DeliveryStatus.EXHAUSTED
        reason = Reason.SUBSCRIPTION_DELETED if deleted else Reason.SUBSCRIPTION_DISABLED
        until = time.monotonic() + ROUND_SECONDS
        while time.monotonic() < until:
            async with self._database.transaction() as connection:
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
        self, subscription_id: UUID, state: DrainState, tally: _Tally, *, probe_now: bool
    ) -> DrainRoundResult | None:
        """Probe a receiver with the oldest delivery when a probe is due. Return None if it was delivered."""
        schedule = state.retry_schedule if state.retry_schedule is not None else self._retry_schedule
        await self._exhaust_outwaited(subscription_id, float(sum(schedule)))
        oldest = await self._oldest(subscription_id, state)
        if oldest is None:
            async with self._database.transaction() as connection:
                wait = await next_allowed_seconds(connection, subscription_id)
            state_text = "breaker open, nothing held" if wait is None else "breaker open, the receiver asked to wait"
            return tally.result(wait, state_text, ignores_wake=wait is not None)
        if not probe_now and (state.probe_in_seconds or 0) > 0:
            return tally.result(state.probe_in_seconds, "breaker open", ignores_wake=True)
        step = await self._attempt(replace(oldest, hold_again_as=Reason.BREAKER_OPEN))
        if step is None:
            return tally.taken()
        tally.add(step)
        if step.status == DeliveryStatus.DELIVERED:
            return None
        if await self._given_up(subscription_id, step):
            return tally.result(None, "disabled: the receiver failed for too long")
        async with self._database.transaction() as connection:
            await probe_failed(connection, subscription_id, self._breaker)
            after = await drain_state(connection, subscription_id)
        wait = after.probe_in_seconds if after is not None and after.probe_in_seconds is not None else 0.0
        return tally.result(max(0.0, wait), "breaker open", ignores_wake=True)

    async def _exhaust_outwaited(self, subscription_id: UUID, schedule_seconds: float) -> None:
        """Exhaust deliveries that waited longer than their schedule, page by page; the next round continues."""
        until = time.monotonic() + ROUND_SECONDS
        outwaited = ENDED_AT_ONCE
        while outwaited == ENDED_AT_ONCE and time.monotonic() < until:
            async with self._database.transaction() as connection:
                outwaited = await exhaust_outwaited(connection, subscription_id, schedule_seconds)
                if outwaited:
                    ended = Occurrence(subscription_id, NoticeKind.EXHAUSTED, Reason.BREAKER_OPEN, outwaited)
                    await note(connection, [ended])

    async def _oldest(self, subscription_id: UUID, state: DrainState) -> OpenDelivery | None:
        """Return the delivery to probe with: the oldest one, or the first of a FIFO group, due or not."""
        if state.ordered:
            found = await OrderedBacklog(self._database, subscription_id, state).look(1, (), due_only=False)
            return next(iter(found.deliveries), None)
        async with self._database.transaction() as connection:
            return await held_oldest(connection, subscription_id)

    async def _given_up(self, subscription_id: UUID, step: Step) -> bool:
        """Disable a subscription whose receiver has failed for too long. Return True if it was disabled."""
        if step.failure is None or not verdict(Answer(None, step.failure)).counts_against_receiver:
            return False
        rules = self._disabling
        async with self._database.transaction() as connection:
            seconds, deliveries = await failing(
                connection, subscription_id, at_least_seconds=rules.failing_seconds, most=rules.deliveries
            )
            if not is_given_up(rules, failing_seconds=seconds, deliveries=deliveries):
                return False
            await note(connection, await disable_by_system(connection, subscription_id, reason=FAILING))
        return True

    async def _send_held(self, subscription_id: UUID, state: DrainState, task: DrainRound) -> DrainRoundResult:
        """Send due deliveries until the round ends or the subscription has changed."""
        source = (
            OrderedBacklog(self._database, subscription_id, state)
            if state.ordered
            else Backlog(self._database, subscription_id)
        )
        window = self._window(state, task.window or FIRST_WINDOW)
        sending = Round(self._database, self._dispatcher, subscription_id, source, window, task.under_way)

        async def lasts() -> bool:
            return state.lasts(await self._state(subscription_id))

        return await sending.run(time.monotonic() + ROUND_SECONDS, lasts)

    def _window(self, state: DrainState, size: int) -> Window:
        most = state.max_concurrency or (self._dispatcher.queues.per_subscription if state.drain_only else None)
        if state.ordered:
            return Window(most if state.by_customer else 1, strictly=True, per_second=state.per_second, size=None)
        return Window(
            most, strictly=False, per_second=state.per_second, size=size if state.per_second is None else None
        )

    async def _attempt(self, delivery: OpenDelivery) -> Step | None:
        """Make one attempt. Return None if another sender holds the delivery or the outcome was not recorded."""
        if self._dispatcher.taken(delivery):
            return None
        task = self._dispatcher.begin(delivery, "automatic")
        await asyncio.wait([task])
        return outcome(task)


def _sends(state: DrainState) -> bool:
    """Return True if the subscription sends, now or after its pause."""
    return not state.deleted and state.status != SubscriptionStatus.DISABLED
