"""Isolation: what stores with much work, or with dead or slow receivers, cost a store whose events come one by one.

    python -m bench.fairness noisy       a store emits 50,000 events at once; another one's single events meanwhile
    python -m bench.fairness backlog     15,000 events of a store wait, emitted while the worker was stopped
    python -m bench.fairness neighbour   10,000 deliveries wait behind a dead receiver; a healthy subscription beside it
    python -m bench.fairness             all of them

`neighbour --dead slow --events 2000` has a receiver that answers after ten seconds in place of a dead one.

Each is measured in pairs on one stack, in turn without and with the others, so that whatever else the machine does
falls on both. A latency is the time from an event's createdAt to its arrival at the receiver, of 20 events a second,
each emitted on its own. Printed, and kept in bench/results/: p50 and p99 of each half, medians and ranges over all
pairs, and the same of the ratios, with the others to without. Ends with 1 if the median p99 beside others is over
400 ms.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import asyncpg
import psutil

from bench.live import live_receiver
from bench.pipeline import EMIT_BATCH, EVENT, RESULTS, event_line, machine, warm_up
from bench.sides import Side, add_side_argument
from bench.stack import Bench

DEAD_EVENT = "CustomerDeactivated"
DEAD_PATHS = {"fails": "/fail/503", "hangs": "/hang", "slow": "/slow/10"}
SLOW_SETTLE_SECONDS = 5.0
"""Until as many requests hang at a slow receiver as are let at once."""

BACKLOG_LIMIT_EVENTS = "20000000"
BEGUN_DELIVERIES = 500
"""Of a backlog: when so many have arrived, the worker that was stopped is at work again."""

QUIET_SECONDS = 2.0
"""After work that is done, so that what it leaves behind does not fall into the next half."""

PROMISED_P99_MS = 400
"""Of a quiet store's events, whatever others have waiting (docs/reliability.md)."""

DEADLINE_SECONDS = 600
POLL_SECONDS = 0.25


async def emit_many(bench: Bench, events: int, name: str = EVENT) -> None:
    """Emit as fast as the API takes it. The body is made once: the live store's emits share this event loop."""
    line = json.dumps(event_line() | {"eventName": name, "data": {"customer": {}}})
    body = "\n".join([line] * EMIT_BATCH).encode()
    for _ in range(0, events, EMIT_BATCH):
        await bench.emit_batch(body)


@dataclass(frozen=True)
class Options:
    """What is measured. `seconds`: duration of a half that has no end of its own."""

    side: Side
    pairs: int
    events: int
    seconds: float
    dead: str = "fails"


async def noisy(options: Options) -> dict[str, Any]:
    """The live store alone, and while another store emits and has its events delivered."""
    events = options.events
    async with options.side.stack() as bench, live_receiver() as live:
        await bench.subscribe(EVENT, "/noisy")
        await live.prepare(bench)
        await warm_up(bench, 1)
        await live.during(bench, emit_many(bench, EMIT_BATCH))

        async def noise() -> None:
            await emit_many(bench, events)
            await bench.until_received(events, DEADLINE_SECONDS)

        measured = []
        for _ in range(options.pairs):
            await asyncio.sleep(QUIET_SECONDS)
            await bench.reset()
            alone = await live.during(bench, asyncio.sleep(options.seconds))
            among = await live.during(bench, noise())
            measured.append({"alone": alone, "among": among, "noisy_per_second": (await bench.stats())["rate"]})
            report(measured[-1])
        return {"events": events} | summary(measured)


async def backlog(options: Options) -> dict[str, Any]:
    """The live store alone, and while the events of another one, emitted before, are delivered.

    The worker is stopped (SIGSTOP) while these are emitted. Of more than are delivered within `seconds`, the rest is
    left behind after the last pair, and waited for after any other.
    """
    async with options.side.stack({"BACKLOG_LIMIT_EVENTS": BACKLOG_LIMIT_EVENTS}) as bench, live_receiver() as live:
        await bench.subscribe(EVENT, "/many")
        await live.prepare(bench)
        await live.during(bench, emit_many(bench, EMIT_BATCH))
        measured = []
        for _ in range(options.pairs):
            await asyncio.sleep(QUIET_SECONDS)
            await bench.reset()
            alone = await live.during(bench, asyncio.sleep(options.seconds))
            with stopped(bench.pid("worker")):
                await emit_many(bench, options.events)
            await until_counted(bench, BEGUN_DELIVERIES)
            began = time.monotonic()
            among = await live.during(bench, until_counted(bench, options.events, options.seconds))
            rate = (await count(bench) - BEGUN_DELIVERIES) / (time.monotonic() - began)
            measured.append({"alone": alone, "among": among, "backlog_per_second": round(rate)})
            report(measured[-1])
            if len(measured) < options.pairs:
                await until_counted(bench, options.events)
        return {"events": options.events} | summary(measured)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process and its children; let them continue at the end."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


