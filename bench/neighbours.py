"""What subscriptions that hang or are slow cost one that is well: `python -m bench.neighbours [--help]`.

One event name has a healthy subscription; as many others as asked for have one each whose receiver never answers (or
after half a second). Events are emitted to all of them, evenly spaced; the healthy one's latency is printed, from
createdAt to arrival, with and without the others.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from bench.pipeline import EVENT, event_line, machine, warm_up
from bench.stack import Bench, bench_stack
from domain.catalogue import CATALOGUE

OTHERS = [name for name in CATALOGUE if name.startswith("Customer") and name != EVENT]


async def healthy_latency(bench: Bench, seconds: float, per_second: float, others: Sequence[str]) -> dict[str, Any]:
    """Emit to the healthy one and to the others' events, so many of each a second, and say how long the first took."""
    await bench.reset()
    began = next_at = time.monotonic()
    sent = 0
    while time.monotonic() - began < seconds:
        lines = [json.dumps(event_line())]
        lines += [json.dumps(event_line() | {"eventName": name, "data": {"customer": {}}}) for name in others]
        await bench.emit_batch("\n".join(lines).encode())
        sent += 1
        next_at += 1 / per_second
        await asyncio.sleep(max(0.0, next_at - time.monotonic()))
    stats = await bench.until_received(sent, 120)
    return {"events": sent} | {key: stats[key] for key in ("p50_ms", "p99_ms", "max_ms")}


async def beside(path: str, count: int, seconds: float, per_second: float) -> dict[str, Any]:
    """The healthy one alone, then beside so many subscriptions to this path of the receiver."""
    async with bench_stack() as bench:
        await bench.subscribe(EVENT, "/healthy")
        await warm_up(bench, 1)
        await asyncio.sleep(3)  # the measurement begins in a quiet system
        alone = await healthy_latency(bench, seconds, per_second, [])
        names = [OTHERS[number % len(OTHERS)] for number in range(count)]
        for number, name in enumerate(names):
            await bench.subscribe(name, f"{path}{number}")
        among = await healthy_latency(bench, seconds, per_second, sorted(set(names)))
        return {"others": count, "path": path, "alone": alone, "among": among}


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", default="/hang/", help="/hang/ never answers, /slow/ after half a second")
    parser.add_argument("--count", type=int, default=15, help="subscriptions beside the healthy one")
    parser.add_argument("--seconds", type=float, default=20, help="how long events are emitted, alone and among others")
    parser.add_argument("--per-second", type=float, default=20, help="events of each name")
    arguments = parser.parse_args()
    figures = asyncio.run(beside(arguments.path, arguments.count, arguments.seconds, arguments.per_second))
    print(json.dumps({"machine": machine(), "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
