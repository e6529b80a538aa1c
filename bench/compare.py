"""Two settings, or two versions of the code, by the same work in turn: `python -m bench.compare A B`.

Each side is settings, and `PROGRAM=…` for another checkout's `loyalty-webhooks`; one may be empty. What is no setting
(the event loop, a constant) is compared by changing it in a checkout. As in

    python -m bench.compare BATCH_EVENTS=600 BATCH_EVENTS=300
    python -m bench.compare "" PROGRAM=../before/.venv/bin/loyalty-webhooks --subscriptions 5
    python -m bench.compare "" PROGRAM=../before/.venv/bin/loyalty-webhooks --emits

The work is a burst, or with --emits single events that nobody subscribes to, 64 requests at once.

Both stacks stay up, and every other pair begins with B: a machine that gets slower meanwhile is slower for both.
Prints the ratios of each pair's B to its A, of deliveries (or emits) a second and of CPU; nothing is kept.
"""

import argparse
import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import psutil
from rich.console import Console
from rich.table import Table

from bench.intake import measured
from bench.pipeline import EVENT, burst_once, event_line, warm_up
from bench.stack import PROGRAM, Bench, bench_stack
from settings import Settings

QUIET_SECONDS = 2.0
"""Between bursts, for what the other stack still tidies away."""

PROGRAM_NAME = "PROGRAM"
KNOWN = {name.upper() for name in Settings.model_fields}
AT_ONCE = 64
UNHEARD = "CustomerDeactivated"

Work = Callable[[Bench], Awaitable[dict[str, Any]]]
MEASURES = {"per_second": "a second", "cpu_seconds_per_1000_total": "CPU s per 1,000"}


@asynccontextmanager
async def side(text: str, subscriptions: int) -> AsyncIterator[Bench]:
    """A warm stack with these settings."""
    environment = dict(part.split("=", 1) for part in shlex.split(text))
    program = Path(environment.pop(PROGRAM_NAME, PROGRAM)).absolute()
    async with bench_stack(environment, program) as bench:
        for number in range(subscriptions):
            await bench.subscribe(EVENT, f"/{number}")
        await warm_up(bench, subscriptions)
        yield bench


async def emit_once(bench: Bench, events: int) -> dict[str, Any]:
    """Events one by one, many requests at once; the CPU is the API's."""
    url = f"{bench.facts['api']}{bench.store_path}/event"
    body = json.dumps({"event": event_line(UNHEARD)}).encode()
    headers = {"X-AUTH-TOKEN": bench.facts["api_key"], "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

        async def send(event: bytes) -> None:
            async with session.post(url, data=event) as answer:
                answer.raise_for_status()

        api = psutil.Process(bench.facts["pids"]["api"])
        took, used, _ = await measured(api, [body] * events, AT_ONCE, send)
    return {"per_second": events / took, "cpu_seconds_per_1000_total": used / events * 1000}


async def compare(sides: list[str], work: Work, subscriptions: int, pairs: int) -> list[list[dict[str, Any]]]:
    """What came of the work at A and at B; the first pair only warms."""
    done: list[list[dict[str, Any]]] = [[], []]
    async with AsyncExitStack() as stacks:
        benches = [await stacks.enter_async_context(side(text, subscriptions)) for text in sides]
        for pair in range(pairs + 1):
            for which in sorted((0, 1), reverse=bool(pair % 2)):
                await asyncio.sleep(QUIET_SECONDS)
                done[which].append(await work(benches[which]))
    return [one[1:] for one in done]


def show(sides: list[str], done: list[list[dict[str, Any]]]) -> None:
    """Medians of both, and the median, least and most of the pairs' ratios."""
    table = Table(title=f"{len(done[0])} pairs; A: {sides[0] or 'as it is'}; B: {sides[1] or 'as it is'}")
    for column in ("", "A", "B", "B to A", "least", "most"):
        table.add_column(column, justify="right" if column else "left")
    for key, what in MEASURES.items():
        first, second = ([one[key] for one in side_done] for side_done in done)
        ratios = [b / a for a, b in zip(first, second, strict=True)]
        shown = [
            f"{number:,.2f}" for number in (median(first), median(second), median(ratios), min(ratios), max(ratios))
        ]
        table.add_row(what, *shown)
    Console(width=110).print(table)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sides", nargs=2, metavar="SETTINGS", help="NAME=value …, in quotes where there are several")
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--subscriptions", type=int, default=1)
    parser.add_argument("--emits", action="store_true", help="Emit single events, instead of bursts")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    for text in arguments.sides:
        given = dict(part.partition("=")[::2] for part in shlex.split(text))
        unknown = [name for name in given if name not in KNOWN and PROGRAM_NAME not in given]
        if wrong := unknown + [name for name, value in given.items() if not value]:
            parser.error(f"{wrong[0]} is no setting of docs/settings.md with a value: write NAME=value")

    def work(bench: Bench) -> Awaitable[dict[str, Any]]:
        if arguments.emits:
            return emit_once(bench, arguments.events)
        return burst_once(bench, arguments.events, arguments.subscriptions)

    show(arguments.sides, asyncio.run(compare(arguments.sides, work, arguments.subscriptions, arguments.pairs)))


if __name__ == "__main__":
    main()
