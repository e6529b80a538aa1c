"""The works that two stacks are compared by. Each takes a prepared stack and returns figures by name.

They look at what every version of the product has: requests at the receiver, and CPU time of the processes.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from statistics import median, quantiles
from uuid import UUID

import aiohttp

from bench.pipeline import EVENT, burst_once, event_line, idle_once, warm_up
from bench.stack import Bench
from domain.delivery.retry import retry_delay

FIVE_EVENT = "CustomerDeactivated"
FAILING_EVENT = "CustomerEmailWasChanged"
UNHEARD_EVENT = "CustomerPhoneNumberWasChanged"

SINGLE_CALLERS = 32
UNHEARD_CALLERS = 64
DEADLINE_SECONDS = 300.0
IDLE_EVENTS = 200
IDLE_PER_SECOND = 20.0

RETRY_SECONDS = 5
RETRY_SCHEDULE = [RETRY_SECONDS] * 10
REST_SECONDS = 2.0
"""After the last request, until its outcome is recorded and nothing is under way any more."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Work:
    """A piece of work, `events` of it at a time. `pairs`: how often both stacks do it in turn."""

    title: str
    do: Callable[[Bench, int], Awaitable[Figures]]
    events: int
    pairs: int
    warms: bool = True
    """The first pair only warms both stacks up, and is not counted."""


async def prepare(bench: Bench) -> None:
    """Make the subscriptions of all works, and warm every process up."""
    await bench.subscribe(EVENT, "/one")
    for number in range(5):
        await bench.subscribe(FIVE_EVENT, f"/five/{number}")
    await bench.subscribe(FAILING_EVENT, "/tenth/503", retrySchedule=RETRY_SCHEDULE)
    await warm_up(bench, 1)


def burst(subscriptions: int, name: str) -> Callable[[Bench, int], Awaitable[Figures]]:
    """The work of a burst to the subscriptions of this event."""

    async def do(bench: Bench, events: int) -> Figures:
        found = await burst_once(bench, events, subscriptions, name)
        return {
            "deliveries_per_second": found["per_second"],
            "p99_ms": found["p99_ms"],
            **_per_1000(found["cpu_seconds_per_1000"]),
        }

    return do


async def idle(bench: Bench, events: int) -> Figures:
    """Single events, evenly spaced, while nothing else is to do."""
    return await idle_once(bench, events, IDLE_PER_SECOND)


async def single_events(bench: Bench, events: int) -> Figures:
    """Single events to one subscription, from many callers at once, until all are delivered."""
    await bench.reset()
    cpu, began = bench.cpu_seconds(), time.time()
    await _call(bench, EVENT, events, SINGLE_CALLERS)
    accepted = time.time()
    stats = await bench.until_received(events, DEADLINE_SECONDS)
    used = {part: (now - cpu[part]) / events * 1000 for part, now in bench.cpu_seconds().items()}
    return {
        "accepted_per_second": events / (accepted - began),
        "delivered_per_second": events / (max(stats["last_at"], accepted) - began),
        **_per_1000(used),
    }


async def unheard_events(bench: Bench, events: int) -> Figures:
    """Single events that nobody subscribes to, from many callers at once: what accepting them costs the API."""
    cpu, began = bench.cpu_seconds(), time.time()
    await _call(bench, UNHEARD_EVENT, events, UNHEARD_CALLERS)
    took = time.time() - began
    return {
        "accepted_per_second": events / took,
        "cpu_s_per_1000_api": (bench.cpu_seconds()["api"] - cpu["api"]) / events * 1000,
    }


