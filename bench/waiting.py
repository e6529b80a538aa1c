"""What waiting retries cost, and what they cost others: `python -m bench.waiting [--help]`.

Three measurements on one stack, in this order:

1. a retry, from its instant to the outcome: some deliveries fail at first, wait for their retry and are delivered; the
   CPU that all processes take while the retries fall due, less what they took idle just before, for each
2. beginning to wait: subscriptions whose receiver answers 503, their breakers kept closed, get events until so many
   deliveries wait for a retry a day away, each event to one subscription; how many begin to wait per second, CPU and
   bytes of both databases for each, while a healthy subscription gets an event a second
3. with --bursts, what those that wait cost others: the burst rate of the healthy subscription beside them and without
   them, in turn, the other on a stack of its own; both run all the time, so that the CPU that waiting takes by itself
   burdens both rates alike

A delivery waits when its first request has failed at the receiver and something in Temporal or in PostgreSQL owns it:
a workflow `deliver-event`, an activity `deliver-webhook`, or its row with status `held`. Which of them it is depends on
the version that is measured (`--of FOLDER` for another checkout).
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from temporalio.client import Client
from temporalio.service import RPCError

from bench.pipeline import EVENT, burst_once, event_line, keep, machine, warm_up
from bench.sides import Side, add_side_argument
from bench.stack import Bench
from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump

FAR_SECONDS = 86_400
"""Retry delay of the deliveries that only wait: none becomes due while it is measured."""

NEAR_SECONDS = 90
"""Retry delay of the deliveries whose retry is measured: ± 10 % of it spread the retries over 18 s, about 11 a second,
so that they are not held as an overload."""

RETRIES = 200
RETRIES_SUBSCRIPTIONS = 50
IDLE_CPU_SECONDS = 45.0
"""An idle stack takes 20 to 70 ms a second, some of it only once a minute: after a shorter look, what is left of a
retry errs by more than a millisecond."""

DUE_AFTER_SHARE = 0.9
"""Of a retry delay: the earliest instant, by its jitter."""

BREAKERS_STAY_CLOSED = {"BREAKER_FAILURES": "1000000000"}
EMITTED_AT_ONCE = 500
HEALTHY_EVENTS = 10_000
HEALTHY_PAIRS = 9
QUIET_SECONDS = 3.0
"""Before each burst, so that the rest of one is not the next one's load."""

HEALTHY_EVERY_SECONDS = 1.0
POLL_SECONDS = 1.0
STUCK_SECONDS = 120.0
"""Without one more waiting delivery for so long, something is wrong."""

WORKFLOWS = "WorkflowType = 'deliver-event' AND ExecutionStatus = 'Running'"
ACTIVITIES = "ActivityType = 'deliver-webhook' AND ExecutionStatus = 'Running'"
HELD = "SELECT count(*) FROM delivery WHERE status = 'held'"
STATES = "SELECT status, count(*) FROM delivery GROUP BY status"


@dataclass(frozen=True)
class Owners:
    """How many deliveries wait, by what owns them."""

    workflows: int
    activities: int
    held: int

    @property
    def total(self) -> int:
        """All that wait."""
        return self.workflows + self.activities + self.held