async def count(bench: Bench) -> int:
    """Requests that the receiver has answered well."""
    received: int = (await bench.receiver.get("/count")).json()
    return received


async def until_counted(bench: Bench, least: int, most_seconds: float = DEADLINE_SECONDS) -> None:
    """Until the receiver has had so many requests, or for so long."""
    deadline = time.monotonic() + most_seconds
    while await count(bench) < least and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS)


async def neighbour(options: Options) -> dict[str, Any]:
    """The live store beside so many deliveries to a dead or slow receiver, and after their cancellation."""
    async with options.side.stack() as bench, live_receiver() as live:
        await live.prepare(bench)
        await live.during(bench, asyncio.sleep(QUIET_SECONDS))
        database = await asyncpg.connect(bench.facts["database"])

        async def without() -> dict[str, Any]:
            await asyncio.sleep(QUIET_SECONDS)
            return {"alone": await live.during(bench, asyncio.sleep(options.seconds))}

        async def beside() -> dict[str, Any]:
            subscription_id = await bench.subscribe(DEAD_EVENT, DEAD_PATHS[options.dead])
            await emit_many(bench, options.events, DEAD_EVENT)
            if options.dead == "slow":
                await asyncio.sleep(SLOW_SETTLE_SECONDS)
            else:
                await until_held(database, options.events)
                await asyncio.sleep(QUIET_SECONDS)
            among = await live.during(bench, asyncio.sleep(options.seconds))
            waiting = dict(await database.fetch("SELECT status, count(*) FROM delivery GROUP BY status"))
            answer = await bench.api.delete(f"{bench.store_path}/webhook/subscription/{subscription_id}")
            answer.raise_for_status()
            await until_ended(database)
            return {"among": among, "deliveries": waiting}

        measured: list[dict[str, Any]] = []
        for number in range(options.pairs):  # each half first in turn: what the other leaves behind falls on both
            halves = (without, beside) if number % 2 == 0 else (beside, without)
            measured.append({})
            for half in halves:
                measured[-1] |= await half()
            report(measured[-1])
        await database.close()
        return {"waiting": options.events, "receiver": options.dead} | summary(measured)


async def until_held(database: asyncpg.Connection, least: int) -> None:
    """Until all of them are held, but for the few attempts that were made before the breaker opened."""
    few = 50
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await database.fetchval("SELECT count(*) FROM delivery WHERE status = 'held'") < least - few:
            await asyncio.sleep(POLL_SECONDS)


async def until_ended(database: asyncpg.Connection) -> None:
    """Until no delivery is open and no event waits for its match."""
    unmatched = "SELECT count(*) FROM event WHERE matched_at IS NULL"
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await database.fetchval(
            f"SELECT ({unmatched}) + (SELECT count(*) FROM delivery WHERE status IN ('pending', 'held'))"
        ):
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


SCENARIOS = {"noisy": noisy, "backlog": backlog, "neighbour": neighbour}
DEFAULT_EVENTS = {"noisy": 50_000, "backlog": 15_000, "neighbour": 10_000}


async def run(name: str, options: Options) -> dict[str, Any]:
    """The figures of a scenario."""
    return await SCENARIOS[name](options)


def main() -> int:
    """Measure, print and keep; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="?", default="all", choices=[*SCENARIOS, "all"], help="all by default")
    parser.add_argument("--pairs", type=int, default=9, help="how often each half is measured (9)")
    parser.add_argument("--seconds", type=float, default=15, help="how long a half without work of its own lasts (15)")
    parser.add_argument("--events", type=int, help="what the noisy store emits (50000), or what waits (15000, 10000)")
    add_side_argument(parser)
    parser.add_argument("--dead", choices=DEAD_PATHS, default="fails", help="how the dead receiver is dead (fails)")
    asked, missed = parser.parse_args(), []
    for name in SCENARIOS if asked.scenario == "all" else [asked.scenario]:
        before = machine()
        events = asked.events or DEFAULT_EVENTS[name]
        figures = asyncio.run(run(name, Options(asked.of, asked.pairs, events, asked.seconds, asked.dead)))
        result = {"scenario": name, "machine": before, "figures": figures}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"fairness-{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result, indent=1))
        if (p99 := figures["p99_ms_among"]["median"]) > PROMISED_P99_MS:
            missed.append(f"Missed: {name}: p99 {p99:.0f} ms, goal {PROMISED_P99_MS} ms")
    print(*missed, sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
