"""The figures that a change must not make worse, of two checkouts in turn: `python -m bench.floors OLD NEW`.

Takes all sections within 25 minutes on two quiet cores, prints a table and keeps it with every turn's figures in
bench/results/. What the time does not suffice for is left out and named; `--only` takes single sections, as in

    python -m bench.floors ../before . --only burst-1 burst-5
    python -m bench.floors ../before . --only backlog slow --large --minutes 60
    TEMPORAL_ADDRESS=127.0.0.1:7233 TEMPORAL_PID_FILES="FOLDER/a.pid FOLDER/b.pid" python -m bench.floors ../before .

Works of `bench.compare` are done in turn on stacks that both stay up, and again on new ones; of the other sections each
side has its stack for itself, OLD first. `--share 0.1` takes a tenth of everything: to see whether all of it runs, not
for figures.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import fairness, waiting
from bench.compare import STACKS, Turns, add, in_turn, ratios, stacks_of
from bench.pipeline import RESULTS, machine
from bench.sides import Side
from bench.temporal_server import RunningTemporal
from bench.works import WORKS, sized

MINUTES = 25.0
PAIRS = {"burst-1": 2, "burst-5": 2, "singles": 2, "idle": 1, "retries": 1}
"""Works, and how often both sides do them on each of their `STACKS` stacks."""

BACKLOG_EVENTS, LARGE_BACKLOG_EVENTS = 15_000, 1_000_000
SLOW_EVENTS, LARGE_SLOW_EVENTS = 2_000, 20_000
BACKLOG_PAIRS, BACKLOG_SECONDS, LARGE_BACKLOG_SECONDS = 4, 8.0, 60.0
SLOW_PAIRS, SLOW_SECONDS = 2, 15.0


@dataclass(frozen=True)
class Measured:
    """A figure of both sides; `ratio` is NEW to OLD, the median over pairs where there are some."""

    old: float
    new: float
    ratio: float | None


@dataclass(frozen=True)
class Floor:
    """A bound of a figure of NEW, or with `of_ratio` of its ratio to OLD's."""

    figure: str
    """`section.name`"""
    text: str
    least: float | None = None
    most: float | None = None
    of_ratio: bool = False
    server: str | None = None
    """The Temporal server it holds on: `development`, `running`, or None for both."""

    def holds(self, measured: Measured) -> bool:
        """Return True if the figure is within the bound."""
        value = measured.ratio if self.of_ratio else measured.new
        return value is not None and (self.least or float("-inf")) <= value <= (self.most or float("inf"))

    def bound(self) -> str:
        """The bound in words."""
        word, number = ("≥", self.least) if self.least is not None else ("≤", self.most)
        return f"{word} {round(number or 0, 2):,g}{' × old' if self.of_ratio else ''}"


CPU_RATIO = 1 / 0.85
FLOORS = (
    Floor("burst-1.deliveries_per_second", "burst to one subscription, per second", least=0.9, of_ratio=True),
    Floor("burst-5.deliveries_per_second", "burst to five, per second", least=0.9, of_ratio=True),
    Floor("singles.accepted_per_second", "single events accepted, per second", least=0.85, of_ratio=True),
    Floor("singles.delivered_per_second", "single events delivered, per second", least=0.85, of_ratio=True),
    *(
        Floor(f"singles.cpu_s_per_1000_{part}", f"… CPU s per 1,000, {part}", most=CPU_RATIO, of_ratio=True)
        for part in ("api", "worker", "postgres", "temporal")
    ),
    Floor("idle.p50_ms", "idle p50, ms", most=25),
    Floor("idle.p99_ms", "idle p99, ms", most=60),
    Floor("retries.retry_late_p99_ms", "5 s retries, every tenth fails: late by p99, ms", most=1000),
    Floor("retries.cpu_ms_of_one_that_fails", "… CPU ms of one that fails", most=40, server="running"),
    Floor("waiting.begun_per_second", "begin to wait, per second", least=1.3, of_ratio=True, server="development"),
    Floor("waiting.cpu_ms_each", "… CPU ms each", most=0.5, of_ratio=True, server="development"),
    Floor("waiting.kib_each", "… KiB each in both databases", most=1.0, of_ratio=True, server="development"),
    Floor("retry.cpu_ms_each", "a retry until delivered, CPU ms", most=20, server="development"),
    *(
        Floor(f"{section}.p99_ms", f"{what}: p99, ms", most=most)
        for section, what, most in (
            ("backlog", f"beside {BACKLOG_EVENTS:,} waiting events of another store", 400),
            ("backlog-large", f"beside {LARGE_BACKLOG_EVENTS:,}", 400),
            ("slow", f"beside {SLOW_EVENTS:,} deliveries to a receiver that hangs for 10 s", 200),
            ("slow-large", f"beside {LARGE_SLOW_EVENTS:,}", 200),
        )
    ),
    Floor("slow.p50_ms", f"beside {SLOW_EVENTS:,} deliveries to a receiver that hangs: p50, ms", most=30),
    Floor("slow-large.p50_ms", f"beside {LARGE_SLOW_EVENTS:,}: p50, ms", most=30),
)

