"""Two settings, or two versions of the code, by the same bursts in turn: `python -m bench.compare A B`.

Each side is settings, and `PROGRAM=…` for another checkout's `loyalty-webhooks`; one may be empty. As in

    python -m bench.compare BATCH_EVENTS=600 BATCH_EVENTS=300
    python -m bench.compare "" PROGRAM=../before/.venv/bin/loyalty-webhooks --subscriptions 5

Both stacks stay up, and every other pair begins with B: a machine that gets slower meanwhile is slower for both.
Prints the ratios of each pair's B to its A, of deliveries a second and of CPU; nothing is kept.
"""

import argparse
import asyncio
import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.pipeline import EVENT, burst_once, warm_up
from bench.stack import PROGRAM, Bench, bench_stack

QUIET_SECONDS = 2.0
"""Between bursts, for what the other stack still tidies away."""

MEASURES = {"per_second": "deliveries/s", "cpu_seconds_per_1000_total": "CPU s per 1,000"}


@asynccontextmanager
async def side(text: str, subscriptions: int) -> AsyncIterator[Bench]:
    """A warm stack with these settings."""
    environment = dict(part.split("=", 1) for part in shlex.split(text))
    program = Path(environment.pop("PROGRAM", PROGRAM)).absolute()
    async with bench_stack(environment, program) as bench:
        for number in range(subscriptions):
            await bench.subscribe(EVENT, f"/{number}")
        await warm_up(bench, subscriptions)
        yield bench


async def compare(sides: list[str], events: int, subscriptions: int, pairs: int) -> list[list[dict[str, Any]]]:
    """Bursts of A and of B; the first pair only warms."""
    bursts: list[list[dict[str, Any]]] = [[], []]
    async with AsyncExitStack() as stacks:
        benches = [await stacks.enter_async_context(side(text, subscriptions)) for text in sides]
        for pair in range(pairs + 1):
            for which in sorted((0, 1), reverse=bool(pair % 2)):
                await asyncio.sleep(QUIET_SECONDS)
                bursts[which].append(await burst_once(benches[which], events, subscriptions))
    return [one[1:] for one in bursts]


def show(sides: list[str], bursts: list[list[dict[str, Any]]]) -> None:
    """Medians of both, and the median, least and most of the pairs' ratios."""
    table = Table(title=f"{len(bursts[0])} pairs; A: {sides[0] or 'as it is'}; B: {sides[1] or 'as it is'}")
    for column in ("", "A", "B", "B to A", "least", "most"):
        table.add_column(column, justify="right" if column else "left")
    for key, what in MEASURES.items():
        first, second = ([burst[key] for burst in one] for one in bursts)
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
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    for text in arguments.sides:
        if wrong := [part for part in shlex.split(text) if "=" not in part]:
            parser.error(f"{wrong[0]} is no setting; write NAME=value")
    show(
        arguments.sides,
        asyncio.run(compare(arguments.sides, arguments.events, arguments.subscriptions, arguments.pairs)),
    )


if __name__ == "__main__":
    main()
