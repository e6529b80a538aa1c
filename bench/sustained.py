"""What holds for longer than a burst: `python -m bench.sustained [steady] [failing]`.

    steady    events for five minutes at 60 % of the burst rate just measured: latency, memory, and what is left behind
    failing   a burst to a receiver that answers every tenth request with 503, and the same without, in turn

Printed and kept in bench/results/.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import asyncpg

from bench.pipeline import EVENT, burst_once, event_line, keep, machine, warm_up
from bench.stack import Bench, bench_stack

STEADY_SHARE = 0.6
STEADY_SECONDS = 300.0
BATCHES_PER_SECOND = 20
"""Of NDJSON, as a platform emits that gathers for 50 ms."""

BURST_EVENTS = 5_000
SETTLED_SECONDS = 60.0
"""When memory is read first: until then caches fill that any load fills."""

FAILING_EVENT = "CustomerDeactivated"
FAILING_ROUNDS = 3
DRAIN_SECONDS = 120.0


async def emit_steadily(bench: Bench, rate: float, seconds: float, at_settled: Callable[[], None]) -> int:
    """Emit at a rate, batch by batch; returns how many events that were."""
    size = round(rate / BATCHES_PER_SECOND)
    began = next_at = time.monotonic()
    sent, settled = 0, False
    while (now := time.monotonic()) - began < seconds:
        if not settled and now - began >= SETTLED_SECONDS:
            settled = True
            at_settled()
        await bench.emit_batch("\n".join(json.dumps(event_line()) for _ in range(size)).encode())
        sent += size
        next_at += 1 / BATCHES_PER_SECOND
        await asyncio.sleep(max(0.0, next_at - time.monotonic()))
    return sent


def memory(bench: Bench) -> dict[str, float]:
    """Resident MB of what is ours."""
    return {component: bench.memory_mb(component) for component in ("api", "worker")}


async def steady(seconds: float, burst_events: int) -> dict[str, Any]:
    """Latency and memory of a long even load."""
    async with bench_stack() as bench:
        await bench.subscribe(EVENT, "/steady")
        await warm_up(bench, 1)
        rates = [(await burst_once(bench, burst_events, 1))["per_second"] for _ in range(3)]
        rate = median(rates) * STEADY_SHARE
        await bench.reset()
        settled: dict[str, float] = {}
        cpu = bench.cpu_seconds()
        events = await emit_steadily(bench, rate, seconds, lambda: settled.update(memory(bench)))
        emitted_at = time.time()
        after = memory(bench)
        stats = await bench.until_received(events, DRAIN_SECONDS)
        used = {name: (now - cpu[name]) / events * 1000 for name, now in bench.cpu_seconds().items()}
        database = await asyncpg.connect(bench.facts["database"])
        left = await database.fetchval("SELECT count(*) FROM event WHERE matched_at IS NULL")
        await database.close()
    return {
        "burst_per_second": rates,
        "events": events,
        "per_second": round(rate),
        "seconds": seconds,
        "p50_ms": stats["p50_ms"],
        "p99_ms": stats["p99_ms"],
        "max_ms": stats["max_ms"],
        "repeated": stats["repeated"],
        "seconds_to_drain": round(max(0.0, stats["last_at"] - emitted_at), 2),
        "left_in_outbox": left,
        "memory_mb": {"after_a_minute": settled, "at_the_end": after},
        "memory_growth": {name: round(after[name] / settled[name] - 1, 3) for name in settled},
        "cpu_seconds_per_1000": {name: round(value, 3) for name, value in used.items()},
    }


async def failing(_seconds: float, events: int) -> dict[str, Any]:
    """A burst of which every tenth request fails at first, and one that is well, in turn."""
    async with bench_stack() as bench:
        await bench.subscribe(EVENT, "/well")
        await bench.subscribe(FAILING_EVENT, "/tenth/503", retrySchedule=[5] * 10)
        await warm_up(bench, 1)
        rounds = []
        for _ in range(FAILING_ROUNDS):
            well = await burst_once(bench, events, 1)
            tenth = await burst_once(bench, events, 1, FAILING_EVENT)
            rounds.append({"well": well, "every_tenth_fails": tenth})
    rates = {kind: median(one[kind]["per_second"] for one in rounds) for kind in rounds[0]}
    firsts = {kind: median(one[kind]["p50_ms"] for one in rounds) for kind in rounds[0]}
    return {"events": events, "until_the_last_retry_per_second": rates, "p50_ms": firsts, "rounds": rounds}


SCENARIOS: dict[str, Callable[[float, int], Awaitable[dict[str, Any]]]] = {"steady": steady, "failing": failing}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", choices=[*SCENARIOS, []], help="none: all")
    parser.add_argument("--seconds", type=float, default=STEADY_SECONDS, help="of the steady load")
    parser.add_argument("--events", type=int, default=BURST_EVENTS, help="of each burst")
    arguments = parser.parse_args()
    for name in arguments.scenario or SCENARIOS:
        before = machine()
        keep(name, asyncio.run(_run(name, arguments.seconds, arguments.events)), before)


async def _run(name: str, seconds: float, events: int) -> dict[str, Any]:
    return await SCENARIOS[name](seconds, events)


if __name__ == "__main__":
    main()