Found = dict[str, dict[str, float]]
"""Section -> figures of one side."""


async def waiting_of(side: Side, share: float) -> tuple[Found, Any]:
    """Deliveries that wait for a retry, and what a retry costs."""
    usual = waiting.Sizes()
    waits, subscriptions, retries = (
        round(count * share) for count in (usual.waiting, usual.subscriptions, usual.retries)
    )
    sizes = waiting.Sizes(waits, subscriptions, retries)
    found = await waiting.measure(side, sizes)
    begun = {
        "begun_per_second": found["set_up"]["handed_on_per_second"],
        "cpu_ms_each": found["set_up"]["cpu_ms_each"]["total"],
    }
    if "databases" in found["kib_each"]:
        begun["kib_each"] = found["kib_each"]["databases"]
    return {"waiting": begun, "retry": {"cpu_ms_each": found["retry"]["cpu_ms_each"]["total"]}}, found


def fairness_of(
    section: str, scenario: str, events: int, pairs: int, seconds: float
) -> Callable[[Side, float], Awaitable[tuple[Found, Any]]]:
    """The latency of one store's events beside the work of another one."""

    async def measure(side: Side, share: float) -> tuple[Found, Any]:
        options = fairness.Options(side, pairs, round(events * share), seconds, dead="slow")
        found = await fairness.run(scenario, options)
        return {section: {f"{part}_ms": found[f"{part}_ms_among"]["median"] for part in ("p50", "p99")}}, found

    return measure


ALONE: Mapping[str, Callable[[Side, float], Awaitable[tuple[Found, Any]]]] = {
    "waiting": waiting_of,
    "backlog": fairness_of("backlog", "backlog", BACKLOG_EVENTS, BACKLOG_PAIRS, BACKLOG_SECONDS),
    "slow": fairness_of("slow", "neighbour", SLOW_EVENTS, SLOW_PAIRS, SLOW_SECONDS),
}
"""Sections for which each side has its stack for itself."""

LARGE: Mapping[str, Callable[[Side, float], Awaitable[tuple[Found, Any]]]] = {
    "backlog": fairness_of("backlog-large", "backlog", LARGE_BACKLOG_EVENTS, 1, LARGE_BACKLOG_SECONDS),
    "slow": fairness_of("slow-large", "neighbour", LARGE_SLOW_EVENTS, SLOW_PAIRS, SLOW_SECONDS),
}


def of_turns(turns: Turns) -> dict[str, Measured]:
    """Medians of the turns of a work, and of the ratios of the pairs."""
    old, new = turns
    return {
        name: Measured(
            round(median(one[name] for one in old), 4),
            round(median(one[name] for one in new), 4),
            round(median(found), 3) if (found := ratios(turns, name)) else None,
        )
        for name in old[0]
    }


def of_two(old: Found, new: Found) -> dict[str, Measured]:
    """`section.name` -> the figure of two runs."""
    return {
        f"{section}.{name}": Measured(
            value, new[section][name], round(new[section][name] / value, 3) if value else None
        )
        for section, figures in old.items()
        for name, value in figures.items()
    }


