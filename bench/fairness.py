"""What stores that make work, or whose receivers are dead, cost one that is well.

    python -m bench.fairness noisy       a store emits 50,000 events at once; another one's single events meanwhile
    python -m bench.fairness neighbour   10,000 deliveries wait behind a dead receiver; a healthy subscription beside it
    python -m bench.fairness             both

Each is measured in pairs on one stack, in turn without and with the others, so that whatever else the machine does
falls on both. A latency is the time from an event's createdAt to its arrival at the receiver, of 20 events a second,
each emitted on its own. Printed, and kept in bench/results/: p50 and p99 of each half, medians and ranges over all
pairs, and the same of the ratios, with the others to without.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from statistics import median
from typing import Any

import asyncpg

from bench.live import live_receiver
from bench.pipeline import EMIT_BATCH, EVENT, RESULTS, event_line, machine, warm_up
from bench.stack import Bench, bench_stack

DEAD_EVENT = "CustomerDeactivated"
DEAD_PATHS = {"fails": "/fail/503", "hangs": "/hang"}

QUIET_SECONDS = 2.0
"""After work that is done, so that what it leaves behind does not fall into the next half."""

DEADLINE_SECONDS = 600
POLL_SECONDS = 0.25


async def emit_many(bench: Bench, events: int, name: str = EVENT) -> None:
    """Emit as fast as the API takes it. The body is made once: the live store's emits share this event loop."""
    line = json.dumps(event_line() | {"eventName": name, "data": {"customer": {}}})
    body = "\n".join([line] * EMIT_BATCH).encode()
    for _ in range(0, events, EMIT_BATCH):
        await bench.emit_batch(body)


async def noisy(pairs: int, events: int, seconds: float, _dead: str) -> dict[str, Any]:
    """The live store alone, and while another store emits and has its events delivered."""
    async with bench_stack() as bench, live_receiver() as live:
        await bench.subscribe(EVENT, "/noisy")
        await live.prepare(bench)
        await warm_up(bench, 1)
        await live.during(bench, emit_many(bench, EMIT_BATCH))

        async def noise() -> None:
            await emit_many(bench, events)
            await bench.until_received(events, DEADLINE_SECONDS)

        measured = []
        for _ in range(pairs):
            await asyncio.sleep(QUIET_SECONDS)
            await bench.reset()
            alone = await live.during(bench, asyncio.sleep(seconds))
            among = await live.during(bench, noise())
            measured.append({"alone": alone, "among": among, "noisy_per_second": (await bench.stats())["rate"]})
            report(measured[-1])
        return {"events": events} | summary(measured)


async def neighbour(pairs: int, waiting: int, seconds: float, dead: str) -> dict[str, Any]:
    """The live store beside so many deliveries that wait behind a dead receiver, and after these were cancelled."""
    async with bench_stack() as bench, live_receiver() as live:
        await live.prepare(bench)
        await live.during(bench, asyncio.sleep(QUIET_SECONDS))
        database = await asyncpg.connect(bench.facts["database"])

        async def without() -> dict[str, Any]:
            await asyncio.sleep(QUIET_SECONDS)
            return {"alone": await live.during(bench, asyncio.sleep(seconds))}

        async def beside() -> dict[str, Any]:
            subscription_id = await bench.subscribe(DEAD_EVENT, DEAD_PATHS[dead])
            await emit_many(bench, waiting, DEAD_EVENT)
            await until_held(database, waiting)
            await asyncio.sleep(QUIET_SECONDS)
            among = await live.during(bench, asyncio.sleep(seconds))
            held = await database.fetchval("SELECT count(*) FROM delivery WHERE status = 'held'")
            answer = await bench.api.delete(f"{bench.store_path}/webhook/subscription/{subscription_id}")
            answer.raise_for_status()
            await until_held(database, 0)
            return {"among": among, "held": held}

        measured: list[dict[str, Any]] = []
        for number in range(pairs):  # each half first in turn: what the other leaves behind falls on both
            halves = (without, beside) if number % 2 == 0 else (beside, without)
            measured.append({})
            for half in halves:
                measured[-1] |= await half()
            report(measured[-1])
        await database.close()
        return {"waiting": waiting, "receiver": dead} | summary(measured)


async def until_held(database: asyncpg.Connection, count: int) -> None:
    """Until all of them wait as rows, but for the few attempts that were made before the breaker opened."""
    few = 50
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            held = await database.fetchval("SELECT count(*) FROM delivery WHERE status = 'held'")
            if held >= count - few if count else held == 0:
                return
            await asyncio.sleep(POLL_SECONDS)


def report(pair: dict[str, Any]) -> None:
    """Say how a pair went, since all of them take minutes."""
    halves = (f"{side}: p50 {pair[side]['p50_ms']} ms, p99 {pair[side]['p99_ms']} ms" for side in ("alone", "among"))
    print("; ".join(halves), flush=True)


def summary(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians and ranges of the pairs and of their ratios."""
    figures: dict[str, Any] = {}
    for name in ("p50", "p99"):
        sides = {side: [pair[side][f"{name}_ms"] for pair in pairs] for side in ("alone", "among")}
        for side, values in sides.items():
            figures[f"{name}_ms_{side}"] = _spread(values)
        figures[f"{name}_ratio"] = _spread([among / alone for alone, among in zip(*sides.values(), strict=True)])
    return figures | {"pairs": pairs}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(median(values), 2), "least": round(min(values), 2), "most": round(max(values), 2)}


SCENARIOS = {"noisy": noisy, "neighbour": neighbour}
DEFAULT_EVENTS = {"noisy": 50_000, "neighbour": 10_000}


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="?", default="all", choices=[*SCENARIOS, "all"], help="all by default")
    parser.add_argument("--pairs", type=int, default=9, help="how often each half is measured (9)")
    parser.add_argument("--seconds", type=float, default=15, help="how long a half without work of its own lasts (15)")
    parser.add_argument("--events", type=int, help="what the noisy store emits (50000), or what waits (10000)")
    parser.add_argument("--dead", choices=DEAD_PATHS, default="fails", help="how the dead receiver is dead (fails)")
    asked = parser.parse_args()
    for name in SCENARIOS if asked.scenario == "all" else [asked.scenario]:
        before = machine()
        events = asked.events or DEFAULT_EVENTS[name]
        figures = asyncio.run(SCENARIOS[name](asked.pairs, events, asked.seconds, asked.dead))
        result = {"scenario": name, "machine": before, "figures": figures}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"fairness-{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
