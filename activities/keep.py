"""The keeper's activity: one round of probing a receiver, or of letting go what its subscription holds."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from temporalio import activity

from activities.dispatcher import Dispatcher
from activities.guards import heartbeats, own_faults
from activities.in_order import TAKEN_PAUSE_SECONDS, Lines, OrderedRound, outcome
from activities.messages import KeeperRound, KeeperRoundResult
from activities.pace import Turns
from domain.breaker import BreakerRules
from domain.delivery import Step
from domain.notices import FAILING, DisableRules, NoticeKind, is_given_up
from domain.verdict import Answer, verdict
from storage.database import Database
from storage.deliveries import OpenDelivery
from storage.health import failing, probe_failed
from storage.keeping import (
    ENDED_AT_ONCE,
    KeeperState,
    end_open,
    exhaust_outwaited,
    held_due,
    held_oldest,
    keeper_state,
    next_due_seconds,
)
from storage.notices import Occurrence, note
from storage.subscription_status import disable_by_system

ROUND_SECONDS = 5.0
"""A round ends after so long and the next begins, so that a change of the subscription is seen."""

FIRST_PAGE = 10
"""After a breaker closed or a pause ended: a receiver that is just up again is not run over."""

LARGEST_PAGE = 300
"""Pages double up to this; one page is one bulk of intents and outcomes."""


@dataclass
class _Tally:
    delivered: int = 0
    failed: int = 0

    def add(self, steps: Sequence[Step]) -> None:
        self.delivered += sum(step.status == "delivered" for step in steps)
        self.failed += sum(step.failure is not None for step in steps)


class KeeperActivities:
    """What keepers can do, with the worker's resources."""

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
        self._turns = Turns(database, dispatcher.worker_id)

    @activity.defn(name="keep-held")
    async def keep_held(self, task: KeeperRound) -> KeeperRoundResult:
        """One round for one subscription; every attempt in it is recorded, so a round may be repeated at any point."""
        subscription_id = UUID(task.subscription_id)
        async with heartbeats():
            with own_faults():
                return await self._round(subscription_id, task)

    async def _round(self, subscription_id: UUID, task: KeeperRound) -> KeeperRoundResult:
        state = await self._state(subscription_id)
        if state is None or not _sends(state):
            return await self._end_all(subscription_id, state)
        if state.status == "paused":
            return KeeperRoundResult(0, 0, None, "paused")
        if state.rest_seconds > 0 and not task.probe_now:
            return KeeperRoundResult(0, 0, state.rest_seconds, "its receiver asked to be left alone", deaf=True)
        if state.per_second is None and state.max_concurrency is None:
            self._dispatcher.keep_pace(subscription_id, None, None)
            return await self._send(subscription_id, state, task)
        async with self._turns.turn(subscription_id) as turn:
            if turn is None:
                return _taken(_Tally())
            self._dispatcher.keep_pace(subscription_id, state.per_second, turn)
            return await self._send(subscription_id, state, task)

    async def _send(self, subscription_id: UUID, state: KeeperState, task: KeeperRound) -> KeeperRoundResult:
        """Ask an unwell receiver first, then let go."""
        tally = _Tally()
        if state.breaker_open:
            result = await self._probe(subscription_id, state, tally, probe_now=task.probe_now)
            if result is not None:
                return result
        if state.ordered:
            return await self._in_order(subscription_id, state, tally, task.under_way)
        return await self._let_go(subscription_id, state, tally)

    async def _state(self, subscription_id: UUID) -> KeeperState | None:
        async with self._database.transaction() as connection:
            return await keeper_state(connection, subscription_id)

    async def _end_all(self, subscription_id: UUID, state: KeeperState | None) -> KeeperRoundResult:
        deleted = state is None or state.deleted
        status = "cancelled" if deleted else "exhausted"
        reason = "subscription_deleted" if deleted else "subscription_disabled"
        until = time.monotonic() + ROUND_SECONDS
        while time.monotonic() < until:
            async with self._database.transaction() as connection:
                now = await keeper_state(connection, subscription_id)
                if now is not None and _sends(now):
                    break  # it was enabled meanwhile
                ended = await end_open(connection, subscription_id, status=status, reason=reason)
                if ended and not deleted:
                    await note(connection, [Occurrence(subscription_id, NoticeKind.EXHAUSTED, reason, ended)])
            if ended < ENDED_AT_ONCE:
                return KeeperRoundResult(0, 0, None, reason)
        return KeeperRoundResult(0, 0, 0.0, reason)

    async def _probe(
        self, subscription_id: UUID, state: KeeperState, tally: _Tally, *, probe_now: bool
    ) -> KeeperRoundResult | None:
        """Ask an unwell receiver with the oldest delivery, when it is time; None when it answered well."""
        schedule = state.retry_schedule if state.retry_schedule is not None else self._retry_schedule
        await self._exhaust_outwaited(subscription_id, float(sum(schedule)))
        oldest = await self._oldest(subscription_id, state)
        if oldest is None:
            return KeeperRoundResult(tally.delivered, tally.failed, None, "breaker open, nothing held")
        if not probe_now and (state.probe_in_seconds or 0) > 0:
            return KeeperRoundResult(tally.delivered, tally.failed, state.probe_in_seconds, "breaker open", deaf=True)
        [step] = await self._attempt([replace(oldest, kept_as="breaker_open")])
        if step is None:
            return _taken(tally)
        tally.add([step])
        if step.status == "delivered":
            return None
        if await self._given_up(subscription_id, step):
            return KeeperRoundResult(tally.delivered, tally.failed, None, "disabled: it failed for too long")
        async with self._database.transaction() as connection:
            await probe_failed(connection, subscription_id, self._breaker)
            after = await keeper_state(connection, subscription_id)
        wait = after.probe_in_seconds if after is not None and after.probe_in_seconds is not None else 0.0
        return KeeperRoundResult(tally.delivered, tally.failed, max(0.0, wait), "breaker open", deaf=True)

    async def _exhaust_outwaited(self, subscription_id: UUID, schedule_seconds: float) -> None:
        """Page by page; the next round goes on with what this one leaves."""
        until = time.monotonic() + ROUND_SECONDS
        outwaited = ENDED_AT_ONCE
        while outwaited == ENDED_AT_ONCE and time.monotonic() < until:
            async with self._database.transaction() as connection:
                outwaited = await exhaust_outwaited(connection, subscription_id, schedule_seconds)
                if outwaited:
                    ended = Occurrence(subscription_id, NoticeKind.EXHAUSTED, "breaker_open", outwaited)
                    await note(connection, [ended])

    async def _oldest(self, subscription_id: UUID, state: KeeperState) -> OpenDelivery | None:
        """What to ask an unwell receiver with: the oldest, or the first of a line; due or not."""
        if state.ordered:
            found = await Lines(self._database, subscription_id, state).look(1, (), due_only=False)
            return next(iter(found.deliveries), None)
        async with self._database.transaction() as connection:
            return await held_oldest(connection, subscription_id)

    async def _given_up(self, subscription_id: UUID, step: Step) -> bool:
        """Disable a subscription whose receiver has failed once more and for too long; whether that was done."""
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

    async def _let_go(self, subscription_id: UUID, state: KeeperState, tally: _Tally) -> KeeperRoundResult:
        """Send what is due in growing pages until the round is over or the subscription has changed."""
        until = time.monotonic() + ROUND_SECONDS
        page = FIRST_PAGE
        most = LARGEST_PAGE if state.per_second is None else max(1, int(state.per_second))
        while time.monotonic() < until:
            async with self._database.transaction() as connection:
                due = await held_due(connection, subscription_id, min(page, most))
            if not due:
                return await self._rest(subscription_id, tally)
            steps = await self._attempt([replace(one, kept_as="kept") for one in due])
            tally.add([step for step in steps if step is not None])
            if any(step is None for step in steps):
                return _taken(tally)
            if not state.lasts(await self._state(subscription_id)):
                break
            page = min(page * 2, LARGEST_PAGE)
        return KeeperRoundResult(tally.delivered, tally.failed, 0.0, "letting go")

    async def _in_order(
        self, subscription_id: UUID, state: KeeperState, tally: _Tally, under_way: Sequence[str]
    ) -> KeeperRoundResult:
        """Send each line one after the other in the order of acceptance; what fails holds its own successors back."""
        lines = Lines(self._database, subscription_id, state)
        ordered = OrderedRound(self._database, self._dispatcher, lines, state, under_way)

        async def still_so() -> bool:
            return state.lasts(await self._state(subscription_id))

        result = await ordered.run(time.monotonic() + ROUND_SECONDS, still_so)
        return replace(
            result,
            delivered=tally.delivered + result.delivered,
            failed_attempts=tally.failed + result.failed_attempts,
        )

    async def _rest(self, subscription_id: UUID, tally: _Tally) -> KeeperRoundResult:
        """Nothing is due: wait for the first retry, if any."""
        async with self._database.transaction() as connection:
            seconds = await next_due_seconds(connection, subscription_id)
        state = "nothing held" if seconds is None else "waiting for retries"
        return KeeperRoundResult(tally.delivered, tally.failed, seconds, state)

    async def _attempt(self, deliveries: Sequence[OpenDelivery]) -> list[Step | None]:
        """Attempt each; None for one that somebody else is sending or that was not recorded."""
        tasks = [
            None if self._dispatcher.taken(delivery) else self._dispatcher.begin(delivery, "automatic")
            for delivery in deliveries
        ]
        begun = [task for task in tasks if task is not None]
        if begun:
            await asyncio.wait(begun)
        return [outcome(task) for task in tasks]


def _sends(state: KeeperState) -> bool:
    """Or will again, when its pause ends."""
    return not state.deleted and state.status != "disabled"


def _taken(tally: _Tally) -> KeeperRoundResult:
    """Somebody else is sending, or the outcome could not be written: look again soon."""
    return KeeperRoundResult(tally.delivered, tally.failed, TAKEN_PAUSE_SECONDS, "another sender is at it", deaf=True)
