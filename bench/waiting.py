"""What waiting retries cost, and what they cost others: `python -m bench.waiting [--help]`.

Subscriptions whose receiver answers 503, their breakers kept closed, get events until so many deliveries wait for a
retry hours away; each event goes to one subscription, so that each waiting delivery has a workflow of its own. The
starting of those takes the time; meanwhile a healthy subscription gets an event a second. Then the size of both
databases for each of them, and the burst rate of the healthy subscription beside them and without them: in turn, each
first every other time, the other on a stack of its own. Both run all the time: what those that wait take of the CPU by
themselves burdens both rates alike.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from temporalio.client import Client

from bench.pipeline import EVENT, burst_once, event_line, keep, machine, warm_up
from bench.stack import Bench, bench_stack
from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump

RETRY_SECONDS = 86_400
"""Far away: nothing of what waits becomes due while it is measured."""

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

_WAITING = "SELECT count(*) FROM delivery WHERE status = 'pending' AND next_attempt_at IS NOT NULL"
_WAITING_WORKFLOWS = "WorkflowType = 'deliver-event' AND ExecutionStatus = 'Running'"
_STATES = """
SELECT count(*) || ' deliveries ' || concat_ws(' ', status, reason, last_failure) FROM delivery
GROUP BY status, reason, last_failure
UNION ALL SELECT count(*) || ' events not matched' FROM event WHERE matched_at IS NULL
"""
_SUBSCRIBE = """
INSERT INTO subscription (id, store_code, event_name, url, name, retry_schedule)
SELECT gen_random_uuid(), $1, name, $2 || '/fail/503/' || $1 || '/' || name, 'waiting', ARRAY[$3::int]
FROM unnest($4::text[]) AS name
"""


def names() -> list[str]:
    """Events that take the sample's data; the healthy subscription's is not among them."""
    return [name for name in CATALOGUE if name != EVENT]


async def subscribe(bench: Bench, database: asyncpg.Connection, count: int) -> list[tuple[str, str]]:
    """(store, event name) of so many subscriptions, one for each pair; stores are made as they are needed."""
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        store = f"waiting{len(pairs)}"
        answer = await bench.api.post("/api/admin/store", json={"store": {"storeCode": store}})
        answer.raise_for_status()
        chosen = names()[: count - len(pairs)]
        await database.execute(_SUBSCRIBE, store, bench.receiver_url, RETRY_SECONDS, chosen)
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
            answer = await bench.api.post(
                f"/api/{store}/event/batch",
                content="\n".join(lines[at : at + EMITTED_AT_ONCE]).encode(),
                headers={"Content-Type": "application/x-ndjson"},
            )
            if answer.status_code != 202:
                raise RuntimeError(f"{answer.status_code}: {answer.text}")


async def until_waiting(database: asyncpg.Connection, temporal: Client, count: int) -> dict[str, float]:
    """Show how many wait until all do, each in its workflow; how long that took, and how many were started a second."""

    async def waiting_workflows() -> int:
        return (await temporal.count_workflows(_WAITING_WORKFLOWS)).count

    began = time.monotonic()
    await until(count, "deliveries wait for their retry", lambda: database.fetchval(_WAITING), database)
    failed = time.monotonic() - began
    await until(count, "of them have a workflow", waiting_workflows, database)
    handed_on = time.monotonic() - began
    return {
        "failed_after_seconds": round(failed, 1),
        "handed_on_after_seconds": round(handed_on, 1),
        "handed_on_per_second": round(count / handed_on, 1),
    }


async def until(count: int, what: str, counted: Callable[[], Awaitable[int]], database: asyncpg.Connection) -> None:
    """Show what is counted until there are so many."""
    columns = (
        TextColumn(f"{what:<31}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=count)
        waiting, still = 0, 0.0
        while waiting < count:
            await asyncio.sleep(POLL_SECONDS)
            before, waiting = waiting, await counted()
            still = 0.0 if waiting > before else still + POLL_SECONDS
            if still > STUCK_SECONDS:
                states = ", ".join(row[0] for row in await database.fetch(_STATES))
                raise RuntimeError(f"only {waiting:,} of {count:,} {what}: {states}")
            progress.update(bar, completed=waiting)


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
    """Size of PostgreSQL's database after a vacuum, and of Temporal's file with its log."""
    await database.execute("VACUUM")
    await database.execute("CHECKPOINT")
    return {
        "postgres": await database.fetchval("SELECT pg_database_size(current_database())"),
        "temporal": sum(path.stat().st_size for path in directory.glob("temporal.db*")),
        "temporal_memory": round(bench.memory_mb("temporal") * 2**20),
    }


@asynccontextmanager
async def healthy_stack() -> AsyncIterator[Bench]:
    """A stack with a healthy subscription, warm."""
    async with bench_stack(BREAKERS_STAY_CLOSED) as bench:
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


async def measure(waiting: int, subscriptions: int) -> dict[str, Any]:
    """Set-up, sizes, and both rates."""
    async with healthy_stack() as bench:
        database = await asyncpg.connect(bench.facts["database"])
        pairs = await subscribe(bench, database, subscriptions)
        before = await bytes_used(bench, database, bench.directory)
        temporal = await Client.connect(bench.facts["temporal"], namespace=bench.facts["namespace"])
        async with now_and_then(bench) as meanwhile:
            await emit(bench, pairs, waiting)
            set_up = await until_waiting(database, temporal, waiting)
        after = await bytes_used(bench, database, bench.directory)
        async with healthy_stack() as another:
            rates = await healthy_rates(bench, another)
        await database.close()
    each = {name: round((after[name] - before[name]) / waiting / 1024, 1) for name in before}
    ratios = [beside / without for beside, without in zip(rates["beside_them"], rates["without"], strict=True)]
    return {
        "waiting": waiting,
        "subscriptions": subscriptions,
        "set_up": set_up,
        "healthy_meanwhile": meanwhile,
        "kib_each": each | {"databases": round(each["postgres"] + each["temporal"], 1)},
        "healthy_per_second": rates,
        "healthy_ratio": round(median(ratios), 3),
        "healthy_ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=10_000, help="deliveries that wait for a retry")
    parser.add_argument("--subscriptions", type=int, default=1_000)
    arguments = parser.parse_args()
    before = machine()
    figures = asyncio.run(measure(arguments.waiting, arguments.subscriptions))
    keep(f"waiting-{arguments.waiting}", figures, before)


if __name__ == "__main__":
    main()