async def retries(bench: Bench, events: int) -> Figures:
    """A burst of which every tenth event fails at first: lateness of the retries, and CPU of an event that fails.

    Beside it the same burst without failures: what those that fail cost more, without the CPU that an idle stack takes
    while the retries are waited for, is theirs.
    """
    idle_rate = await _idle_cpu_per_second(bench)
    healthy = await _until_quiet(bench, EVENT, events)
    failing = await _until_quiet(bench, FAILING_EVENT, events)
    found: list[tuple[str, float]] = (await bench.receiver.get("/retries")).json()
    more = failing.cpu - healthy.cpu - idle_rate * (failing.seconds - healthy.seconds)
    late = lateness(found)
    return {
        "retries": len(found),
        "retry_late_p50_ms": round(median(late) * 1000, 1),
        "retry_late_p99_ms": round(quantiles(late, n=100, method="inclusive")[-1] * 1000, 1),
        "retry_late_max_ms": round(max(late) * 1000, 1),
        "cpu_ms_of_one_that_fails": round(more / len(found) * 1000, 2),
        "first_attempts_p50_ms": failing.p50_ms,
    }


def lateness(found: list[tuple[str, float]]) -> list[float]:
    """Seconds by which retries came after their instant, from (messageId, seconds after the failure).

    The instant has the jitter that the product derives from the messageId. A negative number came early.
    """
    late = []
    for message_id, seconds in found:
        delay = retry_delay(RETRY_SCHEDULE, 1, UUID(message_id), None)
        if delay is None:
            raise ValueError("the retry schedule is empty")
        late.append(seconds - delay)
    return late


@dataclass(frozen=True)
class _Quiet:
    """A burst until all is quiet: duration, CPU seconds of all processes, latency of the first attempts."""

    seconds: float
    cpu: float
    p50_ms: float


async def _until_quiet(bench: Bench, name: str, events: int) -> _Quiet:
    before, began = sum(bench.cpu_seconds().values()), time.monotonic()
    stats = await burst_once(bench, events, 1, name)
    await asyncio.sleep(REST_SECONDS)
    used = sum(bench.cpu_seconds().values()) - before
    return _Quiet(time.monotonic() - began, used, stats["p50_ms"])


async def _idle_cpu_per_second(bench: Bench) -> float:
    before = sum(bench.cpu_seconds().values())
    await asyncio.sleep(REST_SECONDS)
    return (sum(bench.cpu_seconds().values()) - before) / REST_SECONDS


async def _call(bench: Bench, name: str, events: int, callers: int) -> None:
    """Emit so many single events, each caller one after the other."""
    url = f"{bench.facts['api']}{bench.store_path}/event"
    body = json.dumps({"event": event_line(name)}).encode()
    headers = {"X-AUTH-TOKEN": bench.facts["api_key"], "Content-Type": "application/json"}
    left = iter(range(events))
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=callers)) as session:

        async def caller() -> None:
            for _ in left:
                async with session.post(url, data=body) as answer:
                    answer.raise_for_status()

        await asyncio.gather(*(caller() for _ in range(callers)))


def _per_1000(used: dict[str, float]) -> Figures:
    parts = {f"cpu_s_per_1000_{part}": round(seconds, 4) for part, seconds in used.items()}
    return {"cpu_s_per_1000": round(sum(used.values()), 4)} | parts


WORKS: dict[str, Work] = {
    "burst-1": Work("burst to one subscription", burst(1, EVENT), 20_000, 7),
    "burst-5": Work("burst to five subscriptions", burst(5, FIVE_EVENT), 6_000, 7),
    "singles": Work(f"single events, {SINGLE_CALLERS} callers", single_events, 3_000, 5),
    "emits": Work(f"single events without a subscription, {UNHEARD_CALLERS} callers", unheard_events, 10_000, 7),
    "idle": Work(f"idle, {IDLE_PER_SECOND:g} events/s", idle, IDLE_EVENTS, 3, warms=False),
    "retries": Work("every tenth event fails at first", retries, 3_000, 3, warms=False),
}


def sized(work: Work, events: int | None, pairs: int | None) -> Work:
    """The work with another number of events or pairs."""
    return replace(work, events=events or work.events, pairs=pairs or work.pairs)