class Run:
    """All sections in turn, until the time is up."""

    def __init__(self, sides: Sequence[Side], share: float, minutes: float, say: Callable[[str], None]) -> None:
        self.measured: dict[str, Measured] = {}
        self.turns: dict[str, Any] = {}
        """Every figure of each section, OLD's and NEW's."""
        self.left_out: list[str] = []
        self._sides = sides
        self._share = share
        self._deadline = time.monotonic() + minutes * 60
        self._say = say

    async def run(self, sections: Sequence[str], large: bool) -> None:
        """Take these sections; what the time does not suffice for is in `left_out`."""
        if works := [name for name in sections if name in PAIRS]:
            await self._works(works)
        for name in (name for name in sections if name in ALONE):
            await self._alone(name, ALONE[name])
        for name in (name for name in sections if large and name in LARGE):
            await self._alone(f"{name}, large", LARGE[name])

    async def _works(self, names: Sequence[str]) -> None:
        turns: dict[str, Turns] = {name: ([], []) for name in names}

        async def take() -> None:
            for number in range(1, STACKS + 1):
                async with stacks_of(self._sides) as benches:
                    for name in names:
                        self._say(f"{name}, {number} of {STACKS}")
                        work = sized(WORKS[name], round(WORKS[name].events * self._share), PAIRS[name])
                        add(turns[name], await in_turn(benches, work))

        if not await self._in_time(take()):
            self.left_out += [name for name in names if len(turns[name][0]) < STACKS * PAIRS[name]]
        for name in (name for name in names if turns[name][0]):
            self.turns[name] = {"old": turns[name][0], "new": turns[name][1]}
            self.measured |= {f"{name}.{figure}": found for figure, found in of_turns(turns[name]).items()}

    async def _alone(self, name: str, measure: Callable[[Side, float], Awaitable[tuple[Found, Any]]]) -> None:
        async def take() -> None:
            old, new = [await measure(side, self._share) for side in self._sides]
            self.turns[name] = {"old": old[1], "new": new[1]}
            self.measured |= of_two(old[0], new[0])

        self._say(name)
        if not await self._in_time(take()):
            self.left_out.append(name)

    async def _in_time(self, work: Awaitable[None]) -> bool:
        """Return True if the work was done before the time was up."""
        try:
            async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())) as limit:
                await work
        except TimeoutError:
            if not limit.expired():  # something in the section waited too long
                raise
            return False
        return True


def table(measured: Mapping[str, Measured], server: str) -> Table:
    """A line for each floor that was measured and holds on this server."""
    shown = Table(title=f"Floors, on {'the development' if server == 'development' else 'a running'} Temporal server")
    for column in ("", "old", "new", "new to old", "floor", ""):
        shown.add_column(column, justify="right" if column else "left")
    for floor in FLOORS:
        if floor.figure not in measured:
            continue
        found = measured[floor.figure]
        bound, verdict = floor.bound(), "holds" if floor.holds(found) else "[bold red]FAILS"
        if floor.server not in (None, server):
            bound, verdict = "", ""
        ratio = "–" if found.ratio is None else f"{found.ratio:.2f}"
        shown.add_row(floor.text, f"{found.old:,.2f}", f"{found.new:,.2f}", ratio, bound, verdict)
    return shown


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Side.parse, metavar="OLD", help="folder of a checkout, NAME=value …, or both")
    parser.add_argument("new", type=Side.parse, metavar="NEW", help="the other one; . is this checkout")
    sections = [*PAIRS, *ALONE]
    parser.add_argument("--only", nargs="+", choices=sections, default=sections, metavar="SECTION",
                        help=f"of {', '.join(sections)}")  # fmt: skip
    parser.add_argument("--large", action="store_true", help="1,000,000 waiting events and 20,000 slow ones too")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"the longest it may take ({MINUTES:g})")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of events, as in 0.1")
    server = "development" if RunningTemporal.from_environment() is None else "running"
    kept = RESULTS / f"floors{'-running' if server == 'running' else ''}.json"
    parser.add_argument("--output", type=Path, default=kept, help="where the figures go, as JSON")
    asked = parser.parse_args()
    before, began, console = machine(), time.monotonic(), Console(width=130)
    run = Run(
        (asked.old, asked.new),
        asked.share,
        asked.minutes,
        lambda name: console.print(f"{time.monotonic() - began:6.0f} s  {name}"),
    )
    try:
        asyncio.run(run.run(asked.only, asked.large))
    finally:
        result = {
            "machine": before | {"temporal": server},
            "sides": {"old": asked.old.text, "new": asked.new.text},
            "took_seconds": round(time.monotonic() - began),
            "left_out": run.left_out,
            "measured": {name: asdict(found) for name, found in run.measured.items()},
            "turns": run.turns,
        }
        asked.output.write_text(json.dumps(result, indent=1) + "\n")
        console.print(table(run.measured, server))
        if run.left_out:
            console.print(f"Left out, the time was up: {', '.join(run.left_out)}")


if __name__ == "__main__":
    main()
