"""Two checkouts, or two settings, by the same work in turn: `python -m bench.compare A B`.

Each side is the folder of a checkout with its own `.venv`, settings, or both; one may be empty, which is this checkout
as it is. What is no setting (the event loop, a constant) is compared by changing it in a checkout. As in

    python -m bench.compare BATCH_EVENTS=600 BATCH_EVENTS=300
    python -m bench.compare ../before . --work burst-5
    python -m bench.compare "../before LOG_LEVEL=WARNING" LOG_LEVEL=WARNING --work singles

Only the product's processes are of the sides: emitter, receiver and the counting are of this checkout for both.
Both stacks stay up, and every other pair begins with B: a machine that gets slower meanwhile is slower for both. Of the
same code one stack may be slower than another for as long as it runs (0.86 to 1.26 times when measured, perhaps by the
memory that it got), so both are started anew after a part of the pairs.
Prints medians, and the ratios of each pair's B to its A; nothing is kept. `python -m bench.floors` takes all works.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from math import ceil
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.servers import certificate_for
from bench.sides import Side
from bench.stack import Bench
from bench.works import WORKS, Figures, Work, prepare, sized

STACKS = 3
"""How often both stacks are started."""

QUIET_SECONDS = 2.0
"""Between two pieces of work, for what the other stack still tidies away."""

Turns = tuple[list[Figures], list[Figures]]
"""The figures of every turn of A, and of B."""


@asynccontextmanager
async def stacks_of(sides: Sequence[Side], *, tls: bool = False) -> AsyncIterator[list[Bench]]:
    """A prepared stack of each side."""
    async with AsyncExitStack() as stacks:
        certificate, benches = stacks.enter_context(certificate_for(tls)), []
        for side in sides:
            benches.append(await stacks.enter_async_context(side.stack(certificate=certificate)))
            await prepare(benches[-1])
        yield benches


async def in_turn(benches: Sequence[Bench], work: Work) -> Turns:
    """What came of the work at A and at B."""
    done: Turns = ([], [])
    for pair in range(work.pairs + work.warms):
        for which in sorted((0, 1), reverse=bool(pair % 2)):
            await asyncio.sleep(QUIET_SECONDS)
            figures = await work.do(benches[which], work.events)
            if pair or not work.warms:
                done[which].append(figures)
    return done


def ratios(turns: Turns, name: str) -> list[float]:
    """B to A of each pair; pairs whose A is 0 are left out."""
    return [b[name] / a[name] for a, b in zip(*turns, strict=True) if a[name]]


def table(title: str, turns: Turns) -> Table:
    """Medians of both, and the median, least and most of the pairs' ratios."""
    shown = Table(title=title, title_justify="left")
    for column in ("", "A", "B", "B to A", "least", "most"):
        shown.add_column(column, justify="right" if column else "left")
    for name in turns[0][0]:
        cells = [f"{median(one[name] for one in side):,.2f}" for side in turns]
        found = ratios(turns, name)
        spread = (median(found), min(found), max(found)) if found else ()
        shown.add_row(name.replace("_", " "), *cells, *(f"{ratio:.2f}" for ratio in spread))
    return shown


async def compare(sides: Sequence[Side], work: Work, *, tls: bool = False, stacks: int = STACKS) -> Turns:
    """The work in turn, the pairs shared out to so many stacks of each side, each from nothing."""
    turns: Turns = ([], [])
    for _ in range(stacks):
        async with stacks_of(sides, tls=tls) as benches:
            add(turns, await in_turn(benches, replace(work, pairs=ceil(work.pairs / stacks))))
    return turns


def add(turns: Turns, more: Turns) -> None:
    """Put the figures of more turns behind those of earlier ones."""
    for earlier, figures in zip(turns, more, strict=True):
        earlier.extend(figures)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sides", nargs=2, type=Side.parse, metavar="SIDE", help="FOLDER NAME=value …, in quotes where there are several"
    )
    parser.add_argument("--work", choices=WORKS, default="burst-1", help=f"of {', '.join(WORKS)} (burst-1)")
    parser.add_argument("--events", type=int, help="of one turn; by default as many as the work usually has")
    parser.add_argument("--pairs", type=int, help="how often both sides have their turn")
    parser.add_argument("--stacks", type=int, default=STACKS, help=f"how often both are started anew ({STACKS})")
    parser.add_argument("--tls", action="store_true", help="deliver to the receiver by HTTPS")
    arguments = parser.parse_args()
    sides: list[Side] = arguments.sides
    work = sized(WORKS[arguments.work], arguments.events, arguments.pairs)
    turns = asyncio.run(compare(sides, work, tls=arguments.tls, stacks=arguments.stacks))
    how = f"{work.title}{', HTTPS' if arguments.tls else ''}, {work.events:,} events, {len(turns[0])} pairs"
    title = f"{how}; A: {sides[0].text}; B: {sides[1].text}"
    Console(width=120).print(table(title, turns))


if __name__ == "__main__":
    main()
