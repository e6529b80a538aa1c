"""What stores that make work, or whose receivers are dead, cost one that is well.

    python -m bench.fairness noisy       a store emits 50,000 events at once; another one's single events meanwhile
    python -m bench.fairness neighbour   10,000 deliveries wait behind a dead receiver; a healthy subscription beside it
    python -m bench.fairness             both

Each is measured in pairs on one stack, in turn without and with the work of the others, so that whatever else the
machine does falls on both. A latency is the time from an event's createdAt to its arrival at the receiver, over 20
events a second, each emitted on its own. Printed and kept in bench/results/: p50 and p99 of each pair, their medians
and ranges, and the ratios with / without. A pair of `noisy` takes some 50 s, one of `neighbour` some 30 s.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from statistics import median
from typing import Any

from bench.live import Live, live_receiver
from bench.pipeline import EMIT_BATCH, EVENT, event_line, machine, warm_up
from bench.stack import Bench, bench_stack

QUIET_SECONDS = 2.0
"""After work that is done, so that what it leaves behind (flushes, vacuum) does not fall into the next measurement."""

DEADLINE_SECONDS = 300


async def emit_many(bench: Bench, events: int) -> None:
    """Emit as fast as the API takes it. The bodies are made first: the other store's emits share this event loop."""
    lines = [json.dumps(event_line()) for _ in range(EMIT_BATCH)]
    body = "\n".join(lines).encode()
    for _ in range(0, events, EMIT_BATCH):
        await bench.emit_batch(body)


async def noisy_store(bench: Bench, live: Live, *, events: int, seconds: float) -> dict[str, Any]:
    """One pair: the live store alone, then while another store emits and its events are delivered."""
    alone = await live.during(bench, asyncio.sleep(seconds))
    await bench.reset()

    async def noise() -> None:
        await emit_many(bench, events)
        await bench.until_received(events, DEADLINE_SECONDS)

    among = await live.during(bench, noise())
    stats = await bench.stats()
    await asyncio.sleep(QUIET_SECONDS)
    return {"alone": alone, "among": among, "noisy_per_second": stats["rate"]}


def summary(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians and ranges of the pairs and of their ratios."""
    figures: dict[str, Any] = {"pairs": pairs}
    for name in ("p50_ms", "p99_ms"):
        for side in ("alone", "among"):
            figures[f"{side}_{name}"] = _spread([pair[side][name] for pair in pairs])
        figures[f"ratio_{name.removesuffix('_ms')}"] = _spread(
            [pair["among"][name] / pair["alone"][name] for pair in pairs]
        )
    return figures


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(median(values), 2), "least": round(min(values), 2), "most": round(max(values), 2)}


async def noisy(pairs: int, events: int, seconds: float) -> dict[str, Any]:
    """The noisy store, on a stack of its own."""
    async with bench_stack() as bench, live_receiver() as live:
        await bench.subscribe(EVENT, "/noisy")
        await live.prepare(bench)
        await warm_up(bench, 1)
        await live.during(bench, emit_many(bench, EMIT_BATCH))
        await asyncio.sleep(QUIET_SECONDS)
        measured = [await noisy_store(bench, live, events=events, seconds=seconds) for _ in range(pairs)]
    return {"events": events} | summary(measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=15)
    a = parser.parse_args()
    print(json.dumps({"machine": machine(), "figures": asyncio.run(noisy(a.pairs, a.events, a.seconds))}, indent=1))


if __name__ == "__main__":
    main()
