"""Limits of a subscription, as its receiver sees them: changed while deliveries run, and learnt from its 429s."""

import time

import pytest
from temporalio.testing import WorkflowEnvironment

from domain.delivery.throttling import REFUSED_LEAST
from tests.chaos.verdict import most_in_a_second, surely_in_a_second
from tests.deadlines import eventually
from tests.pipeline import pipeline
from tests.receiver import Exchange, Receiver, after, status

EVENT = "CustomerUpdated"
SEEN_WITHIN_SECONDS = 6.0
"""A changed limit, by whoever has a second of turns or a place already."""

PATIENT = {"breaker_failures": 100_000}


class Counting:
    """A receiver's handler that takes its time and knows how many requests it has in hand."""

    def __init__(self, receiver: Receiver, seconds: float) -> None:
        self.now = 0
        self.most = 0
        self._reply = after(seconds, status(200))
        receiver.otherwise = self

    async def __call__(self, exchange: Exchange) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self._reply(exchange)
        finally:
            self.now -= 1


class Choosy:
    """Answers 429 to what is more than so many in a second, as receivers do that count."""

    def __init__(self, receiver: Receiver, limit: int) -> None:
        self.refused: list[float] = []
        self.taken: list[float] = []
        self._limit = limit
        receiver.otherwise = self

    async def __call__(self, exchange: Exchange) -> None:
        now = time.monotonic()
        too_many = sum(at > now - 1 for at in self.taken) >= self._limit
        (self.refused if too_many else self.taken).append(now)
        await status(429 if too_many else 200)(exchange)


async def passed(instant: float) -> None:
    """Wait for an instant of the monotonic clock, while receiver and worker go on."""

    async def so_late() -> bool:
        return time.monotonic() > instant

    await eventually(so_late, instant - time.monotonic() + 5, "the time to pass")


@pytest.fixture
def long_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of a drain that outlast a test, so that a limit is changed within one."""
    monkeypatch.setattr("activities.drain.ROUND_SECONDS", 60.0)


@pytest.mark.usefixtures("long_rounds")
async def test_a_rate_that_is_lowered_or_raised_holds_at_once(database_url: str, temporal: WorkflowEnvironment) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        subscription_id = await running.subscribe(EVENT, receiver.url("/hook"), rate_limit_per_second=40)
        await running.emit(EVENT, "{}", count=600)
        await receiver.wait_for(40)
        await running.edit(subscription_id, rate_limit_per_second=5)
        lowered_at = time.monotonic()
        await passed(lowered_at + SEEN_WITHIN_SECONDS + 3)
        slow = [one.span for one in receiver.requests if one.arrived_after > lowered_at + SEEN_WITHIN_SECONDS]
        assert surely_in_a_second(slow) <= 5
        assert slow, "it goes on"
        await running.edit(subscription_id, rate_limit_per_second=100)
        raised_at = time.monotonic()
        await running.until_statuses({"delivered": 600}, 40)
        rest = [one.arrived_at for one in receiver.requests if one.arrived_at > raised_at]
        assert most_in_a_second(rest) > 10


async def test_a_limit_that_is_taken_away_holds_nothing_back_any_more(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        subscription_id = await running.subscribe(EVENT, receiver.url("/hook"), rate_limit_per_second=5)
        await running.emit(EVENT, "{}", count=200)
        await receiver.wait_for(5)
        await running.edit(subscription_id, rate_limit_per_second=None)
        await running.until_statuses({"delivered": 200}, 20)


@pytest.mark.usefixtures("long_rounds")
async def test_a_concurrency_that_is_lowered_or_raised_holds_at_once(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        counting = Counting(receiver, 0.1)
        subscription_id = await running.subscribe(EVENT, receiver.url("/hook"), max_concurrency=8)
        await running.emit(EVENT, "{}", count=600)
        await receiver.wait_for(50)
        assert 2 < counting.most <= 8
        await running.edit(subscription_id, max_concurrency=2)
        await passed(time.monotonic() + SEEN_WITHIN_SECONDS)
        counting.most = 0
        before = len(receiver.requests)
        await receiver.wait_for(before + 20, within=20)
        assert counting.most <= 2
        await running.edit(subscription_id, max_concurrency=20)
        await running.until_statuses({"delivered": 600}, 40)
        assert 2 < counting.most <= 20


async def test_a_receiver_that_answers_429_is_sent_to_as_fast_as_it_takes(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    events, limit = 250, 30
    async with Receiver() as receiver, pipeline(database_url, temporal.client, **PATIENT) as running:
        choosy = Choosy(receiver, limit)
        await running.subscribe(EVENT, receiver.url("/hook"), retry_schedule=[1] * 50)
        await running.emit(EVENT, "{}", count=30)
        await running.until_statuses({"delivered": 30}, 30)
        first = len(choosy.refused)
        await running.emit(EVENT, "{}", count=events)
        await running.until_statuses({"delivered": 30 + events}, 90)
        assert len(choosy.refused) > first, "the receiver has never had more than it takes"
        met_at = choosy.refused[first]
        later = [at for at in choosy.refused if at > met_at + 2]
        print(f"{len(choosy.refused)} refused, {len(later)} of them later than 2 s after the first")
        assert len(later) < events / 10, "what was on the wire then is all that was too much"


async def test_a_retry_after_applies_to_the_whole_subscription(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    rest = 3
    async with Receiver() as receiver, pipeline(database_url, temporal.client, **PATIENT) as running:
        receiver.script(*[status(429, headers=(("Retry-After", f"{rest}"),))] * REFUSED_LEAST)
        await running.subscribe(EVENT, receiver.url("/hook"), retry_schedule=[1] * 5)
        await running.emit(EVENT, "{}", count=REFUSED_LEAST)
        refused = (await receiver.wait_for(REFUSED_LEAST))[-1]

        async def noted() -> bool:
            return bool(await running.scalar("SELECT count(*) FROM subscription_throttle"))

        await eventually(noted, 20, "the 429 noted")
        await running.emit(EVENT, "{}", count=20)
        await running.until_statuses({"delivered": REFUSED_LEAST + 20}, 30)
        assert min(one.arrived_at for one in receiver.requests[REFUSED_LEAST:]) >= refused.arrived_at + rest