@dataclass
class Waiting:
    """A stack whose deliveries fail, its database and its namespace."""

    bench: Bench
    database: asyncpg.Connection
    temporal: Client

    async def owners(self) -> Owners:
        """Count what owns the deliveries that wait."""
        workflows = (await self.temporal.count_workflows(WORKFLOWS)).count
        try:
            activities = (await self.temporal.count_activities(ACTIVITIES)).count
        except RPCError:  # a server without standalone activities
            activities = 0
        return Owners(workflows, activities, await self.database.fetchval(HELD))

    async def failed(self) -> int:
        """Count the requests that failed at the receiver since its last reset."""
        failed: int = (await self.bench.receiver.get("/failed")).json()
        return failed

    async def until(self, count: int, what: str, counted: Callable[[], Awaitable[int]]) -> None:
        """Show what is counted until there are so many. Raises RuntimeError when no more come."""
        columns = (TextColumn(f"{what:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
            found, still = await counted(), 0.0
            bar = progress.add_task("", total=count, completed=found)
            while found < count:
                await asyncio.sleep(POLL_SECONDS)
                before, found = found, await counted()
                still = 0.0 if found > before else still + POLL_SECONDS
                if still > STUCK_SECONDS:
                    states = dict(await self.database.fetch(STATES))
                    raise RuntimeError(f"only {found:,} of {count:,} {what}; deliveries: {states}")
                progress.update(bar, completed=found)

    async def until_none(self) -> None:
        """Wait until no delivery waits. Raises TimeoutError when that takes too long."""
        async with asyncio.timeout(STUCK_SECONDS):
            while (await self.owners()).total:
                await asyncio.sleep(POLL_SECONDS)

    async def until_owned(self, count: int) -> Owners:
        """Wait until so many deliveries wait; returns by what."""

        async def total() -> int:
            return (await self.owners()).total

        await self.until(count, "deliveries have an owner", total)
        return await self.owners()


def names() -> list[str]:
    """Events that take the sample's data; the healthy subscription's is not among them."""
    return [name for name in CATALOGUE if name != EVENT]


async def subscribe(bench: Bench, prefix: str, count: int, path: str, delay: int) -> list[tuple[str, str]]:
    """(store, event name) of so many subscriptions, one for each pair, in stores that are made for them."""
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        store = f"{prefix}{len(pairs)}"
        await bench.make_store(store)
        chosen = names()[: count - len(pairs)]
        for name in chosen:
            await bench.subscribe(
                name, f"{path}/{store}/{name}", store, retrySchedule=[delay], name="waiting", hmacEnabled=False
            )
        pairs += [(store, name) for name in chosen]
    return pairs


async def emit(bench: Bench, pairs: list[tuple[str, str]], count: int) -> None:
    """So many events, evenly over the pairs, each batch to one store."""
    by_store: dict[str, list[str]] = {}
    for number in range(count):
        store, name = pairs[number % len(pairs)]
        line = event_line(name) | {"data": CATALOGUE[name].sample}
        by_store.setdefault(store, []).append(dump(line))
    for store, lines in by_store.items():
        for at in range(0, len(lines), EMITTED_AT_ONCE):
            await bench.emit_batch("\n".join(lines[at : at + EMITTED_AT_ONCE]).encode(), store)


@contextmanager
def cpu_of(bench: Bench) -> Iterator[dict[str, float]]:
    """CPU seconds of each component within the block; there at its end, with their sum as `total`."""
    used: dict[str, float] = {}
    before = bench.cpu_seconds()
    yield used
    used |= {name: now - before[name] for name, now in bench.cpu_seconds().items()}
    used["total"] = sum(used.values())


async def retry_costs(waiting: Waiting, count: int) -> dict[str, Any]:
    """Return the CPU of a retry from its instant until it is delivered, and what owned it while it waited."""
    bench = waiting.bench
    pairs = await subscribe(bench, "near", min(count, RETRIES_SUBSCRIPTIONS), "/first/503", NEAR_SECONDS)
    await waiting.until_none()
    await bench.reset()
    emitted = time.monotonic()
    await emit(bench, pairs, count)
    await waiting.until(count, "first attempts failed", waiting.failed)
    owners = await waiting.until_owned(count)
    idle_at = emitted + NEAR_SECONDS * DUE_AFTER_SHARE - IDLE_CPU_SECONDS - QUIET_SECONDS
    if time.monotonic() > idle_at:
        raise RuntimeError(f"{count} deliveries took too long to begin to wait for {NEAR_SECONDS} s: take fewer")
    await asyncio.sleep(idle_at - time.monotonic())  # the less idle time is measured with the retries, the better
    with cpu_of(bench) as idle:
        await asyncio.sleep(IDLE_CPU_SECONDS)
    began = time.monotonic()
    with cpu_of(bench) as used:
        await bench.until_received(count, NEAR_SECONDS * 2)
        await asyncio.sleep(QUIET_SECONDS)
    took = time.monotonic() - began
    while_idle = {name: seconds * took / IDLE_CPU_SECONDS / count for name, seconds in idle.items()}
    each = {name: used[name] / count - while_idle[name] for name in used}
    return {
        "retries": count,
        "owners": owners.__dict__,
        "idle_cpu_share": {name: round(seconds / IDLE_CPU_SECONDS, 4) for name, seconds in idle.items()},
        "cpu_ms_each": {name: round(seconds * 1000, 2) for name, seconds in each.items()},
        "idle_cpu_ms_each": {name: round(seconds * 1000, 2) for name, seconds in while_idle.items()},
    }


async def begin_waiting(waiting: Waiting, count: int, subscriptions: int) -> dict[str, Any]:
    """Deliveries that fail at first and then wait: rate, CPU and bytes of each."""
    bench, database = waiting.bench, waiting.database
    pairs = await subscribe(bench, "far", subscriptions, "/fail/503", FAR_SECONDS)
    before = await bytes_used(bench, database, bench.directory)
    await waiting.until_none()
    async with now_and_then(bench) as meanwhile:
        began = time.monotonic()
        with cpu_of(bench) as used:
            await emit(bench, pairs, count)
            await waiting.until(count, "first attempts failed", waiting.failed)
            failed = time.monotonic() - began
            owners = await waiting.until_owned(count)
            handed_on = time.monotonic() - began
    after = await bytes_used(bench, database, bench.directory)
    each = {name: round((after[name] - before[name]) / count / 1024, 1) for name in before}
    databases = {"databases": round(each["postgres"] + each["temporal"], 1)} if "temporal" in each else {}
    return {
        "set_up": {
            "failed_after_seconds": round(failed, 1),
            "handed_on_after_seconds": round(handed_on, 1),
            "handed_on_per_second": round(count / handed_on, 1),
            "cpu_ms_each": {name: round(seconds / count * 1000, 2) for name, seconds in used.items()},
            "owners": owners.__dict__,
        },
        "healthy_meanwhile": meanwhile,
        "kib_each": each | databases,
    }


@asynccontextmanager
async def now_and_then(bench: Bench) -> AsyncIterator[dict[str, Any]]:
    """Emit a healthy event a second until the block ends; what came of them then."""

    async def emit_on() -> None:
        while True:
            await bench.emit_batch(dump(event_line()).encode())
            figures["emitted"] += 1
            await asyncio.sleep(HEALTHY_EVERY_SECONDS)

    figures: dict[str, Any] = {"emitted": 0}
    await bench.reset()
    emitting = asyncio.create_task(emit_on())
    try:
        yield figures
    finally:
        emitting.cancel()
        await asyncio.gather(emitting, return_exceptions=True)
    stats = await bench.until_received(figures["emitted"], STUCK_SECONDS)
    figures |= {key: stats[key] for key in ("received", "p50_ms", "p99_ms", "max_ms")}


async def bytes_used(bench: Bench, database: asyncpg.Connection, directory: Path) -> dict[str, int]:
    """Size of PostgreSQL's database after a vacuum, and of the file and memory of the stack's own Temporal server."""
    await database.execute("VACUUM")
    await database.execute("CHECKPOINT")
    used: dict[str, int] = {"postgres": await database.fetchval("SELECT pg_database_size(current_database())")}
    if files := list(directory.glob("temporal.db*")):
        used["temporal"] = sum(path.stat().st_size for path in files)
        used["temporal_memory"] = round(bench.memory_mb("temporal") * 2**20)
    return used


@asynccontextmanager
async def healthy_stack(side: Side) -> AsyncIterator[Bench]:
    """A stack with a healthy subscription, warm."""
    async with side.stack(BREAKERS_STAY_CLOSED) as bench:
        await bench.subscribe(EVENT, "/healthy")
        await warm_up(bench, 1)
        await burst_once(bench, HEALTHY_EVENTS, 1)
        yield bench


async def healthy_rates(beside_them: Bench, without: Bench) -> dict[str, list[int]]:
    """Deliveries a second of bursts to both healthy subscriptions, in pairs."""
    rates: dict[str, list[int]] = {"beside_them": [], "without": []}
    benches = {"beside_them": beside_them, "without": without}
    for pair in range(HEALTHY_PAIRS):
        for which in sorted(benches, reverse=bool(pair % 2)):
            await asyncio.sleep(QUIET_SECONDS)
            rates[which].append((await burst_once(benches[which], HEALTHY_EVENTS, 1))["per_second"])
    return rates


@dataclass(frozen=True)
class Sizes:
    """How much is measured: 0 leaves out a measurement."""

    waiting: int = 10_000
    subscriptions: int = 1_000
    retries: int = RETRIES
    bursts: bool = False


async def measure(side: Side, sizes: Sizes) -> dict[str, Any]:
    """The measurements in their order."""
    figures: dict[str, Any] = {"waiting": sizes.waiting, "subscriptions": sizes.subscriptions}
    async with healthy_stack(side) as bench:
        database = await asyncpg.connect(bench.facts["database"])
        temporal = await Client.connect(bench.facts["temporal"], namespace=bench.facts["namespace"])
        waiting = Waiting(bench, database, temporal)
        if sizes.retries:
            figures["retry"] = await retry_costs(waiting, sizes.retries)
        if sizes.waiting:
            figures |= await begin_waiting(waiting, sizes.waiting, sizes.subscriptions)
        if sizes.bursts:
            async with healthy_stack(side) as another:
                rates = await healthy_rates(bench, another)
            ratios = [beside / without for beside, without in zip(rates["beside_them"], rates["without"], strict=True)]
            figures |= {
                "healthy_per_second": rates,
                "healthy_ratio": round(median(ratios), 3),
                "healthy_ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
            }
        await database.close()
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=10_000, help="deliveries that wait for a retry; 0: none (10000)")
    parser.add_argument("--subscriptions", type=int, default=1_000, help="of those that wait (1000)")
    parser.add_argument("--retries", type=int, default=RETRIES, help="retries that are measured; 0: none (200)")
    parser.add_argument("--bursts", action="store_true", help="bursts beside those that wait, too")
    add_side_argument(parser)
    asked = parser.parse_args()
    before = machine()
    sizes = Sizes(asked.waiting, asked.subscriptions, asked.retries, asked.bursts)
    keep(f"waiting-{asked.waiting}" if asked.waiting else "retry", asyncio.run(measure(asked.of, sizes)), before)


if __name__ == "__main__":
    main()
